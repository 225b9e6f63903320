//! The server's side of the conversation with the helper.
//!
//! `Greeting` → (`Hello`, `Welcome`) → `Greeted` → (`Mount` or `Check`) → `Conversation`: the order is in the
//! types. After that nothing is ever read from the socket, so no descriptor can come in after the
//! first byte of the image was looked at.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use fuse4fs_protocol::{
    CacheSize, CheckRequest, CodecError, FdRole, Features, Hello, MAGIC, MAX_BUSY_POLL, MAX_CACHE,
    MAX_FDS, MAX_MESSAGE, MAX_THREADS, MIN_CACHE, MountRequest, Phase, RefusalKind, Report,
    ServingOptions, Text, ToHelper, ToServer, VersionError, Welcome,
};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use thiserror::Error;

/// How long the other side may take for its next word, and to take ours.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why there was no conversation.
#[derive(Debug, Error)]
pub(crate) enum SessionError {
    /// The helper went away.
    #[error("mount.fuse4fs hung up before the mount was ready")]
    HungUp,
    /// The helper does not speak.
    #[error("mount.fuse4fs said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// The socket failed.
    #[error("the socket to mount.fuse4fs failed: {0}")]
    Socket(#[source] io::Error),
    /// What came is no message.
    #[error("from mount.fuse4fs: {0}")]
    Codec(#[from] CodecError),
    /// The two speak different versions.
    #[error("{0}; install matching versions of mount.fuse4fs and fuse4fs-server")]
    Version(#[from] VersionError),
    /// What came was a message, but not of this place in the conversation, or not whole.
    #[error("mount.fuse4fs broke the protocol: {0}")]
    Protocol(&'static str),
}

impl From<rustix::io::Errno> for SessionError {
    fn from(error: rustix::io::Errno) -> Self {
        match error {
            rustix::io::Errno::AGAIN => Self::Silent,
            rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET => Self::HungUp,
            other => Self::Socket(other.into()),
        }
    }
}

/// The descriptors of a mount.
#[derive(Debug)]
pub(crate) struct Handed {
    /// The device, open for reading, or for both on a read-write mount.
    pub(crate) device: OwnedFd,
    /// The same with O_DIRECT, where the device can do that. It keeps the device busy as well.
    pub(crate) direct: Option<OwnedFd>,
    /// The /dev/fuse descriptor of the mount.
    pub(crate) fuse: OwnedFd,
    /// Fresh /dev/fuse descriptors.
    pub(crate) clones: Vec<OwnedFd>,
    /// The device of an external journal.
    pub(crate) journal: Option<OwnedFd>,
    /// /proc/loadavg, where this process is a group by itself for the scheduler.
    pub(crate) load: Option<OwnedFd>,
    /// What tells that memory is short.
    pub(crate) pressure: Option<OwnedFd>,
}

impl Handed {
    /// The numbers of those that are open from here on; the load is the rings', the pressure its watcher's.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        let Self { device, direct, fuse, journal, .. } = self;
        let singles = [Some(device), direct.as_ref(), Some(fuse), journal.as_ref()];
        singles.into_iter().flatten().chain(&self.clones).map(AsRawFd::as_raw_fd)
    }

    /// The numbers of those that are /dev/fuse.
    pub(crate) fn channels(&self) -> impl Iterator<Item = RawFd> {
        std::iter::once(&self.fuse).chain(&self.clones).map(AsRawFd::as_raw_fd)
    }

    /// Bytes of the longest one that is a file, not a device.
    pub(crate) fn longest_file(&self) -> u64 {
        let files = [Some(&self.device), self.journal.as_ref()].into_iter().flatten();
        let sizes = files.filter_map(|file| rustix::fs::fstat(file).ok());
        sizes.filter_map(|stat| u64::try_from(stat.st_size).ok()).max().unwrap_or(0)
    }

    /// Sorts descriptors by role, each of them open for just what the mount does: a read-only mount
    /// cannot be made to write, a read-write one does not find out late that it cannot.
    fn sort(request: &MountRequest, fds: Vec<OwnedFd>) -> Result<Self, SessionError> {
        let roles = request.fds.roles();
        if roles.len() != fds.len() {
            return Err(SessionError::Protocol("the number of descriptors is not as announced"));
        }
        let (mut device, mut direct, mut fuse) = (None, None, None);
        let (mut journal, mut load, mut pressure) = (None, None, None);
        let mut clones = Vec::new();
        for (role, fd) in roles.iter().zip(fds) {
            check_mode(*role, &fd, request.read_only)?;
            let twice = match role {
                FdRole::Device => device.replace(fd),
                FdRole::DeviceDirect => direct.replace(fd),
                FdRole::Fuse => fuse.replace(fd),
                FdRole::Journal => journal.replace(fd),
                FdRole::FuseClone => {
                    clones.push(fd);
                    None
                }
                FdRole::Load => load.replace(fd),
                FdRole::MemoryPressure => pressure.replace(fd),
            };
            if twice.is_some() {
                return Err(SessionError::Protocol("two descriptors have the same role"));
            }
        }
        let missing = SessionError::Protocol("the device or the fuse descriptor is missing");
        let (Some(device), Some(fuse)) = (device, fuse) else { return Err(missing) };
        Ok(Self { device, direct, fuse, clones, journal, load, pressure })
    }
}

/// The descriptors of what is looked at, open for reading only.
#[derive(Debug)]
pub(crate) struct Devices {
    /// The device.
    pub(crate) device: OwnedFd,
    /// The device of an external journal.
    pub(crate) journal: Option<OwnedFd>,
}

impl Devices {
    /// Their numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> {
        std::iter::once(&self.device).chain(&self.journal).map(AsRawFd::as_raw_fd)
    }

    /// A device, perhaps a journal, and nothing else.
    fn sort(request: &CheckRequest, fds: Vec<OwnedFd>) -> Result<Self, SessionError> {
        for (role, fd) in request.fds.roles().iter().zip(&fds) {
            check_mode(*role, fd, true)?;
        }
        let mut fds = fds.into_iter();
        match (request.fds.roles(), fds.next(), fds.next(), fds.next()) {
            ([FdRole::Device], Some(device), None, _) => Ok(Self { device, journal: None }),
            ([FdRole::Device, FdRole::Journal], Some(device), journal @ Some(_), None) => {
                Ok(Self { device, journal })
            }
            _ => Err(SessionError::Protocol("not the descriptors that a check takes")),
        }
    }
}

/// What the helper wants.
#[derive(Debug)]
pub(crate) enum Asked {
    /// To serve a mount.
    Mount(Box<MountRequest>, Handed),
    /// To look at a device.
    Check(CheckRequest, Devices),
}

/// Checks what a descriptor can do against its role.
fn check_mode(role: FdRole, fd: &OwnedFd, read_only: bool) -> Result<(), SessionError> {
    let flags = fcntl_getfl(fd)?;
    let mode = flags & OFlags::RWMODE;
    let fits = match role {
        FdRole::Device | FdRole::DeviceDirect | FdRole::Journal => {
            mode == if read_only { OFlags::RDONLY } else { OFlags::RDWR }
        }
        FdRole::Fuse | FdRole::FuseClone | FdRole::MemoryPressure => mode == OFlags::RDWR,
        FdRole::Load => mode == OFlags::RDONLY,
    };
    let is_direct = role != FdRole::DeviceDirect || flags.contains(OFlags::DIRECT);
    if fits && is_direct {
        return Ok(());
    }
    Err(SessionError::Protocol("a descriptor is not open in the way that its role needs"))
}

/// Checks numbers that threads and waits are made of.
fn check_limits(serving: &ServingOptions) -> Result<(), SessionError> {
    let CacheSize { least, most } = serving.cache;
    if least < MIN_CACHE || least > most || most > MAX_CACHE {
        return Err(SessionError::Protocol("the size of the cache is out of its range"));
    }
    if serving.threads > MAX_THREADS || serving.busy_poll.is_some_and(|us| us > MAX_BUSY_POLL) {
        return Err(SessionError::Protocol("a serving option is out of its range"));
    }
    Ok(())
}

/// A socket on which nothing was said yet.
#[derive(Debug)]
pub(crate) struct Greeting(OwnedFd);

impl Greeting {
    /// Takes a connected SOCK_SEQPACKET socket.
    ///
    /// # Errors
    /// When it is not one.
    pub(crate) fn new(socket: OwnedFd) -> Result<Self, SessionError> {
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        set_socket_timeout(&socket, Timeout::Send, Some(PATIENCE))?;
        Ok(Self(socket))
    }

    /// Agrees on a version.
    ///
    /// # Errors
    /// A helper that is silent, gone, a stranger, or too old or new.
    pub(crate) fn welcome(self) -> Result<Greeted, SessionError> {
        let (message, fds) = receive(&self.0)?;
        let ToServer::Hello(hello) = message else {
            return Err(SessionError::Protocol("the first message is not Hello"));
        };
        if !fds.is_empty() {
            return Err(SessionError::Protocol("descriptors came with Hello"));
        }
        let version = match hello.negotiate() {
            Ok(version) => version,
            Err(error) => {
                Conversation(self.0).refuse(RefusalKind::Internal, &error.to_string());
                return Err(error.into());
            }
        };
        let features = hello.features.common(Hello::ours().features);
        tell(&self.0, &welcome(version, features), SendFlags::empty())?;
        Ok(Greeted(self.0))
    }
}

fn welcome(version: u16, features: Features) -> ToHelper {
    let server = Text::lossy(concat!("fuse4fs-server ", env!("CARGO_PKG_VERSION")));
    ToHelper::Welcome(Welcome { magic: MAGIC, version, features, server })
}

/// A socket on which a version is agreed.
#[derive(Debug)]
pub(crate) struct Greeted(OwnedFd);

impl Greeted {
    /// Waits for the request and shuts the door behind its descriptors.
    ///
    /// # Errors
    /// A helper that is silent or gone, or a request that is not whole.
    pub(crate) fn request(self) -> Result<(Conversation, Asked), SessionError> {
        let (message, fds) = receive(&self.0)?;
        let asked = match message {
            ToServer::Hello(_) => {
                return Err(SessionError::Protocol("the second message is not Mount or Check"));
            }
            ToServer::Mount(request) => {
                check_limits(&request.serving)?;
                let handed = Handed::sort(&request, fds)?;
                Asked::Mount(Box::new(request), handed)
            }
            ToServer::Check(request) => {
                let devices = Devices::sort(&request, fds)?;
                Asked::Check(request, devices)
            }
        };
        // Older kernels do not know the option; there it is enough that nothing is read any more.
        let _ = crate::sys::refuse_descriptors(&self.0);
        Ok((Conversation(self.0), asked))
    }
}

/// The rest of the conversation: only the server speaks.
#[derive(Debug)]
pub(crate) struct Conversation(OwnedFd);

impl Conversation {
    /// The descriptor's number.
    pub(crate) fn number(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Says that the work goes on. A helper that does not listen at the moment misses it.
    pub(crate) fn progress(&self, phase: Phase, done: u64, total: u64) {
        let _ = tell(&self.0, &ToHelper::Progress { phase, done, total }, SendFlags::DONTWAIT);
    }

    /// Says that the mount answers requests, and hangs up.
    ///
    /// # Errors
    /// A helper that is gone, in which case nobody will attach the mount.
    pub(crate) fn serving(self, read_only: bool) -> Result<(), SessionError> {
        tell(&self.0, &ToHelper::Serving { read_only }, SendFlags::empty())
    }

    /// Says what was found, and hangs up.
    ///
    /// # Errors
    /// A helper that is gone.
    pub(crate) fn report(self, report: Report) -> Result<(), SessionError> {
        tell(&self.0, &ToHelper::Report(Box::new(report)), SendFlags::empty())
    }

    /// Says that there will be no mount, and hangs up.
    pub(crate) fn refuse(self, kind: RefusalKind, text: &str) {
        let refused = ToHelper::Refused { kind, text: Text::lossy(text) };
        if let Err(error) = tell(&self.0, &refused, SendFlags::empty()) {
            tracing::debug!("the refusal could not be delivered: {error}");
        }
    }
}

/// What a helper says on `socket`, heard to the request, for fuzzers: the roles of the descriptors that it
/// announced, and how many were kept of those that came with it.
#[cfg(feature = "fuzzing")]
#[must_use]
pub fn hear_helper(socket: OwnedFd) -> Option<(Vec<FdRole>, usize)> {
    let (_, asked) = Greeting::new(socket).ok()?.welcome().ok()?.request().ok()?;
    Some(match asked {
        Asked::Mount(request, handed) => {
            let apart = handed.load.iter().chain(&handed.pressure).map(AsRawFd::as_raw_fd);
            (request.fds.roles().to_vec(), handed.numbers().chain(apart).count())
        }
        Asked::Check(request, devices) => (request.fds.roles().to_vec(), devices.numbers().count()),
    })
}

fn tell(socket: &OwnedFd, message: &ToHelper, flags: SendFlags) -> Result<(), SessionError> {
    let bytes = fuse4fs_protocol::encode(message)?;
    send(socket, &bytes, flags | SendFlags::NOSIGNAL)?;
    Ok(())
}

/// One message with its descriptors, which are closed on exec from the start.
fn receive(socket: &OwnedFd) -> Result<(ToServer, Vec<OwnedFd>), SessionError> {
    // One byte more than a message may have tells an exact fit from one that was cut.
    let mut bytes = vec![0; MAX_MESSAGE.saturating_add(1)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let received = loop {
        match recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let fds = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(SessionError::Protocol("a message was cut short"));
    }
    if received.bytes == 0 {
        return Err(SessionError::HungUp);
    }
    let message = bytes.get(..received.bytes).unwrap_or_default();
    Ok((fuse4fs_protocol::decode(message)?, fds))
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
