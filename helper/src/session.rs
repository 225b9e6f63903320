//! The conversation with a server. The compiler checks its order: each state has one verb, and
//! the verbs of this side are all there is, a server cannot ask.
//!
//! Dropping a session in any state but [`Serving`] hangs up and ends the server.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use fuse4fs_protocol::{
    CheckRequest, Hello, MAX_MESSAGE, MountRequest, Phase, RefusalKind, Report, Text, ToHelper,
    ToServer, Welcome, decode, encode,
};

use crate::connect::{Contact, ServerProcess};
use crate::report::{Failure, plain};
use crate::sys::child::wait_readable;
use crate::sys::socket::{Packet, Sender, Socket};

/// For the first answer: nothing has to be read from a disk for it.
pub(crate) const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Progress messages in one second, at most; more is a flood.
const MAX_PROGRESS_RATE: u32 = 200;

/// Connected, nothing said.
#[derive(Debug)]
pub(crate) struct Fresh {
    is_group: bool,
    is_unit: bool,
}
/// Both sides have agreed on a version.
#[derive(Debug)]
pub(crate) struct Greeted {
    pub(crate) welcome: Welcome,
    /// The server's pid here; 0 if it has none.
    pub(crate) server_pid: i32,
    /// See [`Contact::is_group`].
    pub(crate) is_group: bool,
    /// See [`Contact::is_unit`].
    pub(crate) is_unit: bool,
}
/// The mount was sent; the verdict is out.
#[derive(Debug)]
pub(crate) struct Requested {
    /// What was asked for.
    read_only: bool,
}
/// The server answers requests.
#[derive(Debug)]
pub(crate) struct Serving {
    /// It writes nothing, though it was asked to.
    pub(crate) tightened: bool,
}

/// A conversation.
#[derive(Debug)]
pub(crate) struct Session<S> {
    // Declared, so dropped, in this order: hang up, then end the server.
    socket: Socket,
    server: ServerProcess,
    /// Readable when the user interrupts.
    interruptions: OwnedFd,
    /// Silence for longer than this is a failure.
    timeout: Duration,
    pub(crate) state: S,
}

impl Session<Fresh> {
    pub(crate) fn new(contact: Contact, interruptions: OwnedFd, timeout: Duration) -> Self {
        let Contact { socket, server, origin: _, is_group, is_unit } = contact;
        Self { socket, server, interruptions, timeout, state: Fresh { is_group, is_unit } }
    }

    /// Hello and Welcome.
    pub(crate) fn greet(mut self) -> Result<Session<Greeted>, Failure> {
        self.socket.ask_for_sender(true);
        self.say(&ToServer::Hello(Hello::ours()), &[])?;
        self.wait(deadline(self.timeout.min(HELLO_TIMEOUT)))?;
        let (packet, Sender { pid, pidfd }) =
            self.socket.receive_with_sender(MAX_MESSAGE).map_err(|error| broken(&error))?;
        self.server.learn(pidfd);
        self.socket.ask_for_sender(false);
        let ToHelper::Welcome(welcome) = message(packet)? else {
            return Err(misbehaved("spoke out of turn"));
        };
        welcome.check().map_err(|error| misbehaved(&format!("cannot be talked to: {error}")))?;
        let Fresh { is_group, is_unit } = self.state;
        Ok(self.become_state(Greeted { welcome, server_pid: pid, is_group, is_unit }))
    }
}

