//! Blocks that are newer than the device's copies, by number: each as the transactions that are not
//! home yet see it.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::{Mutex, MutexGuard};

use super::Block;
use crate::ids::{BlockNr, Tid, in_memory};

const SHARDS: u64 = 64;

/// One block as a transaction left it.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) tid: Tid,
    pub(crate) block: Arc<Block>,
}

/// What is known of one block: at most a version each of the running transaction, the committing one
/// and one that is committed, newest first.
#[derive(Debug, Default)]
pub(crate) struct Versions {
    newest: Option<Version>,
    older: Vec<Version>,
    /// The transaction that freed the block, unless it took it into use again.
    pub(crate) revoked: Option<Tid>,
}

impl Versions {
    pub(crate) fn newest(&self) -> Option<&Version> {
        self.newest.as_ref()
    }

    fn iter(&self) -> impl Iterator<Item = &Version> {
        self.newest.iter().chain(&self.older)
    }

    /// The version of `tid`.
    pub(crate) fn of(&self, tid: Tid) -> Option<&Version> {
        self.iter().find(|version| version.tid == tid)
    }

    /// The newest version of a transaction up to `tid`.
    pub(crate) fn up_to(&self, tid: Tid) -> Option<&Version> {
        self.iter().find(|version| tid.reached(version.tid))
    }

    /// Makes `block` the version of `tid`, which no other is newer than. The one that `tid` had.
    pub(crate) fn put(&mut self, tid: Tid, block: Arc<Block>) -> Option<Arc<Block>> {
        if self.revoked == Some(tid) {
            self.revoked = None;
        }
        let old = self.newest.replace(Version { tid, block });
        match old {
            Some(old) if old.tid == tid => Some(old.block),
            Some(old) => {
                self.older.insert(0, old);
                None
            }
            None => None,
        }
    }

    /// Drops versions that `keep` does not want.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Version) -> bool) {
        self.older.retain(|version| keep(version));
        if self.newest.as_ref().is_some_and(|newest| !keep(newest)) {
            self.newest = (!self.older.is_empty()).then(|| self.older.remove(0));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.newest.is_none() && self.revoked.is_none()
    }
}

/// One shard of the table.
#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) blocks: HashMap<BlockNr, Versions>,
    /// How often a block left this shard: while it stands still, what was read of the device is as
    /// new as it was.
    pub(crate) departures: u64,
    /// The bytes of a version that nobody has any more, for the next one.
    spare: Option<Box<[u8]>>,
}

impl Shard {
    /// The newest version of `nr`.
    pub(crate) fn newest(&self, nr: BlockNr) -> Option<&Arc<Block>> {
        self.blocks.get(&nr)?.newest().map(|version| &version.block)
    }

    /// Makes `block` the version of `tid`. True if that is the first.
    pub(crate) fn put(&mut self, tid: Tid, block: Block) -> bool {
        let old = self.blocks.entry(block.nr()).or_default().put(tid, Arc::new(block));
        let is_first = old.is_none();
        self.spare = old.and_then(Arc::into_inner).map(Block::into_bytes).or(self.spare.take());
        is_first
    }

    /// A copy of `block` to edit.
    pub(crate) fn copy(&mut self, block: &Block) -> Box<[u8]> {
        match self.spare.take() {
            Some(mut bytes) if bytes.len() == block.bytes().len() => {
                bytes.copy_from_slice(block.bytes());
                bytes
            }
            _ => block.bytes().into(),
        }
    }

    /// Forgets `nr` if nothing is known of it any more.
    pub(crate) fn tidy(&mut self, nr: BlockNr) {
        if self.blocks.get(&nr).is_some_and(Versions::is_empty) {
            self.blocks.remove(&nr);
            self.departures = self.departures.wrapping_add(1);
        }
    }
}

/// The changed blocks.
#[derive(Debug)]
pub(crate) struct Dirty {
    shards: Box<[Mutex<Shard>]>,
}

impl Dirty {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// The newest version of `nr`, if it was changed.
    pub(crate) fn get(&self, nr: BlockNr) -> Option<Arc<Block>> {
        self.shard(nr)?.newest(nr).cloned()
    }

    /// The shard of `nr`, locked. Never `None`: there are as many shards as the index runs.
    pub(crate) fn shard(&self, nr: BlockNr) -> Option<MutexGuard<'_, Shard>> {
        // Neighbours differ, and so do the first blocks of groups.
        let mixed = nr.get() ^ (nr.get() >> 15);
        let index = in_memory(mixed.checked_rem(SHARDS).unwrap_or(0));
        self.shards.get(index).map(Mutex::lock)
    }

    /// Whether any block is newer than the device's copy.
    pub(crate) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().blocks.is_empty())
    }

    /// The numbers of all blocks that have a version, in ascending order.
    pub(crate) fn numbers(&self) -> Vec<BlockNr> {
        let mut numbers: Vec<BlockNr> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            numbers.extend(
                shard.blocks.iter().filter(|(_, known)| known.newest.is_some()).map(|(nr, _)| *nr),
            );
        }
        numbers.sort_unstable();
        numbers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_that_somebody_still_reads_keeps_its_bytes() {
        let (mut shard, nr, tid) = (Shard::default(), BlockNr::new(1), Tid::new(1));
        assert!(shard.put(tid, Block::new(nr, vec![1; 8].into())));
        let reader = shard.newest(nr).cloned().unwrap();
        for byte in 2..5 {
            let mut bytes = shard.copy(&shard.newest(nr).cloned().unwrap());
            assert_eq!(*bytes, [byte - 1; 8]);
            bytes.fill(byte);
            assert!(!shard.put(tid, Block::new(nr, bytes)));
            assert_eq!(*reader.bytes(), [1; 8]);
        }
        assert!(shard.spare.is_some());
        // Of another size nothing is taken.
        let small = Block::new(BlockNr::new(2), vec![7; 4].into());
        assert_eq!(*shard.copy(&small), [7; 4]);
    }
}
