//! An image file becomes a loop device; the same part of the same file always the same one.
//!
//! A lock on the file goes with the loop device for its life (design: two loop devices on one file
//! would be two servers on one file system). Exclusive while the device is set up, shared from
//! then on, since the mount only reads: other readers that lock are welcome.
//! Two helpers that set up at the same moment nevertheless both look again afterwards; whoever
//! sees a second device gives its own back.

use std::os::fd::{AsFd, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::policy::LoopRange;
use crate::report::{Explain, Failure};
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
pub(crate) fn attach(image: &Pinned, range: LoopRange) -> Result<LoopDevice, Failure> {
    let backing = Backing {
        device: image.stat().st_dev,
        inode: image.stat().st_ino,
        offset: range.offset,
        sizelimit: range.sizelimit,
    };
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // A descriptor of its own for each try, so that a lock given back is really gone.
        let file = image.open(OFlags::RDONLY).or_mount_failure("cannot open the image")?;
        let locked = lock(&file, start.elapsed() >= SETTLED)?;
        match find(&backing)? {
            Found::Same(device) => return Ok(device),
            Found::Overlap(_) if locked == Locked::Not => {}
            Found::Overlap(path) => return Err(overlap(&path)),
            Found::Nothing if locked == Locked::Not => {}
            Found::Nothing => {
                if let Some(device) = set_up(file, &backing)? {
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

fn lock(file: &OwnedFd, settled: bool) -> Result<Locked, Failure> {
    let operations: &[_] = if settled {
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
fn set_up(file: OwnedFd, backing: &Backing) -> Result<Option<LoopDevice>, Failure> {
    let device = match loops::configure(file.as_fd(), backing) {
        Ok(device) => device,
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => return Ok(None),
        Err(error) if loops::are_missing(&error) => return Err(Failure::mount(NO_LOOP)),
        Err(error) => return Err(error).or_mount_failure("cannot set up a loop device"),
    };
    let alone = devices_of(backing)?
        .iter()
        .filter(|other| other.number != device.number)
        .all(|other| other.backing().is_ok_and(|other| !other.overlaps(backing)));
    let shared = (0..50).any(|_| {
        let done = flock(&file, FlockOperation::NonBlockingLockShared).is_ok();
        if !done {
            sleep(PAUSE);
        }
        done
    });
    if alone && shared {
        return Ok(Some(device));
    }
    device.clear();
    // Not the same pause as the other one's.
    sleep(PAUSE.saturating_mul(std::process::id() % 16));
    Ok(None)
}

fn overlap(path: &str) -> Failure {
    Failure::mount(format!(
        "the image is in use: {path} shows an overlapping part of it; detach that first"
    ))
}
