//! Bitmaps are on their way when they are first asked for: at mount the device is told that they will be
//! read (`prefetch_block_bitmaps`).
//!
//! Kernel: fs/ext4/mballoc.c `ext4_mb_prefetch`

use crate::disk::group_desc::{BLOCK_UNINIT, GroupDesc, INODE_UNINIT};
use crate::ids::BlockNr;
use crate::volume::Volume;

/// Bytes of bitmaps that are prefetched at most: those of 250 GiB. What comes later takes longer.
const MOST: u64 = 16 << 20;

/// Neighbours among the bitmaps of groups, which come in order.
pub(super) struct Prefetch<'v> {
    volume: &'v Volume,
    /// Of block bitmaps, and of inode bitmaps.
    runs: [(u64, u64); 2],
    /// Blocks that may still be prefetched.
    left: u64,
}

impl<'v> Prefetch<'v> {
    pub(super) fn new(volume: &'v Volume) -> Self {
        let left = MOST.checked_div(volume.block_size().into()).unwrap_or(0);
        Self { volume, runs: [(0, 0); 2], left }
    }

    /// The bitmaps of a group, as far as they were ever written.
    pub(super) fn add(&mut self, desc: &GroupDesc) {
        let blocks = (desc.flags & BLOCK_UNINIT == 0).then_some(desc.block_bitmap);
        let inodes = (desc.flags & INODE_UNINIT == 0).then_some(desc.inode_bitmap);
        for (index, bitmap) in [blocks, inodes].into_iter().enumerate() {
            let (Some(nr), Some(run)) = (bitmap, self.runs.get(index).copied()) else { continue };
            let (first, count) = run;
            let grown = if first.checked_add(count) == Some(nr.get()) && count > 0 {
                (first, count.saturating_add(1))
            } else {
                self.begin(run);
                (nr.get(), 1)
            };
            if let Some(run) = self.runs.get_mut(index) {
                *run = grown;
            }
        }
    }

    /// Has the last of them begin.
    pub(super) fn finish(mut self) {
        self.runs.into_iter().for_each(|run| self.begin(run));
    }

    fn begin(&mut self, (first, count): (u64, u64)) {
        let count = count.min(self.left);
        self.left = self.left.saturating_sub(count);
        if count > 0 {
            self.volume.source().prefetch(BlockNr::new(first), count);
        }
    }
}
