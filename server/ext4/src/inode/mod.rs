//! Inodes in memory: decoded once, immutable, cached by number.
//!
//! Kernel: fs/ext4/inode.c · Documentation/filesystems/ext4/inodes.rst

mod cache;
mod codec;

pub(crate) use cache::{Cache, decode_on_disk, get, record};
pub(crate) use codec::decode;

pub(crate) use crate::kind::{FileKind, InodeFlags};

use crate::disk::checksum::ChecksumSeed;
use crate::ids::{BlockNr, InodeNr};

/// A point in time: seconds since 1970 (34 bits, signed) and nanoseconds (0..1_000_000_000).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// One inode, decoded and checked.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number.
    pub nr: InodeNr,
    /// i_generation.
    pub generation: u32,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky, 0..=0o7777.
    pub permissions: u16,
    /// Owner, both halves.
    pub uid: u32,
    /// Group, both halves.
    pub gid: u32,
    /// i_projid; 0 where absent.
    pub project: u32,
    /// i_links_count as stored (a directory past dir_nlink's limit shows 1).
    pub links: u16,
    /// Bytes.
    pub size: u64,
    /// Space used, in 512-byte units.
    pub blocks512: u64,
    /// i_flags.
    pub flags: InodeFlags,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation, where the inode is large enough to hold it.
    pub crtime: Option<Timestamp>,
    /// Device number (major, minor) of a device node, else zeros.
    pub rdev: (u32, u32),
    /// i_file_acl: the block of extended attributes.
    pub xattr_block: Option<BlockNr>,
    /// i_block: extent root, block pointers, a fast symlink's target, or inline data.
    pub(crate) block: [u8; 60],
    /// The space behind the fixed fields (after 128 + i_extra_isize) for in-inode attributes;
    /// empty in 128-byte inodes.
    pub(crate) tail: Box<[u8]>,
    /// The seed of checksums over this inode's own blocks: fs seed + number + generation.
    pub(crate) checksum_seed: ChecksumSeed,
}

impl Inode {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}
