//! Starts the server as a process that has nothing of ours: fresh namespaces, an unused uid, an
//! empty environment, and the socket as its only open file besides a log.
//!
//! Source: clone(2), user_namespaces(7), execveat(2).
#![allow(unsafe_code, reason = "clone3 and what a child does before exec")]

use std::ffi::{CStr, c_char};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{prune, signal};

/// The server finds its socket here.
const SOCKET_FD: RawFd = 3;
/// Descriptors are first moved up to here, out of the way of 0 to 3.
const PARKED_FD: RawFd = 10;

/// PR_SET_IO_FLUSHER (5.6)
const PR_SET_IO_FLUSHER: libc::c_int = 57;

/// Losing a mount is worse than losing what uses it: as the unit's OOMScoreAdjust.
const OOM_SCORE: &str = "-900";

/// Which uid and gid the server has outside of its user namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Identity {
    /// Ids that nobody else has: takes SETUID and SETGID. The same number for both.
    Unused(u32),
    /// The caller's own.
    Own { uid: u32, gid: u32 },
}

/// What a server starts with.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) program: BorrowedFd<'a>,
    pub(crate) arguments: &'a [&'a CStr],
    /// Becomes descriptor 3.
    pub(crate) socket: BorrowedFd<'a>,
    /// Becomes descriptor 0.
    pub(crate) null: BorrowedFd<'a>,
    /// Becomes descriptors 1 and 2.
    pub(crate) log: BorrowedFd<'a>,
    /// In fresh namespaces as this identity; None for a plain process.
    pub(crate) identity: Option<Identity>,
}

/// Where a start failed.
#[derive(Debug)]
pub(crate) enum LaunchError {
    /// No new process, or no new namespaces.
    Clone(io::Error),
    /// The ids could not be mapped into the user namespace.
    Map(io::Error),
    /// The program could not be executed.
    Exec(io::Error),
}

/// Namespaces that an own user namespace owns.
const OWNED: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Starts the server and gives its pidfd once the program runs.
///
/// # Errors
/// Which step failed; there is no process then.
pub(crate) fn launch(launch: &Launch<'_>) -> Result<OwnedFd, LaunchError> {
    let pipes = Pipes::new().map_err(LaunchError::Clone)?;
    let cloned = clone(launch.identity).map_err(LaunchError::Clone)?;
    let Some((pid, pidfd)) = cloned else {
        let (error, pipe) = become_server(launch, pipes.into_child());
        let _ = (&pipe).write_all(&error.raw_os_error().unwrap_or(0).to_ne_bytes());
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(127) }
    };
    let started = pipes.into_parent().start(pid, launch.identity);
    if let Err(error) = started {
        super::child::kill(pidfd.as_fd(), std::time::Duration::from_secs(1));
        return Err(error);
    }
    Ok(pidfd)
}

/// Parent and child take turns: the child has its namespaces; the parent has mapped the ids; the
/// child has become the program, which closes its pipe, or failed, which writes an errno.
struct Pipes {
    from_child: (PipeReader, PipeWriter),
    to_child: (PipeReader, PipeWriter),
}

struct ParentPipes {
    from: PipeReader,
    to: PipeWriter,
}

struct ChildPipes {
    from: PipeReader,
    to: PipeWriter,
}

impl Pipes {
    fn new() -> io::Result<Self> {
        Ok(Self { from_child: io::pipe()?, to_child: io::pipe()? })
    }

    fn into_parent(self) -> ParentPipes {
        ParentPipes { from: self.from_child.0, to: self.to_child.1 }
    }

    fn into_child(self) -> ChildPipes {
        ChildPipes { from: self.to_child.0, to: self.from_child.1 }
    }
}

impl ParentPipes {
    fn start(mut self, pid: i32, identity: Option<Identity>) -> Result<(), LaunchError> {
        let mut ready = [0];
        self.from.read_exact(&mut ready).map_err(LaunchError::Clone)?;
        if ready != READY {
            return Err(LaunchError::Clone(self.error(&ready)));
        }
        if let Some(identity) = identity {
            map_ids(pid, identity).map_err(LaunchError::Map)?;
        }
        self.to.write_all(&READY).map_err(LaunchError::Exec)?;
        let mut first = [0];
        match self.from.read(&mut first).map_err(LaunchError::Exec)? {
            0 => Ok(()),
            _ => Err(LaunchError::Exec(self.error(&first))),
        }
    }

    /// The errno whose first byte has been read.
    fn error(&mut self, first: &[u8]) -> io::Error {
        let mut errno = first.to_vec();
        if let Err(error) = (&mut self.from).take(3).read_to_end(&mut errno) {
            return error;
        }
        let errno = <[u8; 4]>::try_from(errno).map_or(0, i32::from_ne_bytes);
        io::Error::from_raw_os_error(errno)
    }
}

/// Not the first byte of any errno, which are small: 255 is none.
const READY: [u8; 1] = [0xff];

/// None in the child; its pid and pidfd in the parent.
fn clone(identity: Option<Identity>) -> io::Result<Option<(i32, OwnedFd)>> {
    let mut pidfd: RawFd = -1;
    let namespaces = match identity {
        None => 0,
        // The others follow when the mounts are pruned.
        Some(Identity::Unused(_)) => libc::CLONE_NEWNS | libc::CLONE_NEWPID,
        Some(Identity::Own { .. }) => OWNED | libc::CLONE_NEWPID,
    };
    // SAFETY: all-zero clone_args ask for nothing.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::try_from(libc::CLONE_PIDFD | namespaces).map_err(io::Error::other)?;
    args.pidfd = u64::try_from((&raw mut pidfd).addr()).map_err(io::Error::other)?;
    args.exit_signal = u64::try_from(libc::SIGCHLD).map_err(io::Error::other)?;
    // SAFETY: without CLONE_VM this is fork(2); this program has one thread, so every lock is
    // free in the child. The kernel writes the pidfd before the call returns in the parent.
    let pid =
        unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    match i32::try_from(pid).map_err(io::Error::other)? {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        // SAFETY: the kernel has just made this descriptor for us.
        pid => Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))),
    }
}

