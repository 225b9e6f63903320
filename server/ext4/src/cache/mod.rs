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
mod level;

pub(crate) use blocks::{BATCH_BYTES, Blocks};

mod load;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use crate::error::Result;
use crate::ids::{BlockNr, on_disk};
use crate::source::Source;

pub use level::CacheLevel;
pub(crate) use level::{Misses, level};
pub(crate) use load::get_or_load;

/// One metadata block as it stands on the disk (or in the log, where that is newer).
#[derive(Debug)]
pub(crate) struct Block {
    nr: BlockNr,
    bytes: Box<[u8]>,
    /// The roles in which its checks succeeded.
    verified: AtomicU8,
}

/// What a block is taken for. A sound one has one role at a time; a damaged file system may lead to it
/// in several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Entries,
    Index,
    BlockBitmap,
    InodeBitmap,
    Pointers,
    Extents,
    Attributes,
}

impl Role {
    const fn bit(self) -> u8 {
        match self {
            Self::Entries => 1,
            Self::Index => 1 << 1,
            Self::BlockBitmap => 1 << 2,
            Self::InodeBitmap => 1 << 3,
            Self::Pointers => 1 << 4,
            Self::Extents => 1 << 5,
            Self::Attributes => 1 << 6,
        }
    }
}

impl Block {
    /// A block as the device has it, or that was just made: nothing of it was checked.
    pub(crate) fn new(nr: BlockNr, bytes: Box<[u8]>) -> Self {
        Self { nr, bytes, verified: AtomicU8::new(0) }
    }

    /// The next version, with `bytes`. Who changed it vouches for the checks of its role; where there
    /// were several, it is not known for which.
    fn changed(&self, bytes: Box<[u8]>) -> Self {
        let verified = self.verified.load(Ordering::Acquire);
        let verified = if verified.is_power_of_two() { verified } else { 0 };
        Self { nr: self.nr, bytes, verified: AtomicU8::new(verified) }
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

    /// Runs `check` unless it succeeded on this block, in this role, before.
    pub(crate) fn verify_once(
        &self,
        role: Role,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.verified.load(Ordering::Acquire) & role.bit() == 0 {
            check(&self.bytes)?;
            self.verified.fetch_or(role.bit(), Ordering::Release);
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
    misses: Misses,
}

impl Cache {
    /// A cache that holds at most about `budget` bytes.
    pub(crate) fn new(budget: u64, block_size: u32) -> Self {
        let items = budget.checked_div(u64::from(block_size)).unwrap_or(0);
        let items = crate::ids::in_memory(items.clamp(16, 1 << 20));
        let blocks = QuickCache::with_weighter(items, budget, ByBytes);
        Self { blocks, misses: Misses::default() }
    }

    /// How full it is, and what it was asked for.
    pub(crate) fn level(&self) -> CacheLevel {
        level(&self.blocks, &self.misses)
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
            self.misses.count();
            Ok(Arc::new(Block::new(nr, bytes.into())))
        })
    }
}

impl core::fmt::Debug for Cache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Cache").field("bytes", &self.blocks.weight()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(block: &Block, role: Role) -> bool {
        let mut checked = false;
        block
            .verify_once(role, |_| {
                checked = true;
                Ok(())
            })
            .unwrap();
        checked
    }

    #[test]
    fn a_block_is_checked_once_in_each_role() {
        let block = Block::new(BlockNr::new(1), vec![0; 4].into());
        assert!(checks(&block, Role::Entries));
        assert!(!checks(&block, Role::Entries));
        // Its next version is its writer's word.
        assert!(!checks(&block.changed(vec![1; 4].into()), Role::Entries));
        assert!(checks(&block, Role::Attributes));
        // Whose word is it now?
        let changed = block.changed(vec![1; 4].into());
        assert!(checks(&changed, Role::Entries) && checks(&changed, Role::Attributes));
    }

    #[test]
    fn a_check_that_fails_is_made_again() {
        let block = Block::new(BlockNr::new(1), vec![0; 4].into());
        let fail = |_: &[u8]| Err(crate::Refusal::Invalid.into());
        assert!(block.verify_once(Role::Index, fail).is_err());
        assert!(checks(&block, Role::Index));
    }
}
