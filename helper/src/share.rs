//! A second mount of a device shares the superblock and the server of the first, as ext4's does.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use crate::policy::Plan;
use crate::report::{Explain, Failure};
use crate::superblock::{self, Created, Device, SUBTYPE};
use crate::sys::{ioctl, vfs};
use crate::waiter::Waiter;

/// What the kernel says of a connection whose server has closed it, or that was aborted.
const HUNG_UP: [i32; 2] = [Errno::NOTCONN.raw_os_error(), Errno::CONNABORTED.raw_os_error()];

/// A further mount, attached nowhere.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) mount: OwnedFd,
    /// It is read-only though it was to be read-write.
    pub(crate) tightened: bool,
}

/// What became of sharing a superblock.
#[derive(Debug)]
pub(crate) enum Found {
    Mount(Shared),
    /// There is none (any more).
    Nothing,
    /// Its connection has ended: it will go, unless somebody has it mounted.
    Ended,
}

/// A mount of the superblock that the device has, once its server answers.
pub(crate) fn mount(plan: &Plan, device: &Device, waiter: &Waiter<'_>) -> Result<Found, Failure> {
    let Some(mount) = another(plan, device)? else { return Ok(Found::Nothing) };
    // Looked at is a mount of the same superblock: attaching it somewhere uses it up.
    let Some(specimen) = another(plan, device)? else { return Ok(Found::Nothing) };
    superblock::is_on(mount.as_fd(), device)?;
    match waiter.ask(|| is_ours(specimen.as_fd()))? {
        Some(true) => drop(specimen),
        Some(false) => {
            return Err(Failure::mount("the device is mounted already, by another program's FUSE"));
        }
        None => return Err(Failure::mount("cannot look at the existing mount of the device")),
    }
    match waiter.ask_for_root(&mount)? {
        Some(errno) if HUNG_UP.contains(&i32::from(errno)) => return Ok(Found::Ended),
        // With an error, perhaps: a root that cannot be read any more is the same by both mounts.
        Some(_) => {}
        None => return Err(silent()),
    }
    let tightened = !plan.read_only && writes_nothing(&mount, waiter)?;
    if tightened {
        vfs::make_read_only(mount.as_fd()).or_mount_failure("cannot make the mount read-only")?;
    }
    Ok(Found::Mount(Shared { mount, tightened }))
}

/// The superblock does not tell what its server said when it was mounted. One that does not say so
/// now either is not believed to write.
fn writes_nothing(mount: &OwnedFd, waiter: &Waiter<'_>) -> Result<bool, Failure> {
    let question = || Some(ioctl::is_read_only(mount.as_fd()).unwrap_or(true));
    waiter.ask(question)?.ok_or_else(silent)
}

fn silent() -> Failure {
    Failure::mount("the device is mounted already, but its server does not answer; see its log")
}

/// A mount, attached nowhere, of the superblock that the device has.
fn another(plan: &Plan, device: &Device) -> Result<Option<OwnedFd>, Failure> {
    match find(plan, device, plan.read_only)? {
        Created::Existing(context) => {
            context.mount(plan.attributes).or_mount_failure("cannot make the mount").map(Some)
        }
        Created::New(_) => Ok(None),
        Created::Busy => match find(plan, device, !plan.read_only)? {
            Created::Existing(_) => Err(mismatch(plan.read_only)),
            Created::New(_) | Created::Busy => Ok(None),
        },
    }
}

fn find(plan: &Plan, device: &Device, read_only: bool) -> Result<Created, Failure> {
    let fuse = superblock::open_fuse()?;
    // Our connection is closed at the end: should the superblock be a new one, it ends with that.
    superblock::find(plan, device, &fuse, read_only)
}

/// A superblock is one or the other, as for the kernel's file systems.
fn mismatch(read_only: bool) -> Failure {
    Failure::mount(if read_only {
        "is in use: mounted read-write already; leave out -o ro, or unmount it first"
    } else {
        "is in use: mounted read-only already; add -o ro, or unmount it first"
    })
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
