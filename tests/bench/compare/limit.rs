//! How long one measurement may take. Some systems need minutes for what others do in a second.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The end of a measurement, and whether it came to it.
#[derive(Debug)]
pub(crate) struct Limit {
    end: Instant,
    reached: AtomicBool,
}

impl Limit {
    /// A limit from now on.
    pub(crate) fn of(time: Duration) -> Self {
        Self { end: Instant::now() + time, reached: AtomicBool::new(false) }
    }

    /// Whether it is time to stop; who asks does stop then, and the figure is for what was done.
    pub(crate) fn is_over(&self) -> bool {
        let over = Instant::now() > self.end;
        if over {
            self.reached.store(true, Ordering::Relaxed);
        }
        over
    }

    /// Whether anybody stopped before its work was done.
    pub(crate) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    /// Runs a program to its end, or kills it at the limit. How long that took, in seconds.
    pub(crate) fn time(&self, program: &mut Command) -> Result<f64> {
        let start = Instant::now();
        let mut child = program.stdout(Stdio::null()).spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process")?;
        let ending = pidfd_open(pid, PidfdFlags::empty())?;
        let left = self.end.saturating_duration_since(start);
        poll(&mut [PollFd::new(&ending, PollFlags::IN)], Some(&Timespec::try_from(left)?))?;
        let seconds = start.elapsed().as_secs_f64();
        if child.try_wait()?.is_none() && self.is_over() {
            child.kill()?;
            child.wait()?;
            return Ok(seconds);
        }
        let status = child.wait()?;
        ensure!(status.success(), "{program:?}: {status}");
        Ok(seconds)
    }
}
