//! What a device holds and whether it can be mounted, without writing anything.
//!
//! Mounting for writing is tried on a [`Rehearsal`], so that the verdict is what a mount would say.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::{BlockDevice, Rehearsal};
use crate::disk::superblock::{RawSuperblock, text};
use crate::error::{Error, Result, Unmountable};
use crate::features::Features;
use crate::filesystem::{Filesystem, MountOptions};
use crate::mmp::{self, Holder};
use crate::observer::{Notice, Observer};
use crate::superblock::{self, Facts, Superblock};

/// What was found.
#[derive(Debug)]
pub struct Inspection {
    /// What the superblock says, if one is there at all. It may be damaged.
    pub found: Option<Found>,
    /// What the last mount that was tried had to tell.
    pub notices: Vec<Notice>,
    /// Whether it can be mounted.
    pub verdict: Verdict,
}

/// A superblock as it stands: nothing here was checked.
#[derive(Debug)]
pub struct Found {
    /// The feature sets.
    pub features: Features,
    /// s_uuid.
    pub uuid: [u8; 16],
    /// s_volume_name up to its first NUL.
    pub label: Vec<u8>,
    /// Bytes of a block; 0 if that makes no sense.
    pub block_size: u32,
    /// Blocks of the file system.
    pub blocks: u64,
    /// All else.
    pub facts: Facts,
    /// Who has it, with multiple mount protection.
    pub holder: Option<Result<Holder>>,
}

/// Whether a device can be mounted.
#[derive(Debug)]
pub enum Verdict {
    /// For writing.
    Writable,
    /// For reading only, because of this error.
    ReadOnly(Error),
    /// Not at all, because of this error.
    Unmountable(Error),
}

/// Looks at `device`, which is only read. `options` are those of a mount for writing.
pub fn inspect(
    device: &Arc<dyn BlockDevice>,
    options: &MountOptions,
    observer: &dyn Observer,
) -> Inspection {
    let found = find(&**device, options.superblock);
    let (verdict, notices) = judge(device, options, observer);
    let holder = found.as_ref().and_then(|found| found.holder.as_ref()?.as_ref().ok());
    let verdict = match (verdict, holder) {
        (Verdict::Writable, Some(Holder::Node { node, device, .. })) => {
            let (node, device) = (node.clone(), device.clone());
            Verdict::ReadOnly(Unmountable::InUse { node, device }.into())
        }
        (verdict, _) => verdict,
    };
    Inspection { found, notices, verdict }
}

fn find(device: &dyn BlockDevice, superblock: Option<u64>) -> Option<Found> {
    let bytes = superblock::read(device, superblock::place(superblock).ok()?).ok()?;
    let raw = RawSuperblock::parse(&bytes).ok()?;
    let known = Superblock::read(device, superblock).ok();
    Some(Found {
        features: raw.features(),
        uuid: raw.uuid,
        label: text(&raw.volume_name),
        block_size: match raw.log_block_size.get() {
            log @ 0..=6 => 1024 << log,
            _ => 0,
        },
        blocks: raw.wide(raw.blocks_count_lo, raw.blocks_count_hi),
        facts: Facts::new(raw),
        holder: known.and_then(|known| mmp::holder(device, &known.geometry, &known.facts)),
    })
}

/// Tries to mount, first for writing.
fn judge(
    device: &Arc<dyn BlockDevice>,
    options: &MountOptions,
    observer: &dyn Observer,
) -> (Verdict, Vec<Notice>) {
    let shadow = |device: &Arc<dyn BlockDevice>| -> Arc<dyn BlockDevice> {
        Arc::new(Rehearsal::new(Arc::clone(device)))
    };
    let journal = options.journal.as_ref().map(shadow);
    let writing = MountOptions { read_only: false, journal, ..options.clone() };
    let listener = Listener::new(observer);
    let why = match Filesystem::mount(shadow(device), &writing, &listener) {
        Ok(_) => return (Verdict::Writable, listener.notices.into_inner()),
        Err(why) => why,
    };
    let reading = MountOptions { read_only: true, ..options.clone() };
    let listener = Listener::new(observer);
    let verdict = match Filesystem::mount(Arc::clone(device), &reading, &listener) {
        Ok(_) => Verdict::ReadOnly(why),
        Err(why) => Verdict::Unmountable(why),
    };
    (verdict, listener.notices.into_inner())
}

/// Gathers notices, and waits for no other node: in a rehearsal none can answer.
struct Listener<'a> {
    observer: &'a dyn Observer,
    notices: Mutex<Vec<Notice>>,
}

impl<'a> Listener<'a> {
    fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, notices: Mutex::default() }
    }
}

impl Observer for Listener<'_> {
    fn replay(&self, done: u64, total: u64) {
        self.observer.replay(done, total);
    }

    fn orphans(&self, done: u64, total: u64) {
        self.observer.orphans(done, total);
    }

    fn await_other_node(&self, _done: u64, _total: u64) {}

    fn notice(&self, notice: Notice) {
        self.notices.lock().push(notice);
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
