//! What is done when memory is short.
//!
//! A thread of its own sleeps until the kernel, or systemd, says so. It gives back by how short it is, and
//! by how long that has lasted: a share of what can be read again; what has changed, once it is written
//! home; all but a floor; and at last what the kernel keeps of this mount, which it could do by itself. When
//! it has been quiet for a while, the cache may grow again, step by step.
//!
//! # Locking
//! None of its own. A commit takes the ranks of a verb, and a notification waits for `channels`, for
//! which nobody waits in turn.

mod course;
mod watch;

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fuse4fs_protocol::CacheSize;
use tracing::{debug, info};

use self::course::{Course, QUIET};
pub(crate) use self::watch::Watch;
use crate::fuse::Frontend;
use crate::sys;

/// Between two steps; what comes in between is one.
const PAUSE: Duration = Duration::from_secs(1);
/// When everything was given back.
const LONG_PAUSE: Duration = Duration::from_secs(10);

/// How short memory is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Severity {
    Mild,
    Hard,
    Severe,
    Desperate,
}

impl Severity {
    /// Going by how much of the time, in percent, somebody has waited for memory.
    fn of(percent: u128) -> Option<Self> {
        match percent {
            0..3 => None,
            3..10 => Some(Self::Mild),
            10..25 => Some(Self::Hard),
            25.. => Some(Self::Severe),
        }
    }

    fn worse(self) -> Self {
        match self {
            Self::Mild => Self::Hard,
            Self::Hard => Self::Severe,
            Self::Severe | Self::Desperate => Self::Desperate,
        }
    }
}

/// Listens to `watch` from now on. The cache of what is mounted has `size`.
///
/// # Errors
/// When there can be no thread.
pub(crate) fn start(watch: Watch, frontend: Arc<Frontend>, size: CacheSize) -> io::Result<()> {
    let work = move || {
        rehearse(&watch, &frontend, size);
        if let Err(error) = listen(&watch, &frontend, Course::new(size)) {
            debug!("nothing more is heard of memory pressure: {error}");
        }
    };
    thread::Builder::new().name("pressure".into()).spawn(work).map(drop)
}

/// Does what has to be done first when there is no memory, while there is: the pages of this thread's stack, and
/// the one that the kernel reads the file into, are kept.
fn rehearse(watch: &Watch, frontend: &Frontend, size: CacheSize) {
    let _ = watch.stalled();
    frontend.run(|fs| fs.set_cache_budget(size.most));
    sys::return_memory();
}

fn listen(watch: &Watch, frontend: &Frontend, mut course: Course) -> io::Result<()> {
    loop {
        let patience = (!course.is_over()).then_some(QUIET);
        if let Some(told) = watch.wait(patience)? {
            fight(watch, frontend, &mut course, told);
        } else if !course.is_over() {
            let budget = course.recover();
            frontend.run(|fs| fs.set_cache_budget(budget));
            if course.is_over() {
                sys::arena::spare(false);
                info!("memory is no longer short");
            }
        }
    }
}

/// Gives back more and more, for as long as somebody waits for memory.
fn fight(watch: &Watch, frontend: &Frontend, course: &mut Course, told: Severity) {
    let mut told = Some(told);
    while let Some(severity) = told {
        let severity = course.worsen(Instant::now(), severity);
        let before = watch.stalled();
        let begin = Instant::now();
        relieve(frontend, course, severity);
        let pause = if severity == Severity::Desperate { LONG_PAUSE } else { PAUSE };
        thread::sleep(pause.saturating_sub(begin.elapsed()));
        // Who tells no more than news will tell them.
        let stalled = before.zip(watch.stalled()).map(|(before, now)| now.saturating_sub(before));
        let percent = stalled.and_then(|stalled| percent(stalled, begin.elapsed()));
        told = percent.and_then(Severity::of);
    }
}

fn percent(part: Duration, whole: Duration) -> Option<u128> {
    part.as_micros().saturating_mul(100).checked_div(whole.as_micros())
}

fn relieve(frontend: &Frontend, course: &mut Course, severity: Severity) {
    let begin = Instant::now();
    let held = frontend.run(|fs| fs.cache_bytes()).unwrap_or(0);
    let budget = course.shrink(severity, held);
    sys::arena::spare(!course.is_over());
    frontend.run(|fs| fs.set_cache_budget(budget));
    // First, as the rest may wait for disks.
    sys::return_memory();
    if severity >= Severity::Hard {
        // What is changed becomes clean, and goes as well. A failure is the journal's to tell.
        let _ = frontend.run(|fs| fs.write_home());
        if severity == Severity::Desperate {
            frontend.prune();
        }
        sys::return_memory();
    }
    let took = begin.elapsed();
    let text =
        format!("memory is short ({severity:?}): {held} bytes of cache, then at most {budget}");
    // The last step comes again and again.
    if severity == Severity::Desperate {
        debug!("{text}; {took:?}");
    } else {
        info!("{text}; {took:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_short_as_the_share_of_time_that_was_waited() {
        let told = [0, 2, 3, 9, 10, 24, 25, 100, 900].map(Severity::of);
        let (mild, hard, severe) = (Severity::Mild, Severity::Hard, Severity::Severe);
        let expected = [mild, mild, hard, hard, severe, severe, severe].map(Some);
        assert_eq!(told, [&[None, None][..], &expected].concat()[..]);
        assert_eq!(percent(Duration::from_millis(30), Duration::from_secs(1)), Some(3));
        assert_eq!(percent(Duration::ZERO, Duration::ZERO), None);
    }
}
