//! The log as a ring that is written: its superblock, head and tail.
//!
//! # Invariants
//! The blocks from `tail` to `head` hold committed transactions that are not all home, and the log's
//! superblock on the device says `tail` (or an earlier one whose blocks were not used again).
//! Kernel: fs/jbd2/journal.c, fs/jbd2/commit.c

use std::sync::Arc;
use std::time::SystemTime;

use core::time::Duration;

use crate::cache::Block;
use crate::disk::jbd2::{LogFormat, LogSuperblock, MAGIC, RawJournalSuperblock};
use crate::disk::log_blocks::NewTag;
use crate::error::{Error, IoOp, Place, Refusal, Result};
use crate::ids::{BlockNr, Tid, in_memory};
use crate::journal::area::Area;

/// Bytes that are written to the log at once.
const CHUNK: usize = 1 << 20;

/// What tests can have done wrong, to see that they would notice.
#[cfg(test)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The device is not flushed between a transaction and its commit block.
    SkippedFlush,
    /// Freed blocks are not revoked.
    SkippedRevoke,
    /// The commit block is written before what it commits.
    EarlyCommit,
    /// The log is given up before what it holds is durable at home.
    EarlyTail,
    /// What loses its last name while it is open does not become an orphan.
    ForgottenOrphan,
    /// File data reach the device only when [`crate::volume::Volume::write_late`] is called.
    LateData,
}

/// What one transaction leaves in the log.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    pub(crate) tid: Tid,
    /// Changed blocks.
    pub(crate) blocks: &'a [Arc<Block>],
    /// Freed blocks.
    pub(crate) revoked: &'a [BlockNr],
}

/// The log.
#[derive(Debug)]
pub(crate) struct Log {
    area: Arc<Area>,
    /// The block of the log's superblock, and its bytes.
    home: u32,
    superblock: Box<[u8]>,
    uuid: [u8; 16],
    format: LogFormat,
    first: u32,
    last: u32,
    head: u32,
    used: u32,
    /// The superblock says that there is nothing in the log.
    is_empty: bool,
    barrier: bool,
    #[cfg(test)]
    fault: Option<Fault>,
    /// h_commit_sec and nsec of the last commit, which never run backwards.
    time: Duration,
}

impl Log {
    /// Opens the log in `area` for writing. Its superblock is at block `home`; everything in it has
    /// been recovered, up to the transaction before `next`, and is durable at home. With `pending` that
    /// goes for full commits only: fast commits behind them have to be found until `next` is committed.
    ///
    /// # Errors
    /// Corruption of the log's superblock; I/O errors.
    pub(crate) fn open(
        area: Arc<Area>,
        home: u32,
        next: Tid,
        (wide, sums): (bool, bool),
        pending: bool,
    ) -> Result<Self> {
        let mut superblock = vec![0; in_memory(area.block_size().into())].into_boxed_slice();
        area.read(home, 0, &mut superblock)?;
        let mut uuid = [0; 16];
        if let Some(raw) = RawJournalSuperblock::in_block(&mut superblock) {
            let first = raw.first.get();
            raw.set_tail(if pending { first } else { 0 }, next);
            raw.set_errno(0);
            raw.prepare(wide, sums);
            uuid = raw.uuid;
        }
        let log = LogSuperblock::parse(&superblock, area.block_size(), area.blocks())?;
        let (format, first, last) = (log.format, log.first, log.last);
        let fresh = Self {
            area,
            home,
            superblock,
            uuid,
            format,
            first,
            last,
            head: first,
            used: 0,
            is_empty: true,
            barrier: true,
            #[cfg(test)]
            fault: None,
            time: Duration::ZERO,
        };
        fresh.write_superblock()?;
        Ok(fresh)
    }

    /// Without barriers nothing is flushed: only for devices that never lose what they took.
    pub(crate) fn set_barrier(&mut self, barrier: bool) {
        self.barrier = barrier;
    }

    /// From now on one thing is done wrong.
    #[cfg(test)]
    pub(crate) fn plant(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// Whether `fault` was planted.
    #[cfg(test)]
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.area.block_size()
    }

    /// Blocks of the ring.
    pub(crate) fn capacity(&self) -> u32 {
        self.last.saturating_sub(self.first)
    }

    /// Blocks that can be written before the tail must move.
    pub(crate) fn free(&self) -> u32 {
        self.capacity().saturating_sub(self.used)
    }

    /// The block that will be written next.
    pub(crate) fn head(&self) -> u32 {
        self.head
    }

    /// Whether the log is on the device that `device` is.
    pub(crate) fn is_on(&self, device: &Arc<dyn crate::device::BlockDevice>) -> bool {
        Arc::ptr_eq(self.area.device(), device)
    }

    /// Log blocks that `blocks` changed and `revoked` freed blocks take, the commit block included.
    pub(crate) fn cost(&self, blocks: usize, revoked: usize) -> u32 {
        let size = self.block_size();
        let descriptors = blocks.div_ceil(self.format.tags_per_block(size));
        let records = revoked.div_ceil(self.format.revokes_per_block(size));
        let sum = blocks.saturating_add(descriptors).saturating_add(records).saturating_add(1);
        u32::try_from(sum).unwrap_or(u32::MAX)
    }

