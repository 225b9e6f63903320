//! The ioctls that change something, as far as their bytes reach a server: the kernel copies as many
//! as the command's number says, so that EXT4_IOC_SETFSUUID comes without its UUID and is not served.
//!
//! Source: linux/fs.h; fs/ext4/ext4.h; Documentation/admin-guide/ext4.rst, "Ioctls".

use fuse4fs_ext4::Trim;
use fuser::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::ioctl::FsXattr;

/// FS_IOC_SETFLAGS. Not its 32-bit form: a program can send that past the kernel's checks of owner and
/// capabilities, and what a 32-bit program sends comes as this one.
const SETFLAGS: u32 = 0x4008_6602;
/// FS_IOC_FSSETXATTR
const FSSETXATTR: u32 = 0x401c_5820;
/// FS_IOC_SETVERSION and EXT4_IOC_SETVERSION, and their 32-bit forms
const SETVERSION: [u32; 4] = [0x4008_7602, 0x4004_7602, 0x4008_6604, 0x4004_6604];
/// FS_IOC_SETFSLABEL
const SETFSLABEL: u32 = 0x4100_9432;
/// FITRIM
const FITRIM: u32 = 0xc018_5879;
/// EXT4_IOC_SHUTDOWN
const SHUTDOWN: u32 = 0x8004_587d;
/// EXT4_IOC_CHECKPOINT
const CHECKPOINT: u32 = 0x4004_662b;

/// EXT4_IOC_CHECKPOINT_FLAG_*
const DISCARD: u32 = 1;
const ZEROOUT: u32 = 2;
const DRY_RUN: u32 = 4;

/// `struct fstrim_range`
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct TrimRange {
    start: u64,
    len: u64,
    minlen: u64,
}

impl TrimRange {
    /// What FITRIM puts out: how much it was in all.
    pub(super) fn done(self, len: u64) -> Self {
        Self { len, ..self }
    }

    /// As the engine wants it.
    pub(super) fn trim(self) -> Trim {
        Trim { start: self.start, len: self.len, least: self.minlen }
    }
}

/// What an ioctl shall change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Command<'a> {
    /// All flags that the inode shall have.
    Flags(u32),
    /// FS_XFLAG_* and the project.
    Attributes { xflags: u32, project: u32 },
    /// i_generation.
    Generation(u32),
    /// The volume's label.
    Label(&'a [u8]),
    /// Free blocks, for the device.
    Trim(TrimRange),
    /// Whether to write everything home, or only to say that it could be.
    Checkpoint { dry: bool },
    /// The end of all I/O. Its argument does not reach a server.
    ShutDown,
}

impl<'a> Command<'a> {
    /// What `command` with `input` is; `None` if it changes nothing, or is not known.
    ///
    /// # Errors
    /// EINVAL for an input that is too short or means nothing; EOPNOTSUPP for a checkpoint that shall
    /// overwrite the log.
    pub(super) fn parse(command: u32, input: &'a [u8]) -> Result<Option<Self>, Errno> {
        Ok(Some(match command {
            SETFLAGS => Self::Flags(number(input)?),
            FSSETXATTR => {
                let (asked, _) = FsXattr::read_from_prefix(input).map_err(|_| Errno::EINVAL)?;
                Self::Attributes { xflags: asked.xflags, project: asked.projid }
            }
            _ if SETVERSION.contains(&command) => Self::Generation(number(input)?),
            SETFSLABEL => Self::Label(input.split(|byte| *byte == 0).next().unwrap_or_default()),
            FITRIM => {
                let range = TrimRange::read_from_prefix(input).map_err(|_| Errno::EINVAL)?;
                Self::Trim(range.0)
            }
            CHECKPOINT => match number(input)? {
                flags if flags & !(DISCARD | ZEROOUT | DRY_RUN) != 0 => return Err(Errno::EINVAL),
                flags if flags & (DISCARD | ZEROOUT) != 0 => return Err(Errno::EOPNOTSUPP),
                flags => Self::Checkpoint { dry: flags & DRY_RUN != 0 },
            },
            SHUTDOWN => Self::ShutDown,
            _ => return Ok(None),
        }))
    }
}

/// The int that an ioctl takes, whatever its number says of the size.
fn number(input: &[u8]) -> Result<u32, Errno> {
    Ok(u32::read_from_prefix(input).map_err(|_| Errno::EINVAL)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_something_is_told_from_the_rest() {
        let parse = |command, input| Command::parse(command, input).unwrap();
        assert_eq!(parse(SETFLAGS, &[16, 0, 0, 0]), Some(Command::Flags(16)));
        assert_eq!(parse(0x4004_6602, &[16, 0, 0, 0]), None, "unchecked by the kernel");
        assert_eq!(parse(0x8008_6601, &[]), None);
        assert_eq!(parse(SHUTDOWN, &[]), Some(Command::ShutDown));
        assert_eq!(parse(SETFSLABEL, b"label\0rest"), Some(Command::Label(b"label")));
        assert_eq!(parse(CHECKPOINT, &[4, 0, 0, 0]), Some(Command::Checkpoint { dry: true }));
        for command in SETVERSION {
            assert_eq!(parse(command, &[7, 0, 0, 0, 9, 9, 9, 9]), Some(Command::Generation(7)));
        }
    }

    #[test]
    fn what_is_cut_short_or_means_nothing_is_refused() {
        let errno = |command, input| Command::parse(command, input).unwrap_err().code();
        assert_eq!(errno(SETFLAGS, &[0; 3]), libc::EINVAL);
        assert_eq!(errno(FSSETXATTR, &[0; 27]), libc::EINVAL);
        assert_eq!(errno(FITRIM, &[0; 23]), libc::EINVAL);
        assert_eq!(errno(CHECKPOINT, &[8, 0, 0, 0]), libc::EINVAL);
        assert_eq!(errno(CHECKPOINT, &[1, 0, 0, 0]), libc::EOPNOTSUPP);
    }
}
