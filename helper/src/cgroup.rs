//! Control groups of a process that are about memory, in the hierarchy of version 2 and in that of version 1.
//!
//! Source: cgroups(7), proc_pid_mountinfo(5), Documentation/admin-guide/cgroup-v2.rst

use std::fs;
use std::path::{Path, PathBuf};

/// A hierarchy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// That of the memory controller alone, or with others.
    One,
    /// That of all controllers that are in none of version 1.
    Two,
}

impl Version {
    /// Whether a mount of this type, with these options, is of it.
    fn is_mounted_as(self, file_system: &str) -> bool {
        match self {
            Self::One => {
                file_system.starts_with("cgroup ")
                    && file_system.split([' ', ',']).any(|word| word == "memory")
            }
            Self::Two => file_system.starts_with("cgroup2 "),
        }
    }

    /// The path in a line of /proc/PID/cgroup that is of it.
    fn path(self, line: &str) -> Option<&Path> {
        let [number, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else {
            return None;
        };
        let is_it = match self {
            Self::One => controllers.split(',').any(|name| name == "memory"),
            Self::Two => number == "0",
        };
        is_it.then_some(Path::new(path))
    }

    fn limit(self) -> &'static str {
        match self {
            Self::One => "memory.limit_in_bytes",
            Self::Two => "memory.max",
        }
    }
}

/// The directory of a process's group, and those of the groups around it as far as they are seen here;
/// that of the group itself comes first. None for one that is not seen.
pub(crate) fn directories(pid: i32, version: Version) -> Vec<PathBuf> {
    find(&mounts(), &memberships(&pid.to_string()), version)
}

/// Whether a process is in the groups that we are in.
pub(crate) fn are_shared_with(pid: i32) -> bool {
    memberships(&pid.to_string()) == memberships("self")
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

fn memberships(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap_or_default()
}

/// The least of what groups limit a process's memory to, in bytes.
pub(crate) fn memory_limit(pid: i32) -> Option<u64> {
    let (mounts, memberships) = (mounts(), memberships(&pid.to_string()));
    let limits = [Version::One, Version::Two].map(|version| {
        let groups = find(&mounts, &memberships, version).into_iter();
        let files = groups.map(|group| group.join(version.limit()));
        files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
    });
    limits.into_iter().flatten().min()
}

fn find(mounts: &str, memberships: &str, version: Version) -> Vec<PathBuf> {
    let Some(path) = memberships.lines().find_map(|line| version.path(line)) else {
        return Vec::new();
    };
    let found = mounts.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let [_, _, _, root, directory, ..] = mount.split(' ').collect::<Vec<_>>()[..] else {
            return None;
        };
        // A name with a backslash has an octal number for a space or the like.
        let is_it = version.is_mounted_as(file_system) && !directory.contains('\\');
        let inside = path.strip_prefix(root).ok().filter(|_| is_it)?;
        // One outside of our cgroup namespace.
        let leads_out = inside.components().any(|part| part.as_os_str() == "..");
        let directory = Path::new(directory);
        (!leads_out).then(|| inside.ancestors().map(|group| directory.join(group)).collect())
    });
    found.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n\
        34 31 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
    const PART: &str = "31 23 0:28 /box /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
    const GROUPS: &str = "7:cpu,cpuacct:/b\n4:memory:/a\n0::/box/x.service\n";

    #[test]
    fn groups_are_found_in_both_hierarchies_with_those_around_them() {
        let found = |mounts, groups, version| {
            let found = find(mounts, groups, version);
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        let (one, two) = (Version::One, Version::Two);
        let service = "/sys/fs/cgroup/box/x.service /sys/fs/cgroup/box /sys/fs/cgroup/".to_owned();
        assert_eq!(found(ALONE, GROUPS, two), service);
        assert_eq!(found(ALONE, GROUPS, one), "");
        assert_eq!(found(HYBRID, GROUPS, one), "/sys/fs/cgroup/memory/a /sys/fs/cgroup/memory/");
        let service = service.replace("cgroup/", "cgroup/unified/");
        assert_eq!(found(HYBRID, GROUPS, two), service);
        // As a container has it without a namespace for groups.
        assert_eq!(found(PART, GROUPS, two), "/sys/fs/cgroup/x.service /sys/fs/cgroup/");
        assert_eq!(found(PART, "0::/other\n", two), "");
        assert_eq!(found(ALONE, "0::/\n", two), "/sys/fs/cgroup/");
        for junk in ["", "0::/../other\n", "0::", "memory", "4:memory:/a"] {
            assert_eq!(found(ALONE, junk, two), "", "{junk}");
        }
        assert_eq!(found("junk\n31 - cgroup2 \n", GROUPS, two), "");
    }

    #[test]
    fn whoever_runs_this_is_in_some_group() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(memory_limit(own).is_none_or(|limit| limit > 0));
        assert!(are_shared_with(own));
        assert_eq!(memory_limit(-1), None);
    }
}
