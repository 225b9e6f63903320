//! Finding out what the log holds: which transactions count, and the newest copy of each block.
//!
//! Three passes as in the kernel. SCAN finds the end of the log; REPLAY notes the newest copy of
//! each block, where the kernel would write it home; REVOKE then drops copies that a later record
//! took back (a record in transaction T hides copies of T and before). In this order revoke records
//! need no memory: only the newest copy of a block matters, and if it is hidden so are all.
//!
//! # Bounds
//! Each pass visits every block of the log at most once, whatever the blocks say; memory is sixteen
//! bytes for each block of the log that is a copy.
//! Kernel: fs/jbd2/recovery.c

use std::io;

use crate::disk::jbd2::{self, LogBlock, LogSuperblock, Tag};
use crate::error::{Error, IoOp, Place, Result};
use crate::ids::{Tid, in_memory, on_disk};
use crate::journal::area::Area;
use crate::journal::overlay::Copy;
use crate::observer::Observer;

/// Log blocks between two reports of progress.
const REPORT_EVERY: u64 = 256;
/// Bytes read from the log at once.
const WINDOW: u32 = 256 << 10;

/// Why the log ends where it does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogEnd {
    /// At something that is no part of it: the usual end.
    Clean,
    /// In a transaction that was never committed: what a crash leaves.
    Unfinished,
    /// In a transaction whose commit block has a wrong checksum.
    CommitChecksum,
    /// In a committed transaction with a descriptor or revoke block that is damaged.
    BlockChecksum,
}

/// What recovery found out.
#[derive(Debug)]
pub(crate) struct Recovered {
    /// The newest copies.
    pub(crate) copies: Vec<Copy>,
    /// Transactions that count.
    pub(crate) transactions: u32,
    /// The transaction at which the log ends: the first that does not count.
    pub(crate) end: Tid,
    /// Why there.
    pub(crate) why: LogEnd,
    /// Copies with a wrong checksum that nothing newer replaces.
    pub(crate) bad: u32,
    /// Copies of blocks past the end of the device, which nothing can lead to.
    pub(crate) outside: u32,
}

/// Recovers the log in `area`, whose superblock is `log`, for a device of `device_blocks` blocks.
///
/// # Errors
/// I/O errors of the log's device.
pub(crate) fn recover(
    area: &Area,
    log: &LogSuperblock,
    device_blocks: u64,
    observer: &dyn Observer,
) -> Result<Recovered> {
    let Some(start) = log.start else { return Ok(nothing(log)) };
    let length = log.last.saturating_sub(log.first);
    let mut pass = Pass {
        log,
        reader: Reader::new(area),
        lap: Lap { next: start, left: length, first: log.first, last: log.last },
        progress: Progress { observer, done: 0, total: u64::from(length).saturating_mul(3) },
    };
    let origin = pass.lap;
    pass.progress.report();
    let scan = pass.scan()?;
    let transactions = scan.end.get().wrapping_sub(log.sequence.get());
    pass.begin(origin, 1);
    let (mut copies, outside) = pass.replay(transactions, device_blocks)?;
    pass.begin(origin, 2);
    let hidden = pass.revoke(transactions, &mut copies)?;
    if hidden {
        copies.retain(|copy| copy.age != HIDDEN);
    }
    copies.shrink_to_fit();
    pass.begin(origin, 3);
    let bad = copies.iter().filter(|copy| copy.is_bad()).count();
    let bad = u32::try_from(bad).unwrap_or(u32::MAX);
    Ok(Recovered { copies, transactions, end: scan.end, why: scan.why, bad, outside })
}

fn nothing(log: &LogSuperblock) -> Recovered {
    Recovered {
        copies: Vec::new(),
        transactions: 0,
        end: log.sequence,
        why: LogEnd::Clean,
        bad: 0,
        outside: 0,
    }
}

/// The age of a copy that a revoke record hides. No transaction has it: there are fewer of them
/// than blocks in a log.
const HIDDEN: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Scan {
    end: Tid,
    why: LogEnd,
}

/// What is known in SCAN of the transaction at hand and those before it.
struct Judge {
    tid: Tid,
    /// The v1 crc32 so far.
    sum: u32,
    /// Something of this transaction was seen.
    begun: bool,
    /// A descriptor or revoke block had a wrong checksum: damage, or left over from an older log.
    doubtful: bool,
    /// h_commit_sec of the last transaction that counts.
    committed: u64,
    /// The first transaction whose commit checksum is wrong, where later ones may still tell a
    /// crash from damage (async commit).
    failed: Option<Tid>,
}

impl Judge {
    fn end(&self, why: LogEnd) -> Scan {
        Scan { end: self.failed.unwrap_or(self.tid), why }
    }

