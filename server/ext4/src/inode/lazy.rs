//! Access times that are not in the inode table yet (`lazytime`).
//!
//! # Locking
//! One leaf lock. An entry comes and goes under its inode's lock.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use core::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::{Inode, Timestamp};
use crate::ids::InodeNr;
use crate::volume::Volume;

/// Times that wait, at most.
const MOST: usize = 4096;
/// How long they wait, at most.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The times that wait.
#[derive(Debug, Default)]
pub(crate) struct Lazy {
    /// So that nobody takes the lock where nothing waits.
    any: AtomicBool,
    times: Mutex<(HashMap<InodeNr, Timestamp>, Option<Instant>)>,
}

impl Lazy {
    /// The access time of `nr` that waits, if one does.
    pub(super) fn get(&self, nr: InodeNr) -> Option<Timestamp> {
        if !self.any.load(Ordering::Acquire) {
            return None;
        }
        self.times.lock().0.get(&nr).copied()
    }

    /// Whether a time of `nr` waits.
    pub(crate) fn has(&self, nr: InodeNr) -> bool {
        self.get(nr).is_some()
    }

    /// The inode's record has its time, or `nr` is free.
    pub(super) fn done(&self, nr: InodeNr) {
        if self.any.load(Ordering::Acquire) {
            self.times.lock().0.remove(&nr);
        }
    }

    /// Takes note of a time. False if too many wait already.
    fn put(&self, nr: InodeNr, atime: Timestamp) -> bool {
        let (times, since) = &mut *self.times.lock();
        if times.len() >= MOST && !times.contains_key(&nr) {
            return false;
        }
        if times.is_empty() {
            *since = Some(Instant::now());
        }
        times.insert(nr, atime);
        self.any.store(true, Ordering::Release);
        true
    }

    /// The inodes whose times wait.
    pub(crate) fn all(&self) -> Vec<InodeNr> {
        if !self.any.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.times.lock().0.keys().copied().collect()
    }

    /// Whether it is time to write them.
    pub(crate) fn is_due(&self) -> bool {
        if !self.any.load(Ordering::Acquire) {
            return false;
        }
        let (times, since) = &*self.times.lock();
        let old = since.is_some_and(|since| since.elapsed() >= DAY);
        !times.is_empty() && (old || times.len() >= MOST / 2)
    }
}

/// Gives `inode`, which the caller has locked exclusively, another access time in memory only. False
/// if it has to be written.
pub(crate) fn set_atime_lazily(volume: &Volume, inode: &Inode) -> bool {
    let waits = volume.lazy.put(inode.nr, inode.atime);
    if waits {
        volume.memory().put_inode(inode.nr, inode.clone());
    }
    waits
}
