//! What the journal did and holds, for whoever wants to know and must not wait for a commit.
//!
//! # Locking
//! None, but a leaf for the time. The holder of the log's lock keeps the figures; they may be a
//! transaction behind each other for who reads them.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::log::Log;

/// A journal that is written, as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JournalFigures {
    /// Blocks of the log.
    pub blocks: u32,
    /// Those that can be written before the oldest ones have to be given up.
    pub free_blocks: u32,
    /// The block that is written next.
    pub head: u32,
    /// The transaction that changes go to.
    pub running: u32,
    /// The last transaction that no crash undoes.
    pub committed: u32,
    /// Transactions that are committed, and not all in their places.
    pub unwritten: u32,
    /// Transactions committed since the mount.
    pub commits: u64,
    /// Blocks that these took in the log.
    pub logged_blocks: u64,
    /// The time since the last of these.
    pub since_commit: Option<Duration>,
    /// An error has stopped it.
    pub aborted: bool,
}

/// The part of them that the log's lock would have to be taken for.
#[derive(Debug)]
pub(super) struct Figures {
    blocks: u32,
    free: AtomicU32,
    head: AtomicU32,
    commits: AtomicU64,
    logged: AtomicU64,
    last: Mutex<Option<Instant>>,
}

impl Figures {
    /// Those of a log that nothing was written to.
    pub(super) fn new(log: &Log) -> Self {
        Self {
            blocks: log.capacity(),
            free: log.free().into(),
            head: log.head().into(),
            commits: AtomicU64::new(0),
            logged: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// The log's head or tail has moved.
    pub(super) fn moved(&self, log: &Log) {
        self.free.store(log.free(), Ordering::Relaxed);
        self.head.store(log.head(), Ordering::Relaxed);
    }

    /// A transaction that took `cost` blocks was committed.
    pub(super) fn committed(&self, log: &Log, cost: u32) {
        self.moved(log);
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.logged.fetch_add(cost.into(), Ordering::Relaxed);
        *self.last.lock() = Some(Instant::now());
    }

    /// All of them but those that the transactions tell.
    pub(super) fn read(&self) -> JournalFigures {
        JournalFigures {
            blocks: self.blocks,
            free_blocks: self.free.load(Ordering::Relaxed),
            head: self.head.load(Ordering::Relaxed),
            commits: self.commits.load(Ordering::Relaxed),
            logged_blocks: self.logged.load(Ordering::Relaxed),
            since_commit: self.last.lock().map(|last| last.elapsed()),
            ..JournalFigures::default()
        }
    }
}
