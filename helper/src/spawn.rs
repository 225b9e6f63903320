//! Starts the server ourselves, contained: the way of machines without systemd and of ordinary users.

use std::ffi::CStr;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::connect::{Contact, ServerProcess};
use crate::report::{Explain, Failure, plain};
use crate::scheduling;
use crate::sys::launch::{Identity, Launch, LaunchError, launch};
use crate::sys::open::{Pinned, again, log_file, well_known};
use crate::sys::socket::Socket;

const PROGRAM: &str = "fuse4fs-server";
/// Where an installation puts the server; set when building a package.
const LIBEXEC: &str = match option_env!("FUSE4FS_LIBEXECDIR") {
    Some(directory) => directory,
    None => "/usr/libexec",
};
const SYSLOG: &str = "/dev/log";

/// Uids for servers: below 2^31, above what systemd, containers and subordinate id ranges hand out
/// (systemd's documentation, UIDS-GIDS). A random one, so that no two servers share one and with
/// it signals, limits or anything else that goes by uid.
const FIRST_UNUSED: u32 = 0x7000_0000;
const UNUSED_MASK: u32 = 0x0fff_ffff;

/// How a server is started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Privilege {
    /// As root: an unused uid in fresh namespaces.
    Root,
    /// As the caller, in fresh namespaces where the machine allows that.
    Caller,
}

/// What goes with a start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start<'a> {
    pub(crate) privilege: Privilege,
    /// `log=`.
    pub(crate) log: Option<&'a Path>,
    /// The log goes to our stderr unless `log` names a file.
    pub(crate) log_to_stderr: bool,
}

/// Starts `program`, or the one that belongs to this installation.
pub(crate) fn start(program: Option<&Path>, start: &Start<'_>) -> Result<Contact, Failure> {
    let path = program.map_or_else(installed, Path::to_path_buf);
    let program = Pinned::at(&path).map_err(|error| {
        Failure::system(format!("no server program {}: {}", path.display(), plain(&error)))
    })?;
    let (socket, theirs) = Socket::pair().or_system_failure("cannot make a socket")?;
    let null = well_known("/dev/null", OFlags::RDWR).or_system_failure("cannot open /dev/null")?;
    let log = log(start, &null)?;
    let run = |arguments: &[&CStr], identity| {
        launch(&Launch {
            program: program.as_fd(),
            arguments,
            socket: theirs.as_fd(),
            null: null.as_fd(),
            log: log.as_fd(),
            identity,
        })
    };
    let contained = [c"fuse4fs-server", c"--spawned"];
    let pidfd = match start.privilege {
        Privilege::Root => run(&contained, Some(Identity::Unused(unused_id()))),
        Privilege::Caller => match run(&contained, Some(own_identity())) {
            // Where namespaces are not for users, seccomp and Landlock still hold.
            Err(LaunchError::Clone(_) | LaunchError::Map(_)) => {
                run(&[c"fuse4fs-server", c"--spawned", c"--no-namespaces"], None)
            }
            result => result,
        },
    };
    let pidfd = pidfd.map_err(|error| explain(&error, &path))?;
    Ok(Contact {
        socket,
        server: ServerProcess::new(pidfd),
        origin: format!("{}", path.display()),
        is_group: scheduling::session_is_group(),
        is_unit: false,
    })
}

fn explain(error: &LaunchError, path: &Path) -> Failure {
    Failure::system(match error {
        LaunchError::Clone(error) => format!(
            "cannot make namespaces for the server: {}; allow user namespaces \
             (sysctl user.max_user_namespaces) or use systemd's socket",
            plain(error)
        ),
        LaunchError::Map(error) => {
            format!("cannot give the server a uid of its own: {}", plain(error))
        }
        LaunchError::Exec(error) => format!("cannot run {}: {}", path.display(), plain(error)),
    })
}

/// Beside us, else where packages put it.
fn installed() -> PathBuf {
    let us = std::env::current_exe().ok();
    let directory = us.as_deref().and_then(Path::parent);
    let beside = directory.into_iter().flat_map(|directory| {
        [directory.join("../libexec").join(PROGRAM), directory.join(PROGRAM)]
    });
    let packaged = Path::new(LIBEXEC).join(PROGRAM);
    beside.into_iter().find(|path| path.exists()).unwrap_or(packaged)
}

fn unused_id() -> u32 {
    // The keys of a new RandomState are the kernel's random numbers.
    let random = RandomState::new().hash_one(std::process::id());
    let low = u32::try_from(random & u64::from(UNUSED_MASK)).unwrap_or(0);
    FIRST_UNUSED | low
}

fn own_identity() -> Identity {
    Identity::Own {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
    }
}

/// Where the server writes its log: never to a descriptor of the caller's that outlives us.
fn log(start: &Start<'_>, null: &OwnedFd) -> Result<OwnedFd, Failure> {
    if let Some(path) = start.log {
        return log_file(path).or_system_failure(&format!("cannot open log {}", path.display()));
    }
    if start.log_to_stderr {
        return writable(io::stderr().as_fd(), null).or_system_failure("cannot use stderr");
    }
    if let Ok(syslog) = UnixDatagram::unbound()
        && syslog.connect(SYSLOG).is_ok()
    {
        return Ok(syslog.into());
    }
    null.try_clone().or_system_failure("cannot use /dev/null")
}

/// Stderr, only to be written: a terminal is open for reading as well, and would tell the server what
/// is typed. What cannot be opened anew, as a socket, is passed on if it is none.
fn writable(stderr: BorrowedFd<'_>, null: &OwnedFd) -> io::Result<OwnedFd> {
    match again(stderr, OFlags::WRONLY | OFlags::APPEND) {
        Err(_) if stderr.is_terminal() => null.try_clone(),
        Err(_) => stderr.try_clone_to_owned(),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_handed_over_to_be_written_alone() {
        let null = well_known("/dev/null", OFlags::RDWR).unwrap();
        let terminal = well_known("/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY).unwrap();
        assert!(terminal.is_terminal());
        let handed = writable(terminal.as_fd(), &null).unwrap();
        let flags = rustix::fs::fcntl_getfl(&handed).unwrap();
        assert_eq!(flags & OFlags::RWMODE, OFlags::WRONLY);
        let (socket, _other) = UnixDatagram::pair().unwrap();
        let handed = writable(socket.as_fd(), &null).unwrap();
        rustix::io::write(&handed, b"a line").unwrap();
    }

    #[test]
    fn ids_for_servers_differ_and_stay_in_their_range() {
        let ids: std::collections::BTreeSet<u32> = (0..8).map(|_| unused_id()).collect();
        assert!(ids.len() > 1);
        assert!(ids.iter().all(|id| (0x7000_0000..=0x7fff_ffff).contains(id)));
    }
}
