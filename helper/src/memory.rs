//! How much memory a server's caches may take: what was asked for, else by what the machine has and the
//! server's control groups leave to it.

use fuse4fs_protocol::{CacheSize, MAX_CACHE, MIN_CACHE};

use crate::cgroup;
use crate::options::CacheWish;

/// Of the caches, what is left while memory is short.
const LEAST: u64 = 4 << 20;
/// They grow to no more unasked: what else there is of a disk in memory is in the page cache.
const MOST: u64 = 512 << 20;

/// The bytes for the caches of the server `pid`.
pub(crate) fn cache(wish: CacheWish, pid: i32) -> CacheSize {
    size(wish, machine(), cgroup::memory_limit(pid))
}

/// A sixteenth of the machine's memory, half of what control groups allow.
fn size(wish: CacheWish, machine: u64, limit: Option<u64>) -> CacheSize {
    let by_limit = limit.map_or(MAX_CACHE, |limit| limit / 2);
    let usual = (machine / 16).min(by_limit).clamp(2 * LEAST, MOST);
    let least = wish.least.unwrap_or(LEAST).clamp(MIN_CACHE, MAX_CACHE);
    match (wish.least, wish.most) {
        (_, Some(most)) => CacheSize { least: least.min(most), most },
        (Some(_), None) => CacheSize { least, most: usual.max(least) },
        (None, None) => CacheSize { least, most: usual },
    }
}

/// Bytes of memory of this machine.
fn machine() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    fn of(wish: [Option<u64>; 2], machine: u64, limit: Option<u64>) -> [u64; 2] {
        let [least, most] = wish;
        let CacheSize { least, most } = size(CacheWish { least, most }, machine, limit);
        assert!((MIN_CACHE..=MAX_CACHE).contains(&least) && least <= most && most <= MAX_CACHE);
        [least / MIB, most / MIB]
    }

    #[test]
    fn unasked_it_is_by_what_the_machine_has() {
        for (machine, limit, most) in [
            (GIB / 4, None, 16),
            (GIB, None, 64),
            (24 * GIB, None, 512),
            (24 * GIB, Some(GIB / 2), 256),
            (24 * GIB, Some(64 * MIB), 32),
            (24 * GIB, Some(u64::MAX), 512),
            (24 * GIB, Some(0), 8),
            (0, None, 8),
        ] {
            assert_eq!(of([None, None], machine, limit), [4, most], "{machine} {limit:?}");
        }
    }

    #[test]
    fn what_was_asked_for_holds() {
        let mib = |mib: u64| Some(mib * MIB);
        let wishes = [
            ([mib(16), None], [16, 512]),
            ([mib(600), None], [600, 600]),
            ([None, mib(2)], [2, 2]),
            ([mib(64), mib(32)], [32, 32]),
            ([mib(1), mib(768)], [1, 768]),
        ];
        for (wish, expected) in wishes {
            assert_eq!(of(wish, 24 * GIB, None), expected, "{wish:?}");
        }
    }

    #[test]
    fn this_machine_has_memory() {
        assert!(machine() > 16 * MIB);
    }
}
