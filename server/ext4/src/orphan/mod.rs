//! Orphans: inodes that the file system must finish with after a crash. One without links is freed,
//! one with links is cut to its size.
//!
//! They stand in a list through i_dtime that the superblock heads, or, with orphan_file, in slots of
//! a file, and in memory for as long as they are in use: [`Orphans`] is also what tells an unlinked
//! inode that is open from a free one.
//! # Locking
//! One mutex, taken inside an open handle and before blocks; like the kernel's s_orphan_lock.
//! # Invariant
//! What is on the disk (or in the running transaction) and in [`State`] is the same set.
//! Kernel: fs/ext4/orphan.c

mod file;
mod list;
#[cfg(test)]
mod tests;

use foldhash::HashMap;
use parking_lot::Mutex;

use crate::device::{self, BlockDevice};
use crate::error::Result;
use crate::handle::{Credits, Handle};
use crate::ids::InodeNr;
use crate::volume::Volume;

pub(crate) use list::{head, prepend};

/// Blocks that adding or removing an orphan changes: the superblock's and two inodes', or one of the
/// orphan file.
pub(crate) const CREDITS: Credits = Credits(3);

/// The orphans of this mount.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Where each is.
    places: HashMap<InodeNr, Place>,
    /// The list's head.
    newest: Option<InodeNr>,
    /// The blocks of the orphan file, once it was looked at.
    file: Option<file::File>,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// In the list: its neighbours.
    List { newer: Option<InodeNr>, older: Option<InodeNr> },
    /// In the orphan file.
    File(file::Slot),
}

impl Orphans {
    /// Whether `nr` is one.
    pub(crate) fn contains(&self, nr: InodeNr) -> bool {
        self.0.lock().places.contains_key(&nr)
    }

    /// As [`Orphans::contains`], by a thread that may not be allowed to wait for who changes them.
    ///
    /// # Errors
    /// `WouldBlock`, see [`BlockDevice::may_wait`].
    pub(crate) fn knows(&self, device: &dyn BlockDevice, nr: InodeNr) -> Result<bool> {
        let state = device::acquire(device, self.0.try_lock(), || self.0.lock())?;
        Ok(state.places.contains_key(&nr))
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<InodeNr> {
        self.0.lock().places.keys().copied().collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().places.len()
    }
}

/// Makes `nr` an orphan, if it is none yet. [`CREDITS`] blocks.
///
/// # Errors
/// Corruption of the orphan file, I/O errors.
pub(crate) fn add(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let volume = handle.volume();
    #[cfg(test)]
    if volume.has(crate::journal::Fault::ForgottenOrphan) {
        return Ok(());
    }
    let mut state = volume.orphans.0.lock();
    if state.places.contains_key(&nr) {
        return Ok(());
    }
    let place = match file::add(handle, &mut state, nr)? {
        Some(slot) => Place::File(slot),
        None => list::add(handle, &mut state, nr)?,
    };
    state.places.insert(nr, place);
    Ok(())
}

/// `nr` is no orphan any more: it is freed, has a name, or is cut. [`CREDITS`] blocks.
///
/// # Errors
/// I/O errors.
pub(crate) fn remove(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let volume = handle.volume();
    let mut state = volume.orphans.0.lock();
    match state.places.get(&nr).copied() {
        None => {}
        Some(Place::File(slot)) => file::remove(handle, &mut state, slot)?,
        Some(Place::List { newer, older }) => list::remove(handle, &mut state, nr, newer, older)?,
    }
    // Not before: if its block cannot be read, nothing has changed, and it is an orphan still.
    state.places.remove(&nr);
    Ok(())
}

/// Takes up what an earlier mount left in the orphan file, so that [`remove`] finds it: their
/// numbers, each in range. Once, at the mount.
///
/// # Errors
/// Corruption of the orphan file, I/O errors.
pub(crate) fn adopt_file(volume: &Volume) -> Result<Vec<InodeNr>> {
    file::adopt(volume, &mut volume.orphans.0.lock())
}

/// Takes up the list's head, so that [`remove`] makes its successor the head. The numbers come from
/// the disk: the caller checks that it met none of them before.
///
/// # Errors
/// [`crate::CorruptKind::OrphanList`] for a number that is out of range or taken up; I/O errors.
pub(crate) fn adopt_head(volume: &Volume) -> Result<Option<InodeNr>> {
    list::adopt(volume, &mut volume.orphans.0.lock())
}

/// Gives up the list on the disk, which leads nowhere. One block.
///
/// # Errors
/// I/O errors.
pub(crate) fn drop_list(handle: &mut Handle<'_>) -> Result<()> {
    let volume = handle.volume();
    let mut state = volume.orphans.0.lock();
    state.places.retain(|_, place| matches!(place, Place::File(_)));
    state.newest = None;
    list::set_head(handle, None)
}
