//! The blocks of a directory by their place in it.
//!
//! Kernel: fs/ext4/namei.c `__ext4_read_dirblock`

use std::sync::Arc;

use crate::cache::{Ahead, Block, Role};
use crate::disk::dirent::{self, DirLayout};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::Compat;
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::{Inode, InodeFlags};
use crate::map::{self, Mapping};
use crate::volume::Volume;

/// Neighbours that are read with a block that is not in memory (NAMEI_RA_SIZE).
const READ_AHEAD: u32 = 8;

/// The piece of the directory that `first` is in, which stands at `at`, the `len` blocks from it on
/// being neighbours.
fn piece(at: LogicalBlock, first: BlockNr, len: u32) -> Ahead {
    let before = at.get().checked_rem(READ_AHEAD).unwrap_or(0);
    let rest = len.min(READ_AHEAD.saturating_sub(before));
    let start = BlockNr::new(first.get().saturating_sub(before.into()));
    Ahead::of(start, before.saturating_add(rest).into())
}

/// What stands at a logical block of a directory.
pub(super) enum DirBlock {
    /// A block, not checked yet.
    There(Arc<Block>),
    /// Nothing for this many blocks (at least 1).
    Hole(u32),
}

/// Where a name stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// What it names, as the disk has it.
    pub(super) inode: InodeNr,
    /// The block, by its place in the directory and on the device.
    pub(super) at: LogicalBlock,
    pub(super) block: BlockNr,
    /// The entry's place in the block, in bytes.
    pub(super) offset: u32,
}

/// A directory opened for one call: what every step of it needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Directory<'a> {
    pub(super) volume: &'a Volume,
    pub(super) inode: &'a Inode,
    pub(super) layout: DirLayout,
}

impl<'a> Directory<'a> {
    pub(super) fn new(volume: &'a Volume, inode: &'a Inode) -> Self {
        Self { volume, inode, layout: DirLayout::of(&volume.geometry, inode.flags) }
    }

    /// Whether it has an index that may be used (`is_dx`).
    pub(super) fn is_indexed(&self) -> bool {
        self.has_dir_index() && self.inode.flags.has(InodeFlags::INDEX)
    }

    /// Whether the file system keeps indexes.
    pub(super) fn has_dir_index(&self) -> bool {
        self.volume.geometry.features.compat.contains(Compat::DIR_INDEX)
    }

    /// Whether names are stored encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.inode.flags.has(InodeFlags::ENCRYPT)
    }

    /// Whether names that differ in case only are the same.
    pub(super) fn is_casefolded(&self) -> bool {
        self.inode.flags.has(InodeFlags::CASEFOLD) && self.volume.geometry.encoding.is_some()
    }

    /// Whether names must be valid in the encoding (EXT4_ENC_STRICT_MODE_FL).
    pub(super) fn is_strictly_encoded(&self) -> bool {
        self.encoding_flags() & 1 != 0
    }

    /// Whether a name that the index does not find is searched linearly, too (not
    /// EXT4_ENC_NO_COMPAT_FALLBACK_FL).
    pub(super) fn allows_compat_search(&self) -> bool {
        self.encoding_flags() & 2 == 0
    }

    fn encoding_flags(&self) -> u16 {
        self.volume.geometry.encoding.map_or(0, |(_, flags)| flags)
    }

    /// Blocks that i_size spans; a partial last one does not count.
    pub(super) fn blocks(&self) -> u32 {
        let blocks = self.inode.size.checked_div(self.layout.block_size.into()).unwrap_or(0);
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }

    /// The most blocks that one call may visit: no sound directory has more than i_size spans, nor
    /// more than the file system has. Bounds what a hostile index or map can cost.
    pub(super) fn budget(&self) -> u64 {
        u64::from(self.blocks()).min(self.volume.geometry.blocks_count)
    }

    /// The block at `at`; the caller checks what it holds.
    pub(super) fn block(&self, at: LogicalBlock) -> Result<DirBlock> {
        match map::lookup(self.volume, self.inode, at)? {
            Mapping::Written { first, len } => {
                let piece = piece(at, first, len);
                Ok(DirBlock::There(self.volume.metadata_among(first, piece)?))
            }
            Mapping::Hole { len } | Mapping::Unwritten { len, .. } => {
                Ok(DirBlock::Hole(len.max(1)))
            }
        }
    }

    /// The block at `at`, which must be there (index nodes and leaves).
    pub(super) fn block_or_hole_error(&self, at: LogicalBlock) -> Result<Arc<Block>> {
        if at.get() < self.blocks()
            && let DirBlock::There(block) = self.block(at)?
        {
            return Ok(block);
        }
        Err(self.corrupt(None, CorruptKind::DirHole { block: at.get() }))
    }

    /// Checks a block of entries against its checksum, once.
    pub(super) fn verify_entries(&self, block: &Block) -> Result<()> {
        block
            .verify_once(Role::Entries, |bytes| {
                dirent::check_tail(self.layout, self.inode.checksum_seed, bytes)
            })
            .map_err(|error| self.located(error, block))
    }

    /// Adds the place of `block` in this directory to an error.
    pub(super) fn located(&self, error: Error, block: &Block) -> Error {
        error.at_block(block.nr()).at_inode(self.inode.nr)
    }

    /// Tells of corruption that the caller gets around.
    pub(super) fn notice(&self, error: Error, block: Option<BlockNr>) {
        let error = block.into_iter().fold(error, Error::at_block);
        self.volume.notice(error.at_inode(self.inode.nr));
    }

    pub(super) fn corrupt(&self, block: Option<BlockNr>, kind: CorruptKind) -> Error {
        Error::corrupt(Place { inode: Some(self.inode.nr), block, group: None }, kind)
    }
}
