//! Operations done to a mounted path, and what a program sees of each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, RenameFlags, SeekFrom, Timespec,
    Timestamps, XattrFlags,
};
use rustix::io::Errno;

use crate::operation::{Node, Op};

/// What an operation gives: an errno, or something to compare.
pub type Seen = Result<String, i32>;

/// Does `op` below `root`.
///
/// # Errors
/// The kernel's errno, to be compared like any answer.
pub fn apply(root: &Path, op: &Op) -> Seen {
    attempt(root, op).map_err(|error| error.raw_os_error().unwrap_or(-1))
}

fn attempt(root: &Path, op: &Op) -> io::Result<String> {
    let at = |path: &str| root.join(path);
    match op {
        Op::Create { .. } | Op::Mkdir { .. } | Op::Mknod { .. } | Op::Symlink { .. } => {
            make(root, op)
        }
        Op::Link { from, to } => done(std::fs::hard_link(at(from), at(to))),
        Op::Unlink { path } => done(rustix::fs::unlink(at(path)).map_err(Into::into)),
        Op::Rmdir { path } => done(std::fs::remove_dir(at(path))),
        Op::Rename { from, to, flags } => {
            let flags = RenameFlags::from_bits_retain(*flags);
            done(rustix::fs::renameat_with(CWD, at(from), CWD, at(to), flags).map_err(Into::into))
        }
        Op::Write { path, offset, len, byte } => {
            open(&at(path))?.write_all_at(&vec![*byte; *len], *offset)?;
            shape(&at(path))
        }
        Op::Append { path, len, byte } => {
            append(&at(path))?.write_all(&vec![*byte; *len])?;
            shape(&at(path))
        }
        Op::WriteUnlinked { path, len, byte } => write_unlinked(&at(path), *len, *byte),
        Op::Read { path, offset, len } => read(&look(&at(path))?, *offset, *len),
        Op::Truncate { path, size } => {
            open(&at(path))?.set_len(*size)?;
            shape(&at(path))
        }
        Op::Allocate { path, mode, offset, len } => {
            let mode = FallocateFlags::from_bits_retain(*mode);
            rustix::fs::fallocate(open(&at(path))?, mode, *offset, *len)?;
            shape(&at(path))
        }
        Op::CopyRange { from, to, offset_in, offset_out, len } => {
            let (from, to) = (look(&at(from))?, open(&at(to))?);
            let (mut offset_in, mut offset_out) = (*offset_in, *offset_out);
            let copied = rustix::fs::copy_file_range(
                &from,
                Some(&mut offset_in),
                &to,
                Some(&mut offset_out),
                *len,
            )?;
            Ok(format!("copied {copied}"))
        }
        Op::Tmpfile { directory, link_to, len } => {
            tmpfile(root, directory, link_to.as_deref(), *len)
        }
        _ => attributes(root, op),
    }
}

fn make(root: &Path, op: &Op) -> io::Result<String> {
    let at = |path: &str| root.join(path);
    match op {
        Op::Create { path, mode, exclusive } => {
            let mut options = OpenOptions::new();
            options.write(true).create(true).create_new(*exclusive).mode(*mode);
            options.custom_flags(OFlags::NONBLOCK.bits() as i32);
            options.open(at(path))?;
            shape(&at(path))
        }
        Op::Mkdir { path, mode } => {
            std::fs::DirBuilder::new().mode(*mode).create(at(path))?;
            shape(&at(path))
        }
        Op::Mknod { path, kind, mode } => {
            let (kind, device) = match *kind {
                Node::Fifo => (FileType::Fifo, 0),
                Node::Socket => (FileType::Socket, 0),
                Node::CharDevice(a, b) => (FileType::CharacterDevice, rustix::fs::makedev(a, b)),
                Node::BlockDevice(a, b) => (FileType::BlockDevice, rustix::fs::makedev(a, b)),
            };
            rustix::fs::mknodat(CWD, at(path), kind, Mode::from_raw_mode(*mode), device)?;
            shape(&at(path))
        }
        Op::Symlink { target, path } => {
            std::os::unix::fs::symlink(target, at(path))?;
            Ok(format!("{:?}", std::fs::read_link(at(path))?))
        }
        _ => Ok(String::new()),
    }
}

