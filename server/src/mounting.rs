//! From a mount request to a served file system, inside the sandbox.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::{
    Atime, DataMode, Error, ErrorPolicy, Filesystem, Geometry, MountOptions, NodeName, Overhead,
    Rules, Unmountable, Unobserved, WriteOptions, probe,
};
use fuse4fs_protocol::{EngineOptions, ErrorsPolicy, MountRequest, Phase, RefusalKind, Switch};

use thiserror::Error as ThisError;
use tracing::{error, info, warn};

use crate::device::{Access, Device};
use crate::fuse::{Classic, CrewSize, Effort, Frontend, OnInit, OnStop, Process, Rings, Settings};
use crate::log::Uuid;
use crate::pressure::{self, Watch};
use crate::progress::Progress;
use crate::sandbox::Confined;
use crate::session::{Conversation, Handed, SessionError};
use crate::sys::BlockedSignal;

/// What fs.fuse.max_pages_limit is if nobody changed it, and on kernels that do not have it.
const MAX_PAGES_USUAL: u16 = 256;
/// 4 MiB: where somebody raised the limit further, so many pages are enough.
const MAX_PAGES: u16 = 1024;
/// Bytes that all buffers of the threads together may take.
const BUFFERS: usize = 64 << 20;
/// Background requests for each thread that reads.
const BACKGROUND: usize = 8;

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
    /// The kernel has the answer to INIT: if it is to use rings, it holds all requests back until it has
    /// them.
    Begun,
    /// A worker has stopped: the kernel has hung up.
    Stopped(io::Result<()>),
}

/// What the sandbox hides: looked at before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine {
    /// What other nodes are told.
    node: [u8; 64],
    cpus: usize,
    /// Pages of file content that the kernel lets one message have.
    max_pages: u16,
}

impl Machine {
    /// This one. Where it does not tell, it is taken for a small one.
    pub(crate) fn look() -> Self {
        let told = std::fs::read_to_string("/proc/sys/fs/fuse/max_pages_limit");
        let told = told.ok().and_then(|text| text.trim().parse().ok());
        let cpus = thread::available_parallelism().map_or(2, usize::from);
        let uname = rustix::system::uname();
        let mut node = [0; 64];
        node.iter_mut().zip(uname.nodename().to_bytes()).for_each(|(to, from)| *to = *from);
        Self { node, cpus, max_pages: told.unwrap_or(MAX_PAGES_USUAL).clamp(1, MAX_PAGES) }
    }

    /// One thread for each CPU reads; two at least, and eight at most, as more of them wait for each
    /// other. Four times as many there are while all of them wait for the device, if their buffers are
    /// not too large for that: each thread has one for requests and one for replies. `threads` is how
    /// many read, if not 0.
    fn crew(self, threads: u16) -> CrewSize {
        let kept = if threads == 0 { self.cpus.clamp(2, 8) } else { threads.into() };
        let buffers = usize::from(self.max_pages).saturating_mul(2 * 4096);
        let most = kept.saturating_mul(4).min(BUFFERS.checked_div(buffers).unwrap_or(2));
        CrewSize { kept: kept.min(most), most }
    }
}

/// A mount that is to be served.
pub(crate) struct Mount {
    pub(crate) conversation: Conversation,
    pub(crate) request: MountRequest,
    pub(crate) handed: Handed,
    pub(crate) rings: Option<Rings>,
    /// What tells that memory is short.
    pub(crate) pressure: Option<Watch>,
    pub(crate) machine: Machine,
    /// SIGTERM, which no thread takes by itself.
    pub(crate) sigterm: BlockedSignal,
}

/// Mounts and serves until the kernel hangs up.
///
/// # Errors
/// Why it did not come to serving, or why it ended early.
pub(crate) fn serve(confined: &Confined, mount: Mount) -> Result<(), ServeError> {
    let Mount { conversation, request, handed, rings, pressure, machine, sigterm } = mount;
    conversation.progress(Phase::Starting, 0, 0);
    let access = if request.read_only { Access::Read } else { Access::Write };
    let holders = rings.iter().flat_map(Rings::holding_device);
    let device = Arc::new(Device::new(handed.device, access).shared_with(holders));
    let journal = handed.journal.map(|fd| Arc::new(Device::new(fd, access)));
    let geometry = match probe(&*device, request.engine.superblock) {
        Ok(geometry) => geometry,
        Err(error) => {
            // So that it is free when the helper hears of it: rings let go of files late.
            device.close();
            return Err(refuse(conversation, &request, &error));
        }
    };
    // Only the block of multiple mount protection is read by it; else it is closed here.
    if let Some(direct) = handed.direct.filter(|_| access == Access::Write) {
        device.set_direct(direct);
    }
    let devices = [Some(Arc::clone(&device)), journal.clone()].into_iter().flatten().collect();
    let channels = std::iter::once(handed.fuse).chain(handed.clones).collect();
    let threads = request.serving.threads;
    let settings = settings(&request, machine, rings.as_ref(), confined);
    let frontend = Arc::new(Frontend::new(devices, geometry.clone(), settings));

    stay_on_sigterm(sigterm, Arc::clone(&frontend))?;
    if let Some(watch) = pressure {
        pressure::start(watch, Arc::clone(&frontend), request.serving.cache)?;
    }
    let (report, events) = channel();
    let on_stop = || -> OnStop {
        let report = report.clone();
        // Nobody listens any more when another worker was first; that is the end of all of them.
        Box::new(move |result| drop(report.send(Event::Stopped(result))))
    };
    let busy_poll = Duration::from_micros(request.serving.busy_poll.unwrap_or(0).into());
    let effort = Effort { size: machine.crew(threads), busy_poll };
    let starter = rings.map(|rings| (rings, on_stop()));
    let callbacks = (on_init(report.clone()), on_stop());
    let (transport, delivery) = Classic::new(Arc::clone(&frontend), channels, effort, callbacks);
    let relieved = Arc::clone(&transport);
    device.before_wait(move || relieved.relieve_if_asked());
    confined.serve_channels(move || transport.run(delivery));
    let node = machine.node;
    let mounting = Mounting { conversation, request, device, journal, geometry, node };
    start_mounting(mounting, Arc::clone(&frontend), report)?;
    supervise(&frontend, starter, &events)
}

