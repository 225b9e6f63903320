//! Metadata blocks in memory: an evicting cache of clean ones over [`Source`], and the changed ones
//! ([`dirty::Dirty`]), which stay until the journal has written them home. [`Blocks`] holds both.
//!
//! File data never enters here (the kernel's page cache holds it), so a copy of a big file cannot
//! displace directories and inode tables. A block in memory is an immutable version: a change makes
//! a new one, so a reader keeps what it has and a committing transaction needs no frozen copies.
//! # Locking
//! The cache is internally sharded; no lock is held while the device is read. A shard of
//! [`dirty::Dirty`] is locked while one block is edited; nothing else is taken under it but the clean
//! cache's shard.

mod blocks;
mod dirty;

pub(crate) use blocks::{BATCH_BYTES, Blocks};

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use crate::error::Result;
use crate::ids::{BlockNr, on_disk};
use crate::source::Source;

pub(crate) use load::get_or_load;

/// One metadata block as it stands on the disk (or in the log, where that is newer).
#[derive(Debug)]
pub(crate) struct Block {
    nr: BlockNr,
    bytes: Box<[u8]>,
    verified: AtomicBool,
}

impl Block {
    /// A new version of a block, whose checks the writer vouches for.
    pub(crate) fn written(nr: BlockNr, bytes: Box<[u8]>) -> Self {
        Self { nr, bytes, verified: AtomicBool::new(true) }
    }

    pub(crate) fn nr(&self) -> BlockNr {
        self.nr
    }

    fn into_bytes(self) -> Box<[u8]> {
        self.bytes
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

    /// Forgets what the device held.
    pub(crate) fn remove(&self, nr: BlockNr) {
        self.blocks.remove(&nr);
    }

    /// Takes a version that the device holds by now. A read of an older one that is under way is
    /// not kept.
    pub(crate) fn insert(&self, block: Arc<Block>) {
        self.blocks.insert(block.nr, block);
    }

    /// The block, from memory or from `source`. The caller has checked the range.
    pub(crate) fn get(&self, source: &Source, nr: BlockNr) -> Result<Arc<Block>> {
        get_or_load(&self.blocks, &nr, &**source.device(), || {
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
