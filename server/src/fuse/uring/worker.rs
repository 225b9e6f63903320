//! The thread of a ring, and what it leaves to the pool.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use fuse4fs_ext4::Run;
use fuser::Errno;
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::entry::{Entry, SCRATCH};
use super::load::{Load, Watch};
use super::pool::{Inbox, Job, Pool};
use super::shift::SchedClass;
use super::{BELL, DEVICE, DIRECT, FUSE};
use crate::device::without_waiting;
use crate::fuse::classic::OnStop;
use crate::fuse::reply::Buffer;
use crate::fuse::request::Class;
use crate::fuse::serve::{Answer, Frontend, Plan, Turn};
use crate::sys::arena;
use crate::sys::ring::{Event, Part, Ring};

/// Bytes from which on the page cache of the device is of no use to a read.
const LONG: usize = 128 << 10;
/// What a read past it has to be a multiple of: few devices have larger sectors. Where it is refused the
/// pool reads.
const SECTOR: usize = 4096;

/// What all threads have in common.
pub(super) struct Shared {
    pub(super) frontend: Arc<Frontend>,
    pub(super) pool: Pool,
    /// The device can be read past the page cache.
    pub(super) has_direct: bool,
    /// For the answer to DESTROY: the other rings have no file then.
    pub(super) last: Mutex<Ring>,
    pub(super) on_stop: OnStop,
}

impl Shared {
    /// Starts a thread. The mount ends if it fails: requests would wait for it for ever.
    pub(super) fn spawn(
        self: &Arc<Self>,
        name: String,
        work: impl FnOnce(Arc<Self>) -> io::Result<()> + Send + 'static,
    ) {
        let shared = Arc::clone(self);
        let run = move || {
            if let Err(error) = work(Arc::clone(&shared)) {
                (shared.on_stop)(Err(error));
            }
        };
        if let Err(error) = thread::Builder::new().name(name).spawn(run) {
            (self.on_stop)(Err(error));
        }
    }

    /// Serves what the rings leave to the pool, for ever.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn work_in_pool(&self) -> io::Result<()> {
        let mut scratch = Buffer::new(SCRATCH)?;
        loop {
            let Job { mut entry, inbox, long } = self.pool.next();
            let (answer, len) = entry.serve(&self.frontend, &mut scratch);
            match answer {
                Answer::Wait => self.park(entry, inbox),
                Answer::Last => self.hang_up(entry, len),
                answer => {
                    entry.seal(answer, len);
                    inbox.push(entry);
                }
            }
            if long {
                self.pool.finished_long();
            }
        }
    }

    /// Keeps a request until the file system is there.
    fn park(&self, mut entry: Entry, inbox: Arc<Inbox>) {
        let unique = entry.unique();
        let go_on = move |turn: Turn<'_>| {
            let (answer, len) = match (turn, Buffer::new(SCRATCH)) {
                (Turn::Serve(frontend), Ok(mut scratch)) => entry.serve(frontend, &mut scratch),
                (Turn::Serve(_), Err(_)) => (Answer::Error(Errno::ENOMEM), 0),
                (Turn::GiveUp, _) => (Answer::Error(Errno::EINTR), 0),
            };
            entry.seal(answer, len);
            inbox.push(entry);
        };
        self.frontend.when_ready(unique, Box::new(go_on));
    }

    /// Answers DESTROY. The device is closed, in all rings too.
    fn hang_up(&self, mut entry: Entry, len: usize) {
        entry.seal(Answer::Last, len);
        let (id, queue) = (entry.commit_id(), entry.queue);
        let mut ring = self.last.lock();
        let result = ring.commit(entry.into_memory(), FUSE, (id, queue));
        let result = result.and_then(|()| ring.submit());
        drop(ring);
        (self.on_stop)(result);
    }
}

/// The thread of a ring.
pub(super) struct Worker {
    shared: Arc<Shared>,
    ring: Ring,
    inbox: Arc<Inbox>,
    /// The queue of each entry.
    queues: Vec<u16>,
    /// The reply that an entry's data is being read for.
    replies: Vec<Reading>,
    /// Entries that are still of use.
    left: usize,
    /// Replies under way whose plan is held.
    plans: usize,
    scratch: Buffer,
    runs: Vec<Run>,
    /// Tells when the thread of the other class is to go on.
    watch: Option<Watch>,
}

/// A reply under way.
#[derive(Default)]
struct Reading {
    /// When the request came.
    since: Option<Instant>,
    /// Bytes.
    len: usize,
    /// Keeps the data where it is. Nothing is waited for by who has it.
    plan: Option<Plan>,
}

