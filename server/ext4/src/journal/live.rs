//! The journal of a mounted file system: commit and checkpoint.
//!
//! A commit closes the running transaction, which is the only moment at which operations wait for it,
//! and writes the versions its blocks have now; operations go on with versions of their own. Ordered
//! data is written before the handle that maps it stops, and the flush before the commit block covers
//! it; with data=writeback that is left out where the log is on a device of its own. Committed versions go home later, all those of several transactions
//! at once, and only the newest of each block.
//! # Locking
//! `log` is held for a whole commit, so that whoever wants the same transaction committed waits for it
//! and commits share flushes. Below it: `queue`, the transactions' lock, `Blocks::home`, shards.
//! Kernel: fs/jbd2/commit.c, fs/jbd2/checkpoint.c

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::log::{Contents, Log};
use super::transactions::{Begun, Changes, Closed, Transactions};
use super::unlogged::Unlogged;
use crate::cache::Blocks;
use crate::error::{Refusal, Result};
use crate::ids::{BlockNr, Tid, in_memory, on_disk};

/// A transaction is at most this part of the log, so that there is always room for the next.
const LOG_PARTS: u32 = 4;

/// So long after the last commit what is committed goes home, so that a crash of an idle system leaves
/// nothing to be replayed.
pub(crate) const IDLE: Duration = Duration::from_secs(2);
/// Nothing is in the log for longer, however busy it is (the kernel's dirty_expire_centisecs).
const OLD: Duration = Duration::from_secs(30);

/// A committed transaction that is not all home.
#[derive(Debug)]
struct Committed {
    tid: Tid,
    /// Where it begins in the log.
    start: u32,
    /// Log blocks it takes.
    cost: u32,
    blocks: Vec<BlockNr>,
    /// When it was committed.
    when: Instant,
}

/// How changes become durable.
#[derive(Debug)]
pub(crate) enum Journal {
    /// Nothing may be changed.
    ReadOnly,
    /// Changed blocks are written home by sync, in no promised order.
    Unlogged(Unlogged),
    /// jbd2.
    Logged(Box<Logged>),
}

/// How much is written home.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Checkpoint {
    /// Everything that is committed.
    All,
    /// What there is reason to at this moment: everything once nothing was committed for
    /// [`IDLE`], some of it is older than [`OLD`] or memory holds too much; some where the log is more
    /// than half full.
    AsDue(Instant),
}

/// A journal with a log.
#[derive(Debug)]
pub(crate) struct Logged {
    transactions: Transactions,
    log: Mutex<Log>,
    queue: Mutex<VecDeque<Arc<Committed>>>,
    /// Bytes of committed versions in memory from which on they are written home.
    pinned_bytes: u64,
    /// What files hold is durable before the metadata that leads to it is committed.
    orders_data: bool,
}

/// The one transaction where there is no log.
const NO_LOG: Tid = Tid::new(0);

impl Journal {
    /// None, where about `pinned_bytes` of changed blocks of `block_size` may be in memory.
    pub(crate) fn unlogged(pinned_bytes: u64, block_size: u32) -> Self {
        let most = pinned_bytes.checked_div(block_size.into()).unwrap_or(0);
        Self::Unlogged(Unlogged::new(in_memory(most)))
    }

    /// A journal over an empty `log` that begins with transaction `first`.
    pub(crate) fn logged(log: Log, first: Tid, pinned_bytes: u64) -> Self {
        let in_memory = pinned_bytes.checked_div(log.block_size().into()).unwrap_or(0);
        let in_memory = u32::try_from(in_memory).unwrap_or(u32::MAX);
        let most = log.capacity().checked_div(LOG_PARTS).unwrap_or(1).min(in_memory);
        Self::Logged(Box::new(Logged {
            transactions: Transactions::new(first, most),
            log: Mutex::new(log),
            queue: Mutex::default(),
            pinned_bytes,
            orders_data: true,
        }))
    }

