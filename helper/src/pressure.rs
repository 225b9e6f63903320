//! Where the server hears that memory is short: `memory.pressure` of its control group, else of the
//! machine, armed before it is passed on.
//!
//! A descriptor takes one trigger and refuses others (EBUSY), and what it may be depends on who opened
//! the file. So we, who may ask for more, write it: the server gets what it can wait on, and cannot make
//! anything else of it.
//! Source: Documentation/accounting/psi.rst; cgroups(7)

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use crate::cgroup::{self, Version};
use crate::sys::open::well_known;

/// The whole machine's.
const MACHINE: &str = "/proc/pressure/memory";

/// That somebody waits for memory for 3 % of the time, told within half a second, which takes
/// CAP_SYS_RESOURCE; without it within 2 s. The kernel overwrites the last byte.
const TRIGGERS: [&[u8]; 2] = [b"some 15000 500000\n", b"some 60000 2000000\n"];

/// The armed file for the server `pid`; `None` where the kernel has no such thing.
pub(crate) fn watch(pid: i32) -> Option<OwnedFd> {
    let groups = cgroup::directories(pid, Version::Two);
    let file = groups.first().map(|group| group.join("memory.pressure"));
    let file = file.as_deref().and_then(Path::to_str);
    file.into_iter().chain([MACHINE]).find_map(armed)
}

fn armed(path: &str) -> Option<OwnedFd> {
    let file = well_known(path, OFlags::RDWR | OFlags::NONBLOCK).ok()?;
    TRIGGERS.iter().any(|trigger| rustix::io::write(&file, trigger).is_ok()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_passed_on_takes_no_other_trigger() {
        let own = i32::try_from(std::process::id()).unwrap();
        // Only where there is none at all.
        let Some(file) = watch(own) else { return assert!(!Path::new(MACHINE).exists()) };
        for trigger in TRIGGERS {
            assert_eq!(rustix::io::write(&file, trigger), Err(rustix::io::Errno::BUSY));
        }
    }
}
