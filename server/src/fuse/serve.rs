//! The workers that answer the kernel, and the phases of a mount.
//!
//! The kernel may ask things of a file system before it is mounted: sync(2) on the host reaches an
//! unattached superblock too, and waits, unkillable, for INIT and SYNCFS. So the loop runs while the
//! log is read: what needs no file system is answered at once, the rest is parked until there is one.
//! # Locking
//! `phase` is held for moments only, never while a verb runs.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use fuse4fs_ext4::features::Incompat;
use fuse4fs_ext4::{Filesystem, Geometry, Overhead, StatFs};
use fuse4fs_protocol::ErrorsPolicy;
use fuser::{Errno, InitFlags};
use parking_lot::Mutex;
use tracing::{debug, error, info, trace};

use super::abi::InitIn;
use super::decode::{Call, Malformed, Request, decode};
use super::errno::{self, Fail, Reporter};
use super::init::{self, Opens, Terms};
use super::reply::{Buffer, Channel, MAX_PAYLOAD, MAX_REQUEST, Output};
use super::verbs::{self, Verbs};
use crate::device::Device;
use crate::log::Uuid;

/// Requests that may wait for the mount to be ready. Only the helper and sync(2) can send any before
/// the mount is attached, so this bounds what a broken one can pile up.
const MAX_PARKED: usize = 256;

/// What the mount request says about serving.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The device's name in log lines.
    pub(crate) device_name: String,
    /// What follows the first corruption, if not what the superblock says.
    pub(crate) errors: Option<ErrorsPolicy>,
    /// How statfs counts.
    pub(crate) overhead: Overhead,
    /// Seconds after which the kernel gives up on a request; 0 for never.
    pub(crate) request_timeout: u32,
}

/// How far the mount is.
enum Phase {
    /// The log is being read; requests that have to wait, as they came.
    Starting(Vec<Vec<u8>>),
    /// Mounted.
    Serving(Arc<Filesystem>),
    /// Unmounted, or never mounted.
    Ended,
}

/// Whether a worker goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Continue,
    Stop,
}

/// Everything that the workers share.
pub(crate) struct Frontend {
    channels: Vec<Channel>,
    devices: Vec<Arc<Device>>,
    geometry: Geometry,
    settings: Settings,
    reporter: Reporter,
    /// Set once INIT is answered: the abilities in use.
    negotiated: OnceLock<InitFlags>,
    phase: Mutex<Phase>,
}

impl Frontend {
    /// A front end for the file system of that geometry. `channels` are /dev/fuse descriptors of the
    /// mount, one at least; `devices` are closed at the end.
    pub(crate) fn new(
        channels: Vec<OwnedFd>,
        devices: Vec<Arc<Device>>,
        geometry: Geometry,
        settings: Settings,
    ) -> Self {
        Self {
            channels: channels.into_iter().map(Channel::new).collect(),
            devices,
            geometry,
            reporter: Reporter::new(&settings.device_name),
            settings,
            negotiated: OnceLock::new(),
            phase: Mutex::new(Phase::Starting(Vec::new())),
        }
    }

    /// The file system is there: answers what waited for it. False if the mount has ended already.
    ///
    /// # Errors
    /// When there is no memory for a buffer.
    pub(crate) fn ready(&self, fs: Filesystem) -> io::Result<bool> {
        let fs = Arc::new(fs);
        let parked = match &mut *self.phase.lock() {
            Phase::Ended => return Ok(false),
            phase => match std::mem::replace(phase, Phase::Serving(Arc::clone(&fs))) {
                Phase::Starting(parked) => parked,
                Phase::Serving(_) | Phase::Ended => Vec::new(),
            },
        };
        let mut reply = Buffer::new(MAX_PAYLOAD)?;
        for bytes in parked {
            // All of it was read by the one worker of the start, from the first channel.
            if let (Ok(call), Some(channel)) = (decode(&bytes), self.channels.first()) {
                self.verb(&fs, &call, channel, &mut reply);
            }
        }
        Ok(true)
    }