    /// A commit need not wait for data on another device than the log's (data=writeback).
    pub(crate) fn do_not_order(&mut self) {
        if let Self::Logged(logged) = self {
            logged.orders_data = false;
        }
    }

    /// Opens a handle that may change `credits` blocks; see [`Transactions::begin`].
    ///
    /// # Errors
    /// [`Refusal::ReadOnly`], [`Refusal::Aborted`]; `WouldBlock` for who may not wait.
    pub(crate) fn begin(&self, credits: u32, may_wait: impl Fn() -> bool) -> Result<Begun> {
        match self {
            Self::ReadOnly => Err(Refusal::ReadOnly.into()),
            Self::Unlogged(unlogged) => unlogged.begin().map(|()| Begun::Open(NO_LOG)),
            Self::Logged(logged) => logged.transactions.begin(credits, may_wait),
        }
    }

    /// Ends a handle that had `credits` in all.
    pub(crate) fn stop(&self, credits: u32, changes: Changes) {
        match self {
            Self::Logged(logged) => logged.transactions.stop(credits, changes),
            Self::Unlogged(unlogged) => unlogged.stop(&changes),
            Self::ReadOnly => {}
        }
    }

    /// Whether freed blocks need revoke records.
    pub(crate) fn has_log(&self) -> bool {
        matches!(self, Self::Logged(_))
    }

    /// Stops all writing. True the first time.
    pub(crate) fn abort(&self) -> bool {
        match self {
            Self::ReadOnly => false,
            Self::Unlogged(unlogged) => unlogged.abort(),
            Self::Logged(logged) => logged.transactions.abort(),
        }
    }

    pub(crate) fn is_aborted(&self) -> bool {
        match self {
            Self::ReadOnly => false,
            Self::Unlogged(unlogged) => unlogged.is_aborted(),
            Self::Logged(logged) => logged.transactions.is_aborted(),
        }
    }

    /// Whether changes are taken.
    pub(crate) fn is_writable(&self) -> bool {
        !matches!(self, Self::ReadOnly) && !self.is_aborted()
    }

    /// Writes down in the log why it was stopped. Not while a handle of this thread is open.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn record_errno(&self, errno: i32) -> Result<()> {
        match self {
            Self::Logged(logged) => logged.log.lock().record_errno(errno),
            Self::ReadOnly | Self::Unlogged(_) => Ok(()),
        }
    }

    /// The last transaction that no crash can undo.
    pub(crate) fn committed(&self) -> Tid {
        match self {
            Self::Logged(logged) => logged.transactions.committed(),
            Self::ReadOnly | Self::Unlogged(_) => NO_LOG,
        }
    }

    /// The transaction that handles are opened on now.
    pub(crate) fn running(&self) -> Tid {
        match self {
            Self::Logged(logged) => logged.transactions.running(),
            Self::ReadOnly | Self::Unlogged(_) => NO_LOG,
        }
    }

    /// See [`Transactions::age`].
    pub(crate) fn age(&self) -> (Option<Instant>, bool) {
        match self {
            Self::Logged(logged) => logged.transactions.age(),
            Self::ReadOnly | Self::Unlogged(_) => (None, false),
        }
    }

    /// Asks for a commit without waiting for it.
    #[cfg(test)]
    pub(crate) fn want_commit(&self) {
        if let Self::Logged(logged) = self {
            logged.transactions.want_commit();
        }
    }

    /// Waits until a commit is wanted, something else changes, or `deadline`.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        match self {
            Self::Logged(logged) => logged.transactions.wait_until(deadline),
            Self::Unlogged(unlogged) => unlogged.wait_until(deadline),
            Self::ReadOnly => {}
        }
    }

    /// Sees to it that transaction `tid` is committed. Just before it is closed for good, `fold` may
    /// change further blocks in it, and says which. True if the device was flushed.
    ///
    /// # Errors
    /// [`Refusal::Aborted`]; those of `fold`; I/O errors. The caller has to abort then.
    pub(crate) fn commit(
        &self,
        blocks: &Blocks,
        tid: Tid,
        fold: impl FnOnce(Tid) -> Result<Vec<BlockNr>>,
    ) -> Result<bool> {
        match self {
            Self::Logged(logged) => logged.commit(blocks, tid, fold),
            Self::ReadOnly | Self::Unlogged(_) => Ok(false),
        }
    }

    /// Writes committed versions home. True if some are left to be written.
    ///
    /// # Errors
    /// I/O errors. The caller has to abort then.
    pub(crate) fn checkpoint(&self, blocks: &Blocks, what: Checkpoint) -> Result<bool> {
        match self {
            Self::Logged(logged) => logged.checkpoint(blocks, what),
            Self::ReadOnly | Self::Unlogged(_) => Ok(false),
        }
    }

    /// Writes all changes home: all transactions must be committed. The log is empty after that.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn empty(&self, blocks: &Blocks) -> Result<()> {
        match self {
            Self::Logged(logged) => {
                logged.checkpoint(blocks, Checkpoint::All)?;
                let next = logged.transactions.committed().next();
                logged.log.lock().mark_empty(next)
            }
            Self::Unlogged(unlogged) => {
                unlogged.begin_anew();
                blocks.write_all_home(NO_LOG)
            }
            Self::ReadOnly => Ok(()),
        }
    }
}