/// What to do with a request.
enum Way {
    /// Its data is where the runs say, and stays there.
    Read(Plan),
    /// Serve it, unless that takes waiting.
    Here,
    /// It may have to wait for others.
    Wait,
    /// It may take long.
    Long,
}

impl Worker {
    /// A worker of `ring` whose entries belong to `queues`.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new(
        shared: Arc<Shared>,
        ring: Ring,
        inbox: Arc<Inbox>,
        queues: Vec<u16>,
    ) -> io::Result<Self> {
        let left = queues.len();
        let replies = std::iter::repeat_with(Reading::default).take(left).collect();
        let (scratch, runs) = (Buffer::new(SCRATCH)?, Vec::new());
        let (plans, watch) = (0, None);
        Ok(Self { shared, ring, inbox, queues, replies, left, plans, scratch, runs, watch })
    }

    /// From now on threads change by `load`; without it they do not.
    pub(super) fn heed(&mut self, load: Option<Arc<Load>>) {
        self.watch = load.map(Watch::new);
    }

    /// Hands the entries to the kernel.
    ///
    /// # Errors
    /// When the ring fails.
    pub(super) fn register(&mut self, entries: Vec<arena::Entry>) -> io::Result<()> {
        self.ring.listen(BELL)?;
        for entry in entries {
            let queue = self.queue(&entry);
            self.ring.register(entry, FUSE, queue)?;
        }
        Ok(())
    }

    fn queue(&self, entry: &arena::Entry) -> u16 {
        self.queues.get(entry.index()).copied().unwrap_or(0)
    }

    /// Serves, by a thread of `class`, until one of the other is to go on: true. False once the
    /// connection is gone, or the kernel does not take the ring at all.
    ///
    /// # Errors
    /// When the ring fails.
    pub(super) fn serve(&mut self, class: SchedClass) -> io::Result<bool> {
        while self.left > 0 {
            self.ring.wait()?;
            while let Some(event) = self.ring.next()? {
                self.event(event)?;
            }
            // Answers are submitted by whom their entries are to come back to.
            if self.watch.as_mut().is_some_and(|watch| watch.ends(class)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Request(memory) => {
                let queue = self.queue(&memory);
                self.request(Entry::new(memory, queue))
            }
            Event::Read(memory, result) => {
                let reading = self.replies.get_mut(memory.index()).map(std::mem::take);
                let Reading { since, len, plan } = reading.unwrap_or_default();
                self.plans = self.plans.saturating_sub(usize::from(plan.is_some()));
                drop(plan);
                let queue = self.queue(&memory);
                let since = since.unwrap_or_else(Instant::now);
                self.data(Entry::since(since, memory, queue), len, result)
            }
            Event::Woken => {
                self.ring.listen(BELL)?;
                self.inbox.take().into_iter().try_for_each(|entry| self.commit(entry))
            }
            Event::Gone(errno) => {
                self.left = self.left.saturating_sub(1);
                gone(errno);
                Ok(())
            }
        }
    }

    fn request(&mut self, mut entry: Entry) -> io::Result<()> {
        let frontend = &self.shared.frontend;
        let runs = &mut self.runs;
        // A change may have to wait for those who wait for a plan.
        let is_free = self.plans == 0;
        let way = without_waiting(|| {
            entry.look(frontend, |call| match call.request.class() {
                Class::Long => Way::Long,
                _ if frontend.may_change(call) => {
                    if is_free && frontend.is_brief(call) {
                        Way::Here
                    } else {
                        Way::Wait
                    }
                }
                Class::Data => frontend.plan(call, runs).map_or(Way::Here, Way::Read),
                Class::Change | Class::Quick => Way::Here,
            })
        });
        match way {
            Some(Some(Way::Read(plan))) => self.read(entry, plan),
            Some(Some(Way::Long)) => self.leave(entry, true),
            Some(Some(Way::Here) | None) => self.answer(entry),
            Some(Some(Way::Wait)) | None => self.leave(entry, false),
        }
    }

    fn leave(&self, entry: Entry, long: bool) -> io::Result<()> {
        self.shared.pool.push(Job { entry, inbox: Arc::clone(&self.inbox), long });
        Ok(())
    }

    /// Answers with what is in memory.
    fn answer(&mut self, mut entry: Entry) -> io::Result<()> {
        let (frontend, scratch) = (&self.shared.frontend, &mut self.scratch);
        match without_waiting(|| entry.serve(frontend, scratch)) {
            None => {
                entry.restore(scratch);
                self.leave(entry, false)
            }
            Some((Answer::Wait, _)) => {
                self.shared.park(entry, Arc::clone(&self.inbox));
                Ok(())
            }
            Some((answer, len)) => {
                entry.seal(answer, len);
                self.commit(entry)
            }
        }
    }

    /// Has the runs read into the reply.
    fn read(&mut self, mut entry: Entry, plan: Plan) -> io::Result<()> {
        let Some((parts, len)) = parts(&self.runs, entry.payload(), self.shared.has_direct) else {
            drop(plan);
            return self.answer(entry);
        };
        if parts.is_empty() {
            return self.data(entry, len, Ok(()));
        }
        let since = Some(entry.since);
        let memory = entry.into_memory();
        if let Some(reply) = self.replies.get_mut(memory.index()) {
            self.plans = self.plans.saturating_add(1);
            *reply = Reading { since, len, plan: Some(plan) };
        }
        self.ring.read(memory, parts)
    }

    /// Answers with the data that was read. Where that failed, the pool finds out why, and of which
    /// block.
    fn data(&mut self, mut entry: Entry, len: usize, result: io::Result<()>) -> io::Result<()> {
        if let Err(error) = result {
            debug!("a ring could not read: {error}");
            return self.leave(entry, false);
        }
        entry.seal(Answer::Reply, len);
        self.commit(entry)
    }

    fn commit(&mut self, entry: Entry) -> io::Result<()> {
        entry.count(&self.shared.frontend.operations);
        let (id, queue) = (entry.commit_id(), entry.queue);
        self.ring.commit(entry.into_memory(), FUSE, (id, queue))
    }
}