    /// The log ends without another commit block.
    fn stop(&self) -> Scan {
        let unfinished = self.begun || self.failed.is_some();
        self.end(if unfinished { LogEnd::Unfinished } else { LogEnd::Clean })
    }

    /// A commit block was met; `Some` if the log ends with it.
    fn commit(&mut self, log: &LogSuperblock, block: &[u8]) -> Option<Scan> {
        let format = &log.format;
        let commit = format.commit(block, self.sum);
        // Stale blocks of an older log show a time that runs backwards.
        let stale = commit.seconds < self.committed;
        if self.doubtful {
            return Some(self.end(if stale { LogEnd::Clean } else { LogEnd::BlockChecksum }));
        }
        if format.sums_copies() && self.failed.is_some() {
            return Some(self.end(LogEnd::CommitChecksum));
        }
        if !commit.good {
            if stale {
                return Some(self.end(LogEnd::Clean));
            }
            self.failed.get_or_insert(self.tid);
            if !format.async_commit {
                return Some(self.end(LogEnd::CommitChecksum));
            }
        }
        self.committed = commit.seconds;
        self.tid = next(self.tid);
        self.sum = !0;
        self.begun = false;
        None
    }
}

/// Transactions are counted modulo 2^32.
fn next(tid: Tid) -> Tid {
    Tid::new(tid.get().wrapping_add(1))
}

struct Pass<'a> {
    log: &'a LogSuperblock,
    reader: Reader<'a>,
    lap: Lap,
    progress: Progress<'a>,
}

