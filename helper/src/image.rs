//! An image file becomes a loop device; the same part of the same file always the same one.
//!
//! A lock on the file goes with the loop device for its life (design: two loop devices on one file
//! would be two servers on one file system). It is exclusive; for a read-only mount it becomes shared
//! once the device is set up: other readers that lock are welcome.
//! Two helpers that set up at the same moment nevertheless both look again afterwards; whoever
//! sees a second device gives its own back.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::policy::LoopRange;
use crate::report::{Explain, Failure};
use crate::sys::ioctl::is_write_protected;
use crate::sys::loops::{self, Backing, LoopDevice};
use crate::sys::open::Pinned;

/// How long someone else's set-up may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// After this, a lock with no loop device behind it is a reader's of another program.
const SETTLED: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);

const NO_LOOP: &str =
    "no loop device to be had here; without one, use: fuse4fs IMAGE DIR (see fuse4fs --help)";

/// The loop device for `range` of `image`: the one that exists, or a new one.
pub(crate) fn attach(
    image: &Pinned,
    range: LoopRange,
    read_only: bool,
) -> Result<LoopDevice, Failure> {
    let backing = Backing {
        device: image.stat().st_dev,
        inode: image.stat().st_ino,
        offset: range.offset,
        sizelimit: range.sizelimit,
    };
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // A descriptor of its own for each try, so that a lock given back is really gone.
        let mode = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let file = image.open(mode).or_mount_failure("cannot open the image")?;
        let settled = start.elapsed() >= SETTLED;
        let locked = lock(&file, settled && read_only)?;
        match find(&backing)? {
            Found::Same(device) => return usable(device, read_only),
            // Someone else's set-up may take its device back.
            Found::Overlap(_) if locked == Locked::Not && !settled => {}
            Found::Overlap(path) => return Err(overlap(&path)),
            Found::Nothing if locked == Locked::Not => {}
            Found::Nothing => {
                if let Some(device) = set_up(file, &backing, read_only)? {
                    return Ok(device);
                }
            }
        }
        sleep(PAUSE);
    }
    Err(Failure::mount("the image is in use: another program has locked it; see lslocks(8)"))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    Not,
    /// Alone, or among readers.
    Yes,
}

/// Locks alone, or if need be with others that only read.
fn lock(file: &OwnedFd, shared_will_do: bool) -> Result<Locked, Failure> {
    let operations: &[_] = if shared_will_do {
        &[FlockOperation::NonBlockingLockExclusive, FlockOperation::NonBlockingLockShared]
    } else {
        &[FlockOperation::NonBlockingLockExclusive]
    };
    for operation in operations {
        match flock(file, *operation) {
            Ok(()) => return Ok(Locked::Yes),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).or_mount_failure("cannot lock the image"),
        }
    }
    Ok(Locked::Not)
}

/// A device that exists, if it does for this mount.
fn usable(device: LoopDevice, read_only: bool) -> Result<LoopDevice, Failure> {
    let protected =
        is_write_protected(&device.fd).or_mount_failure("cannot look at the loop device")?;
    if read_only || !protected {
        return Ok(device);
    }
    Err(Failure::mount(format!(
        "the image is in use read-only by {}; add -o ro, or detach that first",
        device.path()
    )))
}

enum Found {
    Nothing,
    Same(LoopDevice),
    /// Another part that has bytes in common: its device.
    Overlap(String),
}

fn find(backing: &Backing) -> Result<Found, Failure> {
    let mut found = Found::Nothing;
    for device in devices_of(backing)? {
        match device.backing() {
            Ok(other) if other == *backing => return Ok(Found::Same(device)),
            Ok(other) if other.overlaps(backing) => found = Found::Overlap(device.path()),
            _ => {}
        }
    }
    Ok(found)
}

/// Open loop devices on the same file.
fn devices_of(backing: &Backing) -> Result<Vec<LoopDevice>, Failure> {
    // No sysfs, no way to know: then there is no loop device that we could have made either.
    let numbers = loops::bound().unwrap_or_default();
    let devices = numbers.into_iter().filter_map(|number| loops::open(number).ok());
    let same_file = |device: &LoopDevice| {
        device
            .backing()
            .is_ok_and(|other| (other.device, other.inode) == (backing.device, backing.inode))
    };
    Ok(devices.filter(same_file).collect())
}

/// None: somebody else did it at the same time, or took the free device; try again.
fn set_up(
    file: OwnedFd,
    backing: &Backing,
    read_only: bool,
) -> Result<Option<LoopDevice>, Failure> {
    let device = match loops::configure(file.as_fd(), backing, read_only) {
        Ok(device) => device,
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(None),
        Err(error) if loops::are_missing(&error) => return Err(Failure::mount(NO_LOOP)),
        Err(error) => return Err(error).or_mount_failure("cannot set up a loop device"),
    };
    let alone = devices_of(backing)?
        .iter()
        .filter(|other| other.number != device.number)
        .all(|other| other.backing().is_ok_and(|other| !other.overlaps(backing)));
    if alone && (!read_only || share_lock(&file)) {
        return Ok(Some(device));
    }
    device.clear();
    // Not the same pause as the other one's.
    sleep(PAUSE.saturating_mul(std::process::id() % 16));
    Ok(None)
}

/// Lets other readers in. The change is not atomic, so one of them may be in between.
fn share_lock(file: &OwnedFd) -> bool {
    (0..50).any(|_| {
        let done = flock(file, FlockOperation::NonBlockingLockShared).is_ok();
        if !done {
            sleep(PAUSE);
        }
        done
    })
}

fn overlap(path: &str) -> Failure {
    Failure::mount(format!(
        "the image is in use: {path} shows an overlapping part of it; detach that first"
    ))
}
