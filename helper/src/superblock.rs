//! The superblock of a mount: made before the server touches the device, since it holds the
//! exclusive claim on it, and attached nowhere until the server serves.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::policy::{Plan, block_size};
use crate::report::{Explain, Failure, plain};
use crate::sys::child;
use crate::sys::open::well_known;
use crate::sys::vfs::{self, Connections, Context};
use crate::waiter::Waiter;

/// Shown in /proc/mounts as `fuseblk.fuse4fs`.
pub(crate) const SUBTYPE: &str = "fuse4fs";

/// What the kernel says for a server that is gone.
const ENDED: [i32; 2] = [libc::ENOTCONN, libc::ECONNABORTED];

/// An open block device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) fd: OwnedFd,
    /// The source in /proc/mounts.
    pub(crate) path: PathBuf,
    /// The kernel's name, such as `sdb1`.
    pub(crate) name: String,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Logical sector in bytes.
    sector: u32,
}

impl Device {
    pub(crate) fn new(fd: OwnedFd, path: PathBuf) -> Result<Self, Failure> {
        let number = rustix::fs::fstat(&fd).or_mount_failure("cannot look at the device")?.st_rdev;
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let sector = rustix::fs::ioctl_blksszget(&fd).or_mount_failure("not a block device")?;
        let name = kernel_name(major, minor, &path);
        Ok(Self { fd, path, name, major, minor, sector })
    }
}

fn kernel_name(major: u32, minor: u32, path: &Path) -> String {
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    let link = link.as_deref().unwrap_or(path);
    link.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Who keeps others from the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Claimant {
    /// The superblock, of type fuseblk.
    Superblock,
    /// A descriptor with O_EXCL; the superblock, of type fuse, knows no device.
    Descriptor,
}

/// What making a superblock gave.
#[derive(Debug)]
pub(crate) enum Created {
    /// A new one.
    New(Context),
    /// One that exists already and has a connection of its own.
    Existing(Context),
    /// The device is in use by something else.
    Busy,
}

pub(crate) fn open_fuse() -> Result<OwnedFd, Failure> {
    well_known("/dev/fuse", OFlags::RDWR)
        .or_mount_failure("cannot open /dev/fuse (is the fuse module loaded?)")
}

/// Makes a new superblock on the device, with `fuse` as its connection.
pub(crate) fn create(
    plan: &Plan,
    device: &Device,
    fuse: &OwnedFd,
    claimant: Claimant,
) -> Result<Created, Failure> {
    let context = configure(plan, device, fuse, (claimant, plan.read_only))?;
    match context.create_exclusive() {
        Ok(()) => Ok(Created::New(context)),
        Err(Errno::BUSY) => Ok(Created::Busy),
        // Before Linux 6.6 the connection tells afterwards.
        Err(Errno::OPNOTSUPP) => create_or_find(context, fuse),
        Err(error) => Err(refusal(&context, error)),
    }
}

/// A superblock on the device, read-only or not: the one that exists, or a new one. Busy if the one
/// that exists is the other.
pub(crate) fn find(
    plan: &Plan,
    device: &Device,
    fuse: &OwnedFd,
    read_only: bool,
) -> Result<Created, Failure> {
    create_or_find(configure(plan, device, fuse, (Claimant::Superblock, read_only))?, fuse)
}

fn create_or_find(context: Context, fuse: &OwnedFd) -> Result<Created, Failure> {
    match context.create() {
        // A connection that was not used reports an error, a new one has INIT to read.
        Ok(())
            if child::reports_error(fuse.as_fd()).or_mount_failure("cannot poll /dev/fuse")? =>
        {
            Ok(Created::Existing(context))
        }
        Ok(()) => Ok(Created::New(context)),
        Err(Errno::BUSY) => Ok(Created::Busy),
        Err(error) => Err(refusal(&context, error)),
    }
}

/// Type and options of the superblock. `fd` goes as a string: fuse refuses FSCONFIG_SET_FD.
fn configure(
    plan: &Plan,
    device: &Device,
    fuse: &OwnedFd,
    (claimant, read_only): (Claimant, bool),
) -> Result<Context, Failure> {
    let fs_type = match claimant {
        Claimant::Superblock => "fuseblk",
        Claimant::Descriptor => "fuse",
    };
    let context = Context::open(fs_type).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => Failure::mount("mounting is not allowed here; try: fuse4fs IMAGE DIR"),
        Some(libc::ENODEV) => Failure::mount("the kernel has no fuseblk; load the fuse module"),
        _ => Failure::mount(format!("cannot prepare a mount: {}", plain(&error))),
    })?;
    let Some(source) = device.path.to_str() else {
        return Err(Failure::mount("the device's name is not UTF-8; mount it by another name"));
    };
    let number = fuse.as_raw_fd().to_string();
    let size = block_size(device.sector).to_string();
    let ours = [
        ("source", source),
        ("subtype", SUBTYPE),
        ("fd", &number),
        ("rootmode", "40000"),
        ("user_id", "0"),
        ("group_id", "0"),
    ];
    let blocks = (claimant == Claimant::Superblock).then_some(("blksize", size.as_str()));
    let theirs = plan.strings.iter().map(|(key, value)| (*key, value.as_str()));
    for (key, value) in ours.into_iter().chain(blocks).chain(theirs) {
        context.set(key, value).map_err(|error| refused_key(&context, key, &error))?;
    }
    for key in plan.flags.iter().copied().chain(read_only.then_some("ro")) {
        context.flag(key).map_err(|error| refused_key(&context, key, &error))?;
    }
    Ok(context)
}

