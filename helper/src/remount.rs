//! `-o remount`: flags of an existing mount change; mount(8) leaves this to the helper.

use std::fs;
use std::os::fd::BorrowedFd;

use crate::options::Options;
use crate::policy;
use crate::report::{Explain, Failure};
use crate::share::fs_type;
use crate::superblock::SUBTYPE;
use crate::sys::vfs;

/// Changes the mount whose root is `target`.
pub(crate) fn run(options: &Options, target: BorrowedFd<'_>, fake: bool) -> Result<(), Failure> {
    let (_, _, id) = vfs::device_and_mount_id(target).or_mount_failure("cannot look at it")?;
    let table =
        fs::read_to_string("/proc/self/mountinfo").or_mount_failure("cannot list mounts")?;
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id.to_string()));
    let ours = line.and_then(fs_type).is_some_and(|name| name.split('.').nth(1) == Some(SUBTYPE));
    if !ours {
        return Err(Failure::mount("cannot be remounted: no fuse4fs is mounted at the directory"));
    }
    let plan = policy::decide_remount(options)?;
    if fake {
        return Ok(());
    }
    vfs::set_attributes(target, plan.set, plan.clear).or_mount_failure("cannot change the mount")
}
