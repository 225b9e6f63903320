//! How many workers read requests, and which of them rest.
//!
//! One reader is best as long as one client waits for each answer: the scheduler then tends to keep
//! the two on one CPU, where a round trip takes a tenth of what waking an idle CPU takes twice. So
//! the others rest. A reader that leaves requests behind in the queue, or that begins what takes long,
//! sees to it that somebody reads on; and an overseer does when a request has been served for a
//! [`TICK`] and nobody reads, so that nothing waits for a slow request. After that several read for a
//! while.
//!
//! # Locking
//! The state's lock is a leaf, held for moments; so is the overseer's.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Requests for which several workers go on reading after one had to be relieved.
const SPREAD: u32 = 64;
/// How often the overseer looks, while there is something to see.
const TICK: Duration = Duration::from_millis(1);
/// Looks without a new request after which it sleeps until there is one.
const QUIET_TICKS: u32 = 200;
/// How long a worker that is one too many rests before it leaves.
const PATIENCE: Duration = Duration::from_secs(10);

thread_local! {
    /// Whether this thread serves a request and nobody has been asked to read in its place.
    static ALONE: Cell<bool> = const { Cell::new(false) };
}

/// How many workers there may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CrewSize {
    /// As many stay when there is nothing to do, and read side by side when there is much.
    pub(crate) kept: usize,
    /// As many there are when all of them wait for something.
    pub(crate) most: usize,
}

/// The workers of a transport.
#[derive(Debug)]
pub(super) struct Crew {
    size: CrewSize,
    state: Mutex<State>,
    called: Condvar,
    /// Requests that were read so far.
    taken: AtomicU64,
    overseer: Overseer,
}

/// What the overseer sleeps on.
#[derive(Debug, Default)]
struct Overseer {
    sleeps: AtomicBool,
    lock: Mutex<()>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    /// Those that read, and those on their way to it.
    reading: usize,
    resting: usize,
    /// Those of the resting that shall read.
    calls: usize,
    /// Requests for which several still read.
    spread: u32,
    ended: bool,
}

impl State {
    /// Whether as many read as should.
    fn has_readers(&self, size: CrewSize) -> bool {
        self.reading >= if self.spread > 0 { size.kept } else { 1 }
    }
}

impl Crew {
    /// A crew of one, who reads.
    pub(super) fn new(size: CrewSize) -> Self {
        let state = State { total: 1, reading: 1, ..State::default() };
        Self {
            size,
            state: Mutex::new(state),
            called: Condvar::new(),
            taken: AtomicU64::new(0),
            overseer: Overseer::default(),
        }
    }

    /// A worker has read a request.
    pub(super) fn took(&self) {
        let mut state = self.state.lock();
        state.reading = state.reading.saturating_sub(1);
        state.spread = state.spread.saturating_sub(1);
        drop(state);
        ALONE.set(true);
        self.taken.fetch_add(1, Ordering::Relaxed);
        let sleeps = &self.overseer.sleeps;
        if sleeps.load(Ordering::Relaxed) && sleeps.swap(false, Ordering::AcqRel) {
            // So that it has gone to sleep, if it was just about to.
            drop(self.overseer.lock.lock());
            self.overseer.wake.notify_one();
        }
    }

    /// Waits until a request has been served for a while and nobody reads. True if a further worker
    /// has to start, as a reader; none if the crew has ended.
    pub(super) fn oversee(&self) -> Option<bool> {
        let (mut last, mut quiet) = (self.taken.load(Ordering::Relaxed), 0_u32);
        loop {
            thread::sleep(TICK);
            if self.state.lock().ended {
                return None;
            }
            let now = self.taken.load(Ordering::Relaxed);
            if now != last {
                (last, quiet) = (now, 0);
                continue;
            }
            if self.nobody_reads() {
                return Some(self.call());
            }
            quiet = quiet.saturating_add(1);
            if quiet >= QUIET_TICKS {
                self.sleep();
                quiet = 0;
            }
        }
    }

    fn nobody_reads(&self) -> bool {
        let state = self.state.lock();
        state.reading == 0 && !state.ended
    }

    /// Until the next request, or the end.
    fn sleep(&self) {
        let mut lock = self.overseer.lock.lock();
        self.overseer.sleeps.store(true, Ordering::Release);
        if self.state.lock().ended {
            return;
        }
        while self.overseer.sleeps.load(Ordering::Acquire) {
            self.overseer.wake.wait(&mut lock);
        }
    }

    /// The worker on this thread may have to wait, or leaves requests behind. True if a further
    /// worker has to start, as a reader. Does nothing the second time, and on other threads.
    pub(super) fn relieve(&self) -> bool {
        ALONE.replace(false) && self.call()
    }

    /// Whether this thread serves a request and nobody was asked to read in its place.
    pub(super) fn is_alone() -> bool {
        ALONE.get()
    }

