//! Multiple mount protection: a file system on a disk that several nodes see is mounted by one of them.
//!
//! Whoever mounts for writing counts a number up in a block of its own; another node that sees it change
//! keeps off. The block goes past every cache of the host, in both directions.
//! # Locking
//! One mutex, held over reading and writing the block; under it nothing is locked.
//! Kernel: fs/ext4/mmp.c

#[cfg(test)]
#[path = "mmp_tests.rs"]
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use zerocopy::IntoBytes;

use crate::device::BlockDevice;
use crate::disk::checksum::ChecksumSeed;
use crate::disk::mmp::{CLEAN, FSCK, MAX_SEQ, RawMmp, SIZE};
use crate::disk::superblock::text;
use crate::error::{CorruptKind, Error, IoOp, Place, Result, Unmountable};
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::ids::BlockNr;
use crate::observer::Observer;
use crate::superblock::{Facts, now};

/// Seconds between two writes where the superblock does not say (EXT4_MMP_UPDATE_INTERVAL).
const UPDATE: u16 = 5;
/// Seconds after which a node that does not write counts as gone, at least and at most
/// (EXT4_MMP_MIN_CHECK_INTERVAL, EXT4_MMP_MAX_CHECK_INTERVAL).
const CHECK_MIN: u16 = 5;
const CHECK_MAX: u16 = 300;

/// How this node is called in the block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeName {
    /// What uname(2) says.
    pub node: Vec<u8>,
    /// What the device is called here.
    pub device: Vec<u8>,
}

#[derive(Debug)]
struct State {
    seq: u32,
    check_interval: u16,
    written: Instant,
    tried: Instant,
    /// Nothing is written any more.
    ended: bool,
    /// Somebody else has written.
    lost: bool,
}

/// What keeps other nodes off while the file system is mounted here.
pub struct Guard {
    device: Arc<dyn BlockDevice>,
    block: BlockNr,
    byte: u64,
    seed: Option<ChecksumSeed>,
    update: u16,
    name: NodeName,
    state: Mutex<State>,
    wake: Condvar,
}

impl core::fmt::Debug for Guard {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Guard").field("block", &self.block).finish_non_exhaustive()
    }
}

/// A claim to the file system, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Claim(pub(crate) Arc<Guard>);

impl Drop for Claim {
    fn drop(&mut self) {
        // Who drops it without `end` cannot hear of an error.
        let _ = self.0.end();
    }
}

/// Who has a file system, as the block says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Holder {
    /// Nobody.
    Nobody,
    /// e2fsck has it.
    Fsck {
        /// On this node, printable.
        node: String,
    },
    /// It is mounted, unless that node is gone.
    Node {
        /// The node's name, printable.
        node: String,
        /// What it calls the device.
        device: String,
        /// When it wrote last by its own clock, in seconds since 1970.
        time: u64,
    },
}

/// Looks who has the file system on `device`; none without protection.
///
/// # Errors
/// Inside: corruption of the block; I/O errors.
pub(crate) fn holder(
    device: &dyn BlockDevice,
    geometry: &Geometry,
    facts: &Facts,
) -> Option<Result<Holder>> {
    let protected = geometry.features.incompat.contains(Incompat::MMP);
    protected.then(|| {
        let block = find(geometry, facts)?;
        let byte = block.get().saturating_mul(geometry.block_size.into());
        let found = read(device, byte, seed(geometry), Place::block(block))?;
        let node = shown(&found.nodename);
        Ok(match found.seq.get() {
            CLEAN => Holder::Nobody,
            FSCK => Holder::Fsck { node },
            _ => Holder::Node { node, device: shown(&found.bdevname), time: found.time.get() },
        })
    })
}

/// The block, which is inside the file system.
fn find(geometry: &Geometry, facts: &Facts) -> Result<BlockNr> {
    let block = BlockNr::new(facts.mmp_block);
    if !geometry.contains(block, 1) {
        let kind = CorruptKind::MmpBlock { block: block.get() };
        return Err(Error::corrupt(Place::default(), kind));
    }
    Ok(block)
}

/// The seed of the block's checksum, if it has one.
fn seed(geometry: &Geometry) -> Option<ChecksumSeed> {
    geometry.features.metadata_csum().then_some(geometry.checksum_seed)
}

fn read(
    device: &dyn BlockDevice,
    byte: u64,
    seed: Option<ChecksumSeed>,
    place: Place,
) -> Result<RawMmp> {
    let mut bytes = [0; SIZE];
    let fail = |source| Error::Io { op: IoOp::Read, place, source };
    device.read_through(byte, &mut bytes).map_err(fail)?;
    RawMmp::parse(&bytes, seed, place)
}

/// Claims the file system for this node. Takes two waits of up to six minutes each if another node
/// had it last, else one.
///
/// # Errors
/// [`Unmountable::InUse`], [`Unmountable::BeingChecked`], [`Unmountable::MmpInterval`]; corruption of
/// the block; I/O errors.
pub(crate) fn claim(
    device: Arc<dyn BlockDevice>,
    (geometry, facts): (&Geometry, &Facts),
    name: NodeName,
    observer: &dyn Observer,
) -> Result<Claim> {
    let block = find(geometry, facts)?;
    let update = if facts.mmp_interval == 0 { UPDATE } else { facts.mmp_interval };
    let start = Instant::now();
    let state = State {
        seq: 0,
        check_interval: update.max(CHECK_MIN),
        written: start,
        tried: start,
        ended: false,
        lost: false,
    };
    let guard = Guard {
        device,
        block,
        byte: block.get().saturating_mul(geometry.block_size.into()),
        seed: seed(geometry),
        update,
        name,
        state: Mutex::new(state),
        wake: Condvar::new(),
    };
    guard.contend(observer)?;
    let guard = Arc::new(guard);
    observer.guarded(&guard);
    Ok(Claim(guard))
}