    /// Writes a transaction, all but its commit block, and the superblock before its first use.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`] if it does not fit, which the caller has to see to; I/O errors.
    pub(crate) fn write(&mut self, contents: &Contents<'_>) -> Result<Written> {
        let cost = self.cost(contents.blocks.len(), contents.revoked.len());
        if cost > self.free() {
            return Err(Refusal::NoSpace.into());
        }
        let start = self.head;
        if self.is_empty {
            self.set_tail(start, contents.tid);
            self.write_superblock_lazily()?;
        }
        let size = self.block_size();
        #[cfg(test)]
        self.write_early_commit(contents.tid, cost)?;
        let mut out = Stream { log: self, buffer: Vec::new(), start, next: start };
        for revoked in contents.revoked.chunks(out.log.format.revokes_per_block(size)) {
            let block = out.log.format.revoke_block(contents.tid, revoked, size);
            out.push(&block)?;
        }
        let mut sum = !0;
        for blocks in contents.blocks.chunks(out.log.format.tags_per_block(size)) {
            sum = out.copies(contents.tid, blocks, sum)?;
        }
        out.flush()?;
        let next = out.next;
        Ok(Written { tid: contents.tid, start, commit: next, cost, sum })
    }

    #[cfg(test)]
    fn write_early_commit(&self, tid: Tid, cost: u32) -> Result<()> {
        if !self.has(Fault::EarlyCommit) {
            return Ok(());
        }
        let at = (1..cost).fold(self.head, |at, _| self.after(at));
        let block = self.format.commit_block(tid, !0, self.time, self.block_size());
        self.area.write(at, &block, true)
    }

    /// Writes the commit block. What it commits, the data included, is durable by now.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn commit(&mut self, written: &Written) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.time = self.time.max(now);
        let size = self.block_size();
        let block = self.format.commit_block(written.tid, written.sum, self.time, size);
        self.area.write(written.commit, &block, self.barrier)?;
        self.head = self.after(written.commit);
        self.used = self.used.saturating_add(written.cost);
        Ok(())
    }

    /// Makes durable what was written to the log's device.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn flush(&self) -> Result<()> {
        #[cfg(test)]
        if self.has(Fault::SkippedFlush) {
            return Ok(());
        }
        if !self.barrier {
            return Ok(());
        }
        let fail = |source| Error::Io { op: IoOp::Flush, place: Place::default(), source };
        self.area.device().flush().map_err(fail)
    }

    /// `freed` blocks at the tail are not needed any more, because what they hold is durable at home:
    /// the log begins at `start` now, with transaction `tid`.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn advance(&mut self, start: u32, tid: Tid, freed: u32) -> Result<()> {
        self.set_tail(start, tid);
        // Durable before the blocks are used again.
        self.write_superblock()?;
        self.used = self.used.saturating_sub(freed);
        Ok(())
    }

    /// Marks the log as holding nothing.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn mark_empty(&mut self, next: Tid) -> Result<()> {
        self.set_tail(0, next);
        (self.used, self.head) = (0, self.first);
        self.write_superblock()
    }

    /// Records why the journal stopped.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn record_errno(&mut self, errno: i32) -> Result<()> {
        if let Some(raw) = RawJournalSuperblock::in_block(&mut self.superblock) {
            raw.set_errno(errno);
        }
        self.write_superblock()
    }

    fn set_tail(&mut self, start: u32, tid: Tid) {
        self.is_empty = start == 0;
        if let Some(raw) = RawJournalSuperblock::in_block(&mut self.superblock) {
            raw.set_tail(start, tid);
        }
    }

    fn write_superblock(&self) -> Result<()> {
        self.area.write(self.home, &self.superblock, self.barrier)
    }

    /// The flush before the next commit block makes it durable.
    fn write_superblock_lazily(&self) -> Result<()> {
        self.area.write(self.home, &self.superblock, false)
    }

    fn after(&self, at: u32) -> u32 {
        let next = at.saturating_add(1);
        if next >= self.last { self.first } else { next }
    }
}

/// A transaction of which all is written but the commit block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    tid: Tid,
    /// Its first block.
    pub(crate) start: u32,
    commit: u32,
    /// Blocks it takes.
    pub(crate) cost: u32,
    sum: u32,
}

/// Blocks on their way to the log, in larger pieces.
struct Stream<'a> {
    log: &'a Log,
    buffer: Vec<u8>,
    /// Where the buffer belongs.
    start: u32,
    next: u32,
}

impl Stream<'_> {
    /// A descriptor and the copies it names. The v1 checksum carried on from `sum`.
    fn copies(&mut self, tid: Tid, blocks: &[Arc<Block>], mut sum: u32) -> Result<u32> {
        let format = self.log.format;
        let tag = |block: &Arc<Block>| {
            let escaped = block.bytes().starts_with(&MAGIC.to_be_bytes());
            let checksum = if escaped {
                format.copy_checksum(tid, &escape(block))
            } else {
                format.copy_checksum(tid, block.bytes())
            };
            NewTag { block: block.nr(), escaped, checksum }
        };
        let tags: Vec<NewTag> = blocks.iter().map(tag).collect();
        let descriptor = format.descriptor(tid, &self.log.uuid, &tags, self.log.block_size());
        sum = format.transaction_checksum(sum, &descriptor);
        self.push(&descriptor)?;
        for (block, tag) in blocks.iter().zip(&tags) {
            let escaped = tag.escaped.then(|| escape(block));
            let copy = escaped.as_deref().unwrap_or(block.bytes());
            sum = format.transaction_checksum(sum, copy);
            self.push(copy)?;
        }
        Ok(sum)
    }

    fn push(&mut self, block: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(block);
        self.next = self.log.after(self.next);
        if self.buffer.len() >= CHUNK || self.next == self.log.first {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.log.area.write(self.start, &self.buffer, false)?;
        self.buffer.clear();
        self.start = self.next;
        Ok(())
    }
}

/// A copy whose first word must not look like a header.
fn escape(block: &Block) -> Vec<u8> {
    let mut copy = block.bytes().to_vec();
    if let Some(word) = copy.first_chunk_mut::<4>() {
        *word = [0; 4];
    }
    copy
}
