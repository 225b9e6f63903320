//! The transport over io_uring: requests arrive on the CPU that asks, and are answered there.
//!
//! Each CPU of this process has a ring and a thread that is pinned to it, which serves its queue of
//! the kernel and those of CPUs without a thread. Such a thread never waits for anything but its
//! ring: what is in memory it answers at once, file data it has read into the reply by the same ring,
//! and everything else it leaves to the [`Pool`], whose answers it hands back. /dev/fuse stays for
//! INIT, FORGET and INTERRUPT, which never come here.
//!
//! # Locking
//! A ring's thread may hold `verbs` and inodes' locks, shared, while data is read: see [`Plan`]. So it
//! takes no lock that is kept while others wait for anything, but only tries to. It changes something
//! only while it holds no plan, and waits only once it has begun to.
//!
//! [`Plan`]: super::serve::Plan
//!
//! Rings are made before the sandbox, as nothing of io_uring can be set up in it.
//! Kernel: fs/fuse/dev_uring.c

mod entry;
mod layout;
mod load;
mod pool;
mod shift;
mod worker;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use fuse4fs_protocol::Cpus;
use parking_lot::Mutex;
use rustix::thread::CpuSet;
use tracing::debug;

use self::entry::HEADER;
use self::layout::Layout;
use self::load::Load;
use self::pool::{Inbox, Pool};
use self::shift::{SchedClass, Shifts};
use self::worker::{Shared, Worker};
use super::classic::OnStop;
use super::reply::PAGE;
use super::serve::Frontend;
use crate::sys::arena;
use crate::sys::ring::{File, Ring};

/// The fuse descriptor, in every ring.
const FUSE: File = File(0);
/// The device, in the rings of the threads.
const DEVICE: File = File(1);
/// What wakes a ring's thread.
const BELL: File = File(2);
/// The device without a cache, where it can be opened so.
const DIRECT: File = File(3);

/// Threads of the pool, at least: for a mount that is read, and for one that is written, where they
/// wait for each other's locks and commits, too.
const POOL: (usize, usize) = (2, 8);
/// Threads of the pool, at most.
const POOL_MAX: usize = 16;

/// What rings reach.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doors<'a> {
    /// The mount's /dev/fuse.
    pub(crate) fuse: BorrowedFd<'a>,
    pub(crate) device: BorrowedFd<'a>,
    /// The device with O_DIRECT.
    pub(crate) direct: Option<BorrowedFd<'a>>,
}

/// Rings that nobody uses yet.
pub(crate) struct Rings {
    has_direct: bool,
    payload: usize,
    prepared: Vec<Prepared>,
    last: Ring,
    /// Tells when threads may be of the idle class.
    load: Option<Arc<Load>>,
}

struct Prepared {
    cpu: usize,
    ring: Ring,
    inbox: Arc<Inbox>,
    entries: Vec<arena::Entry>,
    queues: Vec<u16>,
}

impl Rings {
    /// Makes the rings for a mount.
    ///
    /// # Errors
    /// Where the host has no io_uring for this process, or there is no memory for it.
    pub(crate) fn prepare(doors: Doors<'_>, cpus: Cpus) -> io::Result<Self> {
        let Doors { fuse, device, direct } = doors;
        let set = rustix::thread::sched_getaffinity(None)?;
        let mine = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
        let layout = Layout::new(cpus, mine).ok_or(io::ErrorKind::Unsupported)?;
        let prepare = |(cpu, queues): (usize, Vec<u16>)| {
            let inbox = Arc::new(Inbox::new()?);
            let bell = std::os::fd::AsFd::as_fd(inbox.bell());
            let files: Vec<_> = [fuse, device, bell].into_iter().chain(direct).collect();
            let ring = Ring::new(queues.len(), &files)?;
            let entries = arena::entries(queues.len(), HEADER, layout.payload)?;
            Ok(Prepared { cpu, ring, inbox, entries, queues })
        };
        let threads = layout.threads().iter().copied().zip(layout.queues());
        let prepared = threads.map(prepare).collect::<io::Result<Vec<_>>>()?;
        // It cannot reach the device, so it works when that is closed.
        let longest = prepared.iter().map(|prepared| prepared.queues.len()).max();
        let last = Ring::new(longest.unwrap_or(0), &[fuse])?;
        let (has_direct, payload) = (direct.is_some(), layout.payload);
        Ok(Self { has_direct, payload, prepared, last, load: None })
    }

    /// The same, with threads that are of the idle class while `load`, which is /proc/loadavg, allows it.
    pub(crate) fn heeding(self, load: Option<OwnedFd>, cpus: Cpus) -> Self {
        Self { load: load.map(|file| Arc::new(Load::new(file, cpus.online))), ..self }
    }

    /// The descriptors that have to stay open in the sandbox.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let bells = self.prepared.iter().map(|prepared| prepared.inbox.bell().as_raw_fd());
        let load = self.load.iter().map(|load| load.number());
        bells.chain(self.holding_device()).chain([self.last.number()]).chain(load)
    }

    /// The rings that keep the device open until they are told to let it go.
    pub(crate) fn holding_device(&self) -> impl Iterator<Item = RawFd> {
        self.prepared.iter().map(|prepared| prepared.ring.number())
    }

    /// One ring as it is, for attacks.
    #[cfg(feature = "attack")]
    pub(crate) fn steal(mut self) -> Option<io_uring::IoUring<io_uring::squeue::Entry128>> {
        self.prepared.pop().map(|prepared| prepared.ring.steal())
    }

    /// Pages of file content that a message has room for.
    pub(crate) fn pages(&self) -> u16 {
        u16::try_from(self.payload.div_ceil(PAGE)).unwrap_or(u16::MAX)
    }

    /// Starts the threads. INIT was answered with FUSE_OVER_IO_URING, and from now until every queue
    /// has an entry the kernel holds all requests back.
    /// `on_stop` is told of the answer to DESTROY, and of a ring that fails.
    pub(crate) fn start(self, frontend: &Arc<Frontend>, on_stop: OnStop) {
        let least = if frontend.settings().writable { POOL.1 } else { POOL.0 };
        let threads = self.prepared.len().clamp(least, POOL_MAX);
        let shared = Arc::new(Shared {
            frontend: Arc::clone(frontend),
            pool: Pool::new(threads),
            has_direct: self.has_direct,
            last: Mutex::new(self.last),
            on_stop,
        });
        for prepared in self.prepared {
            let Prepared { cpu, ring, inbox, entries, queues } = prepared;
            let shifts = Arc::new(Shifts::default());
            let load = self.load.clone();
            if load.is_some() {
                let shifts = Arc::clone(&shifts);
                shared.spawn(format!("idle-{cpu}"), move |_| {
                    pin(cpu);
                    shifts.work(SchedClass::Idle)
                });
            }
            shared.spawn(format!("ring-{cpu}"), move |shared| {
                pin(cpu);
                let mut worker = Box::new(Worker::new(shared, ring, inbox, queues)?);
                worker.heed(load);
                worker.register(entries)?;
                shifts.give(SchedClass::Plain, worker);
                shifts.work(SchedClass::Plain)
            });
        }
        for number in 0..threads {
            shared.spawn(format!("pool-{number}"), |shared| shared.work_in_pool());
        }
    }
}

/// Keeps this thread on the CPU whose requests it serves. It serves them elsewhere if it must.
fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        debug!("a thread is not kept on CPU {cpu}: {error}");
    }
}
