//! Questions that a server answers by way of the kernel. Each is put in a process of its own: only that
//! one hangs when a server does.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use crate::report::{Explain, Failure, Reporter};
use crate::sys::child::{self, Ended};
use crate::sys::vfs;

/// What a process says that has no answer.
const NONE: u8 = u8::MAX;

/// Until when to wait, and what ends the wait early.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter<'a> {
    pub(crate) interruptions: BorrowedFd<'a>,
    pub(crate) deadline: Instant,
    /// Who is told when it takes long, and of which source.
    pub(crate) told: (&'a Reporter, &'a str),
}

impl Waiter<'_> {
    /// The answer of `question`; None when it has none, or not in time.
    pub(crate) fn ask(
        &self,
        question: impl FnOnce() -> Option<bool>,
    ) -> Result<Option<bool>, Failure> {
        let answer = self.put(|| question().map_or(NONE, u8::from))?;
        Ok(answer.map(|answer| answer == 1))
    }

    /// Asks for the attributes of the root: the errno, 0 if it was answered with them. None when there
    /// is no answer in time.
    pub(crate) fn ask_for_root(&self, mount: impl AsFd) -> Result<Option<u8>, Failure> {
        self.put(|| match vfs::ask_for_root(mount.as_fd()) {
            Ok(()) => 0,
            Err(error) => error.raw_os_error().and_then(|no| no.try_into().ok()).unwrap_or(NONE),
        })
    }

    fn tell(&self) {
        let (reporter, source) = self.told;
        let left = self.deadline.saturating_duration_since(Instant::now()).as_secs();
        reporter.line(source, &format!("waiting for its server, for {left} s at most"));
    }

    fn put(&self, question: impl FnOnce() -> u8) -> Result<Option<u8>, Failure> {
        let until = (self.deadline, || self.tell());
        let ended = child::with_deadline(until, self.interruptions, question)
            .or_system_failure("cannot start a process")?;
        match ended {
            Ended::With(NONE) | Ended::Late => Ok(None),
            Ended::With(answer) => Ok(Some(answer)),
            Ended::Interrupted => Err(Failure::interrupted()),
        }
    }
}