    /// Sees to it that somebody reads. True if a further worker has to start for that.
    fn call(&self) -> bool {
        let mut state = self.state.lock();
        state.spread = SPREAD;
        if state.reading > 0 || state.ended {
            return false;
        }
        if state.resting > state.calls {
            state.calls = state.calls.saturating_add(1);
            state.reading = state.reading.saturating_add(1);
            drop(state);
            self.called.notify_one();
            return false;
        }
        let hire = state.total < self.size.most;
        if hire {
            state.total = state.total.saturating_add(1);
            state.reading = state.reading.saturating_add(1);
        }
        hire
    }

    /// The worker that [`Crew::relieve`] wanted could not be started.
    pub(super) fn not_hired(&self) {
        let mut state = self.state.lock();
        state.total = state.total.saturating_sub(1);
        state.reading = state.reading.saturating_sub(1);
    }

    /// Whether a worker that has served its request has to rest now: others read.
    pub(super) fn would_rest(&self) -> bool {
        self.state.lock().has_readers(self.size)
    }

    /// A worker has served its request: rests until it is to read. False if it shall leave.
    pub(super) fn next(&self) -> bool {
        ALONE.set(false);
        let mut state = self.state.lock();
        if state.ended || !state.has_readers(self.size) {
            state.reading = state.reading.saturating_add(1);
            return !state.ended;
        }
        state.resting = state.resting.saturating_add(1);
        let reads = loop {
            let timed_out = if state.total > self.size.kept {
                self.called.wait_for(&mut state, PATIENCE).timed_out()
            } else {
                self.called.wait(&mut state);
                false
            };
            if state.ended {
                break false;
            }
            if state.calls > 0 {
                state.calls = state.calls.saturating_sub(1);
                break true;
            }
            if timed_out && state.total > self.size.kept {
                state.total = state.total.saturating_sub(1);
                break false;
            }
        };
        state.resting = state.resting.saturating_sub(1);
        reads
    }

    /// Whether one worker reads for all.
    pub(super) fn is_calm(&self) -> bool {
        self.state.lock().spread == 0
    }

    /// How many workers there are.
    pub(super) fn total(&self) -> usize {
        self.state.lock().total
    }

    /// Nobody shall read any more.
    pub(super) fn end(&self) {
        self.state.lock().ended = true;
        self.called.notify_all();
        let _lock = self.overseer.lock.lock();
        self.overseer.sleeps.store(false, Ordering::Release);
        self.overseer.wake.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const SIZE: CrewSize = CrewSize { kept: 2, most: 3 };

    #[test]
    fn the_last_reader_is_relieved_once_and_up_to_a_limit() {
        let crew = Crew::new(SIZE);
        crew.took();
        assert!(crew.relieve(), "a second one");
        assert!(!crew.relieve(), "there is one already");
        crew.took();
        assert!(crew.relieve(), "a third one");
        crew.took();
        assert!(!crew.relieve(), "that is all");
        assert_eq!(crew.total(), 3);
    }

    #[test]
    fn several_read_for_a_while_after_that_and_then_one() {
        let crew = Arc::new(Crew::new(SIZE));
        crew.took();
        assert!(crew.relieve());
        assert!(crew.next(), "two may read now");
        for _ in 1..SPREAD {
            crew.took();
            assert!(crew.next());
        }
        crew.took();
        assert!(crew.is_calm());
        let resting = Arc::clone(&crew);
        let rests = std::thread::spawn(move || resting.next());
        while crew.state.lock().resting == 0 {
            std::thread::yield_now();
        }
        crew.took();
        assert!(!crew.relieve(), "the resting one is called");
        assert!(rests.join().unwrap());
    }

    #[test]
    fn who_would_rest_can_be_told_before() {
        let crew = Crew::new(SIZE);
        crew.took();
        assert!(!crew.would_rest(), "nobody else reads");
        assert!(crew.relieve());
        assert!(!crew.would_rest(), "two may read for a while");
        for _ in 0..SPREAD {
            crew.state.lock().reading = 2;
            crew.took();
        }
        assert!(crew.would_rest());
    }

    #[test]
    fn those_who_rest_leave_at_the_end() {
        let crew = Arc::new(Crew::new(SIZE));
        let resting = Arc::clone(&crew);
        let rests = std::thread::spawn(move || resting.next());
        while crew.state.lock().resting == 0 {
            std::thread::yield_now();
        }
        crew.end();
        assert!(!rests.join().unwrap());
        assert!(!crew.next());
    }

    #[test]
    fn threads_that_serve_nothing_are_not_relieved() {
        let crew = Crew::new(SIZE);
        crew.took();
        let relieved = std::thread::scope(|scope| scope.spawn(|| crew.relieve()).join().unwrap());
        assert!(!relieved);
    }
}