/// At the end of the connection all entries come back so. Before it, the kernel has refused one, and
/// goes on without rings.
fn gone(errno: i32) {
    match errno {
        libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV | libc::EBADF => {
            debug!("an entry of a ring has ended: errno {errno}");
        }
        errno => warn!("the kernel has refused an entry of a ring: errno {errno}"),
    }
}

/// What to read where in the payload, and the length of it all; holes are zeroed. `None` if it is
/// longer than the payload.
fn parts(runs: &[Run], payload: &mut [u8], has_direct: bool) -> Option<(Vec<Part>, usize)> {
    let mut parts = Vec::with_capacity(runs.len());
    let mut at = 0_usize;
    for run in runs {
        let len = match *run {
            Run::Device { len, .. } | Run::Zeros { len } => len,
        };
        let end = at.checked_add(len)?;
        let room = payload.get_mut(at..end)?;
        match *run {
            Run::Device { offset, len } => {
                let direct = has_direct && is_for_direct(offset, at, len);
                let file = if direct { DIRECT } else { DEVICE };
                parts.push(Part { file, offset, at, len });
            }
            Run::Zeros { .. } => room.fill(0),
        }
        at = end;
    }
    Some((parts, at))
}

/// Whether a stretch is better read past the page cache: long enough that the device works at its
/// speed, so that to copy it would be what takes time. Short ones gain by what is read ahead.
fn is_for_direct(offset: u64, at: usize, len: usize) -> bool {
    let is_aligned = |bytes: usize| bytes.is_multiple_of(SECTOR);
    let offset_is = usize::try_from(offset).is_ok_and(is_aligned);
    len >= LONG && offset_is && is_aligned(at) && is_aligned(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_follow_each_other_in_the_payload_and_holes_are_zeroed() {
        let mut payload = [7; 100];
        let runs = [
            Run::Device { offset: 4096, len: 10 },
            Run::Zeros { len: 20 },
            Run::Device { offset: 0, len: 30 },
        ];
        let (parts, len) = parts(&runs, &mut payload, true).unwrap();
        let part = |offset, at, len| Part { file: DEVICE, offset, at, len };
        assert_eq!((parts, len), (vec![part(4096, 0, 10), part(0, 30, 30)], 60));
        assert_eq!(payload[9..31], [&[7][..], &[0; 20], &[7]].concat());
    }

    #[test]
    fn long_runs_of_whole_sectors_are_read_past_the_page_cache() {
        let file = |offset, len, has_direct| {
            let runs = [Run::Device { offset, len }];
            parts(&runs, &mut vec![0; len], has_direct).unwrap().0[0].file
        };
        assert_eq!(file(4096, LONG, true), DIRECT);
        assert_eq!(file(4096, LONG, false), DEVICE);
        assert_eq!(file(1024, LONG, true), DEVICE);
        assert_eq!(file(4096, LONG + 1, true), DEVICE);
        assert_eq!(file(4096, LONG - SECTOR, true), DEVICE);
    }

    #[test]
    fn runs_that_are_longer_than_the_payload_are_refused() {
        let runs = [Run::Zeros { len: 10 }, Run::Device { offset: 0, len: usize::MAX }];
        assert!(parts(&runs, &mut [0; 16], true).is_none());
        assert!(parts(&runs[..1], &mut [0; 9], true).is_none());
    }
}
