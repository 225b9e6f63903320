//! How much memory a server's caches may take: what was asked for, else by what the machine has and the
//! server's control groups leave to it.

use std::fs;
use std::path::{Path, PathBuf};

use fuse4fs_protocol::{CacheSize, MAX_CACHE, MIN_CACHE};

use crate::options::CacheWish;

/// Of the caches, what is left while memory is short.
const LEAST: u64 = 4 << 20;
/// They grow to no more unasked: what else there is of a disk in memory is in the page cache.
const MOST: u64 = 512 << 20;

/// The bytes for the caches of the server `pid`.
pub(crate) fn cache(wish: CacheWish, pid: i32) -> CacheSize {
    let limit = limits(pid).into_iter().min();
    size(wish, machine(), limit)
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

/// What the control groups of `pid` limit its memory to, each that does.
fn limits(pid: i32) -> Vec<u64> {
    if pid <= 0 {
        return Vec::new();
    }
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let files = groups.lines().filter_map(directory).flat_map(|(root, path, file)| {
        let from_root: Vec<PathBuf> =
            path.ancestors().map(|path| root.join(path).join(file)).collect();
        from_root
    });
    files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).collect()
}

/// Of a line of /proc/PID/cgroup that is about memory: where that hierarchy is, the group in it, and
/// the file with the limit. A group outside of what is seen here has no name that can be looked up.
fn directory(line: &str) -> Option<(&'static Path, &Path, &'static str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = Path::new(path.strip_prefix('/')?);
    if path.components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    if number == "0" {
        return Some((Path::new("/sys/fs/cgroup"), path, "memory.max"));
    }
    let memory = controllers.split(',').any(|name| name == "memory");
    memory.then_some((Path::new("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes"))
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
    fn a_group_is_found_in_both_hierarchies() {
        let found = |line| directory(line).map(|(root, path, file)| root.join(path).join(file));
        let v2 = "/sys/fs/cgroup/system.slice/a.service/memory.max";
        assert_eq!(found("0::/system.slice/a.service"), Some(v2.into()));
        let v1 = "/sys/fs/cgroup/memory/a/memory.limit_in_bytes";
        assert_eq!(found("4:memory:/a"), Some(v1.into()));
        for other in ["1:cpu,cpuacct:/a", "0::/../a", "0::", "", "memory"] {
            assert_eq!(found(other), None, "{other}");
        }
        // Whoever runs this is in some group.
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(limits(own).iter().all(|limit| *limit > 0));
        assert!(machine() > 16 * MIB);
    }
}
