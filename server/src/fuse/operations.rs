//! Counts what the kernel asks for, and how long answers take.
//!
//! It costs two readings of the clock and two additions for a request: threads add to different
//! memory, so that they do not take it from each other's caches.
//!
//! # Locking
//! None.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use fuse4fs_protocol::{LATENCY_BUCKETS, OPCODES, Operation, bucket_of, operation_name};

/// Threads beyond this many share memory with others.
const SHARDS: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static SHARD: usize =
        THREADS.fetch_add(1, Ordering::Relaxed).checked_rem(SHARDS).unwrap_or(0);
}

/// Requests with one opcode.
#[derive(Debug, Default)]
struct Counter {
    errors: AtomicU64,
    nanoseconds: AtomicU64,
    latencies: [AtomicU64; LATENCY_BUCKETS],
}

/// Counters of some threads, in cache lines that no others write to.
#[derive(Debug)]
#[repr(align(128))]
struct Shard([Counter; OPCODES]);

/// All requests since serving began.
#[derive(Debug)]
pub(crate) struct Operations(Box<[Shard]>);

impl Operations {
    /// None so far.
    pub(super) fn new() -> Self {
        let shard = || Shard(std::array::from_fn(|_| Counter::default()));
        Self(std::iter::repeat_with(shard).take(SHARDS).collect())
    }

    /// A request that was received at `since` has an answer now.
    pub(super) fn record(&self, opcode: u32, since: Instant, failed: bool) {
        let opcode = u16::try_from(opcode).ok().filter(|opcode| operation_name(*opcode).is_some());
        let shard = SHARD.with(|shard| *shard);
        let Some(Shard(counters)) = self.0.get(shard) else { return };
        let Some(counter) = counters.get(usize::from(opcode.unwrap_or(0))) else { return };
        let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        counter.nanoseconds.fetch_add(took, Ordering::Relaxed);
        if let Some(bucket) = counter.latencies.get(bucket_of(took)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        if failed {
            counter.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that there were any of, by ascending opcode.
    pub(super) fn read(&self) -> Vec<Operation> {
        let sums = (0_u16..).zip(0..OPCODES).map(|(opcode, index)| self.sum(opcode, index));
        sums.filter(|operation| operation.count() > 0).collect()
    }

    fn sum(&self, opcode: u16, index: usize) -> Operation {
        let counters = || self.0.iter().filter_map(|Shard(counters)| counters.get(index));
        let sum = |part: &dyn Fn(&Counter) -> u64| counters().map(part).fold(0, u64::wrapping_add);
        let bucket = |at: usize| {
            sum(&|counter| counter.latencies.get(at).map_or(0, |it| it.load(Ordering::Relaxed)))
        };
        Operation {
            opcode,
            errors: sum(&|counter| counter.errors.load(Ordering::Relaxed)),
            nanoseconds: sum(&|counter| counter.nanoseconds.load(Ordering::Relaxed)),
            latencies: std::array::from_fn(bucket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_counted_is_added_up() {
        const THREADS: u64 = 20;
        let operations = Operations::new();
        assert!(operations.read().is_empty());
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    operations.record(3, Instant::now(), false);
                    operations.record(1, Instant::now(), true);
                });
            }
        });
        let [lookup, getattr] = operations.read().try_into().unwrap();
        assert_eq!((lookup.opcode, lookup.count(), lookup.errors), (1, THREADS, THREADS));
        assert_eq!((getattr.opcode, getattr.count(), getattr.errors), (3, THREADS, 0));
        assert!(getattr.nanoseconds > 0);
    }

    #[test]
    fn what_has_no_name_counts_as_unknown() {
        let operations = Operations::new();
        for opcode in [0, 7, 4096, u32::MAX] {
            operations.record(opcode, Instant::now(), true);
        }
        let [unknown] = operations.read().try_into().unwrap();
        assert_eq!((unknown.opcode, unknown.count()), (0, 4));
    }
}
