//! All metadata blocks: the clean ones, the changed ones, and the way home for these.
//!
//! The journal says which versions may go home; here it is seen to that a version does not go home
//! after its block was given to someone else.
//! # Locking
//! `home` is held while one batch of versions is written to their places, and by whoever takes a
//! version away because its block was freed. Under it only shards are locked.
//! Kernel: fs/jbd2/checkpoint.c, fs/buffer.c

use std::sync::Arc;

use parking_lot::Mutex;

use super::dirty::{Dirty, Version};
use super::{Block, Memory};
use crate::error::{Error, IoOp, Place, Result};
use crate::ids::{BlockNr, Tid, in_memory};
use crate::source::Source;

/// Bytes that are written home while others wait for the lock.
pub(crate) const BATCH_BYTES: u32 = 1 << 20;

/// Blocks that are read together with one that is not in memory: a piece of a table or a directory, or
/// what comes after it. In the middle of a piece it was all asked for if the block before is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Ahead {
    first: BlockNr,
    count: u64,
}

impl Ahead {
    /// Who knows.
    pub(crate) const NOTHING: Self = Self { first: BlockNr::new(0), count: 0 };

    /// `count` blocks from `first` on.
    pub(crate) const fn of(first: BlockNr, count: u64) -> Self {
        Self { first, count }
    }
}

/// The metadata blocks of a volume.
#[derive(Debug)]
pub(crate) struct Blocks {
    source: Source,
    clean: Memory,
    dirty: Dirty,
    home: Mutex<()>,
}

impl Blocks {
    /// Nothing is in memory yet; what is clean may take about `cache_bytes`.
    pub(crate) fn new(source: Source, cache_bytes: u64) -> Self {
        let clean = Memory::new(cache_bytes);
        Self { source, clean, dirty: Dirty::new(), home: Mutex::default() }
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn into_source(self) -> Source {
        self.source
    }

    /// What could be read again, decoded inodes included.
    pub(crate) fn clean(&self) -> &Memory {
        &self.clean
    }

    /// The block as the device has it, from memory or from there. If from there, the device is told that
    /// what is `ahead` comes next.
    fn read(&self, nr: BlockNr, ahead: Ahead) -> Result<Arc<Block>> {
        self.clean.block(nr, &**self.source.device(), || {
            if self.begins(nr, ahead) {
                self.source.prefetch(ahead.first, ahead.count);
            }
            let mut bytes = vec![0; in_memory(self.source.block_size().into())];
            self.source.read(nr, 0, &mut bytes)?;
            Ok(Arc::new(Block::new(nr, bytes.into())))
        })
    }

    /// Whether what is `ahead` was not asked for yet, as far as can be told by the block before `nr`.
    fn begins(&self, nr: BlockNr, ahead: Ahead) -> bool {
        let before = || nr.get().checked_sub(1).map(BlockNr::new);
        ahead.count > 0
            && (ahead.first == nr || before().is_none_or(|before| !self.clean.has_block(before)))
    }

    /// The newest version of a block whose number was checked.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn newest(&self, nr: BlockNr, ahead: Ahead) -> Result<Arc<Block>> {
        if let Some(block) = self.dirty.get(nr) {
            return Ok(block);
        }
        let block = self.read(nr, ahead)?;
        // It may have been changed while the device was read.
        Ok(self.dirty.get(nr).unwrap_or(block))
    }

    /// The newest version of `nr` if it is not home yet.
    pub(crate) fn changed(&self, nr: BlockNr) -> Option<Arc<Block>> {
        self.dirty.get(nr)
    }