impl Guard {
    /// The kernel's `ext4_multi_mount_protect`.
    fn contend(&self, observer: &dyn Observer) -> Result<()> {
        let mut state = self.state.lock();
        let found = self.read()?;
        let check = state.check_interval.max(found.check_interval.get());
        if check > CHECK_MAX {
            return Err(Unmountable::MmpInterval { seconds: check }.into());
        }
        state.check_interval = check;
        match found.seq.get() {
            CLEAN => {}
            FSCK => {
                let node = shown(&found.nodename);
                return Err(Unmountable::BeingChecked { node }.into());
            }
            seq => self.wait(check, seq, observer)?,
        }
        state.seq = new_seq();
        self.write(&state, found)?;
        self.wait(check, state.seq, observer)?;
        (state.written, state.tried) = (Instant::now(), Instant::now());
        Ok(())
    }

    /// Waits so long that another node would have written, and looks whether it did.
    fn wait(&self, check: u16, seq: u32, observer: &dyn Observer) -> Result<()> {
        let check = u64::from(check);
        let seconds = check.saturating_mul(2).saturating_add(1).min(check.saturating_add(60));
        for done in 0..seconds {
            observer.await_other_node(done, seconds);
        }
        let found = self.read()?;
        if found.seq.get() == seq {
            return Ok(());
        }
        let (node, device) = (shown(&found.nodename), shown(&found.bdevname));
        Err(Unmountable::InUse { node, device }.into())
    }

    /// Writes the block whenever that is due, until the file system is unmounted: for a thread of its
    /// own. A device that fails for a while is tried again.
    ///
    /// # Errors
    /// [`CorruptKind::MmpTaken`] if another node has written it: nothing may be written any more.
    pub fn run(&self) -> Result<()> {
        let mut state = self.state.lock();
        while !state.ended {
            let due = state.tried.checked_add(Duration::from_secs(self.update.into()));
            let due = due.unwrap_or(state.tried);
            if Instant::now() < due {
                self.wake.wait_until(&mut state, due);
                continue;
            }
            match self.refresh(&mut state) {
                Ok(()) | Err(Error::Io { .. }) => state.tried = Instant::now(),
                Err(error) => {
                    (state.lost, state.ended) = (true, true);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn refresh(&self, state: &mut State) -> Result<()> {
        let found = self.read()?;
        if found.seq.get() != state.seq {
            return Err(self.taken());
        }
        let late = state.written.elapsed().as_secs().saturating_mul(2);
        let late = u16::try_from(late).unwrap_or(CHECK_MAX);
        state.check_interval = late.clamp(self.update.clamp(CHECK_MIN, CHECK_MAX), CHECK_MAX);
        let next = if state.seq >= MAX_SEQ { 1 } else { state.seq.saturating_add(1) };
        let before = core::mem::replace(&mut state.seq, next);
        let written = self.write(state, found);
        if written.is_err() {
            // It may be there all the same, but then nobody else can have written before us.
            state.seq = self.read().map_or(before, |found| found.seq.get());
            return written;
        }
        state.written = Instant::now();
        Ok(())
    }

    /// The error of a file system that another node has taken, if one has.
    pub(crate) fn loss(&self) -> Option<Error> {
        self.state.lock().lost.then(|| self.taken())
    }

    /// Gives the file system up to other nodes. The second time nothing happens.
    ///
    /// # Errors
    /// I/O errors: other nodes have to wait then.
    pub(crate) fn end(&self) -> Result<()> {
        let mut state = self.state.lock();
        if state.ended {
            return Ok(());
        }
        state.ended = true;
        self.wake.notify_all();
        let found = self.read()?;
        if found.seq.get() != state.seq {
            return Err(self.taken());
        }
        state.seq = CLEAN;
        self.write(&state, found)
    }

    fn taken(&self) -> Error {
        Error::corrupt(Place::block(self.block), CorruptKind::MmpTaken {})
    }

    fn read(&self) -> Result<RawMmp> {
        read(&*self.device, self.byte, self.seed, Place::block(self.block))
    }

    fn write(&self, state: &State, mut raw: RawMmp) -> Result<()> {
        (raw.seq, raw.time) = (state.seq.into(), now().into());
        raw.check_interval = state.check_interval.into();
        fill(&mut raw.nodename, &self.name.node);
        fill(&mut raw.bdevname, &self.name.device);
        if let Some(seed) = self.seed {
            raw.seal(seed);
        }
        let fail = |source| Error::Io { op: IoOp::Write, place: Place::block(self.block), source };
        self.device.write_through(self.byte, raw.as_bytes()).map_err(fail)
    }
}

/// A number that no other node will have chosen.
fn new_seq() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(Instant::now()).to_le_bytes();
    u32::from_le_bytes([a, b, c, d]).checked_rem(MAX_SEQ).unwrap_or(0).saturating_add(1)
}

/// `text` in `field`, cut so that a NUL ends it.
fn fill(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    let most = field.len().saturating_sub(1);
    field.iter_mut().zip(text).take(most).for_each(|(to, from)| *to = *from);
}

/// A name from the block for a person, who may be at a terminal.
fn shown(field: &[u8]) -> String {
    let name = text(field);
    if name.is_empty() { "?".to_owned() } else { name.escape_ascii().to_string() }
}
