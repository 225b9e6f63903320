//! A request in, an answer out, whatever transport carries them; and the phases of a mount.
//!
//! The kernel may ask things of a file system before it is mounted: sync(2) on the host reaches an
//! unattached superblock too, and waits, unkillable, for INIT and SYNCFS. So the loop runs while the
//! log is read: what needs no file system is answered at once, the rest waits until there is one.
//!
//! A transport takes a header and a body to [`Frontend::decode`], the call to [`Frontend::serve`], and
//! does what the [`Answer`] says. [`Request::class`] tells it where to run a call.
//!
//! # Locking
//! `verbs` is held shared while a verb runs and exclusively while the mount ends. `phase` is taken
//! inside it and held for moments only, never while a verb runs.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fuse4fs_ext4::features::Incompat;
use fuse4fs_ext4::{Filesystem, Geometry, Hold, Run, StatFs};
use fuse4fs_protocol::{IOC_SET_READ_ONLY, IOC_STATUS};
use fuser::{Errno, InitFlags};
use parking_lot::{ArcRwLockReadGuard, Mutex, RawRwLock, RwLock};
use tracing::{debug, error, info, trace, warn};

use super::abi::{InHeader, InitIn, MINOR_OF_PRUNE};
use super::body::Body;
use super::control::{Control, Notify, Reopen};
use super::decode::{self, Dialect};
use super::errno::{self, Fail, Reporter};
use super::handles::Handles;
use super::init::{self, Opens, Terms};
use super::nodes::Nodes;
use super::operations::Operations;
use super::reply::Output;
use super::request::{Call, Class, Request};
use super::settings::Settings;
use super::verbs::{self, Verbs};
use crate::clock;
use crate::device::{self, Device};
use crate::log::Uuid;

/// Requests that may wait for the mount to be ready. Only the helper and sync(2) can send any before
/// the mount is attached, so this bounds what a broken one can pile up.
const MAX_WAITING: usize = 256;
/// Bytes of a WRITE that is brief.
const BRIEF_WRITE: usize = 64 << 10;
/// EXT4_GOOD_OLD_INODE_SIZE: inodes of that many bytes have no room for parts of seconds.
const SHORT_INODE: u16 = 128;

/// How far the mount is.
pub(super) enum Phase {
    /// The log is being read; what to do once there is a file system.
    Starting(Vec<(u64, Waiter)>),
    /// Mounted.
    Serving(Arc<Filesystem>),
    /// Unmounted, or never mounted.
    Ended,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// The output is the reply.
    Reply,
    /// An error is the reply.
    Error(Errno),
    /// There is no reply.
    Silent,
    /// The output is the reply, and there will be no request after it.
    Last,
    /// There is no file system yet: the request is to be served again by [`Frontend::when_ready`].
    Wait,
}

