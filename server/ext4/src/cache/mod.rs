//! Metadata blocks in memory, clean ones only: an evicting cache over [`Source`].
//!
//! File data never enters here (the kernel's page cache holds it), so a copy of a big file cannot
//! displace directories and inode tables. Blocks are immutable once read.
//! # Locking
//! The cache is internally sharded; no lock is held while the device is read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use crate::error::Result;
use crate::ids::{BlockNr, on_disk};
use crate::source::Source;

/// One metadata block as it stands on the disk (or in the log, where that is newer).
#[derive(Debug)]
pub(crate) struct Block {
    nr: BlockNr,
    bytes: Box<[u8]>,
    verified: AtomicBool,
}

impl Block {
    pub(crate) fn nr(&self) -> BlockNr {
        self.nr
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Runs `check` unless it succeeded on this block before. A block has one role at a time; a
    /// reader that finds it in another role must not rely on this.
    pub(crate) fn verify_once(&self, check: impl FnOnce(&[u8]) -> Result<()>) -> Result<()> {
        if !self.verified.load(Ordering::Acquire) {
            check(&self.bytes)?;
            self.verified.store(true, Ordering::Release);
        }
        Ok(())
    }
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<BlockNr, Arc<Block>> for ByBytes {
    fn weight(&self, _: &BlockNr, block: &Arc<Block>) -> u64 {
        on_disk(block.bytes.len()).saturating_add(128)
    }
}

/// The cache of clean metadata blocks.
pub(crate) struct Cache {
    blocks: QuickCache<BlockNr, Arc<Block>, ByBytes>,
}

impl Cache {
    /// A cache that holds at most about `budget` bytes.
    pub(crate) fn new(budget: u64, block_size: u32) -> Self {
        let items = budget.checked_div(u64::from(block_size)).unwrap_or(0);
        let items = crate::ids::in_memory(items.clamp(16, 1 << 20));
        Self { blocks: QuickCache::with_weighter(items, budget, ByBytes) }
    }

    /// The block, from memory or from `source`. The caller has checked the range.
    pub(crate) fn get(&self, source: &Source, nr: BlockNr) -> Result<Arc<Block>> {
        self.blocks.get_or_insert_with(&nr, || {
            let mut bytes = vec![0; crate::ids::in_memory(source.block_size().into())];
            source.read(nr, 0, &mut bytes)?;
            Ok(Arc::new(Block { nr, bytes: bytes.into(), verified: AtomicBool::new(false) }))
        })
    }
}

impl core::fmt::Debug for Cache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.blocks.weight()).finish()
    }
}
