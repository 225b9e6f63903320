//! A mount by an ordinary user: the image is opened with the user's own rights, fusermount3
//! mounts, and a server in the same sandbox serves.
//!
//! The mount is of type fuse and so cannot hold a device; umount(2) does not wait for the server.

use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuse4fs_protocol::{EngineOptions, MountRequest, ServingOptions, Text};

use crate::args::Invocation;
use crate::connect;
use crate::facts;
use crate::fusermount;
use crate::handover::Handover;
use crate::memory;
use crate::mount::TIGHTENED;
use crate::options::{Options, ServerChoice};
use crate::policy;
use crate::progress::Progress;
use crate::report::{Explain, Failure, Reporter, plain};
use crate::session::{Greeted, Serving, Session};
use crate::source::{self, Busy, Journal};
use crate::spawn::{Privilege, Start};
use crate::sys::open::Pinned;
use crate::sys::{child, signal};

/// Whether root runs us.
///
/// # Errors
/// Run set-uid: the environment and descriptors would be the caller's, and nothing here expects that.
pub(crate) fn is_root() -> Result<bool, Failure> {
    let (real, effective) = (rustix::process::getuid(), rustix::process::geteuid());
    if real != effective {
        return Err(Failure::usage(
            "must not be installed set-uid; ordinary users need fusermount3",
        ));
    }
    Ok(effective.is_root())
}

/// How a server is to be started by this caller.
pub(crate) fn privilege() -> Result<Privilege, Failure> {
    Ok(if is_root()? { Privilege::Root } else { Privilege::Caller })
}

/// Mounts an image; with `-f` stays until it is unmounted.
pub(crate) fn run(invocation: &Invocation, reporter: &Reporter) -> Result<(), Failure> {
    let options = Options::parse(&invocation.options, invocation.sloppy)?;
    let path = source::resolve(&invocation.source)?;
    let pinned = source::pin(&path)?;
    let uring = facts::io_uring(options.serving.io_uring);
    let hint = policy::decide_user(&options, source::kind(&pinned), uring, invocation.fake)?;
    let shown = invocation.source.to_string_lossy().into_owned();
    if let Some(hint) = hint {
        reporter.verbose(&shown, hint);
    }
    let target = absolute_directory(&invocation.target)?;
    let write_protected = options.read_only != Some(true) && source::is_write_protected(&pinned);
    let read_only = policy::read_only(&options, write_protected);
    let _lock = options.lock_file.as_deref().map(LockFile::make).transpose()?;
    let image = open_image(&pinned, read_only)?;
    let mut handover = Handover::of_image(image);
    if let Some(path) = &options.journal_path {
        handover.add_journal(Journal::pin(path)?.open(read_only)?);
    }
    let interruptions = signal::interruptions().or_system_failure("cannot wait for signals")?;
    let session = greet(&options, invocation.fake, &interruptions)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (options, target, shown) = (&options, target.as_path(), shown.as_str());
    let job = Job { options, name, read_only, handover, target, shown, reporter };
    let session = job.mount(session)?;
    if write_protected {
        reporter.write_protected(shown);
    } else if session.state.tightened {
        reporter.line(shown, TIGHTENED);
    }
    let server = session.leave();
    if invocation.fake {
        wait_for_unmount(server, &interruptions, target)?;
    }
    Ok(())
}

/// A file that says that an image is in use, as fuse2fs makes it; it goes with this.
struct LockFile<'a>(&'a Path);

impl<'a> LockFile<'a> {
    fn make(path: &'a Path) -> Result<Self, Failure> {
        let what = path.display();
        match OpenOptions::new().write(true).create_new(true).mode(0o400).open(path) {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::mount(format!(
                "the lock file {what} is there: somebody else has the image, or left the file behind"
            ))),
            Err(error) => Err(Failure::mount(format!("lock file {what}: {}", plain(&error)))),
        }
    }
}

impl Drop for LockFile<'_> {
    fn drop(&mut self) {
        // Whoever has taken it away meanwhile wanted that.
        let _ = fs::remove_file(self.0);
    }
}

