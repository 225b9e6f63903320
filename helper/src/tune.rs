//! The page cache's settings for a mount, once INIT is answered: FUSE sets its own then.
//!
//! `strict_limit` stays 1 always: without it a stuck server could pin all dirty memory of the machine.
//! Kernel: mm/backing-dev.c; Documentation/ABI/testing/sysfs-class-bdi.

use std::fs;
use std::path::Path;

use crate::cgroup;
use crate::options::Tuning;

/// Of the memory of a control group that server and users share, the part that may be pages for it to write.
/// Version 1 of groups has no limit of its own for them: in a group full of such pages the server gets no
/// memory to write them with.
const UNWRITTEN: u64 = 8;

/// Only a matter of speed, so it may fail: /sys is read-only in containers. `bdi` is the name of one
/// mount's settings, `pid` its server.
pub(crate) fn bdi(bdi: &str, tuning: &Tuning, pid: i32) {
    let directory = Path::new("/sys/class/bdi").join(bdi);
    for (name, value) in [("read_ahead_kb", tuning.read_ahead_kib), ("max_ratio", tuning.max_ratio)]
    {
        let _ = fs::write(directory.join(name), value.to_string());
    }
    if cgroup::are_shared_with(pid)
        && let Some(limit) = cgroup::memory_limit(pid)
    {
        lower(&directory.join("max_bytes"), limit / UNWRITTEN);
    }
}

/// Writes `most` to a file that has more.
fn lower(file: &Path, most: u64) {
    let before: Option<u64> =
        fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
    if before.is_some_and(|before| most < before) {
        let _ = fs::write(file, most.to_string());
    }
}
