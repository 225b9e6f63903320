//! The running transaction and its handles, and how it gives way to the next.
//!
//! # Locking
//! One leaf lock, held for moments. A handle that begins waits only while the running transaction is
//! being closed: until the handles open on it have stopped and the superblock was brought up to date.
//! Kernel: fs/jbd2/transaction.c

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::device::would_wait;
use crate::error::{Refusal, Result};
use crate::ids::{BlockNr, Tid};

/// How an attempt to begin a handle came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begun {
    /// The handle is open on this transaction.
    Open(Tid),
    /// This transaction has to be committed first.
    Full(Tid),
}

/// What the handles of a transaction did.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Changed blocks, some of them more than once.
    pub(crate) blocks: Vec<BlockNr>,
    /// Freed blocks.
    pub(crate) revoked: Vec<BlockNr>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.revoked.is_empty()
    }

    fn add(&mut self, mut other: Self) {
        self.blocks.append(&mut other.blocks);
        self.revoked.append(&mut other.revoked);
    }
}

/// A transaction that no handle is open on any more.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) tid: Tid,
    pub(crate) changes: Changes,
}

#[derive(Debug)]
struct State {
    /// The transaction that handles are opened on.
    tid: Tid,
    changes: Changes,
    /// When its first handle was opened.
    since: Option<Instant>,
    /// Open handles, and the blocks they may still change.
    handles: u32,
    reserved: u32,
    /// It is being closed: nobody may open a handle.
    closing: bool,
    /// Someone waits for its commit.
    wanted: bool,
    committed: Tid,
    stopped: bool,
}

/// The transactions of a journal.
#[derive(Debug)]
pub(crate) struct Transactions {
    state: Mutex<State>,
    changed: Condvar,
    /// Blocks that one transaction may change.
    most: u32,
}

impl Transactions {
    /// The first transaction is `first`; none may change more than `most` blocks.
    pub(crate) fn new(first: Tid, most: u32) -> Self {
        let state = State {
            tid: first,
            changes: Changes::default(),
            since: None,
            handles: 0,
            reserved: 0,
            closing: false,
            wanted: false,
            committed: Tid::new(first.get().wrapping_sub(1)),
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), most }
    }

    /// Opens a handle that may change `credits` blocks. Waits for a transaction that is being closed
    /// if the caller says that it may.
    ///
    /// # Errors
    /// [`Refusal::Aborted`]; `WouldBlock`, see [`crate::device::BlockDevice::may_wait`].
    pub(crate) fn begin(&self, credits: u32, may_wait: impl Fn() -> bool) -> Result<Begun> {
        let mut state = self.state.lock();
        while state.closing && !state.stopped {
            if !may_wait() {
                return Err(would_wait());
            }
            self.changed.wait(&mut state);
        }
        if state.stopped {
            return Err(Refusal::Aborted.into());
        }
        let taken = blocks(&state).saturating_add(state.reserved);
        // What is alone may be larger than allowed: the log is larger still.
        if taken > 0 && taken.saturating_add(credits) > self.most {
            return Ok(Begun::Full(state.tid));
        }
        state.since.get_or_insert_with(Instant::now);
        state.handles = state.handles.saturating_add(1);
        state.reserved = state.reserved.saturating_add(credits);
        Ok(Begun::Open(state.tid))
    }

    /// Ends a handle that had `credits` in all.
    pub(crate) fn stop(&self, credits: u32, changes: Changes) {
        let mut state = self.state.lock();
        state.changes.add(changes);
        state.reserved = state.reserved.saturating_sub(credits);
        state.handles = state.handles.saturating_sub(1);
        if state.handles == 0 && state.closing {
            self.changed.notify_all();
        }
    }

    /// Waits until no handle is open and takes the transaction, unless nothing was changed in it. If
    /// there is one, no handle can be opened until [`Transactions::reopen`]. One caller at a time.
    pub(crate) fn close(&self) -> Option<Closed> {
        let mut state = self.state.lock();
        state.closing = true;
        while state.handles > 0 {
            self.changed.wait(&mut state);
        }
        state.wanted = false;
        if state.changes.is_empty() || state.stopped {
            state.closing = false;
            state.since = None;
            self.changed.notify_all();
            return None;
        }
        let changes = core::mem::take(&mut state.changes);
        let tid = state.tid;
        state.tid = tid.next();
        state.since = None;
        Some(Closed { tid, changes })
    }

    /// Admits handles again.
    pub(crate) fn reopen(&self) {
        self.state.lock().closing = false;
        self.changed.notify_all();
    }

    /// All transactions up to `tid` are in the log for good.
    pub(crate) fn set_committed(&self, tid: Tid) {
        self.state.lock().committed = tid;
        self.changed.notify_all();
    }

    /// The last transaction that is in the log for good.
    pub(crate) fn committed(&self) -> Tid {
        self.state.lock().committed
    }

    /// The transaction that handles are opened on now.
    pub(crate) fn running(&self) -> Tid {
        self.state.lock().tid
    }

    /// When the first handle of the running transaction was opened, if there is anything in it, and
    /// whether someone asked for its commit.
    pub(crate) fn age(&self) -> (Option<Instant>, bool) {
        let state = self.state.lock();
        (state.since, state.wanted)
    }

    /// Asks for a commit without waiting for it.
    #[cfg(test)]
    pub(crate) fn want_commit(&self) {
        self.state.lock().wanted = true;
        self.changed.notify_all();
    }

    /// Waits until something changes or `deadline`.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if !state.wanted && !state.stopped {
            self.changed.wait_until(&mut state, deadline);
        }
    }

    /// Stops everything. True the first time.
    pub(crate) fn abort(&self) -> bool {
        let first = !core::mem::replace(&mut self.state.lock().stopped, true);
        self.changed.notify_all();
        first
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.state.lock().stopped
    }
}

fn blocks(state: &State) -> u32 {
    let changes = &state.changes;
    let count = changes.blocks.len().saturating_add(changes.revoked.len() / 64);
    u32::try_from(count).unwrap_or(u32::MAX)
}
