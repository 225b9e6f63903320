//! A second mount of a device shares the superblock and the server of the first, as ext4's does.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use crate::policy::Plan;
use crate::report::{Explain, Failure};
use crate::superblock::{self, Created, Device, SUBTYPE};
use crate::sys::child::{self, Ended};
use crate::sys::vfs;

/// Until when to wait, and what ends the wait early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter<'a> {
    pub(crate) interruptions: BorrowedFd<'a>,
    pub(crate) deadline: Instant,
}

/// A mount of the superblock that the device has, once its server answers; None if there is none
/// (any more).
pub(crate) fn mount(
    plan: &Plan,
    device: &Device,
    waiter: &Waiter<'_>,
) -> Result<Option<OwnedFd>, Failure> {
    let Some(mount) = another(plan, device)? else { return Ok(None) };
    // Looked at is a mount of the same superblock: attaching it somewhere uses it up.
    let Some(specimen) = another(plan, device)? else { return Ok(None) };
    superblock::is_on(mount.as_fd(), device)?;
    match ask(waiter, || is_ours(specimen.as_fd()))? {
        Some(true) => drop(specimen),
        Some(false) => {
            return Err(Failure::mount("the device is mounted already, by another program's FUSE"));
        }
        None => return Err(Failure::mount("cannot look at the existing mount of the device")),
    }
    match ask(waiter, || Some(vfs::ask_for_root(mount.as_fd()).is_ok()))? {
        Some(true) => Ok(Some(mount)),
        Some(false) => Ok(None),
        None => Err(Failure::mount(
            "the device is mounted already, but its server does not answer; see its log",
        )),
    }
}

/// A mount, attached nowhere, of the superblock that the device has.
fn another(plan: &Plan, device: &Device) -> Result<Option<OwnedFd>, Failure> {
    let found = {
        let fuse = superblock::open_fuse()?;
        superblock::find(plan, device, &fuse)?
        // Our connection is closed here: should the superblock be a new one, it ends with that.
    };
    let Created::Existing(context) = found else { return Ok(None) };
    context.mount(plan.attributes).or_mount_failure("cannot make the mount").map(Some)
}

/// The answer of `question`, put in a process of its own: only that one hangs when a server does.
/// None when it has none, or not in time.
fn ask(
    waiter: &Waiter<'_>,
    question: impl FnOnce() -> Option<bool>,
) -> Result<Option<bool>, Failure> {
    let job = || match question() {
        Some(answer) => answer.into(),
        None => u8::MAX,
    };
    let ended = child::with_deadline(waiter.deadline, waiter.interruptions, job)
        .or_system_failure("cannot start a process")?;
    match ended {
        Ended::With(answer @ 0..=1) => Ok(Some(answer == 1)),
        Ended::With(_) | Ended::Late => Ok(None),
        Ended::Interrupted => Err(Failure::interrupted()),
    }
}

/// Attaches the mount in a mount namespace of its own, which shows whose it is wherever else it is
/// attached. Quick, since that namespace keeps every mount of the machine busy while it lives.
fn is_ours(mount: BorrowedFd<'_>) -> Option<bool> {
    vfs::attach_privately(mount).ok()?;
    let (_, _, id) = vfs::device_and_mount_id(mount).ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id.to_string()))?;
    Some(fs_type(line)? == format!("fuseblk.{SUBTYPE}"))
}

/// The file system type in a line of mountinfo, proc_pid_mountinfo(5).
pub(crate) fn fs_type(line: &str) -> Option<&str> {
    line.split_once(" - ")?.1.split(' ').next()
}
