//! How many entries each CPU's queue has, of which size, and which thread serves it.
//!
//! The kernel wants a queue for every CPU that the machine could ever have, and hands a request to
//! that of the CPU it is made on. Threads and memory follow the CPUs that there are.

use fuse4fs_protocol::Cpus;

use super::super::reply::PAGE;

/// What the payloads of the CPUs' queues may take, once all were used to the full. With the buffers
/// of the threads, a mount stays below 64 MiB.
const MEMORY: usize = 48 << 20;
/// Requests that a queue has with the server at the same time, at most. Further ones wait in it.
const MAX_DEPTH: usize = 8;
/// The largest payload.
const MAX_PAYLOAD: usize = 1 << 20;
/// The smallest payload: what INIT may settle on as the longest write goes down to this.
const MIN_PAYLOAD: usize = 32 << 10;
/// The kernel's limit of CPUs.
const MAX_CPUS: u16 = 8192;

/// The share of each queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// CPUs that there could ever be.
    possible: u16,
    /// The CPUs that have a thread.
    mine: Vec<usize>,
    /// Bytes of an entry's payload, a multiple of the page size.
    pub(super) payload: usize,
    /// Entries of a queue whose CPU has a thread; the others have one.
    depth: usize,
}

impl Layout {
    /// A layout with a thread for each CPU of `mine`; `None` for a machine that cannot be.
    pub(super) fn new(Cpus { possible, online }: Cpus, mine: Vec<usize>) -> Option<Self> {
        let (threads, online) = (mine.len(), usize::from(online));
        if threads == 0 || threads > online || online > possible.into() || possible > MAX_CPUS {
            return None;
        }
        let payload = MEMORY.checked_div(online)?.clamp(MIN_PAYLOAD, MAX_PAYLOAD);
        let payload = payload.saturating_sub(payload.checked_rem(PAGE)?);
        let entries = MEMORY.checked_div(payload)?;
        let others = online.checked_sub(threads)?;
        let depth = entries.saturating_sub(others).checked_div(threads)?.clamp(1, MAX_DEPTH);
        Some(Self { possible, mine, payload, depth })
    }

    /// The CPU of each thread.
    pub(super) fn threads(&self) -> &[usize] {
        &self.mine
    }

    /// For each thread, the queue of each of its entries. Queues of CPUs that have no thread are
    /// dealt out round robin.
    pub(super) fn queues(&self) -> Vec<Vec<u16>> {
        let mut all = vec![Vec::new(); self.mine.len()];
        for queue in 0..self.possible {
            let (thread, depth) = self.thread_of(queue.into());
            if let Some(queues) = all.get_mut(thread) {
                queues.extend(std::iter::repeat_n(queue, depth));
            }
        }
        all
    }

    /// Which thread serves a queue, and how many entries it has.
    fn thread_of(&self, queue: usize) -> (usize, usize) {
        match self.mine.iter().position(|cpu| *cpu == queue) {
            Some(thread) => (thread, self.depth),
            None => (queue.checked_rem(self.mine.len()).unwrap_or(0), 1),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::*;

    fn layout(possible: u16, online: u16) -> Layout {
        Layout::new(Cpus { possible, online }, (0..online.into()).collect()).unwrap()
    }

    #[test]
    fn every_possible_cpu_has_a_queue_with_an_entry() {
        for (possible, online) in [(1, 1), (2, 2), (3, 2), (240, 4), (8192, 96)] {
            let layout = layout(possible, online);
            let mut queues: Vec<u16> = layout.queues().into_iter().flatten().collect();
            queues.sort_unstable();
            queues.dedup();
            let all: Vec<u16> = (0..possible).collect();
            assert_eq!(queues, all);
        }
    }

    #[test]
    fn payloads_of_the_cpus_that_there_are_stay_within_their_share() {
        for online in [1_u16, 2, 7, 48, 49, 64, 128, 512, 1536] {
            for mine in [1, online.div_ceil(2), online] {
                let cpus = Cpus { possible: 8192, online };
                let layout = Layout::new(cpus, (0..mine.into()).collect()).unwrap();
                let entries = usize::from(mine) * layout.depth + usize::from(online - mine);
                assert!(entries * layout.payload <= MEMORY, "{layout:?}");
                assert!(layout.payload.is_multiple_of(PAGE) && layout.payload >= MIN_PAYLOAD);
            }
        }
    }

    #[test]
    fn a_small_machine_has_deep_queues_of_whole_requests() {
        let layout = layout(2, 2);
        assert_eq!((layout.payload, layout.depth), (1 << 20, 8));
        assert_eq!(layout.queues(), [[0; 8], [1; 8]]);
    }

    #[test]
    fn queues_of_other_cpus_are_served_too_but_not_as_deep() {
        let cpus = Cpus { possible: 5, online: 4 };
        let layout = Layout::new(cpus, vec![2, 3]).unwrap();
        let queues = layout.queues();
        assert_eq!(queues[0], [0, 2, 2, 2, 2, 2, 2, 2, 2, 4]);
        assert_eq!(queues[1], [1, 3, 3, 3, 3, 3, 3, 3, 3]);
    }

    #[test]
    fn machines_that_cannot_be_have_no_layout() {
        for (possible, online, mine) in [(0, 0, 0), (1, 0, 0), (1, 2, 1), (2, 1, 2), (8193, 1, 1)] {
            let mine = (0..mine).collect();
            assert_eq!(Layout::new(Cpus { possible, online }, mine), None);
        }
    }
}
