//! Processes: one that does a thing which may hang, and waiting for or ending others.
#![allow(unsafe_code, reason = "fork")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};

/// How a job in a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// With this answer.
    With(u8),
    /// Not before the deadline.
    Late,
    /// Not before `interruptions` became readable.
    Interrupted,
}

/// Runs `job` in a child of its own.
///
/// A child that hangs in the kernel is killed and left behind; it goes when the kernel lets it.
///
/// # Errors
/// EAGAIN, ENOMEM of fork(2).
pub(crate) fn with_deadline(
    deadline: Instant,
    interruptions: BorrowedFd<'_>,
    job: impl FnOnce() -> u8,
) -> io::Result<Ended> {
    // SAFETY: this program has one thread, so the child may do whatever the parent could.
    let pid = match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            let answer = job();
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(answer.into()) }
        }
        pid => Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?,
    };
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let ended = match wait_readable(&[pidfd.as_fd(), interruptions], deadline)? {
        Some(0) => {
            let status = rustix::process::waitpid(Some(pid), WaitOptions::empty())?;
            let code = status.and_then(|(_, status)| status.exit_status());
            return Ok(Ended::With(
                code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX),
            ));
        }
        Some(_) => Ended::Interrupted,
        None => Ended::Late,
    };
    let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
    Ok(ended)
}

/// Waits until the process has ended; false when the deadline passes first.
pub(crate) fn has_ended(pidfd: impl AsFd, deadline: Instant) -> io::Result<bool> {
    Ok(wait_readable(&[pidfd.as_fd()], deadline)?.is_some())
}

/// Kills the process and takes its exit status if it is a child of ours.
pub(crate) fn kill(pidfd: BorrowedFd<'_>, patience: Duration) {
    let _ = rustix::process::pidfd_send_signal(pidfd, Signal::KILL);
    let _ = Instant::now().checked_add(patience).map(|deadline| has_ended(pidfd, deadline));
    reap(pidfd);
}

/// Takes the exit status of an ended child; nothing for other processes.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) {
    let _ = rustix::process::waitid(
        WaitId::PidFd(pidfd),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
}

/// Index of the first descriptor that can be read or has hung up; None when the deadline passes.
pub(crate) fn wait_readable(
    fds: &[BorrowedFd<'_>],
    deadline: Instant,
) -> io::Result<Option<usize>> {
    let mut polled: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        let rest = Timespec::try_from(rest).map_err(io::Error::other)?;
        match poll(&mut polled, Some(&rest)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(polled.iter().position(|fd| !fd.revents().is_empty())),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether a descriptor reports an error of its own right now.
pub(crate) fn reports_error(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut polled, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
    Ok(polled.iter().any(|fd| fd.revents().contains(PollFlags::ERR)))
}
