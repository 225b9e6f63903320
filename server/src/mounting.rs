//! From a mount request to a served file system, inside the sandbox.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::{
    Error, Filesystem, Geometry, MountOptions, Notice, Observer, Overhead, Unmountable, probe,
};
use fuse4fs_protocol::{EngineOptions, MountRequest, Phase, RefusalKind};
use parking_lot::Mutex;
use sd_notify::NotifyState;
use thiserror::Error as ThisError;
use tracing::{Level, info, warn};

use crate::device::Device;
use crate::fuse::{Frontend, Settings};
use crate::log::Uuid;
use crate::notices;
use crate::notify::Notifier;
use crate::sandbox::Confined;
use crate::session::{Conversation, Handed, SessionError};
use crate::sys::BlockedSignal;

/// Bytes of metadata that stay in memory.
const CACHE_BYTES: u64 = 8 << 20;
/// The shortest time between two progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// Why nothing is served (any more).
#[derive(Debug, ThisError)]
pub(crate) enum ServeError {
    /// The file system was refused, and the helper told.
    #[error("{device}: {text}")]
    Refused { device: String, text: String },
    /// The helper is gone, so nobody will attach the mount.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The FUSE descriptor failed.
    #[error("serving failed: {0}")]
    Io(#[from] io::Error),
}

/// What threads report to the main one.
enum Event {
    /// The file system is mounted, or not.
    Mounted(Result<(), ServeError>),
    /// A worker has stopped: the kernel has hung up.
    Stopped(io::Result<()>),
}

/// How many threads serve, decided outside of the sandbox, where the CPUs can be counted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workers(usize);

impl Workers {
    /// One for each CPU; two at least, so that one slow read does not hold up everything, and
    /// eight at most, as more of them wait for each other.
    pub(crate) fn for_this_machine() -> Self {
        Self(thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
    }
}

/// A mount that is to be served.
pub(crate) struct Mount {
    pub(crate) conversation: Conversation,
    pub(crate) request: MountRequest,
    pub(crate) handed: Handed,
    pub(crate) notifier: Notifier,
    pub(crate) workers: Workers,
}

/// Mounts and serves until the kernel hangs up.
///
/// # Errors
/// Why it did not come to serving, or why it ended early.
pub(crate) fn serve(_confined: &Confined, mount: Mount) -> Result<(), ServeError> {
    let Mount { conversation, request, handed, notifier, workers } = mount;
    conversation.progress(Phase::Starting, 0, 0);
    let device = Arc::new(Device::new(handed.device));
    let journal = handed.journal.map(|fd| Arc::new(Device::new(fd)));
    let geometry = match probe(&*device, request.engine.superblock) {
        Ok(geometry) => geometry,
        Err(error) => return Err(refuse(conversation, &request, &error)),
    };
    let devices = [Some(Arc::clone(&device)), journal.clone()].into_iter().flatten().collect();
    let channels = std::iter::once(handed.fuse).chain(handed.clones).collect();
    let settings = settings(&request);
    let frontend = Arc::new(Frontend::new(channels, devices, geometry.clone(), settings));

    // Before the first thread: those that are started later inherit the mask.
    stay_on_sigterm(Arc::clone(&frontend))?;
    let (report, events) = channel();
    start_worker(&frontend, 0, &report)?;
    let mounting = Mounting { conversation, request, device, journal, geometry };
    start_mounting(mounting, Arc::clone(&frontend), report.clone())?;
    supervise(&frontend, &events, &report, (&notifier, workers))
}

/// Waits for what the threads have to say.
fn supervise(
    frontend: &Arc<Frontend>,
    events: &Receiver<Event>,
    report: &Sender<Event>,
    (notifier, workers): (&Notifier, Workers),
) -> Result<(), ServeError> {
    for event in events {
        match event {
            Event::Mounted(result) => {
                result?;
                for worker in 1..workers.0 {
                    start_worker(frontend, worker, report)?;
                }
                notifier.tell(&NotifyState::Ready);
            }
            Event::Stopped(result) => {
                notifier.tell(&NotifyState::Stopping);
                frontend.end();
                return Ok(result?);
            }
        }
    }
    Ok(())
}

fn start_worker(frontend: &Arc<Frontend>, worker: usize, report: &Sender<Event>) -> io::Result<()> {
    let (frontend, report) = (Arc::clone(frontend), report.clone());
    let serve = move || {
        let result = frontend.work(worker);
        // Nobody listens any more when another worker was first; that is the end of all of them.
        let _ = report.send(Event::Stopped(result));
    };
    thread::Builder::new().name(format!("fuse-{worker}")).spawn(serve)?;
    Ok(())
}

/// A mounted file system is not left because of a signal: whoever stops the service meant to
/// unmount, and the kernel will say so. Before that the signal ends the process, as always.
fn stay_on_sigterm(frontend: Arc<Frontend>) -> io::Result<()> {
    let signal = BlockedSignal::new(libc::SIGTERM)?;
    let wait = move || {
        while signal.wait().is_ok() {
            if !frontend.is_serving() {
                std::process::exit(1);
            }
            warn!("asked to stop, but the file system is still mounted; unmount it instead");
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// What the mounting thread works with.
struct Mounting {
    conversation: Conversation,
    request: MountRequest,
    device: Arc<Device>,
    journal: Option<Arc<Device>>,
    geometry: Geometry,
}

fn start_mounting(
    mounting: Mounting,
    frontend: Arc<Frontend>,
    report: Sender<Event>,
) -> io::Result<()> {
    let work = move || {
        let _ = report.send(Event::Mounted(mounting.mount(&frontend)));
    };
    thread::Builder::new().name("mount".into()).spawn(work)?;
    Ok(())
}

impl Mounting {
    /// Mounts, and tells the front end and then the helper.
    fn mount(self, frontend: &Frontend) -> Result<(), ServeError> {
        let device: Arc<dyn BlockDevice> = self.device;
        let journal = self.journal.map(|journal| -> Arc<dyn BlockDevice> { journal });
        let observer = Progress::new(&self.conversation, self.request.device_name.as_str());
        #[cfg(feature = "test-hooks")]
        observer.hold(&self.geometry.label);
        let options = options(&self.request.engine, journal);
        let fs = match Filesystem::mount(device, &options, &observer) {
            Ok(fs) => fs,
            Err(error) => return Err(refuse(self.conversation, &self.request, &error)),
        };
        if frontend.ready(fs)? {
            let (name, uuid) = (&self.request.device_name, Uuid(self.geometry.uuid));
            info!("EXT4-fs ({name}): mounted filesystem {uuid} ro.");
            // All that this version does is read-only, whatever was asked for.
            let tightened = !self.request.read_only;
            self.conversation.serving(tightened)?;
        }
        Ok(())
    }
}

fn settings(request: &MountRequest) -> Settings {
    Settings {
        device_name: request.device_name.as_str().to_owned(),
        errors: request.engine.errors,
        overhead: if request.engine.minixdf { Overhead::Include } else { Overhead::Subtract },
        request_timeout: request.request_timeout,
    }
}

fn options(engine: &EngineOptions, journal: Option<Arc<dyn BlockDevice>>) -> MountOptions {
    MountOptions {
        read_only: true,
        noload: engine.noload,
        superblock: engine.superblock,
        journal,
        cache_bytes: CACHE_BYTES,
    }
}

/// Tells the helper why not.
fn refuse(conversation: Conversation, request: &MountRequest, error: &Error) -> ServeError {
    let (kind, text) = reason(error);
    conversation.refuse(kind, &text);
    ServeError::Refused { device: request.device_name.as_str().to_owned(), text }
}

/// The kind of a refusal and a sentence that says what to do.
fn reason(error: &Error) -> (RefusalKind, String) {
    match error {
        Error::Unmountable(why) => (kind(why), error.to_string()),
        Error::Corrupt { .. } => {
            (RefusalKind::Corrupt, format!("{error}; run e2fsck on it to see the damage"))
        }
        Error::Io { .. } => {
            (RefusalKind::Io, format!("{error}; the kernel's log may tell more of the device"))
        }
        Error::Refused(_) => (RefusalKind::Internal, error.to_string()),
    }
}

fn kind(why: &Unmountable) -> RefusalKind {
    match why {
        Unmountable::NotExt4
        | Unmountable::DeviceTooSmall { .. }
        | Unmountable::IsJournalDevice => RefusalKind::NotExt4,
        Unmountable::Truncated { .. }
        | Unmountable::SuperblockDamaged { .. }
        | Unmountable::JournalUnusable { .. } => RefusalKind::Corrupt,
        Unmountable::ExternalJournalMissing | Unmountable::ExternalJournalWrong { .. } => {
            RefusalKind::BadOption
        }
        _ => RefusalKind::Unsupported,
    }
}

/// Passes on how far the replay is, not too often.
struct Progress<'a> {
    conversation: &'a Conversation,
    device: &'a str,
    last: Mutex<Option<Instant>>,
}

impl<'a> Progress<'a> {
    fn new(conversation: &'a Conversation, device: &'a str) -> Self {
        Self { conversation, device, last: Mutex::new(None) }
    }

    /// Holds the replay for N seconds if the volume's label is `hold:N`, so that tests can look at
    /// a mount in that state however the server was started.
    #[cfg(feature = "test-hooks")]
    fn hold(&self, label: &[u8]) {
        let seconds = std::str::from_utf8(label).ok().and_then(|label| label.strip_prefix("hold:"));
        let seconds: u64 = seconds.and_then(|seconds| seconds.parse().ok()).unwrap_or(0);
        for second in 0..seconds {
            self.conversation.progress(Phase::Replay, second, seconds);
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Observer for Progress<'_> {
    fn replay(&self, done: u64, total: u64) {
        let mut last = self.last.lock();
        if last.is_none_or(|last| last.elapsed() >= PROGRESS_INTERVAL) {
            *last = Some(Instant::now());
            self.conversation.progress(Phase::Replay, done, total);
        }
    }

    fn notice(&self, notice: Notice) {
        let device = self.device;
        match notices::describe(&notice) {
            (Level::INFO, text) => info!("EXT4-fs ({device}): {text}"),
            (_, text) => warn!("EXT4-fs ({device}): {text}"),
        }
    }
}
