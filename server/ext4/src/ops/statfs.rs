//! Sizes and free space.

use crate::alloc;
use crate::error::Result;
use crate::features::Incompat;
use crate::filesystem::Filesystem;
use crate::usage::{self, Usage};

/// How statfs counts the metadata's own space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overhead {
    /// `bsddf`: left out of the total.
    Subtract,
    /// `minixdf`: part of the total.
    Include,
}

/// The answer of statfs(2); counts are in blocks of `block_size` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatFs {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks less the reserve.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

/// What the kernel keeps back for writing out delayed data: at most this many clusters
/// (`ext4_calculate_resv_clusters`).
const MAX_RESERVE: u64 = 4096;

impl Filesystem {
    /// Sizes and free space, as the kernel's ext4 counts them. The first call reads every group
    /// descriptor.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn statfs(&self, overhead: Overhead) -> Result<StatFs> {
        let usage = self.usage()?;
        let geometry = &self.volume.geometry;
        let hidden = match overhead {
            Overhead::Subtract => usage.overhead_blocks,
            Overhead::Include => 0,
        };
        let kept = self.facts.reserved_blocks.saturating_add(self.delayed_reserve());
        Ok(StatFs {
            block_size: geometry.block_size,
            blocks: geometry.blocks_count.saturating_sub(hidden),
            free: usage.free_blocks,
            available: usage.free_blocks.saturating_sub(kept),
            inodes: geometry.inodes_count.into(),
            inodes_free: usage.free_inodes,
        })
    }

    /// Counted once, which is all there is to it where nothing changes; else the allocator knows
    /// what is free.
    fn usage(&self) -> Result<Usage> {
        let counted = match self.usage.get() {
            Some(usage) => *usage,
            None => {
                let counted = usage::count(&self.volume, &self.facts)?;
                *self.usage.get_or_init(|| counted)
            }
        };
        Ok(match alloc::totals(&self.volume) {
            Some(totals) => {
                Usage { free_blocks: totals.blocks, free_inodes: totals.inodes, ..counted }
            }
            None => counted,
        })
    }

    /// Blocks: a fiftieth of the file system within bounds; nothing without extents.
    fn delayed_reserve(&self) -> u64 {
        let geometry = &self.volume.geometry;
        if !geometry.features.incompat.contains(Incompat::EXTENTS) {
            return 0;
        }
        let clusters = (geometry.whole_clusters(geometry.blocks_count) / 50).min(MAX_RESERVE);
        clusters.saturating_mul(geometry.cluster_blocks.into())
    }
}
