//! Whether a server may be in the scheduler's idle class.
//!
//! A thread of that class does not make a CPU busy: whom it wakes stays on the CPU where it asked, which
//! it gets at once. The others send it to a CPU that sleeps, and to wake that one takes longer than
//! most answers. But the class has next to no share of a CPU that others want, so it is only for a
//! server whose tasks are a group by themselves: groups share a CPU alike, whatever is in them.
//! Source: sched(7), "The autogroup feature" and "SCHED_IDLE"; cgroups(7).

use std::fs;
use std::path::Path;

const CGROUPS: &str = "/sys/fs/cgroup";

/// Whether a process that begins a session is a group by itself: then the kernel makes one of each
/// session, and control groups don't do it in its place.
pub(crate) fn session_is_group() -> bool {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    read(Path::new("/proc/sys/kernel/sched_autogroup_enabled")).trim() == "1"
        && is_in_root_group(&read(Path::new("/proc/self/cgroup")), &|name| {
            fs::read_to_string(Path::new(CGROUPS).join(name)).ok()
        })
}

/// Whether a process is in the control group of CPUs that has no parent, going by its /proc/PID/cgroup. In
/// a container a path may begin further down, but only the real root has, or lacks, some files.
fn is_in_root_group(memberships: &str, read: &dyn Fn(&str) -> Option<String>) -> bool {
    let has_cpu = |list: &str, separator| list.trim().split(separator).any(|name| name == "cpu");
    let mut lines = memberships.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    if let Some((_, path)) = lines.clone().find(|(controllers, _)| has_cpu(controllers, ',')) {
        return path == "/" && read("cpu/release_agent").is_some();
    }
    let Some((_, path)) = lines.find(|(controllers, _)| controllers.is_empty()) else {
        // No control groups at all.
        return true;
    };
    let is_real = read("cgroup.controllers").is_some() && read("cgroup.type").is_none();
    let splits = read("cgroup.subtree_control").is_some_and(|list| has_cpu(&list, ' '));
    is_real && (path == "/" || !splits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_root(memberships: &str, files: &[(&str, &str)]) -> bool {
        is_in_root_group(memberships, &|name| {
            let file = files.iter().find(|(file, _)| *file == name);
            file.map(|(_, content)| (*content).to_owned())
        })
    }

    #[test]
    fn the_root_of_version_1_has_a_release_agent() {
        let agent = [("cpu/release_agent", "")];
        assert!(is_root("3:cpu,cpuacct:/\n2:memory:/x\n0::/y\n", &agent));
        assert!(!is_root("3:cpu,cpuacct:/\n", &[]));
        assert!(!is_root("3:cpu:/user.slice\n", &agent));
        assert!(!is_root("4:cpuset:/\n3:cpu:/a:b\n", &agent));
    }

    #[test]
    fn version_2_has_groups_of_cpus_where_the_root_hands_them_out() {
        let (controllers, with, without) = (
            ("cgroup.controllers", "cpuset cpu io\n"),
            ("cgroup.subtree_control", "cpu io\n"),
            ("cgroup.subtree_control", "cpuset io\n"),
        );
        assert!(is_root("0::/\n", &[controllers, with]));
        assert!(!is_root("0::/user.slice\n", &[controllers, with]));
        assert!(is_root("0::/user.slice\n", &[controllers, without]));
        assert!(!is_root("0::/\n", &[controllers, with, ("cgroup.type", "domain\n")]));
        assert!(!is_root("0::/\n", &[]));
    }

    #[test]
    fn without_control_groups_there_is_but_one() {
        assert!(is_root("", &[]));
    }
}
