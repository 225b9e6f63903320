//! The page cache's settings for a mount, once INIT is answered: FUSE sets its own then.
//!
//! `strict_limit` stays 1 always: without it a stuck server could pin all dirty memory of the machine.
//! Kernel: mm/backing-dev.c; Documentation/ABI/testing/sysfs-class-bdi.

use std::fs;
use std::path::Path;

use crate::options::Tuning;

/// Only a matter of speed, so it may fail: /sys is read-only in containers. `bdi` is the name of one
/// mount's settings.
pub(crate) fn bdi(bdi: &str, tuning: &Tuning) {
    let directory = Path::new("/sys/class/bdi").join(bdi);
    for (name, value) in [("read_ahead_kb", tuning.read_ahead_kib), ("max_ratio", tuning.max_ratio)]
    {
        let _ = fs::write(directory.join(name), value.to_string());
    }
}
