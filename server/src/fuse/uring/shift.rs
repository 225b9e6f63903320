//! Two threads that serve one ring in turn: one of the scheduler's usual class, one of its idle class.
//!
//! A thread cannot leave the idle class again without a privilege, hence two. What the kernel has of
//! the ring when they change comes back through the one before, in its class, once for each entry.
//!
//! # Locking
//! The lock is a leaf, held for moments.

use std::io;

use parking_lot::{Condvar, Mutex};

use super::worker::Worker;
use crate::sys::become_idle;

/// A class of the scheduler's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SchedClass {
    /// SCHED_OTHER
    Plain,
    /// SCHED_IDLE
    Idle,
}

impl SchedClass {
    const fn other(self) -> Self {
        match self {
            Self::Plain => Self::Idle,
            Self::Idle => Self::Plain,
        }
    }
}

#[derive(Default)]
enum Turn {
    /// Somebody serves, or nobody does yet.
    #[default]
    Taken,
    Of(SchedClass, Box<Worker>),
    Over,
}

/// Whose turn it is.
#[derive(Default)]
pub(super) struct Shifts {
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl Shifts {
    /// The thread of `class` is to go on.
    pub(super) fn give(&self, class: SchedClass, worker: Box<Worker>) {
        self.set(Turn::Of(class, worker));
    }

    fn set(&self, turn: Turn) {
        *self.turn.lock() = turn;
        self.changed.notify_all();
    }

    /// Waits for the turn of `class`. `None` at the end.
    fn take(&self, class: SchedClass) -> Option<Box<Worker>> {
        let mut turn = self.turn.lock();
        loop {
            match std::mem::take(&mut *turn) {
                Turn::Of(whose, worker) if whose == class => return Some(worker),
                Turn::Over => {
                    *turn = Turn::Over;
                    return None;
                }
                other => *turn = other,
            }
            self.changed.wait(&mut turn);
        }
    }

    /// Serves whenever it is the turn of `class`, until the connection is gone.
    ///
    /// # Errors
    /// When the ring fails.
    pub(super) fn work(&self, class: SchedClass) -> io::Result<()> {
        let is_in = class == SchedClass::Plain
            || become_idle().inspect_err(|error| tracing::debug!("no idle class: {error}")).is_ok();
        while let Some(mut worker) = self.take(class) {
            if !is_in {
                // The other one serves alone.
                worker.heed(None);
            } else if !worker.serve(class).inspect_err(|_| self.set(Turn::Over))? {
                self.set(Turn::Over);
                break;
            }
            self.give(class.other(), worker);
        }
        Ok(())
    }
}
