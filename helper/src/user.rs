//! A mount by an ordinary user: the image is opened with the user's own rights, fusermount3
//! mounts, and a server in the same sandbox serves.
//!
//! The mount is of type fuse and so cannot hold a device; umount(2) does not wait for the server.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fuse4fs_protocol::{MountRequest, Text};
use rustix::fs::{FlockOperation, OFlags};

use crate::args::Invocation;
use crate::connect;
use crate::fusermount;
use crate::handover::Handover;
use crate::options::{Options, ServerChoice};
use crate::policy::{self, SourceKind};
use crate::report::{Explain, Failure, Reporter};
use crate::session::{Greeted, Session};
use crate::source;
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
    policy::decide_user(&options, source::kind(&pinned))?;
    let target = absolute_directory(&invocation.target)?;
    let image = open_image(&pinned)?;
    let journal = options.journal_path.as_deref().map(source::open_journal).transpose()?;
    let interruptions = signal::interruptions().or_system_failure("cannot wait for signals")?;
    let handover = Handover::of_image(image, journal.as_ref())?;
    let session = greet(&options, invocation.fake, &interruptions)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let job = Job { options: &options, name, handover, target: &target };
    let mounted = job.mount(&invocation.source.to_string_lossy(), session)?;
    if let (_, Some(warning)) = policy::access(&options) {
        reporter.line(&invocation.source.to_string_lossy(), warning);
    }
    if invocation.fake {
        wait_for_unmount(mounted, &interruptions, &target)?;
    }
    Ok(())
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
    handover: Handover,
    target: &'a Path,
}

impl Job<'_> {
    /// Gives the server's pidfd.
    fn mount(self, shown: &str, session: Session<Greeted>) -> Result<Option<OwnedFd>, Failure> {
        let words = policy::fusermount_options(self.options, shown, is_root()?);
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
    ) -> Result<Option<OwnedFd>, Failure> {
        self.handover.add_connection(fuse)?;
        self.handover.add_memory_pressure(session.state.server_pid);
        let request = MountRequest {
            fds: self.handover.roles()?,
            device_name: Text::lossy(&self.name),
            read_only: policy::access(self.options).0,
            request_timeout: self.options.request_timeout,
            log_level: self.options.log_level,
            engine: policy::engine(self.options),
        };
        let session = session.request(request, &self.handover.fds())?;
        // From here on only the server holds the connection: if it dies, the kernel sees it.
        drop(self);
        Ok(session.verdict(|_, _, _| {})?.leave())
    }
}

/// The image with the caller's rights, locked against writers for as long as the server has it.
fn open_image(pinned: &Pinned) -> Result<OwnedFd, Failure> {
    let image = pinned
        .open(OFlags::RDONLY | OFlags::NONBLOCK)
        .or_mount_failure("cannot open it for reading")?;
    if matches!(source::kind(pinned), SourceKind::File { .. })
        && rustix::fs::flock(&image, FlockOperation::NonBlockingLockShared).is_err()
    {
        return Err(Failure::mount(
            "the image is in use: another program writes it; see lslocks(8)",
        ));
    }
    Ok(image)
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
