//! Processes: one that does a thing which may hang, and waiting for or ending others.
#![allow(unsafe_code, reason = "fork")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitOptions};

use super::open::well_known;

/// What takes longer is told to whoever waits.
const SLOW: Duration = Duration::from_secs(2);

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

/// Runs `job` in a child of its own, until the deadline. Whoever waits is told so after [`SLOW`].
///
/// A child that hangs in the kernel is killed and left behind; it goes when the kernel lets it.
///
/// # Errors
/// EAGAIN, ENOMEM of fork(2).
pub(crate) fn with_deadline(
    (deadline, tell): (Instant, impl FnOnce()),
    interruptions: BorrowedFd<'_>,
    job: impl FnOnce() -> u8,
) -> io::Result<Ended> {
    let pid = fork(|| job().into())?;
    let pidfd = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let fds = [pidfd.as_fd(), interruptions];
    let slow = Instant::now().checked_add(SLOW).filter(|slow| *slow < deadline);
    let mut ready = wait_readable(&fds, slow.unwrap_or(deadline))?;
    if ready.is_none() && slow.is_some() {
        tell();
        ready = wait_readable(&fds, deadline)?;
    }
    let ended = match ready {
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

/// A process that asks something and writes the answer to a pipe.
#[derive(Debug)]
pub(crate) struct Asker {
    pid: Pid,
    pidfd: OwnedFd,
    answer: OwnedFd,
}

impl Asker {
    /// Runs `job` in a child of its own.
    ///
    /// # Errors
    /// EAGAIN, EMFILE, ENOMEM of fork(2) and pipe(2).
    pub(crate) fn start(job: impl FnOnce() -> Vec<u8>) -> io::Result<Self> {
        let (answer, end) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        let pid = fork(|| {
            let mut end = std::fs::File::from(end);
            i32::from(std::io::Write::write_all(&mut end, &job()).is_err())
        })?;
        Ok(Self { pid, pidfd: rustix::process::pidfd_open(pid, PidfdFlags::empty())?, answer })
    }

    /// The whole answer, if there is one before the deadline that has no more than `limit` bytes. A
    /// child that hangs in the kernel is killed and left behind; it goes when the kernel lets it.
    ///
    /// # Errors
    /// Those of read(2).
    pub(crate) fn answer(self, deadline: Instant, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let answer = self.read(deadline, limit);
        let _ = rustix::process::pidfd_send_signal(&self.pidfd, Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.pid), WaitOptions::NOHANG);
        answer
    }

    fn read(&self, deadline: Instant, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let mut part = [0; 4096];
        while wait_readable(&[self.answer.as_fd()], deadline)?.is_some() {
            let len = rustix::io::read(&self.answer, &mut part[..])?;
            if len == 0 {
                return Ok((!bytes.is_empty()).then_some(bytes));
            }
            bytes.extend_from_slice(part.get(..len).unwrap_or_default());
            if bytes.len() > limit {
                return Ok(None);
            }
        }
        Ok(None)
    }
}

/// Runs `job` in a child, which ends with what that returns. One that hangs in the kernel outlives us: it
/// keeps nobody waiting who reads what we print.
fn fork(job: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: this program has one thread, so the child may do whatever the parent could.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let status = if leave_terminal().is_ok() { job() } else { u8::MAX.into() };
            // SAFETY: ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(status) }
        }
        pid => Ok(Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?),
    }
}

/// Makes the standard descriptors /dev/null.
fn leave_terminal() -> io::Result<()> {
    let null = well_known("/dev/null", OFlags::RDWR)?;
    for number in [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO] {
        // SAFETY: the standard descriptors belong to nobody in particular.
        if unsafe { libc::dup2(null.as_raw_fd(), number) } == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
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