/// What says that the kernel has the answer to INIT.
fn on_init(report: Sender<Event>) -> OnInit {
    // Nobody listens any more at the end.
    Box::new(move || drop(report.send(Event::Begun)))
}

/// Waits for what the threads have to say. The rings are started from here, since those who serve
/// channels, and what they start, may not use them.
fn supervise(
    frontend: &Arc<Frontend>,
    mut rings: Option<(Rings, OnStop)>,
    events: &Receiver<Event>,
) -> Result<(), ServeError> {
    for event in events {
        match event {
            Event::Begun => {
                if let Some((rings, on_stop)) = rings.take_if(|_| frontend.uses_rings()) {
                    rings.start(frontend, on_stop);
                }
            }
            Event::Mounted(result) => result?,
            Event::Stopped(result) => {
                frontend.end();
                return Ok(result?);
            }
        }
    }
    Ok(())
}

/// A mounted file system is not left because of a signal: whoever stops the service meant to
/// unmount, and the kernel will say so. Before that the signal ends the process, as always.
fn stay_on_sigterm(signal: BlockedSignal, frontend: Arc<Frontend>) -> io::Result<()> {
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
    node: [u8; 64],
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
        let mut options = options(&self.request, journal);
        options.writing.name = NodeName {
            node: self.node.to_vec(),
            device: self.request.device_name.as_str().as_bytes().to_vec(),
        };
        let mounted = match Filesystem::mount(Arc::clone(&device), &options, &observer) {
            Err(Error::Unmountable(why)) if !options.read_only && why.is_readable() => {
                let device_name = self.request.device_name.as_str();
                warn!("EXT4-fs ({device_name}): {why}; mounting read-only");
                options.read_only = true;
                Filesystem::mount(Arc::clone(&device), &options, &observer)
            }
            mounted => mounted,
        };
        let fs = match mounted {
            Ok(fs) => Arc::new(fs),
            Err(error) => {
                frontend.end();
                return Err(refuse(self.conversation, &self.request, &error));
            }
        };
        if !options.read_only {
            let (device, name) = (Arc::clone(&device), self.request.device_name.clone());
            let options = options.clone();
            frontend.reopen_by(Box::new(move || reopen(&device, &options, name.as_str())));
        }
        if frontend.ready(Arc::clone(&fs)) {
            let (name, uuid) = (&self.request.device_name, Uuid(self.geometry.uuid));
            let mode = if options.read_only { "ro" } else { "r/w" };
            info!("EXT4-fs ({name}): mounted filesystem {uuid} {mode}.");
            if !options.read_only {
                start_commits(fs, name.as_str().to_owned())?;
            }
            let tightened = options.read_only && !self.request.read_only;
            self.conversation.serving(tightened)?;
        }
        Ok(())
    }
}

/// Mounts again what this process has made read-only.
fn reopen(
    device: &Arc<dyn BlockDevice>,
    options: &MountOptions,
    name: &str,
) -> Option<Arc<Filesystem>> {
    let mounted = Filesystem::mount(Arc::clone(device), options, &Unobserved);
    let fs = mounted
        .inspect_err(|error| error!("EXT4-fs ({name}): making it read-write: {error}"))
        .ok()?;
    let fs = Arc::new(fs);
    start_commits(Arc::clone(&fs), name.to_owned())
        .inspect_err(|error| error!("EXT4-fs ({name}): no thread for commits: {error}"))
        .ok()?;
    Some(fs)
}

/// Commits when that is due, until nothing is written any more.
fn start_commits(fs: Arc<Filesystem>, device: String) -> io::Result<()> {
    let work = move || {
        if let Err(error) = fs.run_commits() {
            error!("EXT4-fs ({device}): the journal has stopped: {error}; now read-only");
        }
    };
    thread::Builder::new().name("commits".into()).spawn(work)?;
    Ok(())
}

