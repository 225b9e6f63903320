//! `-o remount`: an existing mount changes; mount(8) leaves this to the helper.
//!
//! FUSE does not tell a server that its mount turned read-only or read-write, so this does, by an
//! ioctl on the root. mount(2) sends SYNCFS before it makes a superblock read-only.

use std::fs;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;

use crate::options::Options;
use crate::policy::{self, RemountPlan, Told};
use crate::report::{Explain, Failure, plain};
use crate::share::fs_type;
use crate::superblock::SUBTYPE;
use crate::sys::{ioctl, vfs};

/// Changes the mount whose root is `target`.
pub(crate) fn run(options: &Options, target: BorrowedFd<'_>, fake: bool) -> Result<(), Failure> {
    let (_, _, id) = vfs::device_and_mount_id(target).or_mount_failure("cannot look at it")?;
    let table =
        fs::read_to_string("/proc/self/mountinfo").or_mount_failure("cannot list mounts")?;
    let ours = table
        .lines()
        .filter(|line| line.split(' ').next() == Some(&id.to_string()))
        .find(|line| fs_type(line).is_some_and(|name| name.split('.').nth(1) == Some(SUBTYPE)));
    let Some(line) = ours else {
        return Err(Failure::mount("cannot be remounted: no fuse4fs is mounted at the directory"));
    };
    let plan = policy::decide_remount(options, is_read_only(line));
    if fake { Ok(()) } else { apply(plan, target) }
}

fn apply(plan: RemountPlan, target: BorrowedFd<'_>) -> Result<(), Failure> {
    if plan.server == Told::ReadWrite {
        ioctl::set_read_only(target, false).map_err(|error| {
            match Errno::from_io_error(&error) {
                Some(Errno::ROFS | Errno::NOTTY) => Failure::mount(
                    "cannot be remounted read-write: its server can only read the device; \
                 unmount it, and mount it again",
                ),
                _ => Failure::mount(format!("cannot be remounted read-write: {}", plain(&error))),
            }
        })?;
    }
    vfs::remount(target, plan.flags).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => Failure::mount("is busy: files on it are open for writing"),
        _ => Failure::mount(format!("cannot change the mount: {}", plain(&error))),
    })?;
    if plan.server == Told::ReadOnly {
        match ioctl::set_read_only(target, true) {
            // One that does not know this has nothing to do for it after SYNCFS.
            Err(error) if Errno::from_io_error(&error) != Some(Errno::NOTTY) => {
                return Err(Failure::mount(format!(
                    "is read-only now, but its server could not finish: {}; see its log",
                    plain(&error)
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a line of mountinfo shows a mount that nobody can write, by its own flag or by that of its
/// superblock. Source: proc_pid_mountinfo(5).
fn is_read_only(line: &str) -> bool {
    let has_ro =
        |options: Option<&str>| options.is_some_and(|it| it.split(',').any(|it| it == "ro"));
    let of_superblock = line.split_once(" - ").and_then(|(_, rest)| rest.split(' ').nth(2));
    has_ro(line.split(' ').nth(5)) || has_ro(of_superblock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_only_by_its_own_flag_or_by_its_superblocks() {
        for (mount, superblock, expected) in [
            ("rw,relatime", "rw,user_id=0", false),
            ("ro,relatime", "rw,user_id=0", true),
            ("rw,relatime", "ro,user_id=0", true),
            ("rw,nosuid", "rw,errors=remount-ro", false),
        ] {
            let line = format!(
                "36 35 7:0 / /mnt\\040ro {mount} shared:1 - fuseblk.fuse4fs /dev/ro {superblock}"
            );
            assert_eq!(is_read_only(&line), expected, "{line}");
        }
    }
}
