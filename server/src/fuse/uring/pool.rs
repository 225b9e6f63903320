//! Threads for requests that may have to wait: for a disk, for a lock, for a commit.
//!
//! # Locking
//! The queue and an inbox are leaves, each held for moments.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rustix::event::EventfdFlags;

use super::entry::Entry;

/// A request with whom to give it back to.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) inbox: Arc<Inbox>,
    /// It may take as long as it likes: a sync, a write.
    pub(super) long: bool,
}

#[derive(Default)]
struct Queue {
    short: VecDeque<Job>,
    long: VecDeque<Job>,
    /// Threads that have a long one.
    busy: usize,
}

/// The requests that wait for a thread. There are never more than there are entries.
pub(super) struct Pool {
    queue: Mutex<Queue>,
    more: Condvar,
    /// Threads that may have a long request: all but one, so that a look-up never waits for a sync.
    long_limit: usize,
}

impl Pool {
    /// A queue for that many threads.
    pub(super) fn new(threads: usize) -> Self {
        let long_limit = threads.saturating_sub(1).max(1);
        Self { queue: Mutex::default(), more: Condvar::new(), long_limit }
    }

    /// Leaves a request to the threads.
    pub(super) fn push(&self, job: Job) {
        let mut queue = self.queue.lock();
        if job.long {
            queue.long.push_back(job);
        } else {
            queue.short.push_back(job);
        }
        drop(queue);
        self.more.notify_one();
    }

    /// The next request; waits for one.
    pub(super) fn next(&self) -> Job {
        let mut queue = self.queue.lock();
        loop {
            if let Some(job) = queue.short.pop_front() {
                return job;
            }
            if queue.busy < self.long_limit
                && let Some(job) = queue.long.pop_front()
            {
                queue.busy = queue.busy.saturating_add(1);
                return job;
            }
            self.more.wait(&mut queue);
        }
    }

    /// To be called after a long request.
    pub(super) fn finished_long(&self) {
        let mut queue = self.queue.lock();
        queue.busy = queue.busy.saturating_sub(1);
        drop(queue);
        self.more.notify_one();
    }
}

/// Where a ring's thread finds answers that others have made.
#[derive(Debug)]
pub(super) struct Inbox {
    finished: Mutex<Vec<Entry>>,
    bell: OwnedFd,
}

impl Inbox {
    /// An empty one.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub(super) fn new() -> io::Result<Self> {
        let bell = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { finished: Mutex::default(), bell })
    }

    /// The descriptor that can be read from once there is something.
    pub(super) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Puts an answered request in.
    pub(super) fn push(&self, entry: Entry) {
        let mut finished = self.finished.lock();
        finished.push(entry);
        let first = finished.len() == 1;
        drop(finished);
        if first && let Err(error) = rustix::io::write(&self.bell, &1_u64.to_ne_bytes()) {
            tracing::error!("a ring cannot be woken: {error}");
        }
    }

    /// Takes everything out.
    pub(super) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut *self.finished.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::arena;

    fn job(queue: u16, long: bool) -> Job {
        let [memory] = arena::entries(1, 288, 4096).unwrap().try_into().unwrap();
        let inbox = Arc::new(Inbox::new().unwrap());
        Job { entry: Entry::new(memory, queue), inbox, long }
    }

    #[test]
    fn one_thread_is_always_left_for_short_requests() {
        let pool = Arc::new(Pool::new(3));
        for queue in 0..3 {
            pool.push(job(queue, true));
        }
        assert_eq!((pool.next().entry.queue, pool.next().entry.queue), (0, 1));
        let third = std::thread::spawn({
            let pool = Arc::clone(&pool);
            move || pool.next().entry.queue
        });
        pool.push(job(7, false));
        assert_eq!(third.join().unwrap(), 7);
        pool.finished_long();
        assert_eq!(pool.next().entry.queue, 2);
    }

    #[test]
    fn the_bell_rings_once_for_all_that_came_since() {
        let inbox = Inbox::new().unwrap();
        for queue in [1, 2] {
            inbox.push(job(queue, false).entry);
        }
        let mut count = [0; 8];
        rustix::io::read(inbox.bell(), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        let taken: Vec<u16> = inbox.take().iter().map(|entry| entry.queue).collect();
        assert_eq!(taken, [1, 2]);
        inbox.push(job(3, false).entry);
        rustix::io::read(inbox.bell(), &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}