fn settings(
    request: &MountRequest,
    machine: Machine,
    rings: Option<&Rings>,
    confined: &Confined,
) -> Settings {
    let background = machine.crew(request.serving.threads).kept.saturating_mul(BACKGROUND);
    Settings {
        device_name: request.device_name.as_str().to_owned(),
        overhead: if request.engine.minixdf { Overhead::Include } else { Overhead::Subtract },
        request_timeout: request.request_timeout,
        writable: !request.read_only,
        writeback_cache: request.serving.writeback_cache == Switch::On,
        security_labels: request.serving.security_context,
        acl: request.engine.acl.unwrap_or(true),
        admin_ioctls: request.serving.admin_ioctls,
        max_pages: rings.map_or(machine.max_pages, |rings| rings.pages().min(machine.max_pages)),
        max_background: u16::try_from(background).unwrap_or(u16::MAX),
        rings: rings.is_some(),
        process: process(request.server_pid, confined),
    }
}

fn process(pid: u32, confined: &Confined) -> Process {
    let Confined { surroundings, landlock, memory_limit, .. } = *confined;
    Process { pid, surroundings, landlock, memory_limit }
}

fn options(request: &MountRequest, journal: Option<Arc<dyn BlockDevice>>) -> MountOptions {
    let engine = &request.engine;
    let usual = WriteOptions::default();
    let mount_point = engine.mount_point.as_str();
    MountOptions {
        read_only: request.read_only,
        noload: engine.noload,
        superblock: engine.superblock,
        journal,
        cache_bytes: request.serving.cache.most,
        writing: WriteOptions {
            barrier: engine.barrier,
            data: engine.data.map(data_mode),
            errors: engine.errors.map(error_policy),
            commit_interval: engine
                .commit
                .map_or(usual.commit_interval, |seconds| Duration::from_secs(seconds.into())),
            rules: rules(engine),
            mount_point: (!mount_point.is_empty()).then(|| mount_point.as_bytes().to_vec()),
            name: NodeName::default(),
        },
    }
}

fn rules(engine: &EngineOptions) -> Rules {
    let usual = Rules::default();
    Rules {
        atime: match engine.atime {
            fuse4fs_protocol::Atime::Relative => Atime::Relative,
            fuse4fs_protocol::Atime::Never => Atime::Never,
            fuse4fs_protocol::Atime::Always => Atime::Always,
        },
        no_directory_atime: engine.nodiratime,
        lazytime: engine.lazytime,
        sync: engine.sync,
        dirsync: engine.dirsync,
        grpid: engine.grpid,
        acl: engine.acl.unwrap_or(usual.acl),
        user_xattr: engine.user_xattr.unwrap_or(usual.user_xattr),
        max_dir_size_kb: engine.max_dir_size_kb.unwrap_or(usual.max_dir_size_kb),
        reserve_uid: engine.resuid,
        reserve_gid: engine.resgid,
        discard: engine.discard,
    }
}

fn data_mode(mode: fuse4fs_protocol::DataMode) -> DataMode {
    match mode {
        fuse4fs_protocol::DataMode::Ordered => DataMode::Ordered,
        fuse4fs_protocol::DataMode::Journal => DataMode::Journal,
        fuse4fs_protocol::DataMode::Writeback => DataMode::Writeback,
    }
}

fn error_policy(policy: ErrorsPolicy) -> ErrorPolicy {
    match policy {
        ErrorsPolicy::Continue => ErrorPolicy::Continue,
        ErrorsPolicy::RemountReadOnly => ErrorPolicy::ReadOnly,
        ErrorsPolicy::Panic => ErrorPolicy::Panic,
    }
}

/// Tells the helper why not.
fn refuse(conversation: Conversation, request: &MountRequest, error: &Error) -> ServeError {
    let (kind, text) = reason(error);
    conversation.refuse(kind, &text);
    ServeError::Refused { device: request.device_name.as_str().to_owned(), text }
}

/// The kind of a refusal and a sentence that says what to do.
pub(crate) fn reason(error: &Error) -> (RefusalKind, String) {
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
        Unmountable::ExternalJournalMissing
        | Unmountable::ExternalJournalWrong { .. }
        | Unmountable::DataWithoutJournal => RefusalKind::BadOption,
        Unmountable::InUse { .. } | Unmountable::BeingChecked { .. } => RefusalKind::Busy,
        _ => RefusalKind::Unsupported,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::*;

    #[test]
    fn buffers_stay_within_their_limit_on_every_machine() {
        for cpus in [1, 2, 8, 512] {
            for max_pages in [1, 256, MAX_PAGES] {
                let CrewSize { kept, most } = Machine { node: [0; 64], cpus, max_pages }.crew(0);
                assert!((2..=8).contains(&kept) && kept <= most, "{kept} of {most}");
                assert!(most * usize::from(max_pages) * 8192 <= BUFFERS);
            }
        }
    }
}