impl Pass<'_> {
    fn begin(&mut self, origin: Lap, passes_done: u64) {
        self.lap = origin;
        self.progress.done = u64::from(origin.left).saturating_mul(passes_done);
        self.progress.report();
    }

    /// The next block of the log that may be a header, if the lap is not over.
    fn step(&mut self) -> Option<u32> {
        self.progress.advance(1);
        self.lap.step()
    }

    fn scan(&mut self) -> Result<Scan> {
        let format = &self.log.format;
        let mut judge = Judge {
            tid: self.log.sequence,
            sum: !0,
            begun: false,
            doubtful: false,
            committed: 0,
            failed: None,
        };
        while let Some(at) = self.step() {
            let block = self.reader.block(at)?;
            let kind = match jbd2::header(block) {
                Some((kind, tid)) if tid == judge.tid => kind,
                _ => return Ok(judge.stop()),
            };
            match kind {
                LogBlock::Descriptor => {
                    judge.begun = true;
                    judge.doubtful |= !format.tail_is_good(block);
                    judge.sum = format.transaction_checksum(judge.sum, block);
                    let copies = format.tags(block).count();
                    judge.sum = self.pass_over(copies, judge.sum)?;
                }
                LogBlock::Revoke => {
                    judge.begun = true;
                    judge.doubtful |= !format.tail_is_good(block);
                    judge.doubtful |= format.revoked(block).is_none();
                }
                LogBlock::Commit => {
                    if let Some(end) = judge.commit(self.log, block) {
                        return Ok(end);
                    }
                }
                LogBlock::Other => return Ok(judge.stop()),
            }
        }
        Ok(judge.stop())
    }

    /// Goes past `count` copies; reads them only if the transaction's checksum covers them.
    fn pass_over(&mut self, count: usize, mut sum: u32) -> Result<u32> {
        if !self.log.format.sums_copies() {
            self.lap.skip(on_disk(count));
            self.progress.advance(on_disk(count));
            return Ok(sum);
        }
        for _ in 0..count {
            let Some(at) = self.step() else { break };
            sum = self.log.format.transaction_checksum(sum, self.reader.block(at)?);
        }
        Ok(sum)
    }

    /// The newest copy of each block in the first `transactions`, by block, and how many copies
    /// are of no block.
    fn replay(&mut self, transactions: u32, device_blocks: u64) -> Result<(Vec<Copy>, u32)> {
        let mut copies = Vec::new();
        let mut outside = 0_u32;
        let mut age = 0;
        let mut tags: Vec<Tag> = Vec::new();
        while age < transactions {
            let Some(at) = self.step() else { break };
            let block = self.reader.block(at)?;
            match jbd2::header(block) {
                Some((LogBlock::Commit, _)) => age = age.saturating_add(1),
                Some((LogBlock::Descriptor, tid)) => {
                    tags.clear();
                    tags.extend(self.log.format.tags(block));
                    for tag in &tags {
                        let Some(at) = self.step() else { break };
                        let bad = !self.is_good(tag, tid, at)?;
                        if tag.block < device_blocks {
                            let copy = Copy::new(tag.block, at, age);
                            copies.push(copy.escaped(tag.escaped).bad(bad));
                        } else {
                            outside = outside.saturating_add(1);
                        }
                    }
                }
                _ => {}
            }
        }
        // Stable, so that of one block's copies the last is the newest.
        copies.sort_by_key(|copy| copy.block);
        copies.dedup_by(|later, kept| {
            let same = later.block == kept.block;
            if same {
                *kept = *later;
            }
            same
        });
        Ok((copies, outside))
    }

    fn is_good(&mut self, tag: &Tag, tid: Tid, at: u32) -> Result<bool> {
        let format = &self.log.format;
        if !format.tags_have_checksums() {
            return Ok(true);
        }
        Ok(format.copy_is_good(tag, tid, self.reader.block(at)?))
    }

    /// Marks copies as [`HIDDEN`] that a revoke record takes back. True if there were any.
    fn revoke(&mut self, transactions: u32, copies: &mut [Copy]) -> Result<bool> {
        let format = &self.log.format;
        let mut hidden = false;
        let mut age = 0;
        while age < transactions && !copies.is_empty() {
            let Some(at) = self.step() else { break };
            let block = self.reader.block(at)?;
            match jbd2::header(block) {
                Some((LogBlock::Commit, _)) => age = age.saturating_add(1),
                Some((LogBlock::Descriptor, _)) => {
                    let count = on_disk(format.tags(block).count());
                    self.lap.skip(count);
                    self.progress.advance(count);
                }
                Some((LogBlock::Revoke, _)) => {
                    for revoked in format.revoked(block).into_iter().flatten() {
                        let found = copies.binary_search_by_key(&revoked, |copy| copy.block);
                        let copy = found.ok().and_then(|index| copies.get_mut(index));
                        if let Some(copy) = copy.filter(|copy| copy.age <= age) {
                            copy.age = HIDDEN;
                            hidden = true;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(hidden)
    }
}

/// A walk once around the circular log.
#[derive(Clone, Copy, Debug)]
struct Lap {
    next: u32,
    left: u32,
    first: u32,
    last: u32,
}

impl Lap {
    fn step(&mut self) -> Option<u32> {
        self.left = self.left.checked_sub(1)?;
        let at = self.next;
        self.skip_to(u64::from(at).saturating_add(1));
        Some(at)
    }

    fn skip(&mut self, count: u64) {
        self.left = u32::try_from(u64::from(self.left).saturating_sub(count)).unwrap_or(0);
        self.skip_to(u64::from(self.next).saturating_add(count));
    }

    fn skip_to(&mut self, target: u64) {
        let length = u64::from(self.last.saturating_sub(self.first));
        let wrapped = match target.checked_sub(self.last.into()) {
            Some(past) => past.checked_rem(length).unwrap_or(0).saturating_add(self.first.into()),
            None => target,
        };
        self.next = u32::try_from(wrapped).unwrap_or(self.first);
    }
}

struct Progress<'a> {
    observer: &'a dyn Observer,
    done: u64,
    total: u64,
}

impl Progress<'_> {
    fn advance(&mut self, blocks: u64) {
        let before = self.done.checked_div(REPORT_EVERY);
        self.done = self.done.saturating_add(blocks).min(self.total);
        if self.done.checked_div(REPORT_EVERY) != before {
            self.report();
        }
    }

    fn report(&self) {
        self.observer.replay(self.done, self.total);
    }
}

/// Reads log blocks one after the other, in larger pieces.
pub(crate) struct Reader<'a> {
    area: &'a Area,
    window: Vec<u8>,
    first: u32,
    blocks: u32,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(area: &'a Area) -> Self {
        Self { area, window: Vec::new(), first: 0, blocks: 0 }
    }

    /// Log block `at`.
    ///
    /// # Errors
    /// [`crate::CorruptKind::JournalMap`] past the log's end; I/O errors.
    pub(crate) fn block(&mut self, at: u32) -> Result<&[u8]> {
        let size = self.area.block_size();
        let inside = at.checked_sub(self.first).is_some_and(|index| index < self.blocks);
        if !inside {
            let fit = WINDOW.checked_div(size).unwrap_or(1).max(1);
            let blocks = self.area.blocks().saturating_sub(at).clamp(1, fit);
            // What follows may be past the log's end, and unreadable without harm.
            self.fill(at, blocks).or_else(|_| self.fill(at, 1))?;
        }
        let skip = u64::from(at.saturating_sub(self.first)).saturating_mul(size.into());
        let end = skip.saturating_add(size.into());
        self.window.get(in_memory(skip)..in_memory(end)).ok_or_else(|| {
            let source = io::ErrorKind::UnexpectedEof.into();
            Error::Io { op: IoOp::Read, place: Place::default(), source }
        })
    }

    fn fill(&mut self, at: u32, blocks: u32) -> Result<()> {
        let bytes = u64::from(blocks).saturating_mul(self.area.block_size().into());
        self.window.resize(in_memory(bytes), 0);
        self.blocks = 0;
        self.area.read(at, 0, &mut self.window)?;
        (self.first, self.blocks) = (at, blocks);
        Ok(())
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
