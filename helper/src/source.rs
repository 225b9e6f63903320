//! The first operand: a path, or a tag such as UUID= that stands for a device.
//!
//! mount(8) resolves tags itself as a rule; udev's links or blkid(8) serve whoever calls us directly.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FileType, FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::policy::SourceKind;
use crate::report::{Explain, Failure, plain};
use crate::sys::ioctl;
use crate::sys::open::Pinned;

/// Tags and where udev links them.
const TAGS: [(&str, &str); 4] = [
    ("UUID", "/dev/disk/by-uuid"),
    ("LABEL", "/dev/disk/by-label"),
    ("PARTUUID", "/dev/disk/by-partuuid"),
    ("PARTLABEL", "/dev/disk/by-partlabel"),
];
const BLKID: [&str; 4] = ["/usr/sbin/blkid", "/sbin/blkid", "/usr/bin/blkid", "/bin/blkid"];

/// The path that a source operand stands for.
pub(crate) fn resolve(operand: &OsStr) -> Result<PathBuf, Failure> {
    let Some((tag, directory, value)) = operand.to_str().and_then(tag) else {
        return Ok(PathBuf::from(operand));
    };
    let link = Path::new(directory).join(link_name(tag, value));
    if link.exists() {
        return Ok(link);
    }
    blkid(tag, value)
        .ok_or_else(|| Failure::mount(format!("no device has {tag} '{value}'; see blkid(8)")))
}

fn tag(operand: &str) -> Option<(&'static str, &'static str, &str)> {
    let (name, value) = operand.split_once('=')?;
    let (tag, directory) = TAGS.into_iter().find(|(tag, _)| *tag == name)?;
    let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    Some((tag, directory, value))
}

/// A value as udev writes it in a link's name: what is not plain becomes `\xNN`.
fn link_name(tag: &str, value: &str) -> String {
    let value = if tag.ends_with("UUID") { value.to_ascii_lowercase() } else { value.to_owned() };
    let mut name = String::new();
    for c in value.chars() {
        if c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii() {
            name.push(c);
        } else {
            name.push_str(&format!("\\x{:02x}", u32::from(c)));
        }
    }
    name
}

fn blkid(tag: &str, value: &str) -> Option<PathBuf> {
    let program = BLKID.into_iter().find(|program| Path::new(program).exists())?;
    let output = Command::new(program)
        .args(["-l", "-o", "device", "-t"])
        .arg(format!("{tag}={value}"))
        .env_clear()
        .output()
        .ok()?;
    let line = output.stdout.split(|byte| *byte == b'\n').next()?;
    (!line.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(line)))
}

/// Holds the source, whatever happens to its name.
pub(crate) fn pin(path: &Path) -> Result<Pinned, Failure> {
    Pinned::at(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => {
            Failure::mount("no such device or file; check the name".to_owned())
        }
        io::ErrorKind::PermissionDenied => {
            Failure::mount("permission denied; ask root, or mount a file that you may read")
        }
        _ => Failure::mount(format!("cannot look it up: {}", plain(&error))),
    })
}

/// What a pinned source is.
pub(crate) fn kind(source: &Pinned) -> SourceKind {
    match FileType::from_raw_mode(source.stat().st_mode) {
        FileType::BlockDevice => SourceKind::Block,
        FileType::RegularFile => {
            SourceKind::File { bytes: u64::try_from(source.stat().st_size).unwrap_or(0) }
        }
        FileType::Directory => SourceKind::Directory,
        _ => SourceKind::Other,
    }
}

/// Whether a pinned source cannot be written, whoever wants to. Other reasons not to open it for
/// writing come up when that is done.
pub(crate) fn is_write_protected(source: &Pinned) -> bool {
    match kind(source) {
        SourceKind::Block => source
            .open(OFlags::RDONLY | OFlags::NONBLOCK)
            .and_then(ioctl::is_write_protected)
            .unwrap_or(false),
        SourceKind::File { .. } => {
            let opened = source.open(OFlags::RDWR | OFlags::NONBLOCK);
            opened.is_err_and(|error| {
                matches!(
                    Errno::from_io_error(&error),
                    Some(Errno::ROFS | Errno::ACCESS | Errno::PERM)
                )
            })
        }
        SourceKind::Directory | SourceKind::Other => false,
    }
}

/// Why something cannot be had alone.
#[derive(Debug)]
pub(crate) enum Busy {
    /// A device that the kernel or another program has for itself.
    Claimed,
    /// A file that another program has locked.
    Locked,
    Other(io::Error),
}

/// Opens for what a mount does, and keeps others away for as long as the descriptor lives: a file is
/// locked, against readers too if it is written; a device is claimed if it is written.
pub(crate) fn open_alone(pinned: &Pinned, read_only: bool) -> Result<OwnedFd, Busy> {
    let is_file = matches!(kind(pinned), SourceKind::File { .. });
    let (mode, lock) = match read_only {
        true => (OFlags::RDONLY, FlockOperation::NonBlockingLockShared),
        false => (OFlags::RDWR, FlockOperation::NonBlockingLockExclusive),
    };
    let claim = if is_file || read_only { OFlags::empty() } else { OFlags::EXCL };
    let fd = pinned.open(mode | claim).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => Busy::Claimed,
        _ => Busy::Other(error),
    })?;
    if is_file && flock(&fd, lock).is_err() {
        return Err(Busy::Locked);
    }
    Ok(fd)
}

/// The external journal that the caller named.
#[derive(Debug)]
pub(crate) struct Journal {
    pinned: Pinned,
    /// For messages.
    what: String,
}

impl Journal {
    pub(crate) fn pin(path: &Path) -> Result<Self, Failure> {
        let what = format!("journal {}", path.display());
        let pinned = Pinned::at(path).or_mount_failure(&what)?;
        if !matches!(kind(&pinned), SourceKind::Block | SourceKind::File { .. }) {
            return Err(Failure::mount(format!("{what} is neither a block device nor a file")));
        }
        Ok(Self { pinned, what })
    }

    /// Opened for what the mount does. Late: a further mount that shares the server needs none.
    pub(crate) fn open(&self, read_only: bool) -> Result<OwnedFd, Failure> {
        let what = &self.what;
        if !read_only && is_write_protected(&self.pinned) {
            return Err(Failure::mount(format!("{what} is write-protected; mount with -o ro")));
        }
        open_alone(&self.pinned, read_only).map_err(|busy| match busy {
            Busy::Claimed | Busy::Locked => Failure::mount(format!("{what} is in use")),
            Busy::Other(error) => Failure::mount(format!("{what}: {}", plain(&error))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_as_they_are() {
        for path in ["/dev/sda1", "image.ext4", "a=b", "/dev/disk/by-label/x"] {
            assert_eq!(resolve(OsStr::new(path)), Ok(PathBuf::from(path)));
        }
    }

    #[test]
    fn tags_are_looked_up_by_their_udev_name() {
        assert_eq!(tag("LABEL=\"my disk\""), Some(("LABEL", "/dev/disk/by-label", "my disk")));
        assert_eq!(link_name("LABEL", "my/disk é"), "my\\x2fdisk\\x20é");
        assert_eq!(link_name("UUID", "ABCD-12"), "abcd-12");
    }

    #[test]
    fn a_tag_that_nothing_has_is_named() {
        let failure = resolve(OsStr::new("LABEL=no such label 5b1e")).unwrap_err();
        assert!(failure.text.contains("no such label 5b1e"), "{}", failure.text);
    }
}