/// Goes on with a request that had to wait. Dropped where the mount ends before it has begun.
pub(crate) type Waiter = Box<dyn FnOnce(Turn<'_>) + Send>;

/// What a waiting request is to do.
pub(crate) enum Turn<'a> {
    /// Be served.
    Serve(&'a Frontend),
    /// Fail with EINTR: who asked has given up.
    GiveUp,
}

/// A READ whose data is being moved: a verb under way, which keeps the data where it is.
pub(crate) struct Plan {
    _hold: Hold,
    _verb: ArcRwLockReadGuard<RawRwLock, ()>,
}

/// Everything that the workers share.
pub(crate) struct Frontend {
    devices: Vec<Arc<Device>>,
    geometry: Geometry,
    pub(super) settings: Settings,
    pub(super) control: Control,
    reporter: Reporter,
    /// Set once INIT is answered: the abilities in use.
    negotiated: OnceLock<InitFlags>,
    pub(super) nodes: Nodes,
    pub(super) handles: Handles,
    pub(super) operations: Operations,
    /// When it was made.
    pub(super) since: Instant,
    pub(super) phase: Mutex<Phase>,
    /// Held shared by each verb and each plan, and exclusively to end or to turn the mount: nothing is under way
    /// then.
    pub(super) verbs: Arc<RwLock<()>>,
}

impl Frontend {
    /// A front end for the file system of that geometry; `devices` are closed at the end.
    pub(crate) fn new(devices: Vec<Arc<Device>>, geometry: Geometry, settings: Settings) -> Self {
        Self {
            devices,
            geometry,
            reporter: Reporter::new(&settings.device_name),
            nodes: Nodes::new(settings.writable),
            handles: Handles::default(),
            operations: Operations::new(),
            since: Instant::now(),
            control: Control::new(settings.admin_ioctls),
            settings,
            negotiated: OnceLock::new(),
            phase: Mutex::new(Phase::Starting(Vec::new())),
            verbs: Arc::default(),
        }
    }

    /// The file system is there: serves what waited for it. False if the mount has ended already.
    pub(crate) fn ready(&self, fs: Arc<Filesystem>) -> bool {
        let serving = Phase::Serving(fs);
        let waiters = match &mut *self.phase.lock() {
            Phase::Ended => return false,
            phase => match std::mem::replace(phase, serving) {
                Phase::Starting(waiters) => waiters,
                Phase::Serving(_) | Phase::Ended => Vec::new(),
            },
        };
        for (_, waiter) in waiters {
            waiter(Turn::Serve(self));
        }
        true
    }

    /// Calls `waiter`, for the request `unique`, once the file system is there: now, if it is.
    pub(crate) fn when_ready(&self, unique: u64, waiter: Waiter) {
        if let Phase::Starting(waiters) = &mut *self.phase.lock() {
            return waiters.push((unique, waiter));
        }
        waiter(Turn::Serve(self));
    }

    /// How the mount becomes read-write again after it was made read-only.
    pub(crate) fn reopen_by(&self, reopen: Reopen) {
        self.control.reopen_by(reopen);
    }

    /// Runs `work` on the file system, if there is one, as a verb: it does not end meanwhile.
    pub(crate) fn run<T>(&self, work: impl FnOnce(&Filesystem) -> T) -> Option<T> {
        let _verb = self.verbs.read();
        let fs = match &*self.phase.lock() {
            Phase::Serving(fs) => Arc::clone(fs),
            Phase::Starting(_) | Phase::Ended => return None,
        };
        Some(work(&fs))
    }

    /// How notifications reach the kernel.
    pub(super) fn notify_by(&self, notify: Notify) {
        self.control.notify_by(notify);
    }

    /// What was settled with the kernel.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Whether the file system is mounted.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(&*self.phase.lock(), Phase::Serving(_))
    }

    /// Whether INIT is answered and has settled on rings.
    pub(crate) fn uses_rings(&self) -> bool {
        self.negotiated.get().is_some_and(|flags| flags.contains(InitFlags::FUSE_OVER_IO_URING))
    }

    /// Whether a call may change something, and so wait for the journal or for others who do. To open
    /// a file without cutting it is to note that.
    pub(crate) fn may_change(&self, call: &Call<'_>) -> bool {
        let changes = match call.request {
            Request::Write(_) => true,
            Request::Open(opening) => opening.cuts(),
            request => request.class() == Class::Change,
        };
        self.settings.writable && changes
    }

    /// Whether a call that may change something takes moments, if what it needs is in memory: it
    /// waits neither for the device nor for a commit.
    pub(crate) fn is_brief(&self, call: &Call<'_>) -> bool {
        let is_brief = match call.request {
            Request::Write(write) => write.data.0.len() <= BRIEF_WRITE && !write.is_sync(),
            // With O_TRUNC.
            Request::Open(_) => false,
            request => request.class() == Class::Change,
        };
        let Phase::Serving(fs) = &*self.phase.lock() else { return false };
        let rules = fs.rules();
        is_brief && !rules.sync && !rules.dirsync
    }

    /// Where the data is that a READ asks for, if it can be moved from there as it is. Everything
    /// else, failures too, is for [`Frontend::serve`]. What comes with the plan is to be dropped when
    /// the data was moved.
    pub(crate) fn plan(&self, call: &Call<'_>, runs: &mut Vec<Run>) -> Option<Plan> {
        let Request::Read { offset, size, flags, .. } = call.request else { return None };
        if self.control.is_down() {
            return None;
        }
        let verb = self.verbs.try_read_arc()?;
        let fs = match &*self.phase.lock() {
            Phase::Serving(fs) => Arc::clone(fs),
            Phase::Starting(_) | Phase::Ended => return None,
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let inode = call.node.inode().and_then(|nr| fs.inode(nr)).ok()?;
        // To change the time is a miss for who may not wait. Not while the plan is held.
        if verbs::notes_access(flags) {
            fs.accessed(&inode, clock::now());
        }
        let hold = fs.read_plan(&inode, (offset, size), runs).ok()??;
        trace!("request {}: {:?}, node {}: {runs:?}", call.unique, call.request, call.node.0);
        Some(Plan { _hold: hold, _verb: verb })
    }

    /// Closes the devices and forgets the file system. The second time nothing happens.
    pub(crate) fn end(&self) {
        // What is under way is done first: FORGET and RELEASE have no reply that anybody waits for.
        let _all = self.verbs.write();
        let before = std::mem::replace(&mut *self.phase.lock(), Phase::Ended);
        let (nodes, files) = (self.nodes.len(), self.handles.len());
        debug!("at the end the kernel knew {nodes} nodes and {files} open files");
        let name = &self.settings.device_name;
        if let Phase::Serving(fs) = &before
            && let Err(error) = self.finish(fs)
        {
            error!("EXT4-fs ({name}): unmounting: {error}; the journal will be replayed");
        }
        for device in &self.devices {
            device.close();
        }
        if let Phase::Serving(_) = before {
            info!("EXT4-fs ({name}): unmounting filesystem {}.", Uuid(self.geometry.uuid));
        }
    }

    /// Makes a call of a request.
    ///
    /// # Errors
    /// What to answer to anything that the kernel would not send.
    pub(crate) fn decode<'a>(&self, header: &InHeader, body: Body<'a>) -> Result<Call<'a>, Answer> {
        let ext = |flags: &InitFlags| flags.contains(InitFlags::FUSE_SETXATTR_EXT);
        let dialect = Dialect { setxattr_ext: self.negotiated.get().is_some_and(ext) };
        #[cfg(feature = "test-hooks")]
        super::silence::keep();
        decode::decode(header, body, dialect).map_err(|_| {
            let device = &self.settings.device_name;
            warn!("EXT4-fs ({device}): malformed request, opcode {}", header.opcode);
            Answer::Error(Errno::EIO)
        })
    }

    /// Serves a call. `out`, empty at first, takes what the reply says.
    pub(crate) fn serve(&self, call: &Call<'_>, out: &mut Output<'_>) -> Answer {
        trace!(
            "request {}: {:?}, node {}, uid {}",
            call.unique, call.request, call.node.0, call.uid
        );
        #[cfg(feature = "test-hooks")]
        super::silence::fall_if_asked(call);
        match call.request {
            Request::Init(asked) => self.init(&asked, out),
            Request::Forget(forgets) => self.forget(&forgets),
            Request::NotifyReply => Answer::Silent,
            Request::Interrupt(unique) => self.interrupt(unique),
            Request::Destroy => {
                // Whoever waits in umount(2) may rely on the device being free.
                self.end();
                Answer::Last
            }
            _ if self.negotiated.get().is_none() => Answer::Error(Errno::EIO),
            _ => self.by_phase(call, out),
        }
    }

    /// Waiting can be cut short, verbs cannot: once nothing waits any more, ENOSYS tells the kernel
    /// not to ask again. Otherwise there is nothing to answer.
    fn interrupt(&self, unique: u64) -> Answer {
        let waiter = match &mut *self.phase.lock() {
            Phase::Starting(waiters) => {
                let at = waiters.iter().position(|(waiting, _)| *waiting == unique);
                at.map(|at| waiters.swap_remove(at))
            }
            Phase::Serving(_) | Phase::Ended => return Answer::Error(Errno::ENOSYS),
        };
        if let Some((_, waiter)) = waiter {
            waiter(Turn::GiveUp);
        }
        Answer::Silent
    }

    fn by_phase(&self, call: &Call<'_>, out: &mut Output<'_>) -> Answer {
        if let Request::Ioctl { command: IOC_SET_READ_ONLY, input, .. } = call.request {
            return self.turn(call.node, input.0, out);
        }
        if self.control.is_down() && !outlives(&call.request) {
            return Answer::Error(Errno::EIO);
        }
        let verb = self.verbs.try_read();
        // Who holds a plan must not wait for those who wait for it.
        if verb.is_none() && !device::may_wait() {
            return Answer::Error(Errno::EAGAIN);
        }
        let _verb = verb.unwrap_or_else(|| self.verbs.read());
        let fs = match &*self.phase.lock() {
            Phase::Serving(fs) => Arc::clone(fs),
            Phase::Starting(waiters) => return self.early(call, waiters.len(), out),
            Phase::Ended => return Answer::Error(Errno::EIO),
        };
        match call.request {
            Request::Ioctl { command: IOC_STATUS, .. } => self.tell_status(&fs, out),
            _ => self.verb(&fs, call, out),
        }
    }

    /// Before the file system is there. STATFS shows its size and nothing free.
    fn early(&self, call: &Call<'_>, waiting: usize, out: &mut Output<'_>) -> Answer {
        match call.request {
            // Nothing was written yet.
            Request::Fsync { .. } | Request::Fsyncdir { .. } | Request::Syncfs => Answer::Reply,
            Request::Statfs => match verbs::statfs(&empty(&self.geometry), out) {
                Ok(()) => Answer::Reply,
                Err(_) => Answer::Error(Errno::EIO),
            },
            _ if waiting < MAX_WAITING => Answer::Wait,
            _ => Answer::Error(Errno::EAGAIN),
        }
    }

    fn verb(&self, fs: &Filesystem, call: &Call<'_>, out: &mut Output<'_>) -> Answer {
        let (nodes, handles) = (&self.nodes, &self.handles);
        let (opens, overhead, control) = (self.opens(), self.settings.overhead, &self.control);
        let verbs = Verbs { fs, nodes, handles, control, opens, overhead };
        let name = call.request.name();
        let (was_down, was_writable) = (control.is_down(), fs.is_writable());
        let answer = match verbs.answer(call, out) {
            // It will be served again; what it found is not what there is.
            _ if device::missed() => return Answer::Error(Errno::EAGAIN),
            // To report it may be to write it down.
            Err(fail) if errno::is_reported(&fail) && !device::may_wait() => {
                return Answer::Error(Errno::EAGAIN);
            }
            Ok(()) => Answer::Reply,
            Err(fail) => Answer::Error(self.report(fs, was_writable, name, &fail)),
        };
        if control.is_down() != was_down {
            error!("EXT4-fs ({}): shut down requested", self.settings.device_name);
        }
        // What this one got around would have been a miss.
        if device::hurries() {
            return answer;
        }
        // Damage that the verb got around.
        for error in fs.take_notices() {
            self.report(fs, was_writable, name, &error.into());
        }
        answer
    }

    /// The errno of a failure of `verb`, before which the file system could be written or not. Does not
    /// return where a failure like this shall end the mount.
    pub(super) fn report(&self, fs: &Filesystem, writable: bool, verb: &str, fail: &Fail) -> Errno {
        let errno = self.reporter.errno(verb, fail);
        let Fail::Engine(failure) = fail else { return errno };
        if self.control.is_down() {
            return Errno::EIO;
        }
        let policy = fs.record_error(failure);
        let name = &self.settings.device_name;
        if writable && !fs.is_writable() {
            error!("EXT4-fs ({name}): Remounting filesystem read-only");
        }
        if errno::must_stop(fail, policy) {
            error!("EXT4-fs ({name}): errors=panic: serving ends");
            std::process::exit(1);
        }
        errno
    }

    fn init(&self, asked: &InitIn, out: &mut Output<'_>) -> Answer {
        match init::negotiate(asked, &self.terms()) {
            Ok((message, negotiated)) if out.put(&message).is_ok() => {
                debug!("FUSE 7.{} of the kernel, settled on {negotiated:?}", asked.minor);
                self.control.can_prune(asked.minor >= MINOR_OF_PRUNE);
                if negotiated.is_some_and(|settled| self.negotiated.set(settled).is_err()) {
                    return Answer::Error(Errno::EIO);
                }
                Answer::Reply
            }
            Ok(_) => Answer::Error(Errno::EIO),
            Err(errno) => Answer::Error(errno),
        }
    }

    fn terms(&self) -> Terms {
        Terms {
            opens: self.opens(),
            request_timeout: self.settings.request_timeout,
            writeback_cache: self.settings.writeback_cache,
            security_labels: self.settings.security_labels,
            acl: self.settings.acl,
            names_users: self.settings.admin_ioctls,
            fine_times: self.geometry.inode_size > SHORT_INODE,
            max_pages: self.settings.max_pages,
            max_background: self.settings.max_background,
            rings: self.settings.rings,
        }
    }

    /// Encrypted files are refused when they are opened; nothing else is on a read-only mount.
    fn opens(&self) -> Opens {
        if self.settings.writable {
            return Opens::Noted;
        }
        let encrypted = self.geometry.features.incompat.contains(Incompat::ENCRYPT);
        if encrypted { Opens::Asked } else { Opens::Unasked }
    }
}

/// What is answered after a shutdown, too: it needs no I/O.
fn outlives(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Statfs | Request::Release(_) | Request::Ioctl { command: IOC_STATUS, .. }
    )
}

/// A file system of which only the size is known.
fn empty(geometry: &Geometry) -> StatFs {
    StatFs {
        block_size: geometry.block_size,
        blocks: geometry.blocks_count,
        free: 0,
        available: 0,
        inodes: geometry.inodes_count.into(),
        inodes_free: 0,
    }
}