fn greet(
    options: &Options,
    foreground: bool,
    interruptions: &OwnedFd,
) -> Result<Session<Greeted>, Failure> {
    let choice = match &options.server {
        // systemd's socket is for mounts by root.
        ServerChoice::Any => &ServerChoice::Spawn(None),
        choice => choice,
    };
    let start =
        Start { privilege: privilege()?, log: options.log.as_deref(), log_to_stderr: foreground };
    let contact = connect::reach(choice, &start)?;
    let interruptions = interruptions.try_clone().or_system_failure("cannot wait for signals")?;
    Session::new(contact, interruptions, options.server_timeout).greet()
}

struct Job<'a> {
    options: &'a Options,
    /// Of the image, for log lines.
    name: String,
    read_only: bool,
    handover: Handover,
    target: &'a Path,
    /// The image as typed, for messages.
    shown: &'a str,
    reporter: &'a Reporter,
}

impl Job<'_> {
    fn mount(self, session: Session<Greeted>) -> Result<Session<Serving>, Failure> {
        let words =
            policy::fusermount_options(self.options, self.shown, self.read_only, is_root()?);
        let fuse = fusermount::mount(&words, self.target)?;
        let target = self.target;
        let served = self.serve(fuse, session);
        if served.is_err() {
            fusermount::unmount(target, true);
        }
        served
    }

    fn serve(
        mut self,
        fuse: OwnedFd,
        session: Session<Greeted>,
    ) -> Result<Session<Serving>, Failure> {
        self.handover.add_connection(fuse, self.options.serving.threads)?;
        self.handover.add_memory_pressure(session.state.server_pid);
        if session.state.is_group {
            self.handover.add_load();
        }
        let request = MountRequest {
            fds: self.handover.roles()?,
            device_name: Text::lossy(&self.name),
            server_pid: session.state.server_pid.cast_unsigned(),
            read_only: self.read_only,
            request_timeout: self.options.request_timeout,
            log_level: self.options.log_level,
            serving: ServingOptions {
                cpus: facts::cpus(),
                cache: memory::cache(self.options.cache, session.state.server_pid),
                ..self.options.serving.clone()
            },
            engine: EngineOptions {
                mount_point: Text::lossy(&self.target.to_string_lossy()),
                ..policy::engine_of_user(self.options)
            },
        };
        let session = session.request(request, &self.handover.fds())?;
        // From here on only the server holds the connection: if it dies, the kernel sees it.
        let mut progress = Progress::new(self.reporter, self.shown, None);
        drop(self.handover);
        session.verdict(|phase, done, total| progress.hear(phase, done, total))
    }
}

/// The image with the caller's rights.
fn open_image(pinned: &Pinned, read_only: bool) -> Result<OwnedFd, Failure> {
    source::open_alone(pinned, read_only).map_err(|busy| match busy {
        Busy::Claimed => Failure::mount("the device is in use: mounted, or opened by mkfs or fsck"),
        Busy::Locked => {
            Failure::mount("the image is in use: another program has locked it; see lslocks(8)")
        }
        Busy::Other(error) => Failure::mount(format!("cannot open it: {}", plain(&error))),
    })
}

fn absolute_directory(target: &Path) -> Result<PathBuf, Failure> {
    let what = format!("mount point {}", target.display());
    let path = target.canonicalize().or_mount_failure(&what)?;
    if !path.is_dir() {
        return Err(Failure::mount(format!("{what} is not a directory; name an existing one")));
    }
    Ok(path)
}

/// The server goes when the mount goes; an interruption unmounts.
fn wait_for_unmount(
    server: Option<OwnedFd>,
    interruptions: &OwnedFd,
    target: &Path,
) -> Result<(), Failure> {
    let Some(server) = server else { return Ok(()) };
    let far = Instant::now().checked_add(Duration::from_secs(u32::MAX.into()));
    let far = far.ok_or_else(|| Failure::system("the clock is at its end"))?;
    let ready = child::wait_readable(&[server.as_fd(), interruptions.as_fd()], far);
    if ready.or_system_failure("cannot wait for the server")? == Some(1) {
        fusermount::unmount(target, false);
        let _ = child::has_ended(&server, far);
    }
    child::reap(server.as_fd());
    Ok(())
}
