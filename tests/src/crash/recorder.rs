//! A file system on a recording device, for workloads.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::Result;
use fuse4fs_ext4::device::Recording;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Caller, Filesystem, Timestamp};

use super::states::{State, States, Synced};

/// What a workload works on. It calls [`Recorder::done`] after each verb that changes something.
#[derive(Debug)]
pub struct Recorder<'a> {
    /// The file system.
    pub fs: &'a Filesystem,
    device: &'a Recording,
    states: RefCell<States>,
}

impl<'a> Recorder<'a> {
    /// Begins with what is there.
    ///
    /// # Errors
    /// The engine's.
    pub fn new(fs: &'a Filesystem, device: &'a Recording) -> Result<Self> {
        let recorder = Self { fs, device, states: RefCell::default() };
        recorder.done()?;
        recorder.sync()?;
        Ok(recorder)
    }

    /// Root, at another time after each verb.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let verbs = self.states.borrow().newest();
        let now = Timestamp { seconds: 1_700_000_000 + verbs as i64, nanoseconds: 5 };
        Caller { uid: 0, gid: 0, group: None, umask: 0o022, now }
    }

    /// A verb is over: the tree as it is now is one that a crash may leave.
    ///
    /// # Errors
    /// The engine's.
    pub fn done(&self) -> Result<()> {
        let state = State::of(self.fs)?;
        self.device.mark(self.states.borrow_mut().add(state));
        Ok(())
    }

    /// sync(2): a crash leaves no tree from before it.
    ///
    /// # Errors
    /// The engine's.
    pub fn sync(&self) -> Result<()> {
        self.fs.sync()?;
        self.promise_all();
        Ok(())
    }

    /// Nothing is done for ten seconds but what the thread does that commits: all is durable then.
    ///
    /// # Errors
    /// The engine's.
    pub fn idle(&self) -> Result<()> {
        let mut now = Instant::now();
        let end = now + Duration::from_secs(10);
        while now < end {
            now = self.fs.commit_if_due(now)?.max(now + Duration::from_millis(1));
        }
        self.promise_all();
        Ok(())
    }

    /// Whatever was done is durable.
    pub fn promise_all(&self) {
        let mut states = self.states.borrow_mut();
        let newest = states.newest();
        self.device.mark(states.promise(|promise| {
            promise.floor = newest;
            promise.files.clear();
        }));
    }

    /// fsync(2) or, with [`Synced::Data`], fdatasync(2) of one file, which a name leads to.
    ///
    /// # Errors
    /// The engine's.
    pub fn fsync(&self, nr: InodeNr, how: Synced) -> Result<()> {
        self.fs.fsync(nr, how == Synced::Data)?;
        let mut states = self.states.borrow_mut();
        let newest = states.newest();
        self.device.mark(states.promise(|promise| {
            promise.files.insert(nr.get().into(), (newest, how));
        }));
        Ok(())
    }

    /// What it went through.
    #[must_use]
    pub fn states(self) -> States {
        self.states.into_inner()
    }
}
