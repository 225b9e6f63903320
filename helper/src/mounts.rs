//! The mounts of this mount namespace that are ours. Source: proc_pid_mountinfo(5).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::superblock::SUBTYPE;

/// A mount, by its line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// Major and minor number of the file system, as text.
    pub(crate) device: String,
    pub(crate) point: PathBuf,
    /// What it was mounted from, as mount(8) was told.
    pub(crate) source: String,
    /// Who mounted it. Without `allow_other` it answers nobody else.
    pub(crate) user: u32,
}

/// All of them, in the order of the table, those of subdirectories included.
///
/// # Errors
/// When /proc cannot be read.
pub(crate) fn ours() -> io::Result<Vec<Mount>> {
    let table = fs::read("/proc/self/mountinfo")?;
    Ok(table.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// A line, if it is of a file system of ours.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(1)?)));
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = str::from_utf8(fields.next()?).ok()?;
    let source = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let options = str::from_utf8(fields.next()?).ok()?;
    let user = options.split(',').find_map(|option| option.strip_prefix("user_id="))?;
    let user = user.parse().ok()?;
    let ours = ["fuse", "fuseblk"].iter().any(|kind| fs_type == format!("{kind}.{SUBTYPE}"));
    ours.then_some(Mount { id, device, point, source, user })
}

/// Blanks and the like are written as `\NNN`, in octal.
pub(crate) fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code.filter(|_| *byte == b'\\') {
            Some(code) => {
                bytes.push(code);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_types_count() {
        let line = |kind: &str| {
            format!(
                r"36 35 7:0 / /mnt/my\040disk rw,noatime shared:1 - {kind} /my\040image rw,user_id=7"
            )
        };
        let mount = parse(line("fuseblk.fuse4fs").as_bytes()).unwrap();
        assert_eq!((mount.id, mount.device.as_str(), mount.user), (36, "7:0", 7));
        assert_eq!((mount.point, mount.source.as_str()), ("/mnt/my disk".into(), "/my image"));
        assert!(parse(line("fuse.fuse4fs").as_bytes()).is_some());
        for other in ["ext4", "fuse", "fuse.fuse4fsx", "fuseblk.fuse4fs.x", "x.fuse4fs"] {
            assert_eq!(parse(line(other).as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_is_no_octal_number_stays() {
        assert_eq!(unescape(br"a\9b\134"), br"a\9b\");
        assert_eq!(unescape(b"\xff\\040"), b"\xff ");
    }
}
