//! What a mount that takes its time shows: a line on a terminal that goes again, and the unit's status.
//! Numbers come from the server, words do not.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use fuse4fs_protocol::Phase;

use crate::notify::Notifier;
use crate::report::Reporter;

/// Mounts that are ready before this show nothing.
const QUICK: Duration = Duration::from_secs(1);
/// The shortest time between two words to systemd.
const INTERVAL: Duration = Duration::from_secs(1);

/// The progress of one mount.
pub(crate) struct Progress<'a> {
    reporter: &'a Reporter,
    /// The source, for people.
    source: &'a str,
    notifier: Option<&'a Notifier>,
    begin: Instant,
    told: Option<Instant>,
    /// Somebody was told that another node is waited for.
    waits: bool,
    /// There is a line on the terminal.
    drawn: bool,
}

impl<'a> Progress<'a> {
    /// Of a mount of `source` that begins now.
    pub(crate) fn new(
        reporter: &'a Reporter,
        source: &'a str,
        notifier: Option<&'a Notifier>,
    ) -> Self {
        let begin = Instant::now();
        Self { reporter, source, notifier, begin, told: None, waits: false, drawn: false }
    }

    /// What the server says that it is doing.
    pub(crate) fn hear(&mut self, phase: Phase, done: u64, total: u64) {
        let Some(text) = sentence(phase, done, total) else { return };
        self.reporter.verbose(self.source, &text);
        if phase == Phase::MultiMountProtection && !self.waits {
            self.waits = true;
            self.reporter.line(self.source, &text);
        }
        if self.told.is_none_or(|told| told.elapsed() >= INTERVAL) {
            self.told = Some(Instant::now());
            self.notifier.inspect(|notifier| notifier.status(&text));
        }
        if self.begin.elapsed() >= QUICK && self.reporter.draws() && io::stderr().is_terminal() {
            self.drawn = true;
            self.reporter.draw(&format!("{}: {text}", self.source));
        }
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if self.drawn {
            self.reporter.draw("");
        }
    }
}

/// What is done, and how much of it is left.
fn sentence(phase: Phase, done: u64, total: u64) -> Option<String> {
    let part = || u128::from(done.min(total)).saturating_mul(100).checked_div(total.into());
    match phase {
        Phase::Starting => None,
        Phase::MultiMountProtection => Some(format!(
            "waiting {} s to see whether another node has it mounted (multi-mount protection)",
            total.saturating_sub(done)
        )),
        Phase::Replay => Some(match part() {
            Some(percent) => format!("recovering the journal, {percent} %"),
            None => "recovering the journal".to_owned(),
        }),
        Phase::Orphans => Some(format!(
            "finishing deletions and truncations that a crash left, {done} of {total}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_server_make_a_sentence_whatever_they_are() {
        let of = |phase, done, total| sentence(phase, done, total).unwrap_or_default();
        assert_eq!(of(Phase::Replay, 1, 3), "recovering the journal, 33 %");
        assert_eq!(of(Phase::Replay, u64::MAX, 1), "recovering the journal, 100 %");
        assert_eq!(of(Phase::Replay, 1, 0), "recovering the journal");
        assert!(of(Phase::MultiMountProtection, 4, 11).starts_with("waiting 7 s"));
        assert!(of(Phase::MultiMountProtection, 9, 1).starts_with("waiting 0 s"));
        assert!(of(Phase::Orphans, 2, 5).ends_with("2 of 5"));
        assert_eq!(sentence(Phase::Starting, 0, 0), None);
    }
}