fn refused_key(context: &Context, key: &str, error: &std::io::Error) -> Failure {
    let words = context.messages();
    let words = if words.is_empty() { plain(error) } else { words };
    Failure::mount(format!("the kernel refuses the mount option '{key}': {words}"))
}

fn refusal(context: &Context, error: Errno) -> Failure {
    let words = match context.messages() {
        words if words.is_empty() => plain(&error.into()),
        words => format!("{}: {words}", plain(&error.into())),
    };
    Failure::mount(format!("the kernel refuses the mount: {words}"))
}

/// A mount that is attached nowhere. Dropped, it goes away without waiting for its server.
#[derive(Debug)]
pub(crate) struct Unattached<'a> {
    // None once it is attached.
    mount: Option<OwnedFd>,
    abort: Abort<'a>,
    claimant: Claimant,
}

/// How to end a connection: the kernel counts them by the superblock's device number.
#[derive(Clone, Copy, Debug)]
struct Abort<'a> {
    connections: &'a Connections,
    major: u32,
    minor: u32,
}

impl Abort<'_> {
    fn now(self) {
        let _ = self.connections.abort(self.major, self.minor);
    }
}

impl<'a> Unattached<'a> {
    pub(crate) fn new(
        context: Context,
        (plan, device): (&Plan, &Device),
        connections: &'a Connections,
        claimant: Claimant,
    ) -> Result<Self, Failure> {
        let mut abort = Abort { connections, major: device.major, minor: device.minor };
        let mount = context.mount(plan.attributes).map_err(|error| {
            if claimant == Claimant::Superblock {
                abort.now();
            }
            Failure::mount(format!("cannot make the mount: {}", plain(&error)))
        })?;
        if claimant == Claimant::Descriptor {
            let number = vfs::device_and_mount_id(mount.as_fd());
            (abort.major, abort.minor, _) = number.or_mount_failure("cannot look at the mount")?;
        }
        let unattached = Self { mount: Some(mount), abort, claimant };
        if claimant == Claimant::Superblock {
            unattached.check_device(device)?;
        }
        Ok(unattached)
    }

    /// The device's name was looked up again by the kernel: it must have led to the same device.
    fn check_device(&self, device: &Device) -> Result<(), Failure> {
        let Some(mount) = &self.mount else { return Ok(()) };
        is_on(mount.as_fd(), device)
    }

    /// The name of its page cache's settings in sysfs, which no other mount has.
    pub(crate) fn bdi(&self) -> String {
        let Abort { major, minor, .. } = self.abort;
        match self.claimant {
            Claimant::Superblock => format!("{major}:{minor}-fuseblk"),
            Claimant::Descriptor => format!("{major}:{minor}"),
        }
    }

    /// The server will not write, so programs shall see that.
    pub(crate) fn make_read_only(&self) -> Result<(), Failure> {
        let Some(mount) = &self.mount else { return Ok(()) };
        vfs::make_read_only(mount.as_fd()).or_mount_failure("cannot make the mount read-only")
    }

    /// Fails unless the server answers. Until it has answered INIT, and has set up the rings that it
    /// promised there, no request of the kernel has a timeout.
    pub(crate) fn expect_answer(&self, waiter: &Waiter<'_>) -> Result<(), Failure> {
        let Some(mount) = &self.mount else { return Ok(()) };
        match waiter.ask_for_root(mount)? {
            Some(0) => Ok(()),
            Some(errno) if ENDED.contains(&i32::from(errno)) => {
                Err(Failure::mount("the server ended; see its log"))
            }
            Some(errno) => {
                let why = plain(&io::Error::from_raw_os_error(errno.into()));
                Err(Failure::mount(format!("the root directory cannot be read: {why}; run e2fsck")))
            }
            None => Err(Failure::mount("the server says that it serves, but does not answer")),
        }
    }

    /// The last step: the mount becomes visible.
    pub(crate) fn attach(mut self, target: BorrowedFd<'_>) -> Result<(), Failure> {
        if let Some(mount) = &self.mount {
            vfs::attach(mount.as_fd(), target)
                .or_mount_failure("cannot attach the mount to the directory")?;
        }
        self.mount = None;
        Ok(())
    }
}

impl Drop for Unattached<'_> {
    fn drop(&mut self) {
        if let Some(mount) = self.mount.take() {
            // First: closing waits for answers of the server, which may never come.
            self.abort.now();
            drop(mount);
        }
    }
}

/// Checks that a mount shows this device and no other.
pub(crate) fn is_on(mount: BorrowedFd<'_>, device: &Device) -> Result<(), Failure> {
    let (major, minor, _) =
        vfs::device_and_mount_id(mount).or_mount_failure("cannot look at the mount")?;
    if (major, minor) != (device.major, device.minor) {
        return Err(Failure::mount("the device was replaced while it was being mounted"));
    }
    Ok(())
}
