//! A mount by root, in the order that leaves nothing to chance:
//! decide; greet a server; make the superblock, which claims the device; hand over descriptors;
//! wait for "serving"; attach last.
//!
//! Each value here undoes its part when dropped, so every way out but success leaves nothing.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuse4fs_protocol::{EngineOptions, MountRequest, ServingOptions, Text};
use rustix::fs::{FileType, OFlags};

use crate::args::Invocation;
use crate::claim::{Claim, Claimed};
use crate::connect;
use crate::facts;
use crate::handover::Handover;
use crate::image;
use crate::memory;
use crate::notify::Notifier;
use crate::options::Options;
use crate::policy::{self, Facts, Plan};
use crate::progress::Progress;
use crate::remount;
use crate::report::{Explain, Failure, Reporter, plain};
use crate::session::{Greeted, Session};
use crate::share::{self, Found, Shared};
use crate::source::{self, Journal};
use crate::spawn::{Privilege, Start};
use crate::superblock::{Claimant, Device};
use crate::sys::open::Pinned;
use crate::sys::{child, signal, vfs};
use crate::tune;
use crate::waiter::Waiter;

/// How long a device may stay busy before that is the answer: someone may be just letting go of it.
const BUSY_PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(20);
/// For a read-write mount that the server does not write.
pub(crate) const TIGHTENED: &str = "WARNING: mounted read-only, since the server does not write this file system; its log says why";
const NO_WAITING: &str = "the kernel keeps mounted devices from being written (bdev_allow_write_mounted); \
    mounted as type fuse, so umount(8) does not wait until everything is written";

/// Mounts, or changes a mount with `-o remount`.
pub(crate) fn run(invocation: &Invocation, reporter: &Reporter) -> Result<(), Failure> {
    let options = Options::parse(&invocation.options, invocation.sloppy)?;
    // Before anything else, so that no later rename can redirect the mount.
    let target = pin_target(&invocation.target)?;
    if options.remount {
        return remount::run(&options, target.as_fd(), invocation.fake);
    }
    let path = source::resolve(&invocation.source)?;
    let pinned = source::pin(&path)?;
    let facts = Facts {
        source: source::kind(&pinned),
        target_is_directory: FileType::from_raw_mode(target.stat().st_mode) == FileType::Directory,
        kernel: facts::kernel_version(),
        write_protected: options.read_only != Some(true) && source::is_write_protected(&pinned),
        io_uring: facts::io_uring(options.serving.io_uring),
        selinux: facts::selinux(),
    };
    let plan = policy::decide(&options, &facts)?;
    let shown = invocation.source.to_string_lossy().into_owned();
    if let Some(hint) = plan.hint {
        reporter.verbose(&shown, hint);
    }
    let journal = plan.journal.as_deref().map(Journal::pin).transpose()?;
    let job = Job {
        plan,
        options: &options,
        path,
        pinned,
        target,
        journal,
        interruptions: signal::interruptions().or_system_failure("cannot wait for signals")?,
        shown,
        reporter,
    };
    if !invocation.fake {
        job.mount()?;
    }
    if job.plan.write_protected {
        reporter.write_protected(&job.shown);
    }
    Ok(())
}

/// A decided mount with everything that was opened for it.
struct Job<'a> {
    plan: Plan,
    options: &'a Options,
    path: PathBuf,
    pinned: Pinned,
    target: Pinned,
    journal: Option<Journal>,
    interruptions: OwnedFd,
    /// The source as typed, for messages.
    shown: String,
    reporter: &'a Reporter,
}

/// How one try went.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    Mounted,
    /// What was in the way is gone.
    Again,
    Busy(Busy),
}

/// Why a device cannot be mounted as long as that lasts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    InUse,
    /// By a mount whose server answers no more.
    Ended,
}

