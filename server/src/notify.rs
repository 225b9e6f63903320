//! Tells systemd how the mount is getting on (sd_notify(3)), where it asked to know.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use sd_notify::NotifyState;

/// A line to the service manager. `sd_notify` opens a socket for each message, which the sandbox
/// forbids, so this one is connected beforehand and only the messages are the crate's.
#[derive(Debug)]
pub(crate) struct Notifier(Option<UnixDatagram>);

impl Notifier {
    /// Connects to `$NOTIFY_SOCKET`, if there is one. Nobody is refused for want of it.
    pub(crate) fn connect() -> Self {
        let path = std::env::var_os("NOTIFY_SOCKET");
        Self(path.and_then(|path| connect(&path).ok()))
    }

    /// The descriptor, to be kept open in the sandbox.
    pub(crate) fn fd(&self) -> Option<RawFd> {
        self.0.as_ref().map(AsRawFd::as_raw_fd)
    }

    /// Sends one state. A manager that does not listen misses it.
    pub(crate) fn tell(&self, state: &NotifyState<'_>) {
        if let Some(socket) = &self.0 {
            let _ = socket.send(state.to_string().as_bytes());
        }
    }
}

fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(path)?,
    };
    socket.connect_addr(&address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
