//! File systems without a journal: changed blocks are written home by sync, every commit interval, and
//! when there are many of them, in no promised order.
//!
//! # Locking
//! One leaf lock, held for moments.
//! Kernel: mm/page-writeback.c, as it does for a block device

use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::transactions::Changes;
use crate::error::{Refusal, Result};

#[derive(Debug, Default)]
struct State {
    /// Blocks that were changed since all were written home the last time.
    blocks: usize,
    stopped: bool,
}

/// The place of a journal where there is none.
#[derive(Debug)]
pub(crate) struct Unlogged {
    state: Mutex<State>,
    changed: Condvar,
    /// So many blocks do not wait for the interval to end.
    most: usize,
}

impl Unlogged {
    /// Memory holds `most` changed blocks, more or less.
    pub(crate) fn new(most: usize) -> Self {
        Self { state: Mutex::default(), changed: Condvar::new(), most }
    }

    /// # Errors
    /// [`Refusal::Aborted`].
    pub(crate) fn begin(&self) -> Result<()> {
        if self.is_aborted() { Err(Refusal::Aborted.into()) } else { Ok(()) }
    }

    /// A handle has made these changes.
    pub(crate) fn stop(&self, changes: &Changes) {
        if changes.blocks.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        let before = state.blocks;
        state.blocks = before.saturating_add(changes.blocks.len());
        if before < self.most && state.blocks >= self.most {
            self.changed.notify_all();
        }
    }

    /// Everything that was changed so far is about to be written.
    pub(crate) fn begin_anew(&self) {
        self.state.lock().blocks = 0;
    }

    /// Waits until there are many changes or `deadline`.
    pub(crate) fn wait_until(&self, deadline: Instant) {
        let mut state = self.state.lock();
        if state.blocks < self.most && !state.stopped {
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