/// Id 0 of the new user namespace becomes `identity` outside; no other id exists in it.
fn map_ids(pid: i32, identity: Identity) -> io::Result<()> {
    let (uid, gid) = match identity {
        Identity::Unused(id) => (id, id),
        Identity::Own { uid, gid } => {
            // Otherwise an ordinary user may not map a gid: user_namespaces(7).
            std::fs::write(format!("/proc/{pid}/setgroups"), "deny")?;
            (uid, gid)
        }
    };
    std::fs::write(format!("/proc/{pid}/uid_map"), format!("0 {uid} 1\n"))?;
    std::fs::write(format!("/proc/{pid}/gid_map"), format!("0 {gid} 1\n"))
}

/// The child's way to the program; returns only when something fails, with the pipe to say so.
fn become_server(launch: &Launch<'_>, pipes: ChildPipes) -> (io::Error, PipeWriter) {
    let ChildPipes { mut from, to } = pipes;
    let prepared = enter_namespaces(launch.identity)
        .and_then(|()| (&to).write_all(&READY))
        // No byte: the parent is gone or could not map the ids.
        .and_then(|()| from.read_exact(&mut [0]))
        .and_then(|()| prepare(launch, &to));
    match prepared {
        Ok((program, arguments, to)) => (exec(program, &arguments), to),
        Err(error) => (error, to),
    }
}

fn enter_namespaces(identity: Option<Identity>) -> io::Result<()> {
    // The right to these counts in the first user namespace only. Few containers have it.
    let _ = become_flusher();
    let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    if let Some(Identity::Unused(_)) = identity {
        prune::forget_mounts()?;
        // SAFETY: a process of one thread gets namespaces of its own; no memory is touched.
        check(unsafe { libc::unshare(OWNED) })?;
    }
    Ok(())
}

type Prepared = (RawFd, Vec<*const c_char>, PipeWriter);

/// The program's descriptor, its argument vector and the pipe, once everything else is in place.
fn prepare(launch: &Launch<'_>, pipe: &PipeWriter) -> io::Result<Prepared> {
    if let Some(identity) = launch.identity {
        take_identity(identity)?;
    }
    signal::unblock_all();
    rustix::process::chdir("/")?;
    // Away from the caller's terminal: its SIGHUP is not ours.
    rustix::process::setsid()?;
    // Only a matter of speed; containers may forbid it.
    let _ = fix_disk_class();
    let program = parked(launch.program)?;
    let socket = parked(launch.socket)?;
    let null = parked(launch.null)?;
    let log = parked(launch.log)?;
    let pipe = parked(pipe.as_fd())?;
    for (from, to) in [(null, 0), (log, 1), (log, 2), (socket, SOCKET_FD)] {
        // SAFETY: whatever these numbers were in this child is not used any more.
        check(unsafe { libc::dup2(from, to) })?;
    }
    let close_on_exec =
        libc::c_int::try_from(libc::CLOSE_RANGE_CLOEXEC).map_err(io::Error::other)?;
    // SAFETY: only marks descriptors: all others end with exec.
    check(unsafe { libc::close_range(4, libc::c_uint::MAX, close_on_exec) })?;
    // SAFETY: the duplicate was just made for this.
    let pipe = PipeWriter::from(unsafe { OwnedFd::from_raw_fd(pipe) });
    let arguments = launch.arguments.iter().map(|argument| argument.as_ptr());
    Ok((program, arguments.chain([std::ptr::null()]).collect(), pipe))
}

/// Becomes id 0 of the namespace: exec would drop the capabilities of an unmapped uid, and the
/// server needs them to build its own root.
fn take_identity(identity: Identity) -> io::Result<()> {
    // SAFETY: system calls on numbers, in a process of one thread; raw, because the C library
    // would look for other threads.
    unsafe {
        if let Identity::Unused(_) = identity {
            check_long(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()))?;
        }
        check_long(libc::syscall(libc::SYS_setresgid, 0, 0, 0))?;
        check_long(libc::syscall(libc::SYS_setresuid, 0, 0, 0))
    }
}

/// Whoever needs memory while it writes a file system out must not have to wait for that file system.
/// Inherited by all threads, and kept by exec.
/// Source: prctl(2), PR_SET_IO_FLUSHER, which takes CAP_SYS_RESOURCE
fn become_flusher() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    check(unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1_u64, 0_u64, 0_u64, 0_u64) })
}

/// A thread that enters the scheduler's idle class would enter that of disks as well.
/// Kernel: include/linux/ioprio.h
fn fix_disk_class() -> io::Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    const IOPRIO_BEST_EFFORT_4: libc::c_int = (2 << 13) | 4;
    // SAFETY: the call takes numbers only.
    check_long(unsafe {
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, IOPRIO_BEST_EFFORT_4)
    })
}

fn exec(program: RawFd, arguments: &[*const c_char]) -> io::Error {
    let environment = [std::ptr::null::<c_char>()];
    // SAFETY: both vectors end with a null pointer, and the strings outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program,
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    io::Error::last_os_error()
}

fn parked(fd: BorrowedFd<'_>) -> io::Result<RawFd> {
    // SAFETY: makes a new descriptor; nothing else refers to its number.
    let parked = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, PARKED_FD) };
    check(parked)?;
    Ok(parked)
}

fn check(result: i32) -> io::Result<()> {
    check_long(result.into())
}

fn check_long(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
