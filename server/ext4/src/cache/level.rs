//! How full a cache is, and how often it had what was wanted.

use core::hash::Hash;
use core::sync::atomic::{AtomicU64, Ordering};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// What a cache holds, and what it was asked for since the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CacheLevel {
    /// Bytes.
    pub bytes: u64,
    /// Bytes, at most.
    pub budget: u64,
    /// Values.
    pub entries: u64,
    /// Times that a value was there.
    pub hits: u64,
    /// Times that it had to be read.
    pub misses: u64,
}

/// How often a value was read from the disk. The cache itself counts what it lacked, also for a thread that
/// may not wait and leaves the reading to another one.
#[derive(Debug, Default)]
pub(crate) struct Misses(AtomicU64);

impl Misses {
    /// One was read.
    pub(crate) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The level of `cache`, whose weights are bytes. Locks its shards, one after the other, for moments.
pub(crate) fn level<K, V, W>(cache: &Cache<K, V, W>, misses: &Misses) -> CacheLevel
where
    K: Hash + Eq + Clone,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    CacheLevel {
        bytes: cache.weight(),
        budget: cache.capacity(),
        entries: crate::ids::on_disk(cache.len()),
        hits: cache.hits(),
        misses: misses.0.load(Ordering::Relaxed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hit_is_told_from_a_miss() {
        let cache: Cache<u32, u32> = Cache::new(16);
        let counted = Misses::default();
        for _ in 0..3 {
            let load = || {
                counted.count();
                Ok::<_, ()>(7)
            };
            cache.get_or_insert_with(&1, load).unwrap();
        }
        let CacheLevel { bytes, budget, entries, hits, misses } = level(&cache, &counted);
        assert_eq!((bytes, entries, hits, misses), (1, 1, 2, 1));
        assert!(budget >= 16);
    }
}