impl Logged {
    fn commit(
        &self,
        blocks: &Blocks,
        tid: Tid,
        fold: impl FnOnce(Tid) -> Result<Vec<BlockNr>>,
    ) -> Result<bool> {
        let mut log = self.log.lock();
        if self.transactions.committed().reached(tid) {
            return Ok(self.flushes_data(&log, blocks));
        }
        let closed = self.transactions.close();
        let Some(mut closed) = closed else {
            let stopped = self.transactions.is_aborted();
            return if stopped { Err(Refusal::Aborted.into()) } else { Ok(false) };
        };
        let folded = fold(closed.tid);
        self.transactions.reopen();
        closed.changes.blocks.append(&mut folded?);
        self.write(&mut log, blocks, closed)?;
        Ok(self.flushes_data(&log, blocks))
    }

    /// Whether a commit makes durable what was written past the log before it.
    fn flushes_data(&self, log: &Log, blocks: &Blocks) -> bool {
        self.orders_data || log.is_on(blocks.source().device())
    }

    fn write(&self, log: &mut Log, blocks: &Blocks, closed: Closed) -> Result<()> {
        let tid = closed.tid;
        let changed = in_order(closed.changes.blocks);
        let versions: Vec<_> = changed.iter().filter_map(|&nr| blocks.version(nr, tid)).collect();
        let mut revoked = in_order(closed.changes.revoked);
        revoked.retain(|&nr| blocks.is_revoked(nr, tid));
        #[cfg(test)]
        if log.has(super::log::Fault::SkippedRevoke) {
            revoked.clear();
        }
        self.make_room(log, blocks, log.cost(versions.len(), revoked.len()))?;
        if self.pinned(blocks) > self.pinned_bytes.saturating_mul(2) {
            self.write_home(blocks, u32::MAX)?;
            self.advance_tail(log, blocks)?;
        }
        let contents = Contents { tid, blocks: &versions, revoked: &revoked };
        let written = log.write(&contents)?;
        if self.orders_data && !log.is_on(blocks.source().device()) {
            blocks.flush()?;
        }
        log.flush()?;
        log.commit(&written)?;
        let committed: Vec<BlockNr> = versions.iter().map(|block| block.nr()).collect();
        blocks.committed(tid, &committed, &revoked);
        let (start, cost) = (written.start, written.cost);
        let when = Instant::now();
        let committed = Committed { tid, start, cost, blocks: committed, when };
        self.queue.lock().push_back(Arc::new(committed));
        self.transactions.set_committed(tid);
        Ok(())
    }