    /// Makes an edited copy of the newest version of `nr` the version of `tid`. True if that is the
    /// first of `tid`. Edits of one block exclude each other. When `edit` fails, nothing has changed.
    /// `edit` must not touch the volume: the block's shard is locked.
    ///
    /// # Errors
    /// Those of `edit`; I/O errors.
    pub(crate) fn edit<T>(
        &self,
        nr: BlockNr,
        tid: Tid,
        edit: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<(T, bool)> {
        let mut loaded: Option<(Arc<Block>, u64)> = None;
        loop {
            let departures = {
                let Some(mut shard) = self.dirty.shard(nr) else { continue };
                let current = loaded.take().filter(|(_, seen)| *seen == shard.departures);
                let newest = shard.newest(nr).cloned().or(current.map(|(block, _)| block));
                if let Some(newest) = newest {
                    let mut bytes = shard.copy(&newest);
                    let value = edit(&mut bytes).map_err(|error| error.at_block(nr))?;
                    let changed = newest.changed(bytes);
                    drop(newest);
                    return Ok((value, shard.put(tid, changed)));
                }
                shard.departures
            };
            loaded = Some((self.read(nr, Ahead::NOTHING)?, departures));
        }
    }

    /// Makes `bytes` the version of `tid`, whatever the block held. True if that is the first.
    pub(crate) fn replace(&self, nr: BlockNr, tid: Tid, bytes: Box<[u8]>) -> bool {
        let Some(mut shard) = self.dirty.shard(nr) else { return false };
        shard.put(tid, Block::new(nr, bytes))
    }

    /// The block was freed in `tid`: what that transaction made of it does not count. Older versions
    /// stay until `tid` is committed, see [`Blocks::committed`].
    pub(crate) fn forget(&self, nr: BlockNr, tid: Tid) {
        if let Some(mut shard) = self.dirty.shard(nr) {
            let known = shard.blocks.entry(nr).or_default();
            known.retain(|version| version.tid != tid);
            known.revoked = Some(tid);
        }
    }

    /// The block was freed where there is no log: nothing of it may be written from now on.
    pub(crate) fn drop_now(&self, nr: BlockNr) {
        let _home = self.home.lock();
        self.take_away(nr, |_| true);
    }

    /// Takes away versions of a block that is no longer theirs.
    fn take_away(&self, nr: BlockNr, gone: impl Fn(&Version) -> bool) {
        if let Some(mut shard) = self.dirty.shard(nr) {
            if let Some(known) = shard.blocks.get_mut(&nr) {
                known.retain(|version| !gone(version));
            }
            self.clean.drop_block(nr);
            shard.tidy(nr);
        }
    }

    /// What `tid` made of `nr`, if it changed it and did not free it afterwards.
    pub(crate) fn version(&self, nr: BlockNr, tid: Tid) -> Option<Arc<Block>> {
        let shard = self.dirty.shard(nr)?;
        shard.blocks.get(&nr)?.of(tid).map(|version| version.block.clone())
    }

    /// The newest version that is committed and not home, where transactions up to `tid` are.
    pub(crate) fn committed_version(&self, nr: BlockNr, tid: Tid) -> Option<Version> {
        self.dirty.shard(nr)?.blocks.get(&nr)?.up_to(tid).cloned()
    }

    /// Whether `tid` freed `nr` and did not take it into use again.
    pub(crate) fn is_revoked(&self, nr: BlockNr, tid: Tid) -> bool {
        let shard = self.dirty.shard(nr);
        shard.is_some_and(|shard| shard.blocks.get(&nr).is_some_and(|k| k.revoked == Some(tid)))
    }

    /// `tid` was committed: older versions of the blocks it `changed` need not go home any more, and
    /// none of the blocks it `freed` may.
    pub(crate) fn committed(&self, tid: Tid, changed: &[BlockNr], freed: &[BlockNr]) {
        for &nr in changed {
            let Some(mut shard) = self.dirty.shard(nr) else { continue };
            if let Some(known) = shard.blocks.get_mut(&nr) {
                known.retain(|version| version.tid == tid || !tid.reached(version.tid));
            }
        }
        if freed.is_empty() {
            return;
        }
        // After this no batch is under way that could still write them.
        let _home = self.home.lock();
        for &nr in freed {
            if let Some(mut shard) = self.dirty.shard(nr)
                && let Some(known) = shard.blocks.get_mut(&nr)
                && known.revoked == Some(tid)
            {
                known.revoked = None;
            }
            self.take_away(nr, |version| tid.reached(version.tid));
        }
    }

    /// Writes versions of transactions up to `tid` to their places, for the blocks `numbers`, which
    /// ascend. They are clean then, but the device must be flushed before the log may forget them.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn write_home(&self, numbers: &[BlockNr], tid: Tid) -> Result<()> {
        let fit = BATCH_BYTES.checked_div(self.source.block_size()).unwrap_or(1).max(1);
        for batch in numbers.chunks(in_memory(fit.into())) {
            let _home = self.home.lock();
            let versions: Vec<Version> =
                batch.iter().filter_map(|&nr| self.committed_version(nr, tid)).collect();
            for run in versions.chunk_by(|left, right| follows(&left.block, &right.block)) {
                self.write_run(run)?;
            }
            for version in versions {
                self.settle(version);
            }
        }
        Ok(())
    }

    fn write_run(&self, run: &[Version]) -> Result<()> {
        let [first, ..] = run else { return Ok(()) };
        let nr = first.block.nr();
        let byte = nr.get().saturating_mul(self.source.block_size().into());
        let fail = |source| Error::Io { op: IoOp::Write, place: Place::block(nr), source };
        if let [only] = run {
            return self.source.device().write_at(byte, only.block.bytes()).map_err(fail);
        }
        let bytes: Vec<u8> = run.iter().flat_map(|v| v.block.bytes()).copied().collect();
        self.source.device().write_at(byte, &bytes).map_err(fail)
    }

    /// `version` is on the device: it is clean unless there is a newer one.
    fn settle(&self, version: Version) {
        let nr = version.block.nr();
        let Some(mut shard) = self.dirty.shard(nr) else { return };
        let Some(known) = shard.blocks.get_mut(&nr) else { return };
        known.retain(|other| !Arc::ptr_eq(&other.block, &version.block));
        if known.newest().is_none() {
            self.clean.put_block(version.block);
        }
        shard.tidy(nr);
    }

    /// Whether nothing is newer than the device's copy.
    pub(crate) fn are_home(&self) -> bool {
        self.dirty.is_empty()
    }

    /// Writes everything home: where there is no log.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn write_all_home(&self, tid: Tid) -> Result<()> {
        self.write_home(&self.dirty.numbers(), tid)?;
        self.flush()
    }

    /// Makes what was written durable.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn flush(&self) -> Result<()> {
        let fail = |source| Error::Io { op: IoOp::Flush, place: Place::default(), source };
        self.source.device().flush().map_err(fail)
    }

    /// Takes `block`, which the device holds by now and no transaction knows, as the clean version.
    pub(crate) fn refresh(&self, block: Block) {
        self.clean.put_block(Arc::new(block));
    }
}

fn follows(left: &Block, right: &Block) -> bool {
    left.nr().checked_add(1) == Some(right.nr())
}

#[cfg(test)]
#[path = "ahead_tests.rs"]
mod tests;
