//! What is kept in memory of a disk and could be read again: one budget of bytes for metadata blocks
//! and for what was decoded of them, so that each has the share that its use earns.
//!
//! Eviction is quick_cache's (CLOCK-Pro): what was used once, by a walk over everything, goes before
//! what is used again and again.
//! # Locking
//! The table is sharded; no lock is held while the device is read. Whoever still has the table that
//! [`Memory::set_budget`] replaced may put something into it: that is lost, and so read again.

use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use arc_swap::ArcSwap;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Block, CacheLevel, get_or_load};
use crate::device::BlockDevice;
use crate::error::Result;
use crate::ids::{BlockNr, InodeNr, in_memory, on_disk};

/// Bytes that keeping one thing takes beside its own: its place in the table, twice while that grows,
/// and what the allocator adds to two pieces of memory.
const EACH: usize = 160;

/// Bytes of a thing, on average: there are many inodes, and few blocks.
const USUAL: u64 = 1024;

/// By what a thing is found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Key {
    Block(BlockNr),
    Inode(InodeNr),
}

/// What was decoded of an inode's record; the layer of inodes knows more of it.
pub(crate) trait Decoded: Any + Send + Sync {
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

#[derive(Clone)]
enum Kept {
    Block(Arc<Block>),
    Inode(Arc<dyn Any + Send + Sync>, usize),
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Key, Kept> for ByBytes {
    fn weight(&self, _: &Key, kept: &Kept) -> u64 {
        let bytes = match kept {
            Kept::Block(block) => block.bytes().len(),
            Kept::Inode(_, bytes) => *bytes,
        };
        on_disk(bytes.saturating_add(EACH))
    }
}

type Table = Cache<Key, Kept, ByBytes>;

/// Clean blocks and decoded inodes.
pub(crate) struct Memory {
    table: ArcSwap<Table>,
    /// Things that were read. The table counts what it lacked, also for a thread that may not wait and
    /// leaves the reading to another one.
    misses: AtomicU64,
    /// What tables before this one had.
    past_hits: AtomicU64,
}

/// Of what was evicted, half as many keys are remembered as there is room for: so it is seen
/// that something is used again.
fn table(budget: u64) -> Table {
    let items = in_memory((budget / USUAL).max(16));
    Cache::with_weighter(items, capacity(budget), ByBytes)
}

/// Bytes for what is kept. The rest is what a walk over a million inodes was seen to take beside it: keys
/// of what was evicted, a table that doubles when it grows, and gaps between pieces of memory.
fn capacity(budget: u64) -> u64 {
    budget.saturating_sub(budget / 3)
}

impl Memory {
    /// Holds at most about `budget` bytes.
    pub(crate) fn new(budget: u64) -> Self {
        let table = ArcSwap::from_pointee(table(budget));
        Self { table, misses: AtomicU64::new(0), past_hits: AtomicU64::new(0) }
    }

    /// Bytes that it may hold: most of the budget.
    pub(crate) fn capacity(&self) -> u64 {
        self.table.load().capacity()
    }

    /// Bytes that it holds.
    pub(crate) fn used(&self) -> u64 {
        self.table.load().weight()
    }

    /// How full it is, and what it was asked for. Locks shards, one after the other, for moments.
    pub(super) fn level(&self) -> CacheLevel {
        let table = self.table.load();
        CacheLevel {
            bytes: self.used(),
            budget: self.capacity(),
            entries: on_disk(table.len()),
            hits: self.past_hits.load(Ordering::Relaxed).saturating_add(table.hits()),
            misses: self.misses.load(Ordering::Relaxed),
        }
    }

    /// From now on at most about `budget` bytes are held. What is too much is dropped at once: what was
    /// used least, or all of it where hardly anything would be left, as a table never becomes smaller.
    pub(crate) fn set_budget(&self, budget: u64) {
        let now = self.table.load();
        if budget < now.weight() / 4 {
            self.past_hits.fetch_add(now.hits(), Ordering::Relaxed);
            self.table.store(Arc::new(table(budget)));
        } else {
            now.set_capacity(capacity(budget));
        }
    }

    /// The block, or as `load` gets it.
    ///
    /// # Errors
    /// As [`get_or_load`].
    pub(super) fn block(
        &self,
        nr: BlockNr,
        device: &dyn BlockDevice,
        load: impl Fn() -> Result<Arc<Block>>,
    ) -> Result<Arc<Block>> {
        let kept = get_or_load(&self.table.load(), &Key::Block(nr), device, || {
            self.read(&load).map(Kept::Block)
        })?;
        // Under such a key there is nothing else.
        if let Kept::Block(block) = kept { Ok(block) } else { load() }
    }

    /// Reads something, which counts as a miss.
    fn read<T>(&self, load: impl Fn() -> Result<T>) -> Result<T> {
        let value = load()?;
        self.misses.fetch_add(1, Ordering::Relaxed);
        Ok(value)
    }

    /// Whether the block is in memory; that is no use of it.
    pub(super) fn has_block(&self, nr: BlockNr) -> bool {
        self.table.load().contains_key(&Key::Block(nr))
    }

    /// Takes a version that the device holds by now. A read of an older one that is under way is
    /// not kept.
    pub(super) fn put_block(&self, block: Arc<Block>) {
        self.table.load().insert(Key::Block(block.nr()), Kept::Block(block));
    }

    /// Forgets what the device held.
    pub(super) fn drop_block(&self, nr: BlockNr) {
        self.table.load().remove(&Key::Block(nr));
    }

    /// The inode, or as `load` gets it.
    ///
    /// # Errors
    /// As [`get_or_load`].
    pub(crate) fn inode<T: Decoded>(
        &self,
        nr: InodeNr,
        device: &dyn BlockDevice,
        load: impl Fn() -> Result<T>,
    ) -> Result<Arc<T>> {
        let kept = get_or_load(&self.table.load(), &Key::Inode(nr), device, || {
            self.read(&load).map(kept)
        })?;
        match kept {
            Kept::Inode(inode, _) => inode.downcast().or_else(|_| load().map(Arc::new)),
            Kept::Block(_) => load().map(Arc::new),
        }
    }

    /// Makes `inode` what is found from now on, even by those who are getting it at this moment.
    pub(crate) fn put_inode<T: Decoded>(&self, nr: InodeNr, inode: T) {
        self.table.load().insert(Key::Inode(nr), kept(inode));
    }

    /// Forgets what was decoded of `nr`.
    pub(crate) fn drop_inode(&self, nr: InodeNr) {
        self.table.load().remove(&Key::Inode(nr));
    }
}

fn kept<T: Decoded>(inode: T) -> Kept {
    let bytes = inode.bytes();
    Kept::Inode(Arc::new(inode), bytes)
}

impl core::fmt::Debug for Memory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Memory").field("used", &self.used()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