    /// Whether the file system is mounted.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(&*self.phase.lock(), Phase::Serving(_))
    }

    /// Serves on one of the channels until the kernel hangs up. `worker` counts from 0.
    ///
    /// # Errors
    /// When the channel cannot be read.
    pub(crate) fn work(&self, worker: usize) -> io::Result<()> {
        let index = worker.checked_rem(self.channels.len()).unwrap_or(0);
        let Some(channel) = self.channels.get(index) else { return Ok(()) };
        let mut request = Buffer::new(MAX_REQUEST)?;
        let mut reply = Buffer::new(MAX_PAYLOAD)?;
        while let Some(bytes) = channel.receive(&mut request)? {
            if self.serve(bytes, channel, &mut reply) == Flow::Stop {
                break;
            }
        }
        Ok(())
    }

    /// Closes the devices and forgets the file system. The second time nothing happens.
    pub(crate) fn end(&self) {
        let before = std::mem::replace(&mut *self.phase.lock(), Phase::Ended);
        for device in &self.devices {
            device.close();
        }
        if let Phase::Serving(_) = before {
            let (name, uuid) = (&self.settings.device_name, Uuid(self.geometry.uuid));
            info!("EXT4-fs ({name}): unmounting filesystem {uuid}.");
        }
    }

    fn serve(&self, bytes: &[u8], channel: &Channel, reply: &mut Buffer) -> Flow {
        let call = match decode(bytes) {
            Ok(call) => call,
            Err(malformed) => {
                self.refuse(malformed, channel);
                return Flow::Continue;
            }
        };
        trace!("{call:?}");
        match call.request {
            Request::Init(asked) => self.init(&call, &asked, channel, reply),
            Request::Forget => {}
            // No verb can be cut short: ENOSYS tells the kernel not to ask again.
            Request::Interrupt => channel.fail(call.unique, Errno::ENOSYS),
            Request::Destroy => {
                // Whoever waits in umount(2) may rely on the device being free.
                self.end();
                channel.answer(call.unique, &Output::new(&mut []));
                return Flow::Stop;
            }
            _ if self.negotiated.get().is_none() => channel.fail(call.unique, Errno::EIO),
            _ => self.by_phase(bytes, &call, channel, reply),
        }
        Flow::Continue
    }

    fn by_phase(&self, bytes: &[u8], call: &Call<'_>, channel: &Channel, reply: &mut Buffer) {
        let fs = match &mut *self.phase.lock() {
            Phase::Serving(fs) => Arc::clone(fs),
            Phase::Starting(parked) => return self.early(bytes, call, channel, parked, reply),
            Phase::Ended => return channel.fail(call.unique, Errno::EIO),
        };
        self.verb(&fs, call, channel, reply);
    }

    /// Before the file system is there. STATFS shows its size and nothing free.
    fn early(
        &self,
        bytes: &[u8],
        call: &Call<'_>,
        channel: &Channel,
        parked: &mut Vec<Vec<u8>>,
        reply: &mut Buffer,
    ) {
        let mut out = Output::new(reply.bytes());
        match call.request {
            Request::Nothing => channel.answer(call.unique, &out),
            Request::Statfs => match verbs::statfs(&empty(&self.geometry), &mut out) {
                Ok(()) => channel.answer(call.unique, &out),
                Err(_) => channel.fail(call.unique, Errno::EIO),
            },
            _ if parked.len() < MAX_PARKED => parked.push(bytes.to_vec()),
            _ => channel.fail(call.unique, Errno::EAGAIN),
        }
    }

    fn verb(&self, fs: &Filesystem, call: &Call<'_>, channel: &Channel, reply: &mut Buffer) {
        let mut out = Output::new(reply.bytes());
        let verbs = Verbs { fs, opens: self.opens(), overhead: self.settings.overhead };
        let name = call.request.name();
        match verbs.answer(call, &mut out) {
            Ok(()) => channel.answer(call.unique, &out),
            Err(fail) => channel.fail(call.unique, self.report(fs, name, &fail)),
        }
        // Damage that the verb got around.
        for error in fs.take_notices() {
            self.report(fs, name, &error.into());
        }
    }

    /// The errno of a failure. Does not return where a failure like this shall end the mount.
    fn report(&self, fs: &Filesystem, verb: &str, fail: &Fail) -> Errno {
        let errno = self.reporter.errno(verb, fail);
        let policy = self.settings.errors.unwrap_or_else(|| policy(fs.facts().errors));
        if errno::must_stop(fail, policy) {
            error!("EXT4-fs ({}): errors=panic: serving ends", self.settings.device_name);
            std::process::exit(1);
        }
        errno
    }

    fn init(&self, call: &Call<'_>, asked: &InitIn, channel: &Channel, reply: &mut Buffer) {
        let terms = Terms { opens: self.opens(), request_timeout: self.settings.request_timeout };
        let mut out = Output::new(reply.bytes());
        match init::negotiate(asked, &terms) {
            Ok((message, negotiated)) if out.put(&message).is_ok() => {
                debug!("FUSE 7.{} of the kernel, settled on {negotiated:?}", asked.minor);
                if negotiated.is_some_and(|settled| self.negotiated.set(settled).is_err()) {
                    return channel.fail(call.unique, Errno::EIO);
                }
                channel.answer(call.unique, &out);
            }
            Ok(_) => channel.fail(call.unique, Errno::EIO),
            Err(errno) => channel.fail(call.unique, errno),
        }
    }

    /// Encrypted files are refused when they are opened; nothing else is.
    fn opens(&self) -> Opens {
        let encrypted = self.geometry.features.incompat.contains(Incompat::ENCRYPT);
        if encrypted { Opens::Asked } else { Opens::Unasked }
    }

    fn refuse(&self, malformed: Malformed, channel: &Channel) {
        tracing::warn!("EXT4-fs ({}): malformed request", self.settings.device_name);
        if let Some(unique) = malformed.0 {
            channel.fail(unique, Errno::EIO);
        }
    }
}

/// The policy that s_errors stands for.
fn policy(errors: u16) -> ErrorsPolicy {
    match errors {
        2 => ErrorsPolicy::RemountReadOnly,
        3 => ErrorsPolicy::Panic,
        _ => ErrorsPolicy::Continue,
    }
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
