//! What is found on this machine, for `policy` to decide by.

use std::fs;
use std::path::Path;

use fuse4fs_protocol::{Cpus, Switch};

use crate::superblock;

/// (0, 0) when the kernel does not say it in a way that is understood.
pub(crate) fn kernel_version() -> (u32, u32) {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|part| part.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Whether the kernel offers FUSE over io_uring. Not looked at when nobody wants to know.
pub(crate) fn io_uring(wanted: Switch) -> bool {
    const PARAMETERS: &str = "/sys/module/fuse/parameters";
    if wanted == Switch::Off {
        return false;
    }
    if !Path::new(PARAMETERS).exists() {
        // Opening the device loads the module.
        drop(superblock::open_fuse());
    }
    fs::read_to_string(Path::new(PARAMETERS).join("enable_uring"))
        .is_ok_and(|value| value.trim() == "Y")
}

/// Whether SELinux is there.
pub(crate) fn selinux() -> bool {
    Path::new("/sys/fs/selinux/enforce").exists()
}

/// The CPUs of this machine; 0 where the kernel does not say.
pub(crate) fn cpus() -> Cpus {
    let count = |name: &str| {
        let list = fs::read_to_string(Path::new("/sys/devices/system/cpu").join(name));
        list.ok().and_then(|list| count(&list)).unwrap_or(0)
    };
    Cpus { possible: count("possible"), online: count("online") }
}

/// How many numbers a list like "0-3,8" names.
fn count(list: &str) -> Option<u16> {
    list.trim().split(',').try_fold(0_u16, |sum, range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        sum.checked_add(last.checked_sub(first)?.checked_add(1)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_counted() {
        assert_eq!(count("0\n"), Some(1));
        assert_eq!(count("0-1\n"), Some(2));
        assert_eq!(count("0-3,8,10-11"), Some(7));
        for broken in ["", "x", "3-1", "0-65535", "0-70000"] {
            assert_eq!(count(broken), None, "{broken}");
        }
    }

    #[test]
    fn this_machine_has_a_cpu() {
        let cpus = cpus();
        assert!(cpus.online > 0 && cpus.possible >= cpus.online, "{cpus:?}");
    }
}
