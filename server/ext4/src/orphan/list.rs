//! The list of orphans: the superblock names the newest, and i_dtime of each names the next.

use super::{Place, State};
use crate::cache::Ahead;
use crate::error::{CorruptKind, Error, Place as Where, Result};
use crate::handle::Handle;
use crate::ids::InodeNr;
use crate::inode;
use crate::volume::Volume;

/// Puts `nr` at the head.
pub(super) fn add(handle: &mut Handle<'_>, state: &mut State, nr: InodeNr) -> Result<Place> {
    let older = state.newest;
    inode::set_dtime(handle, nr, raw(older))?;
    set_head(handle, Some(nr))?;
    set_newer(state, older, Some(nr));
    state.newest = Some(nr);
    Ok(Place::List { newer: None, older })
}

/// Takes `nr` out of the middle.
pub(super) fn remove(
    handle: &mut Handle<'_>,
    state: &mut State,
    nr: InodeNr,
    newer: Option<InodeNr>,
    older: Option<InodeNr>,
) -> Result<()> {
    if let Some(newer) = newer {
        inode::set_dtime(handle, newer, raw(older))?;
        if let Some(Place::List { older: next, .. }) = state.places.get_mut(&newer) {
            *next = older;
        }
    } else {
        set_head(handle, older)?;
        state.newest = older;
    }
    set_newer(state, older, newer);
    inode::set_dtime(handle, nr, 0)
}

fn set_newer(state: &mut State, of: Option<InodeNr>, to: Option<InodeNr>) {
    if let Some(Place::List { newer, .. }) = of.and_then(|nr| state.places.get_mut(&nr)) {
        *newer = to;
    }
}

/// The head as the disk has it.
///
/// # Errors
/// I/O errors.
pub(crate) fn head(volume: &Volume) -> Result<Option<InodeNr>> {
    let superblock = &volume.superblock;
    let block = volume.blocks().newest(superblock.block(), Ahead::NOTHING)?;
    let nr = superblock.find(block.bytes()).map_or(0, |raw| raw.last_orphan.get());
    Ok((nr != 0).then(|| InodeNr::new(nr)))
}

/// Sets s_last_orphan.
pub(super) fn set_head(handle: &mut Handle<'_>, nr: Option<InodeNr>) -> Result<()> {
    handle.edit_superblock(|superblock| superblock.last_orphan.set(raw(nr)))
}

/// Puts `nr` at the head on the disk, for [`adopt`] to find.
///
/// # Errors
/// I/O errors.
pub(crate) fn prepend(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let older = head(handle.volume())?;
    inode::set_dtime(handle, nr, raw(older))?;
    set_head(handle, Some(nr))
}

/// Takes up the head; what comes behind it is not looked at yet.
pub(super) fn adopt(volume: &Volume, state: &mut State) -> Result<Option<InodeNr>> {
    let Some(nr) = head(volume)? else { return Ok(None) };
    let bad =
        |nr: InodeNr| Error::corrupt(Where::default(), CorruptKind::OrphanList { inode: nr.get() });
    if !may_be_orphan(volume, nr) || state.places.contains_key(&nr) {
        return Err(bad(nr));
    }
    let next = inode::dtime(volume, nr)?;
    let older = (next != 0).then(|| InodeNr::new(next));
    state.places.insert(nr, Place::List { newer: None, older });
    state.newest = Some(nr);
    Ok(Some(nr))
}

/// Whether a number from the disk names an inode that files may be (`ext4_orphan_get`).
pub(super) fn may_be_orphan(volume: &Volume, nr: InodeNr) -> bool {
    let geometry = &volume.geometry;
    nr.get() >= geometry.first_inode
        && nr.get() <= geometry.inodes_count
        && !geometry.is_special(nr)
}

fn raw(nr: Option<InodeNr>) -> u32 {
    nr.map_or(0, InodeNr::get)
}
