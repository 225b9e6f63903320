//! What is not to be given out although the bitmap shows it as free: runs that were freed by a
//! transaction that has not committed, and windows that files keep for their next blocks.
//!
//! Kernel: fs/ext4/mballoc.c `ext4_mb_generate_from_pa`, `ext4_mb_free_metadata`

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::disk::bitmap;
use crate::ids::{InodeNr, Tid};

/// Why a run is kept back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// Freed by this transaction.
    Freed(Tid),
    /// Committed, and about to be discarded.
    Discard,
    /// The next blocks of this file, taken by others when there is nothing else.
    Window(InodeNr),
}

/// The claims of one group, in clusters. They do not overlap.
#[derive(Debug, Default)]
pub(super) struct Claims(BTreeMap<u32, (u32, Why)>);

impl Claims {
    /// Keeps `range` back; it is next to, never over, what is kept back already.
    pub(super) fn insert(&mut self, range: Range<u32>, why: Why) {
        let (mut start, mut end) = (range.start, range.end);
        if end <= start {
            return;
        }
        let joins = |&(_, other): &(u32, Why)| other == why && matches!(why, Why::Freed(_));
        if let Some((&before, &entry)) = self.0.range(..start).next_back()
            && entry.0 == start
            && joins(&entry)
        {
            self.0.remove(&before);
            start = before;
        }
        if let Some(&entry) = self.0.get(&end).filter(|entry| joins(entry)) {
            self.0.remove(&end);
            end = entry.0;
        }
        self.0.insert(start, (end, why));
    }

    /// Gives up the window of `owner` that starts at `start`.
    pub(super) fn close(&mut self, start: u32, owner: InodeNr) -> Option<Range<u32>> {
        let (end, _) = *self.0.get(&start).filter(|(_, why)| *why == Why::Window(owner))?;
        self.0.remove(&start);
        Some(start..end)
    }

    /// Gives up all windows that touch `range`.
    pub(super) fn steal(&mut self, range: Range<u32>) {
        let window = |why| matches!(why, Why::Window(_));
        let hit = |(start, (end, why)): (&u32, &(u32, Why))| {
            (*end > range.start && window(*why)).then_some(*start)
        };
        let starts: Vec<u32> = self.0.range(..range.end).filter_map(hit).collect();
        starts.iter().for_each(|start| {
            self.0.remove(start);
        });
    }

    /// Takes out the runs freed up to transaction `committed`.
    pub(super) fn settle(&mut self, committed: Tid) -> Vec<Range<u32>> {
        let mut runs = Vec::new();
        self.0.retain(|start, (end, why)| {
            let settled = matches!(why, Why::Freed(tid) if committed.reached(*tid));
            if settled {
                runs.push(*start..*end);
            }
            !settled
        });
        runs
    }

    /// Takes out the run at `start` that was kept for a discard.
    pub(super) fn discarded(&mut self, start: u32) {
        if matches!(self.0.get(&start), Some((_, Why::Discard))) {
            self.0.remove(&start);
        }
    }

    /// `bitmap` with all that `owner` may not have: windows of others too, unless `steal`.
    pub(super) fn over<'a>(&self, bitmap: &'a [u8], owner: InodeNr, steal: bool) -> Cow<'a, [u8]> {
        let mut busy = Cow::Borrowed(bitmap);
        for (start, (end, why)) in &self.0 {
            if matches!(why, Why::Window(other) if steal || *other == owner) {
                continue;
            }
            bitmap::fill(busy.to_mut(), *start..*end, true);
        }
        busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREED: Why = Why::Freed(Tid::new(7));

    #[test]
    fn freed_neighbours_become_one_run_and_windows_do_not() {
        let mut claims = Claims::default();
        claims.insert(10..20, FREED);
        claims.insert(30..40, FREED);
        claims.insert(20..30, FREED);
        claims.insert(40..50, Why::Window(InodeNr::new(12)));
        claims.insert(50..60, Why::Freed(Tid::new(8)));
        assert_eq!(claims.0.len(), 3);
        assert!(claims.settle(Tid::new(6)).is_empty());
        assert!(claims.settle(Tid::new(7)).into_iter().eq(core::iter::once(10..40)));
        assert!(claims.settle(Tid::new(8)).into_iter().eq(core::iter::once(50..60)));
        assert_eq!(claims.close(40, InodeNr::new(13)), None);
        assert_eq!(claims.close(40, InodeNr::new(12)), Some(40..50));
        assert!(claims.0.is_empty());
    }

    #[test]
    fn a_window_is_in_the_way_of_others_only() {
        let mut claims = Claims::default();
        claims.insert(0..8, Why::Window(InodeNr::new(12)));
        claims.insert(8..16, FREED);
        let free = [0; 4];
        let first = |owner, steal| claims.over(&free, InodeNr::new(owner), steal)[0..2].to_vec();
        assert_eq!(first(12, false), [0, 0xff]);
        assert_eq!(first(13, false), [0xff, 0xff]);
        assert_eq!(first(13, true), [0, 0xff]);
    }
}
