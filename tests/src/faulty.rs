//! A device in memory that fails when it is told to.

use std::io;

use std::sync::{Mutex, MutexGuard};

use fuse4fs_ext4::device::{BlockDevice, MemDevice};

/// What is done to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// A read, through the host's caches or past them.
    Read,
    /// A write, written through or not.
    Write,
    /// A flush.
    Flush,
}

/// Which operation fails, how, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// The operations that count.
    pub ops: &'static [Op],
    /// Which of them fails first; from 1.
    pub nth: u64,
    /// All of them fail from then on, until [`Faulty::heal`].
    pub lasts: bool,
    /// The errno.
    pub errno: i32,
    /// A write that fails has reached the device all the same.
    pub took: bool,
}

/// How often each operation was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Flushes.
    pub flushes: u64,
}

impl Counts {
    /// How many of `ops` there were.
    #[must_use]
    pub fn of(&self, ops: &[Op]) -> u64 {
        let one = |op: &Op| match op {
            Op::Read => self.reads,
            Op::Write => self.writes,
            Op::Flush => self.flushes,
        };
        ops.iter().map(one).sum()
    }

    fn add(&mut self, op: Op) {
        match op {
            Op::Read => self.reads += 1,
            Op::Write => self.writes += 1,
            Op::Flush => self.flushes += 1,
        }
    }
}

#[derive(Debug, Default)]
struct State {
    fault: Option<Fault>,
    done: Counts,
    failed: u64,
}

/// The device.
#[derive(Debug)]
pub struct Faulty {
    device: MemDevice,
    state: Mutex<State>,
}

impl Faulty {
    /// A device that holds `bytes` and works.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { device: MemDevice::new(bytes), state: Mutex::default() }
    }

    /// Counts from now on, and fails as `fault` says.
    pub fn arm(&self, fault: Option<Fault>) {
        *self.state() = State { fault, ..State::default() };
    }

    /// From now on nothing fails; what was counted stays.
    pub fn heal(&self) {
        self.state().fault = None;
    }

    /// What was done since [`Faulty::arm`].
    #[must_use]
    pub fn done(&self) -> Counts {
        self.state().done
    }

    /// How many operations have failed since [`Faulty::arm`].
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.state().failed
    }

    /// All bytes as they are now.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.device.contents()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts one `op`: how it fails, if it does.
    fn count(&self, op: Op) -> Option<Fault> {
        let mut state = self.state();
        state.done.add(op);
        let fault = state.fault.filter(|fault| fault.ops.contains(&op))?;
        let now = state.done.of(fault.ops);
        let hit = now == fault.nth || fault.lasts && now > fault.nth;
        if !hit {
            return None;
        }
        state.failed += 1;
        Some(fault)
    }
}

impl BlockDevice for Faulty {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        match self.count(Op::Read) {
            Some(fault) => Err(io::Error::from_raw_os_error(fault.errno)),
            None => self.device.read_at(offset, into),
        }
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let fault = self.count(Op::Write);
        if fault.is_none_or(|fault| fault.took) {
            self.device.write_at(offset, from)?;
        }
        fault.map_or(Ok(()), |fault| Err(io::Error::from_raw_os_error(fault.errno)))
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write_at(offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        let fault = self.count(Op::Flush);
        fault.map_or(Ok(()), |fault| Err(io::Error::from_raw_os_error(fault.errno)))
    }
}
