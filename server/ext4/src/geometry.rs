//! The facts of the superblock that layout depends on, checked once at mount.
//!
//! # Invariants
//! Every field here is consistent with the others and with the device's size: block_size is a power
//! of two in 1024..=65536, group_count covers blocks_count, inodes_per_group ≤ 8 × block_size, and so
//! on. Code above relies on it without re-checking. Immutable.
//! Source: Documentation/filesystems/ext4/super.rst, group_descr.rst.

use crate::disk::checksum::ChecksumSeed;
use crate::features::Features;
use crate::ids::{BlockNr, GroupNr, InodeNr};

/// Checked facts about the layout.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Bytes of a block, a power of two in 1024..=65536.
    pub block_size: u32,
    /// Blocks of a cluster, a power of two; 1 without bigalloc.
    pub cluster_blocks: u32,
    /// Blocks of the file system.
    pub blocks_count: u64,
    /// The block that holds the superblock: 1 for 1 KiB blocks (0 with bigalloc), else 0.
    pub first_data_block: u32,
    /// Blocks of a full group.
    pub blocks_per_group: u32,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// Inodes of the file system.
    pub inodes_count: u32,
    /// The first inode that is not reserved.
    pub first_inode: u32,
    /// Bytes of an inode on disk, a power of two in 128..=block_size.
    pub inode_size: u16,
    /// Bytes of a group descriptor: 32, or 64..=1024 (a power of two) with 64bit.
    pub desc_size: u16,
    /// Block groups.
    pub group_count: u32,
    /// First meta block group, in descriptor blocks (meta_bg).
    pub first_meta_bg: u32,
    /// The feature sets.
    pub features: Features,
    /// The seed of metadata checksums.
    pub checksum_seed: ChecksumSeed,
    /// s_hash_seed of directory indexes.
    pub hash_seed: [u32; 4],
    /// Whether directory hashes treat bytes as unsigned (EXT2_FLAGS_UNSIGNED_HASH).
    pub hash_unsigned: bool,
    /// s_def_hash_version, used for directories without an index of their own.
    pub default_hash_version: u8,
    /// s_uuid.
    pub uuid: [u8; 16],
    /// s_volume_name up to its first NUL.
    pub label: Vec<u8>,
    /// s_encoding and s_encoding_flags with casefold.
    pub encoding: Option<(u16, u16)>,
}

impl Geometry {
    /// The group an inode lives in, or `None` for 0 and numbers past the last inode.
    #[must_use]
    pub fn group_of_inode(&self, inode: InodeNr) -> Option<(GroupNr, u32)> {
        let index = inode.get().checked_sub(1)?;
        if inode.get() > self.inodes_count {
            return None;
        }
        let group = index.checked_div(self.inodes_per_group)?;
        Some((GroupNr::new(group), index.checked_rem(self.inodes_per_group)?))
    }

    /// Whether `count` blocks from `first` lie inside the file system and past the superblock.
    #[must_use]
    pub fn contains(&self, first: BlockNr, count: u64) -> bool {
        first.get() > u64::from(self.first_data_block).saturating_sub(1)
            && first.get().checked_add(count).is_some_and(|end| end <= self.blocks_count)
    }
}
