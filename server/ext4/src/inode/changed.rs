//! Which transaction changed an inode last: what fsync has to wait for (`i_sync_tid`,
//! `i_datasync_tid`).
//!
//! # Locking
//! Sharded; each lock is a leaf.
//! # Invariant
//! An inode that is not listed was changed by committed transactions only.

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::ids::{InodeNr, Tid, in_memory};

const SHARDS: u32 = 16;
/// Entries of a shard from which on those that mean nothing any more are dropped.
const MANY: usize = 1024;

/// What a transaction changed of an inode.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    /// Content, the way to it, or attributes that decide how it is read.
    Content,
    /// Times alone.
    Times,
}

#[derive(Clone, Copy, Debug)]
struct Last {
    any: Tid,
    content: Option<Tid>,
}

/// The last changes of all inodes that may not be durable.
#[derive(Debug)]
pub(crate) struct Changed {
    shards: [Mutex<(HashMap<InodeNr, Last>, usize)>; 16],
}

impl Default for Changed {
    fn default() -> Self {
        Self { shards: core::array::from_fn(|_| Mutex::new((HashMap::default(), MANY))) }
    }
}

impl Changed {
    fn shard(&self, nr: InodeNr) -> Option<&Mutex<(HashMap<InodeNr, Last>, usize)>> {
        self.shards.get(in_memory(nr.get().checked_rem(SHARDS).unwrap_or(0).into()))
    }

    /// Transaction `tid` changes `nr`; those up to `committed` are durable.
    pub(crate) fn note(&self, nr: InodeNr, tid: Tid, what: What, committed: Tid) {
        let Some(shard) = self.shard(nr) else { return };
        let (entries, many) = &mut *shard.lock();
        if entries.len() >= *many {
            entries.retain(|_, last| !committed.reached(last.any));
            // So that looking through all of them is rare whatever stays.
            *many = entries.len().saturating_mul(2).max(MANY);
        }
        let last = entries.entry(nr).or_insert(Last { any: tid, content: None });
        last.any = tid;
        if what == What::Content {
            last.content = Some(tid);
        }
    }

    /// The last transaction that changed `nr`, or its content at least with `content_only`. `None`
    /// if that is durable.
    pub(crate) fn last(&self, nr: InodeNr, content_only: bool) -> Option<Tid> {
        let last = self.shard(nr)?.lock().0.get(&nr).copied()?;
        if content_only { last.content } else { Some(last.any) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_dropped_when_there_is_much_and_the_rest_is_kept() {
        let changed = Changed::default();
        let nr = |index: u32| InodeNr::new(16 * (index + 1));
        for index in 0..5000_u32 {
            let committed = Tid::new(index.saturating_sub(10));
            changed.note(nr(index), Tid::new(index), What::Content, committed);
        }
        let kept = changed.shards[0].lock().0.len();
        assert!(kept <= 2 * MANY, "{kept}");
        for index in 4990..5000 {
            assert_eq!(changed.last(nr(index), true), Some(Tid::new(index)));
        }
    }

    #[test]
    fn times_alone_are_not_content() {
        let changed = Changed::default();
        let nr = InodeNr::new(12);
        changed.note(nr, Tid::new(5), What::Times, Tid::new(4));
        assert_eq!((changed.last(nr, false), changed.last(nr, true)), (Some(Tid::new(5)), None));
        changed.note(nr, Tid::new(6), What::Content, Tid::new(4));
        changed.note(nr, Tid::new(7), What::Times, Tid::new(4));
        let (any, content) = (changed.last(nr, false), changed.last(nr, true));
        assert_eq!((any, content), (Some(Tid::new(7)), Some(Tid::new(6))));
    }
}