fn attributes(root: &Path, op: &Op) -> io::Result<String> {
    let at = |path: &str| root.join(path);
    match op {
        Op::Chmod { path, mode } => {
            rustix::fs::chmod(at(path), Mode::from_raw_mode(*mode))?;
            shape(&at(path))
        }
        Op::Chown { path, uid, gid } => {
            std::os::unix::fs::lchown(at(path), Some(*uid), Some(*gid))?;
            shape(&at(path))
        }
        Op::Times { path, seconds, nanoseconds } => {
            let time = Timespec { tv_sec: *seconds, tv_nsec: *nanoseconds };
            let times = Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW)?;
            let metadata = std::fs::symlink_metadata(at(path))?;
            Ok(format!("{}.{}", metadata.mtime(), metadata.mtime_nsec()))
        }
        Op::SetXattr { path, name, len, byte, flags } => {
            let flags = XattrFlags::from_bits_retain(*flags);
            let value = vec![*byte; *len];
            done(rustix::fs::lsetxattr(at(path), name.as_str(), &value, flags).map_err(Into::into))
        }
        Op::RemoveXattr { path, name } => {
            done(rustix::fs::lremovexattr(at(path), name.as_str()).map_err(Into::into))
        }
        Op::Seek { path, offset, data } => {
            let to = if *data { SeekFrom::Data(*offset) } else { SeekFrom::Hole(*offset) };
            // In directories the VFS seeks by itself, by what each file system calls their size.
            if std::fs::symlink_metadata(at(path))?.is_dir() {
                return Ok(String::new());
            }
            Ok(rustix::fs::seek(look(&at(path))?, to)?.to_string())
        }
        Op::List { path } => list(&at(path)),
        Op::Stat { path } => shape(&at(path)),
        Op::Fsync { path, data_only } => {
            let file = look(&at(path))?;
            done(if *data_only { file.sync_data() } else { file.sync_all() })
        }
        _ => Ok(String::new()),
    }
}

fn done(result: io::Result<()>) -> io::Result<String> {
    result.map(|()| String::new())
}

/// For writing, and never a fifo that would wait for a reader.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// For reading, likewise.
fn look(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

fn write_unlinked(path: &Path, len: usize, byte: u8) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    std::fs::remove_file(path)?;
    file.write_all_at(&vec![byte; len], 100)?;
    let links = file.metadata()?.nlink();
    Ok(format!("{links} {}", read(&file, 0, len + 100)?))
}

fn tmpfile(root: &Path, directory: &str, link_to: Option<&str>, len: usize) -> io::Result<String> {
    let flags = OFlags::TMPFILE | OFlags::RDWR;
    let file = rustix::fs::open(root.join(directory), flags, Mode::from_raw_mode(0o640))?;
    let file = File::from(file);
    file.write_all_at(&vec![7; len], 0)?;
    if let Some(to) = link_to {
        let itself =
            PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file)));
        rustix::fs::linkat(CWD, itself, CWD, root.join(to), AtFlags::SYMLINK_FOLLOW)?;
    }
    Ok(format!("{} {}", file.metadata()?.nlink(), file.metadata()?.size()))
}

fn read(file: &File, offset: u64, len: usize) -> io::Result<String> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while let count @ 1.. = file.read_at(&mut bytes[filled..], offset + filled as u64)? {
        filled += count;
    }
    Ok(format!("{filled} {}", crate::content::sha256(&bytes[..filled])))
}

/// What stat(2) shows that does not depend on time or place.
fn shape(path: &Path) -> io::Result<String> {
    let metadata = std::fs::symlink_metadata(path)?;
    let size = if metadata.is_dir() { 0 } else { metadata.size() };
    Ok(format!(
        "{:o} {} {} {} {size} {:x}",
        metadata.mode(),
        metadata.nlink(),
        metadata.uid(),
        metadata.gid(),
        metadata.rdev()
    ))
}

fn list(path: &Path) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        names.push(format!("{:?} {:?}", entry.file_name(), entry.file_type()?));
    }
    names.sort();
    Ok(names.join("\n"))
}

/// Removes all there is below `root`, lost+found excepted.
///
/// # Errors
/// The kernel's.
pub fn empty(root: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_name().as_bytes() == b"lost+found" {
            continue;
        }
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether an errno tells of a full disk, which the two may meet at different moments.
#[must_use]
pub fn is_full(seen: &Seen) -> bool {
    matches!(seen, Err(errno) if *errno == Errno::NOSPC.raw_os_error())
}
