//! One lock per inode, for the verbs: reading verbs share it, changing ones exclude each other.
//!
//! # Locking
//! Rank "inode operation", the kernel's i_rwsem. Several at once only through `Filesystem::lock_all`,
//! which takes them in ascending order. The table's own locks are leaves.

use std::sync::Arc;

use foldhash::HashMap;
use parking_lot::{ArcRwLockReadGuard, ArcRwLockWriteGuard, Mutex, RawRwLock, RwLock};

use crate::ids::{InodeNr, in_memory};

const SHARDS: u32 = 64;

type Lock = Arc<RwLock<()>>;
type Shard = HashMap<InodeNr, Lock>;

/// The locks of all inodes in use. An inode that nobody has locked has no entry.
#[derive(Debug)]
pub(crate) struct Locks {
    shards: Arc<[Mutex<Shard>]>,
}

impl Default for Locks {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

/// Holds an inode's lock; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Guard<G> {
    nr: InodeNr,
    shards: Arc<[Mutex<Shard>]>,
    held: Option<G>,
}

/// Shared with other readers.
pub(crate) type ReadGuard = Guard<ArcRwLockReadGuard<RawRwLock, ()>>;
/// Exclusive.
pub(crate) type WriteGuard = Guard<ArcRwLockWriteGuard<RawRwLock, ()>>;

fn shard(shards: &[Mutex<Shard>], nr: InodeNr) -> Option<&Mutex<Shard>> {
    shards.get(in_memory(nr.get().checked_rem(SHARDS).unwrap_or(0).into()))
}

impl Locks {
    fn lock_of(&self, nr: InodeNr) -> Lock {
        shard(&self.shards, nr)
            .map(|shard| Arc::clone(shard.lock().entry(nr).or_default()))
            .unwrap_or_default()
    }

    fn guard<G>(&self, nr: InodeNr, held: G) -> Guard<G> {
        Guard { nr, shards: Arc::clone(&self.shards), held: Some(held) }
    }

    /// Waits until nobody changes `nr`.
    pub(crate) fn read(&self, nr: InodeNr) -> ReadGuard {
        self.guard(nr, self.lock_of(nr).read_arc())
    }

    /// As [`Locks::read`] where nobody changes `nr`, or waits to.
    pub(crate) fn try_read(&self, nr: InodeNr) -> Option<ReadGuard> {
        let held = self.lock_of(nr).try_read_arc();
        // Dropped without having held anything, it still forgets a lock that nobody else uses.
        let guard = Guard { nr, shards: Arc::clone(&self.shards), held };
        guard.held.is_some().then_some(guard)
    }

    /// Waits until nobody else uses `nr`.
    pub(crate) fn write(&self, nr: InodeNr) -> WriteGuard {
        self.guard(nr, self.lock_of(nr).write_arc())
    }

    /// As [`Locks::write`] where nobody else uses `nr`.
    pub(crate) fn try_write(&self, nr: InodeNr) -> Option<WriteGuard> {
        let held = self.lock_of(nr).try_write_arc();
        let guard = Guard { nr, shards: Arc::clone(&self.shards), held };
        guard.held.is_some().then_some(guard)
    }
}

impl<G> Drop for Guard<G> {
    fn drop(&mut self) {
        self.held = None;
        let Some(shard) = shard(&self.shards, self.nr) else { return };
        let mut shard = shard.lock();
        // New users come through the shard, so one reference means that nobody has or awaits it.
        if shard.get(&self.nr).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            shard.remove(&self.nr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_forgotten_when_its_last_user_is_gone() {
        let locks = Locks::default();
        let nr = InodeNr::new(12);
        let (first, second) = (locks.read(nr), locks.read(nr));
        drop(first);
        assert_eq!(locks.shards.iter().map(|shard| shard.lock().len()).sum::<usize>(), 1);
        drop(second);
        assert_eq!(locks.shards.iter().map(|shard| shard.lock().len()).sum::<usize>(), 0);
    }

    #[test]
    fn a_lock_that_is_not_to_be_had_is_not_waited_for() {
        let locks = Locks::default();
        let nr = InodeNr::new(12);
        let writer = locks.write(nr);
        assert!(locks.try_read(nr).is_none());
        drop(writer);
        let (first, second) = (locks.read(nr), locks.try_read(nr));
        assert!(second.is_some());
        drop((first, second));
        assert_eq!(locks.shards.iter().map(|shard| shard.lock().len()).sum::<usize>(), 0);
    }
}