impl Job<'_> {
    fn mount(&self) -> Result<(), Failure> {
        let connections =
            vfs::Connections::open().or_mount_failure("cannot use the FUSE control file system")?;
        let start = Instant::now();
        let mut busy: Option<(Busy, Instant)> = None;
        while start.elapsed() < self.options.server_timeout {
            let device = self.device()?;
            let attempt = if connections.exist(device.major, device.minor) {
                self.share(&device, start)?
            } else {
                self.serve(&device, &connections)?
            };
            busy = match (attempt, busy) {
                (Attempt::Mounted, _) => return Ok(()),
                (Attempt::Again, _) => None,
                (Attempt::Busy(why), Some((before, since))) if why == before => {
                    if since.elapsed() >= BUSY_PATIENCE {
                        return Err(why.failure());
                    }
                    busy
                }
                (Attempt::Busy(why), _) => Some((why, Instant::now())),
            };
            drop(device);
            self.pause()?;
        }
        Err(Busy::InUse.failure())
    }

    /// The block device to mount: the source, or a loop device on it.
    fn device(&self) -> Result<Device, Failure> {
        if let Some(range) = self.plan.image {
            let device = image::attach(&self.pinned, range, self.plan.read_only)?;
            let path = PathBuf::from(device.path());
            return Device::new(device.fd, path);
        }
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let fd = self.pinned.open(flags).or_mount_failure("cannot open the device")?;
        Device::new(fd, self.path.clone())
    }

    /// A further mount of a superblock that has a server already.
    fn share(&self, device: &Device, start: Instant) -> Result<Attempt, Failure> {
        let waiter = self.waiter(start);
        let Shared { mount, tightened } = match share::mount(&self.plan, device, &waiter)? {
            Found::Mount(shared) => shared,
            Found::Nothing => return Ok(Attempt::Again),
            Found::Ended => return Ok(Attempt::Busy(Busy::Ended)),
        };
        vfs::attach(mount.as_fd(), self.target.as_fd())
            .or_mount_failure("cannot attach the mount to the directory")?;
        if tightened {
            self.reporter.line(&self.shown, TIGHTENED);
        }
        Ok(Attempt::Mounted)
    }

    /// Waits as long after `begin` as a server is waited for.
    fn waiter(&self, begin: Instant) -> Waiter<'_> {
        let deadline = begin.checked_add(self.options.server_timeout).unwrap_or(begin);
        let told = (self.reporter, self.shown.as_str());
        Waiter { interruptions: self.interruptions.as_fd(), deadline, told }
    }

    /// A mount with a server of its own.
    fn serve(&self, device: &Device, connections: &vfs::Connections) -> Result<Attempt, Failure> {
        let session = self.greet()?;
        let server_pid = session.state.server_pid;
        let journal = self.journal.as_ref();
        let claim = Claim { plan: &self.plan, device, journal, connections };
        let Some(Claimed { unattached, mut handover, claimant }) = claim.make()? else {
            return Ok(Attempt::Busy(Busy::InUse));
        };
        if claimant == Claimant::Descriptor {
            self.reporter.verbose(&self.shown, NO_WAITING);
        }
        handover.add_memory_pressure(server_pid);
        if session.state.is_group {
            handover.add_load();
        }
        let notifier = Notifier::new(&session);
        let place = format!("{} at {}", device.name, self.target.path().display());
        notifier.status(&format!("mounting {place}"));
        let request = self.request(&handover, device, server_pid)?;
        let session = session.request(request, &handover.fds())?;
        // From here on only the server holds the connection: if it dies, the kernel sees it.
        drop(handover);
        let mut progress = Progress::new(self.reporter, &self.shown, Some(&notifier));
        let session = session.verdict(|phase, done, total| progress.hear(phase, done, total))?;
        drop(progress);
        tune::bdi(&unattached.bdi(), &self.plan.tuning, server_pid);
        if session.state.tightened {
            unattached.make_read_only()?;
        }
        unattached.expect_answer(&self.waiter(Instant::now()))?;
        unattached.attach(self.target.as_fd())?;
        notifier.ready(&format!("serving {place}"));
        if session.state.tightened {
            self.reporter.line(&self.shown, TIGHTENED);
        }
        session.leave();
        Ok(Attempt::Mounted)
    }

    fn greet(&self) -> Result<Session<Greeted>, Failure> {
        let start = Start {
            privilege: Privilege::Root,
            log: self.options.log.as_deref(),
            log_to_stderr: false,
        };
        let contact = connect::reach(&self.options.server, &start)?;
        self.reporter.verbose(&self.shown, &format!("server by {}", contact.origin));
        let interruptions =
            self.interruptions.try_clone().or_system_failure("cannot wait for signals")?;
        Session::new(contact, interruptions, self.options.server_timeout).greet()
    }

    fn request(
        &self,
        handover: &Handover,
        device: &Device,
        server_pid: i32,
    ) -> Result<MountRequest, Failure> {
        Ok(MountRequest {
            fds: handover.roles()?,
            device_name: Text::lossy(&device.name),
            server_pid: server_pid.cast_unsigned(),
            read_only: self.plan.read_only,
            request_timeout: self.plan.request_timeout,
            log_level: self.plan.log_level,
            serving: ServingOptions {
                cpus: facts::cpus(),
                cache: memory::cache(self.options.cache, server_pid),
                ..self.plan.serving.clone()
            },
            engine: EngineOptions {
                mount_point: Text::lossy(&self.target.path().to_string_lossy()),
                ..self.plan.engine.clone()
            },
        })
    }

    fn pause(&self) -> Result<(), Failure> {
        let deadline = Instant::now().checked_add(PAUSE).unwrap_or_else(Instant::now);
        match child::wait_readable(&[self.interruptions.as_fd()], deadline) {
            Ok(None) => Ok(()),
            _ => Err(Failure::interrupted()),
        }
    }
}

impl Busy {
    fn failure(self) -> Failure {
        Failure::mount(match self {
            Self::InUse => {
                "the device is in use: mounted, or opened by mkfs, fsck or a volume manager"
            }
            Self::Ended => {
                "the device is mounted already, but its server has ended; unmount it first"
            }
        })
    }
}

fn pin_target(path: &Path) -> Result<Pinned, Failure> {
    Pinned::at(path).map_err(|error| {
        Failure::mount(format!(
            "mount point {}: {}; name an existing directory",
            path.display(),
            plain(&error)
        ))
    })
}