impl Session<Greeted> {
    /// Sends the mount with its descriptors, in the order of their roles.
    pub(crate) fn request(
        self,
        request: MountRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Session<Requested>, Failure> {
        let read_only = request.read_only;
        self.say(&ToServer::Mount(request), fds)?;
        Ok(self.become_state(Requested { read_only }))
    }

    /// Sends what is to be looked at, with its descriptors in the order of their roles, and waits for the
    /// report; `progress` hears of what comes before it.
    pub(crate) fn check(
        self,
        request: CheckRequest,
        fds: &[BorrowedFd<'_>],
        progress: impl FnMut(Phase, u64, u64),
    ) -> Result<Box<Report>, Failure> {
        self.say(&ToServer::Check(request), fds)?;
        match self.last_word(progress)? {
            ToHelper::Report(report) => {
                self.farewell();
                Ok(report)
            }
            ToHelper::Refused { kind, text } => Err(self.refused(kind, &text)),
            _ => Err(misbehaved("spoke out of turn")),
        }
    }

    /// Hangs up: there is nothing to mount.
    pub(crate) fn farewell(self) {
        let Self { socket, server, .. } = self;
        drop(socket);
        server.wait_for_its_end();
    }
}

impl Session<Requested> {
    /// Waits for the last word; `progress` hears of what comes before it.
    pub(crate) fn verdict(
        self,
        progress: impl FnMut(Phase, u64, u64),
    ) -> Result<Session<Serving>, Failure> {
        match self.last_word(progress)? {
            ToHelper::Serving { read_only } => {
                let tightened = read_only && !self.state.read_only;
                Ok(self.become_state(Serving { tightened }))
            }
            ToHelper::Refused { kind, text } => Err(self.refused(kind, &text)),
            _ => Err(misbehaved("spoke out of turn")),
        }
    }
}

impl Session<Serving> {
    /// Hangs up and lets the server live; gives its pidfd if it is known.
    pub(crate) fn leave(self) -> Option<OwnedFd> {
        self.server.leave()
    }
}

impl<S> Session<S> {
    fn become_state<T>(self, state: T) -> Session<T> {
        let Self { socket, server, interruptions, timeout, state: _ } = self;
        Session { socket, server, interruptions, timeout, state }
    }

    fn say(&self, message: &ToServer, fds: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let bytes = encode(message).map_err(|error| Failure::mount(error.to_string()))?;
        self.socket.send(&bytes, fds).map_err(|error| broken(&error))
    }

    /// What comes after all progress, of which `progress` hears.
    fn last_word(&self, mut progress: impl FnMut(Phase, u64, u64)) -> Result<ToHelper, Failure> {
        let mut second = Instant::now();
        let mut in_this_second = 0_u32;
        loop {
            let (phase, done, total) = match self.hear(deadline(self.timeout))? {
                ToHelper::Progress { phase, done, total } => (phase, done, total),
                last => return Ok(last),
            };
            if second.elapsed() >= Duration::from_secs(1) {
                (second, in_this_second) = (Instant::now(), 0);
            }
            in_this_second = in_this_second.saturating_add(1);
            if in_this_second > MAX_PROGRESS_RATE {
                return Err(misbehaved("floods us with progress messages"));
            }
            progress(phase, done, total);
        }
    }

    /// A server that refused goes by itself, once we have hung up.
    fn refused(self, kind: RefusalKind, text: &Text) -> Failure {
        let Self { socket, server, .. } = self;
        drop(socket);
        server.wait_for_its_end();
        Failure::mount(format!("{} (the server says: {text})", reason(kind)))
    }

    fn hear(&self, deadline: Instant) -> Result<ToHelper, Failure> {
        self.wait(deadline)?;
        message(self.socket.receive(MAX_MESSAGE).map_err(|error| broken(&error))?)
    }

    fn wait(&self, deadline: Instant) -> Result<(), Failure> {
        let fds = [self.interruptions.as_fd(), self.socket.as_fd()];
        match wait_readable(&fds, deadline).map_err(|error| broken(&error))? {
            Some(0) => Err(Failure::interrupted()),
            Some(_) => Ok(()),
            None => Err(misbehaved("does not answer; nothing was mounted")),
        }
    }
}

/// What a server says to `request`, heard to its last word, for fuzzers: whether the mount is to be
/// read-only though it was asked not to be. `says` gets the server's end of a fresh socket. `server` is
/// its process, which is waited for and killed like any.
///
/// # Errors
/// What root would be told.
#[cfg(feature = "fuzzing")]
pub fn hear_server(
    says: impl FnOnce(&OwnedFd),
    processes: (OwnedFd, OwnedFd),
    request: MountRequest,
) -> Result<bool, String> {
    let told = |failure: Failure| failure.text;
    let session = greeted(says, processes)?.request(request, &[]).map_err(told)?;
    let serving = session.verdict(|_, _, _| ()).map_err(told)?;
    let tightened = serving.state.tightened;
    drop(serving.leave());
    Ok(tightened)
}

/// The same for a check, and what is printed of the report: for people, and as JSON.
///
/// # Errors
/// What root would be told.
#[cfg(feature = "fuzzing")]
pub fn hear_report(
    says: impl FnOnce(&OwnedFd),
    processes: (OwnedFd, OwnedFd),
    request: CheckRequest,
) -> Result<[String; 2], String> {
    let told = greeted(says, processes)?.check(request, &[], |_, _, _| ());
    told.map(crate::examine::printed).map_err(|failure| failure.text)
}

#[cfg(feature = "fuzzing")]
fn greeted(
    says: impl FnOnce(&OwnedFd),
    (server, interruptions): (OwnedFd, OwnedFd),
) -> Result<Session<Greeted>, String> {
    let (socket, theirs) = Socket::pair().map_err(|error| error.to_string())?;
    says(&theirs);
    let server = ServerProcess::new(server);
    let contact =
        Contact { socket, server, origin: String::new(), is_group: false, is_unit: false };
    let session = Session::new(contact, interruptions, HELLO_TIMEOUT);
    session.greet().map_err(|failure| failure.text)
}

fn deadline(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or(now)
}

fn message(packet: Packet) -> Result<ToHelper, Failure> {
    match packet {
        Packet::Message(bytes) => {
            decode(&bytes).map_err(|error| misbehaved(&format!("talks nonsense: {error}")))
        }
        Packet::Closed => Err(Failure::mount(
            "the server ended before the mount was ready; see its log \
             (journalctl -u 'fuse4fs@*', or -o log=FILE)",
        )),
        Packet::TooLong => Err(misbehaved("sent a message that is too long")),
        Packet::Descriptors => Err(misbehaved("sent file descriptors")),
    }
}

fn misbehaved(what: &str) -> Failure {
    Failure::mount(format!("the server {what}"))
}

fn broken(error: &io::Error) -> Failure {
    Failure::mount(format!("the connection to the server broke: {}", plain(error)))
}

/// Our own words for a refusal: the server's text is only quoted.
const fn reason(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::NotExt4 => "no ext2, ext3 or ext4 file system is there; check the name",
        RefusalKind::Unsupported => {
            "the file system has features that this version of fuse4fs does not know"
        }
        RefusalKind::Corrupt => "the file system is damaged; run e2fsck on it",
        RefusalKind::Io => "reading the device failed; see dmesg(1)",
        RefusalKind::Busy => "the file system is in use elsewhere",
        RefusalKind::BadOption => "a mount option does not fit the file system",
        RefusalKind::Internal => "the server failed; see its log",
    }
}