    /// Waits until the log has room for `cost` blocks.
    fn make_room(&self, log: &mut Log, blocks: &Blocks, cost: u32) -> Result<()> {
        while log.free() < cost {
            if self.queue.lock().is_empty() {
                return Err(Refusal::NoSpace.into());
            }
            let missing = cost.saturating_sub(log.free());
            self.write_home(blocks, missing.max(log.capacity() / LOG_PARTS))?;
            self.advance_tail(log, blocks)?;
        }
        Ok(())
    }

    /// Bytes of committed versions that are not known to be home.
    fn pinned(&self, blocks: &Blocks) -> u64 {
        let count: usize = self.queue.lock().iter().map(|old| old.blocks.len()).sum();
        on_disk(count).saturating_mul(blocks.source().block_size().into())
    }

    fn checkpoint(&self, blocks: &Blocks, what: Checkpoint) -> Result<bool> {
        let wanted = match what {
            Checkpoint::All => u32::MAX,
            Checkpoint::AsDue(now) => self.due(blocks, now),
        };
        if wanted > 0 {
            self.write_home(blocks, wanted)?;
            self.advance_tail(&mut self.log.lock(), blocks)?;
        }
        Ok(!self.queue.lock().is_empty())
    }

    /// Log blocks to be given up.
    fn due(&self, blocks: &Blocks, now: Instant) -> u32 {
        let ages = {
            let queue = self.queue.lock();
            queue.front().zip(queue.back()).map(|(oldest, newest)| (oldest.when, newest.when))
        };
        if ages.is_some_and(|ages| is_due(ages, now)) || self.pinned(blocks) > self.pinned_bytes {
            return u32::MAX;
        }
        let log = self.log.lock();
        let is_full = log.free() < log.capacity() / 2;
        if is_full { log.capacity() / LOG_PARTS } else { 0 }
    }

    /// Writes home what the oldest transactions changed, so many that their blocks in the log are
    /// `wanted` or more. Two threads may do this at once.
    fn write_home(&self, blocks: &Blocks, wanted: u32) -> Result<()> {
        let mut numbers = Vec::new();
        let mut sum = 0_u32;
        for old in self.queue.lock().iter() {
            if sum >= wanted {
                break;
            }
            sum = sum.saturating_add(old.cost);
            numbers.extend_from_slice(&old.blocks);
        }
        blocks.write_home(&in_order(numbers), self.transactions.committed())
    }

    /// Gives up the log's oldest transactions as far as they are home.
    fn advance_tail(&self, log: &mut Log, blocks: &Blocks) -> Result<()> {
        let mut freed = 0_u32;
        let mut queue = self.queue.lock();
        while let Some(oldest) = queue.front() {
            if oldest.blocks.iter().any(|&nr| blocks.version(nr, oldest.tid).is_some()) {
                break;
            }
            freed = freed.saturating_add(oldest.cost);
            queue.pop_front();
        }
        if freed == 0 {
            return Ok(());
        }
        let next = || (log.head(), self.transactions.committed().next());
        let (start, tid) = queue.front().map_or_else(next, |oldest| (oldest.start, oldest.tid));
        drop(queue);
        #[cfg(test)]
        if log.has(super::log::Fault::EarlyTail) {
            return log.advance(start, tid, freed);
        }
        // What is home must be durable before the log forgets it.
        blocks.flush()?;
        log.advance(start, tid, freed)
    }
}

/// Whether what was committed between these times has to go home because of its age.
fn is_due((oldest, newest): (Instant, Instant), now: Instant) -> bool {
    let age = |since| now.saturating_duration_since(since);
    age(newest) >= IDLE || age(oldest) >= OLD
}

fn in_order(mut numbers: Vec<BlockNr>) -> Vec<BlockNr> {
    numbers.sort_unstable();
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_go_home_once_there_are_no_more_or_after_a_while() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (newest, now, due) in [
            (0, 0, false),
            (0, 1, false),
            (0, 2, true),
            (28, 29, false),
            (29, 30, true),
            (0, 99, true),
        ] {
            assert_eq!(is_due((begin, at(newest)), at(now)), due, "{newest} {now}");
        }
    }
}
