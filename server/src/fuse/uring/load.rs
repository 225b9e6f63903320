//! Whether CPUs have more to do than what is asked of us.
//!
//! A ring's thread of the usual class makes its CPU a busy one, so that whom it answers is sent to a
//! CPU that sleeps, and waking that takes longer than most answers. One of the idle class does not, but
//! where others want its CPU it wakes late. So it is in that class while most CPUs sleep.
//! Source: sched(7), "SCHED_IDLE"; proc_loadavg(5)

use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shift::SchedClass;

/// How often it is looked at, while there are requests.
const PERIOD: Duration = Duration::from_millis(2);
/// For how long CPUs have to sleep before a thread enters the idle class.
const CALM: Duration = Duration::from_millis(32);

/// /proc/loadavg, open.
#[derive(Debug)]
pub(super) struct Load {
    file: OwnedFd,
    /// Threads that may run at the same time, of all processes, while most CPUs sleep.
    few: u32,
}

impl Load {
    /// On a machine with that many CPUs.
    pub(super) fn new(file: OwnedFd, cpus: u16) -> Self {
        Self { file, few: (u32::from(cpus) / 2).max(1) }
    }

    pub(super) fn number(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Whether no more than a few threads run. The one that asks is one of them, and the client whose
    /// request it serves is not.
    fn is_low(&self) -> bool {
        let mut bytes = [0; 128];
        let read = rustix::io::pread(&self.file, &mut bytes, 0).unwrap_or(0);
        running(bytes.get(..read).unwrap_or_default()).is_some_and(|running| running <= self.few)
    }
}

/// The number before the slash: threads that run or could.
fn running(loadavg: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(loadavg).ok()?;
    text.split(' ').nth(3)?.split_once('/')?.0.parse().ok()
}

/// What one ring's threads make of it.
#[derive(Debug)]
pub(super) struct Watch {
    load: Arc<Load>,
    next: Option<Instant>,
    low_since: Option<Instant>,
}

impl Watch {
    pub(super) fn new(load: Arc<Load>) -> Self {
        Self { load, next: None, low_since: None }
    }

    /// Whether a thread of the other class than `class` should go on.
    pub(super) fn ends(&mut self, class: SchedClass) -> bool {
        let now = Instant::now();
        if self.next.is_some_and(|next| now < next) {
            return false;
        }
        let is_low = self.load.is_low();
        self.look(now, is_low, class)
    }

    fn look(&mut self, now: Instant, is_low: bool, class: SchedClass) -> bool {
        self.next = now.checked_add(PERIOD);
        if !is_low {
            self.low_since = None;
            return class == SchedClass::Idle;
        }
        let since = *self.low_since.get_or_insert(now);
        class == SchedClass::Plain && now.saturating_duration_since(since) >= CALM
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]

    use super::*;

    #[test]
    fn the_fourth_field_tells_what_runs() {
        assert_eq!(running(b"0.52 1.78 2.65 3/214 21593\n"), Some(3));
        for broken in
            [&b""[..], b"0.52 1.78 2.65", b"0.52 1.78 2.65 214 1", b"a b c d/e f", b"\xff"]
        {
            assert_eq!(running(broken), None);
        }
        assert!(load().is_low());
    }

    /// Of this machine, where any number is few.
    fn load() -> Load {
        let file = std::fs::File::open("/proc/loadavg").unwrap();
        Load { file: file.into(), few: u32::MAX }
    }

    #[test]
    fn a_busy_moment_ends_the_idle_class_and_only_a_calm_time_begins_it() {
        let mut watch = Watch::new(Arc::new(load()));
        let (begin, step) = (Instant::now(), Duration::from_millis(4));
        assert!(!watch.look(begin, true, SchedClass::Plain));
        assert!(!watch.look(begin + 7 * step, true, SchedClass::Plain));
        assert!(watch.look(begin + 8 * step, true, SchedClass::Plain));
        assert!(!watch.look(begin + 9 * step, true, SchedClass::Idle));
        assert!(watch.look(begin + 10 * step, false, SchedClass::Idle));
        assert!(!watch.look(begin + 11 * step, false, SchedClass::Plain));
        assert!(!watch.look(begin + 12 * step, true, SchedClass::Plain));
        assert!(!watch.look(begin + 19 * step, true, SchedClass::Plain));
        assert!(watch.look(begin + 20 * step, true, SchedClass::Plain));
    }
}
