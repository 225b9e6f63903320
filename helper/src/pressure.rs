//! Where the server hears that memory is short: `memory.pressure` of its control group, else of the
//! machine, armed before it is passed on.
//!
//! A descriptor takes one trigger and refuses others (EBUSY), and what it may be depends on who opened
//! the file. So we, who may ask for more, write it: the server gets what it can wait on, and cannot make
//! anything else of it.
//! Source: Documentation/accounting/psi.rst; cgroups(7)

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::OFlags;

use crate::sys::open::well_known;

/// The whole machine's.
const MACHINE: &str = "/proc/pressure/memory";

/// That somebody waits for memory for 3 % of the time, told within half a second, which takes
/// CAP_SYS_RESOURCE; without it within 2 s. The kernel overwrites the last byte.
const TRIGGERS: [&[u8]; 2] = [b"some 15000 500000\n", b"some 60000 2000000\n"];

/// The armed file for the server `pid`; `None` where the kernel has no such thing.
pub(crate) fn watch(pid: i32) -> Option<OwnedFd> {
    let group = group(pid).map(|directory| format!("{directory}/memory.pressure"));
    group.as_deref().into_iter().chain([MACHINE]).find_map(armed)
}

fn armed(path: &str) -> Option<OwnedFd> {
    let file = well_known(path, OFlags::RDWR | OFlags::NONBLOCK).ok()?;
    TRIGGERS.iter().any(|trigger| rustix::io::write(&file, trigger).is_ok()).then_some(file)
}

/// Directory of a process's cgroup of version 2, unless that is the root, whose pressure is the machine's.
fn group(pid: i32) -> Option<String> {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let mount = mount_of_version_2(&read("/proc/self/mountinfo".to_owned()))?;
    let memberships = read(format!("/proc/{pid}/cgroup"));
    let path = path_of_version_2(&memberships)?;
    Some(format!("{mount}/{path}"))
}

/// Where all of the hierarchy is mounted: beside those of version 1 on hybrid machines.
fn mount_of_version_2(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let [_, _, _, root, directory, ..] = mount.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        let is_whole = file_system.starts_with("cgroup2 ") && root == "/";
        // A name with a backslash has an octal number for a space or the like.
        (is_whole && !directory.contains('\\')).then(|| directory.to_owned())
    })
}

/// The process's path in it, without the leading slash. That of the root is empty, and one outside of our
/// cgroup namespace begins with `..`.
fn path_of_version_2(memberships: &str) -> Option<&str> {
    let path = memberships.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let leads_out = Path::new(path).components().any(|part| part.as_os_str() == "..");
    (!path.is_empty() && !leads_out).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_2_is_found_alone_and_beside_version_1() {
        let alone = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of_version_2(alone).unwrap(), "/sys/fs/cgroup");
        let hybrid = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
            35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of_version_2(hybrid).unwrap(), "/sys/fs/cgroup/unified");
        let part = "31 23 0:28 /part /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of_version_2(part), None);
        assert_eq!(mount_of_version_2("junk\n31 - cgroup2 \n"), None);
    }

    #[test]
    fn the_root_and_what_is_outside_have_no_path() {
        let membership = "4:memory:/a\n0::/system.slice/x.service\n";
        assert_eq!(path_of_version_2(membership), Some("system.slice/x.service"));
        for none in ["", "0::/\n", "0::/../other\n", "4:memory:/a\n"] {
            assert_eq!(path_of_version_2(none), None);
        }
    }

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
