//! Tells systemd how the mount of a unit is getting on.
//!
//! The server is contained: it has no socket to systemd, and a taken-over one shall not flood it. So the
//! helper speaks for it, as root may for any process.
//! Source: sd_notify(3), sd_pid_notify(3); unix(7), "SCM_CREDENTIALS"

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::unix::net::UnixDatagram;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, UCred, sendmsg};
use rustix::process::{Pid, getgid, getuid};

use crate::session::{Greeted, Session};

/// Where the system's manager listens.
const SOCKET: &str = "/run/systemd/notify";

/// Characters of a status: systemd drops messages of more than 4096 bytes.
const LONGEST: usize = 1000;

/// A way to tell, if there is one. What cannot be told is not: no mount fails for that.
#[derive(Debug)]
pub(crate) struct Notifier(Option<(UnixDatagram, Pid)>);

impl Notifier {
    /// For the server of `session`, if it is a unit's.
    pub(crate) fn new(session: &Session<Greeted>) -> Self {
        let Greeted { is_unit, server_pid, .. } = session.state;
        let pid = Pid::from_raw(server_pid).filter(|_| is_unit);
        Self(pid.and_then(|pid| Some((connect()?, pid))))
    }

    /// What the unit is doing now.
    pub(crate) fn status(&self, text: &str) {
        self.tell("", text);
    }

    /// The unit serves.
    pub(crate) fn ready(&self, text: &str) {
        self.tell("READY=1\n", text);
    }

    fn tell(&self, before: &str, status: &str) {
        let Some((socket, pid)) = &self.0 else { return };
        let message = format!("{before}STATUS={}", in_one_line(status));
        let credentials = UCred { pid: *pid, uid: getuid(), gid: getgid() };
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmCredentials(credentials));
        let parts = [IoSlice::new(message.as_bytes())];
        let _ = sendmsg(socket, &parts, &mut control, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
}

fn connect() -> Option<UnixDatagram> {
    let socket = UnixDatagram::unbound().ok()?;
    socket.connect(SOCKET).ok()?;
    Some(socket)
}

/// Each line of a message is an order to systemd, and paths may hold line feeds.
fn in_one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_gives_no_orders() {
        assert_eq!(in_one_line(&"é".repeat(5000)).len(), 2000);
        assert_eq!(in_one_line("serving a at /mnt\nMAINPID=1"), "serving a at /mnt MAINPID=1");
    }
}
