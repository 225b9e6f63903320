//! Finds a server: systemd's socket, or a process that we start. One of them, never a second try
//! after a connection was made: whoever answered could otherwise choose what runs next.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::options::{DEFAULT_SOCKET, ServerChoice};
use crate::report::{Failure, plain};
use crate::spawn::{self, Start};
use crate::sys::child;
use crate::sys::socket::Socket;

/// How long a server may take to go after we hung up, before it is killed.
const FAREWELL: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);

/// A socket with a server behind it.
#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) socket: Socket,
    pub(crate) server: ServerProcess,
    /// Who started the server, for people.
    pub(crate) origin: String,
    /// Its tasks are a group by themselves for the scheduler.
    pub(crate) is_group: bool,
    /// It is one of systemd's.
    pub(crate) is_unit: bool,
}

/// The server's process; killed when this is dropped, unless [`Self::leave`] came first.
#[derive(Debug, Default)]
pub(crate) struct ServerProcess {
    pidfd: Option<OwnedFd>,
    left: bool,
}

impl ServerProcess {
    pub(crate) const fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd: Some(pidfd), left: false }
    }

    /// Learns the process of a server that somebody else started.
    pub(crate) fn learn(&mut self, pidfd: Option<OwnedFd>) {
        if self.pidfd.is_none() {
            self.pidfd = pidfd;
        }
    }

    /// The server serves; it stays when we go.
    pub(crate) fn leave(mut self) -> Option<OwnedFd> {
        self.left = true;
        self.pidfd.take()
    }

    /// Gives the server time to go by itself.
    pub(crate) fn wait_for_its_end(&self) {
        if let (Some(pidfd), Some(deadline)) = (&self.pidfd, Instant::now().checked_add(FAREWELL)) {
            let _ = child::has_ended(pidfd, deadline);
        }
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if let (Some(pidfd), false) = (&self.pidfd, self.left) {
            child::kill(pidfd.as_fd(), FAREWELL);
        }
    }
}

/// Connects to the server of choice, or starts one.
pub(crate) fn reach(choice: &ServerChoice, start: &Start<'_>) -> Result<Contact, Failure> {
    match choice {
        ServerChoice::Systemd(socket) => connect(socket).map_err(|error| {
            Failure::system(format!(
                "no server at {}: {}; start it with: systemctl start fuse4fs.socket, \
                 or use -o server=spawn",
                socket.display(),
                plain(&error)
            ))
        }),
        ServerChoice::Spawn(program) => spawn::start(program.as_deref(), start),
        ServerChoice::Any => match connect(Path::new(DEFAULT_SOCKET)) {
            Ok(contact) => Ok(contact),
            // Nobody there: nothing has been said to anyone yet.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
                ) =>
            {
                spawn::start(None, start)
            }
            Err(error) => {
                Err(Failure::system(format!("cannot use {DEFAULT_SOCKET}: {}", plain(&error))))
            }
        },
    }
}

fn connect(path: &Path) -> io::Result<Contact> {
    let deadline = Instant::now().checked_add(crate::session::HELLO_TIMEOUT);
    loop {
        match Socket::connect(path) {
            // Others wait to be accepted as well.
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock
                    && deadline.is_some_and(|deadline| Instant::now() < deadline) =>
            {
                sleep(PAUSE);
            }
            Err(error) => return Err(error),
            Ok(socket) => {
                return Ok(Contact {
                    socket,
                    server: ServerProcess::default(),
                    origin: format!("systemd ({})", path.display()),
                    // The unit has a weight of its own.
                    is_group: true,
                    is_unit: true,
                });
            }
        }
    }
}
