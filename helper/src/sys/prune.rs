//! Takes out of a new mount namespace what a program does not need to start.
//!
//! A mount namespace begins with a copy of every mount, and one of a lesser user namespace can
//! never let go of a copy (mount_namespaces(7), "locked together"): the server would keep every
//! file system of the machine busy for as long as it runs, even after it has left that root.
//! So this happens before the user namespace is made.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::mount::{MountPropagationFlags as Propagation, UnmountFlags};

use crate::mounts::unescape;

/// Leaves the root, /proc, /dev and the mounts that hold the dynamic linker and the C library: those
/// that this very program was started from.
///
/// # Errors
/// No /proc, or no right to change the mount namespace.
pub(crate) fn forget_mounts() -> io::Result<()> {
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC)?;
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts: Vec<(u64, PathBuf)> = table.lines().filter_map(id_and_point).collect();
    let needed = needed_ids()?;
    let kept: Vec<&PathBuf> =
        mounts.iter().filter(|(id, _)| needed.contains(id)).map(|(_, point)| point).collect();
    // The last ones lie on top of the first ones.
    for (_, point) in mounts.iter().rev() {
        if !kept.iter().any(|kept| kept.starts_with(point)) {
            // One that cannot be let go of stays; that is the machine's business.
            let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
            let _ = rustix::mount::unmount(point, flags);
        }
    }
    Ok(())
}

/// What a program may look at while it starts. Kernel's own, so nobody misses them.
const VIRTUAL: [&str; 2] = ["/proc", "/dev"];

/// Ids of the mounts of all files that are mapped into this process, of the root, and of [`VIRTUAL`].
fn needed_ids() -> io::Result<Vec<u64>> {
    let maps = fs::read_to_string("/proc/self/maps")?;
    let files = maps.lines().filter_map(|line| line.find('/').and_then(|start| line.get(start..)));
    Ok(files.chain(["/"]).chain(VIRTUAL).filter_map(|file| mount_id(Path::new(file))).collect())
}

fn mount_id(path: &Path) -> Option<u64> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    Some(rustix::fs::statx(CWD, path, flags, StatxFlags::MNT_ID).ok()?.stx_mnt_id)
}

/// From a line of mountinfo, proc_pid_mountinfo(5).
fn id_and_point(line: &str) -> Option<(u64, PathBuf)> {
    let mut fields = line.split(' ');
    let id = fields.next()?.parse().ok()?;
    let point = unescape(fields.nth(3)?.as_bytes());
    Some((id, PathBuf::from(OsString::from_vec(point))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        let line = r"36 35 98:0 /a /mnt/my\040disk\134x rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(id_and_point(line), Some((36, PathBuf::from(r"/mnt/my disk\x"))));
    }

    #[test]
    fn the_root_is_always_needed() {
        let root = mount_id(Path::new("/")).unwrap();
        assert!(needed_ids().unwrap().contains(&root));
    }
}
