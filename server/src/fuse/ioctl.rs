//! The ioctls that show something; those that change something are in `command`. Restricted ones: the kernel copies as many bytes as the
//! command's number says.
//!
//! Source: linux/fs.h; Documentation/admin-guide/ext4.rst, "Ioctls".

use fuse4fs_ext4::{FileKind, Filesystem, Inode, InodeFlags};
use fuse4fs_protocol::IOC_GET_READ_ONLY;
use fuser::Errno;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::abi::IoctlOut;
use super::errno::Fail;
use super::reply::Output;

/// FS_IOC_GETFLAGS, and its 32-bit form
const GETFLAGS: [u32; 2] = [0x8008_6601, 0x8004_6601];
/// FS_IOC_GETVERSION and EXT4_IOC_GETVERSION, and their 32-bit forms
const GETVERSION: [u32; 4] = [0x8008_7601, 0x8004_7601, 0x8008_6603, 0x8004_6603];
/// FS_IOC_FSGETXATTR
const FSGETXATTR: u32 = 0x801c_581f;
/// FS_IOC_GETFSLABEL
const GETFSLABEL: u32 = 0x8100_9431;
/// FS_IOC_GETFSUUID
const GETFSUUID: u32 = 0x8011_1500;

/// FSLABEL_MAX
const LABEL_MAX: usize = 256;
/// EXT4_FL_USER_VISIBLE: what chattr(1) and lsattr(1) know of.
const USER_VISIBLE: u32 = 0x725b_dfff;

/// FS_XFLAG_*, with the flags of ext4 that they show.
pub(super) const XFLAGS: [(u32, u32); 6] = [
    (InodeFlags::IMMUTABLE, 0x8),
    (InodeFlags::APPEND, 0x10),
    (InodeFlags::SYNC, 0x20),
    (InodeFlags::NOATIME, 0x40),
    (InodeFlags::NODUMP, 0x80),
    (InodeFlags::PROJINHERIT, 0x200),
];

/// `struct fsxattr`
#[derive(FromBytes, IntoBytes, Immutable, Default)]
#[repr(C)]
pub(super) struct FsXattr {
    pub(super) xflags: u32,
    extsize: u32,
    nextents: u32,
    pub(super) projid: u32,
    cowextsize: u32,
    pad: [u8; 8],
}

/// `struct fsuuid2`
#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// Puts out the answer to `command`, `room` bytes at most.
///
/// # Errors
/// ENOTTY for commands that are not served.
pub(super) fn ioctl(
    fs: &Filesystem,
    inode: &Inode,
    (command, room): (u32, u32),
    out: &mut Output<'_>,
) -> Result<(), Fail> {
    out.put(&IoctlOut::default())?;
    let mut reply = |bytes: &[u8]| {
        let room = usize::try_from(room).unwrap_or(0).min(bytes.len());
        out.put_bytes(bytes.get(..room).unwrap_or_default())
    };
    match command {
        command if GETFLAGS.contains(&command) => reply(visible_flags(inode).as_bytes()),
        command if GETVERSION.contains(&command) => reply(inode.generation.as_bytes()),
        FSGETXATTR => reply(fsxattr(inode).as_bytes()),
        GETFSLABEL => reply(&label(&fs.label()?)),
        IOC_GET_READ_ONLY => reply(u32::from(!fs.is_writable()).as_bytes()),
        GETFSUUID => reply(FsUuid { len: 16, uuid: fs.geometry().uuid }.as_bytes()),
        _ => Err(Errno::ENOTTY.into()),
    }
}

pub(super) fn visible_flags(inode: &Inode) -> u32 {
    let shown = if inode.kind == FileKind::Regular {
        USER_VISIBLE & !InodeFlags::PROJINHERIT
    } else {
        USER_VISIBLE
    };
    inode.flags.bits() & shown
}

fn fsxattr(inode: &Inode) -> FsXattr {
    let shown = InodeFlags::new(visible_flags(inode));
    let set = XFLAGS.iter().filter(|(flag, _)| shown.has(*flag));
    FsXattr {
        xflags: set.fold(0, |all, (_, xflag)| all | xflag),
        projid: inode.project,
        ..FsXattr::default()
    }
}

fn label(label: &[u8]) -> [u8; LABEL_MAX] {
    let mut padded = [0; LABEL_MAX];
    for (to, from) in padded.iter_mut().zip(label) {
        *to = *from;
    }
    padded
}
