//! Quota files, format 2 revision 1: blocks of 1 KiB, the first with the file's facts, then a tree of
//! four levels over the 32 bits of an id, whose leaves are blocks of entries.
//!
//! Source: fs/quota/quota_tree.h, quotaio_v2.h

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block of a quota file.
pub(crate) const BLOCK: usize = 1024;
/// The block that is the tree's root (QT_TREEOFF).
pub(crate) const ROOT: u32 = 1;
/// Levels of references above the blocks of entries.
pub(crate) const LEVELS: u32 = 4;
/// Magic numbers of user, group and project files (V2_INITQMAGICS).
pub(crate) const MAGICS: [u32; 3] = [0xd9c0_1f11, 0xd9c0_1927, 0xd9c0_3f14];
/// V2_INITQVERSIONS
pub(crate) const VERSION: u32 = 1;

/// `struct v2_disk_dqheader` and `struct v2_disk_dqinfo`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawInfo {
    pub(crate) magic: U32,
    pub(crate) version: U32,
    /// Seconds that the soft limit of blocks may be passed.
    pub(crate) block_grace: U32,
    /// Seconds that the soft limit of inodes may be passed.
    pub(crate) inode_grace: U32,
    pub(crate) flags: U32,
    /// Blocks of the file.
    pub(crate) blocks: U32,
    /// First of the list of free blocks.
    pub(crate) free_block: U32,
    /// First of the list of blocks with room for an entry.
    pub(crate) free_entry: U32,
}

/// `struct qt_disk_dqdbheader`, the head of a block of entries or of a free one.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawHead {
    pub(crate) next: U32,
    pub(crate) previous: U32,
    pub(crate) entries: U16,
    pub(crate) pad1: U16,
    pub(crate) pad2: U32,
}

/// `struct v2r1_disk_dqblk`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawEntry {
    pub(crate) id: U32,
    pub(crate) pad: U32,
    pub(crate) inode_hard: U64,
    pub(crate) inode_soft: U64,
    pub(crate) inodes: U64,
    /// In units of 1 KiB, as the soft one.
    pub(crate) block_hard: U64,
    pub(crate) block_soft: U64,
    /// In bytes.
    pub(crate) space: U64,
    /// When the soft limit of blocks becomes a hard one; 0 while it is not passed.
    pub(crate) block_time: U64,
    /// The same for inodes.
    pub(crate) inode_time: U64,
}

/// Entries in a block.
pub(crate) const ENTRIES: usize = 14;

const _: () = assert!(size_of::<RawInfo>() == 32 && size_of::<RawHead>() == 16);
const _: () = assert!(16 + ENTRIES * size_of::<RawEntry>() <= BLOCK);

/// A block of references.
pub(crate) type Node = [U32; BLOCK / 4];

/// A block of entries.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Leaf {
    pub(crate) head: RawHead,
    pub(crate) entries: [RawEntry; ENTRIES],
}

impl RawEntry {
    /// All zeros: nobody's.
    pub(crate) fn is_unused(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }

    /// An entry of id 0 without use or limits must not look unused.
    pub(crate) fn mark_used(&mut self) {
        if self.is_unused() {
            self.inode_time.set(1);
        }
    }
}

/// Which reference of a node on `level` (0 is the root's) leads to `id`.
pub(crate) fn index(id: u32, level: u32) -> usize {
    let bytes = id.to_be_bytes();
    let at = usize::try_from(level).unwrap_or(usize::MAX);
    bytes.get(at).copied().map_or(0, usize::from)
}
