//! Inodes in memory: decoded once, cached by number. A cached inode is an immutable version: whoever
//! holds its lock changes a copy and makes that the newest one with [`store`].
//!
//! Kernel: fs/ext4/inode.c · Documentation/filesystems/ext4/inodes.rst

mod cache;
mod changed;
mod codec;
mod encode;
mod init;
mod lazy;
mod locks;

pub(crate) use cache::{
    decode_on_disk, dtime, forget, get, named, prepare, record, set_dtime, store, store_atime,
    store_times,
};
pub(crate) use changed::{Changed, What};
pub(crate) use codec::decode;
pub(crate) use init::{Birth, init, owners, tail_of_new};
pub(crate) use lazy::{Lazy, set_atime_lazily};
pub(crate) use locks::{Locks, ReadGuard, WriteGuard};

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use crate::kind::{FileKind, InodeFlags};

use crate::disk::checksum::ChecksumSeed;
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::ids::{BlockNr, InodeNr, on_disk};

/// A point in time: seconds since 1970 (34 bits, signed) and nanoseconds (0..1_000_000_000).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// What the machine's clock says.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self { seconds, nanoseconds: since.subsec_nanos() }
    }
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
    /// i_blocks: space used, in 512-byte units.
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
    /// i_version, both halves: another one with each stored change. Of an inode that holds an
    /// attribute's value it is the low half of the count of users.
    pub version: u64,
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
    /// st_blocks. Inline files have no blocks but count as if they had: programs take 0 for a file of
    /// holes (`ext4_file_getattr`).
    #[must_use]
    pub fn shown_blocks512(&self) -> u64 {
        let inline = self.kind == FileKind::Regular && self.flags.has(InodeFlags::INLINE_DATA);
        self.blocks512.saturating_add(if inline { self.size.div_ceil(512) } else { 0 })
    }

    /// Whether the target of this symbolic link is in i_block (`ext4_inode_is_fast_symlink`).
    pub(crate) fn has_fast_target(&self, geometry: &Geometry) -> bool {
        if geometry.features.incompat.contains(Incompat::EA_INODE) {
            return self.size != 0 && self.size < on_disk(self.block.len());
        }
        let cluster = u64::from(geometry.cluster_blocks).saturating_mul(geometry.block_size.into());
        let xattr_blocks512 = if self.xattr_block.is_some() { cluster >> 9 } else { 0 };
        !self.flags.has(InodeFlags::INLINE_DATA) && self.blocks512 == xattr_blocks512
    }

    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}
