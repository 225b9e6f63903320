//! Inode numbers: taken near the parent, freed; with the groups' first inodes come their bitmaps and
//! the zeros of their tables.
//!
//! Kernel: fs/ext4/ialloc.c `__ext4_new_inode`, `ext4_free_inode`

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::atomic::Ordering;

use super::bitmaps::{self, Bitmap};
use super::block::release;
use super::orlov::Chooser;
use super::space::{Group, Space, State};
use crate::disk::bitmap;
use crate::disk::group_desc::{BLOCK_UNINIT, GroupDesc, INODE_UNINIT, INODE_ZEROED};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::geometry::Geometry;
use crate::group;
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, GroupNr, InodeNr};
use crate::inode::{FileKind, Inode};
use crate::volume::Volume;

/// Blocks that one [`allocate_inode`] may change: the inode bitmap, the descriptors, the block bitmap
/// of a group that is used for the first time, and a fresh block of the inode table.
pub(crate) const ALLOCATE_INODE: Credits = Credits(4);
/// Blocks that one [`free_inode`] may change: the inode bitmap and the descriptors.
pub(crate) const FREE_INODE: Credits = Credits(2);

/// An inode number that is the caller's now; its record is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewInode {
    /// The number.
    pub(crate) nr: InodeNr,
    /// i_generation: tells it from earlier inodes of this number.
    pub(crate) generation: u32,
}

/// Takes an inode for a `kind` called `name` in `parent`. Costs [`ALLOCATE_INODE`]. Verbs do this
/// before their first other change, because it is what finds out that inodes have run out.
///
/// # Errors
/// [`Refusal::NoSpace`], before any change; corruption and I/O errors.
pub(crate) fn allocate_inode(
    handle: &mut Handle<'_>,
    parent: &Inode,
    kind: FileKind,
    name: &[u8],
) -> Result<NewInode> {
    let volume = handle.volume();
    let space = Space::of(volume)?;
    let chooser = Chooser::new(space, &volume.geometry);
    let is_dir = kind == FileKind::Directory;
    let first = if is_dir {
        chooser.directory(parent, space.random.hash_one(name))
    } else {
        chooser.other(parent)
    };
    // Numbers that were freed just now come last: who held them may still ask for them.
    for freed_too in [false, true] {
        let count = volume.geometry.group_count;
        for step in 0..count {
            let nr = u64::from(first.get()).saturating_add(step.into());
            let nr = nr.checked_rem(count.into()).unwrap_or(0);
            let group = GroupNr::new(u32::try_from(nr).unwrap_or(0));
            if let Some(nr) = take_in(handle, group, is_dir, freed_too)? {
                let count = space.generations.fetch_add(1, Ordering::Relaxed);
                let [a, b, c, d, ..] = space.random.hash_one(count).to_le_bytes();
                return Ok(NewInode { nr, generation: u32::from_le_bytes([a, b, c, d]) });
            }
        }
    }
    Err(Refusal::NoSpace.into())
}

fn take_in(
    handle: &mut Handle<'_>,
    nr: GroupNr,
    is_dir: bool,
    freed_too: bool,
) -> Result<Option<InodeNr>> {
    let volume = handle.volume();
    let (geometry, space) = (&volume.geometry, Space::of(volume)?);
    let group = space.group(nr)?;
    if group.free_inodes.load(Ordering::Relaxed) == 0 {
        return Ok(None);
    }
    bitmaps::warm(volume, group::descriptor(volume, nr)?.inode_bitmap);
    let mut state = group.lock();
    let Some((desc, bitmap)) = load(handle, nr, (group, &mut state))? else { return Ok(None) };
    let committed = volume.committed_tid();
    state.freed_inodes.retain(|(tid, _)| !committed.reached(*tid));
    let mut busy = Cow::Borrowed(bitmap.bytes());
    if !freed_too {
        for (_, index) in &state.freed_inodes {
            bitmap::fill(busy.to_mut(), *index..index.saturating_add(1), true);
        }
    }
    let start = first_usable(geometry, nr);
    let index = bitmap::next(&busy, start..geometry.inodes_per_group, false);
    drop(busy);
    if index >= geometry.inodes_per_group {
        return Ok(None);
    }
    state.freed_inodes.retain(|(_, freed)| *freed != index);
    mark(handle, nr, (&desc, &bitmap), (index, is_dir))?;
    count_used(group, space, is_dir);
    Ok(number(geometry, nr, index))
}

fn count_used(group: &Group, space: &Space, is_dir: bool) {
    group.free_inodes.fetch_sub(1, Ordering::Relaxed);
    space.free_inodes.fetch_sub(1, Ordering::Relaxed);
    if is_dir {
        group.used_dirs.fetch_add(1, Ordering::Relaxed);
        space.used_dirs.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes `inode` itself, which is free and no reserved one. Costs [`ALLOCATE_INODE`].
///
/// # Errors
/// [`CorruptKind::InodeNumber`] if it cannot be had; corruption and I/O errors.
pub(crate) fn take_inode(handle: &mut Handle<'_>, inode: InodeNr, is_dir: bool) -> Result<()> {
    let volume = handle.volume();
    let (geometry, space) = (&volume.geometry, Space::of(volume)?);
    let wrong = || {
        let kind = CorruptKind::InodeNumber { nr: inode.get() };
        Error::corrupt(Place::inode(inode), kind)
    };
    let (nr, index) = geometry.group_of_inode(inode).ok_or_else(wrong)?;
    let group = space.group(nr)?;
    let mut state = group.lock();
    let (desc, bitmap) = load(handle, nr, (group, &mut state))?.ok_or_else(wrong)?;
    if index < first_usable(geometry, nr) || bitmap::is_set(bitmap.bytes(), index) {
        return Err(wrong());
    }
    mark(handle, nr, (&desc, &bitmap), (index, is_dir))?;
    count_used(group, space, is_dir);
    Ok(())
}

/// The first index of a group that may be given out: reserved inodes are not.
fn first_usable(geometry: &Geometry, group: GroupNr) -> u32 {
    if group.get() == 0 { geometry.first_inode.saturating_sub(1) } else { 0 }
}

fn number(geometry: &Geometry, group: GroupNr, index: u32) -> Option<InodeNr> {
    let before = group.get().checked_mul(geometry.inodes_per_group)?;
    Some(InodeNr::new(before.checked_add(index)?.checked_add(1)?))
}

/// Descriptor and inode bitmap of a locked group; `None` if they cannot be used.
fn load(
    handle: &Handle<'_>,
    nr: GroupNr,
    (group, state): (&Group, &mut State),
) -> Result<Option<(GroupDesc, Bitmap)>> {
    let volume = handle.volume();
    if state.bad_inodes {
        return Ok(None);
    }
    let desc = group::descriptor(volume, nr)?;
    match bitmaps::inodes(volume, nr, &desc) {
        Ok(bitmap) => Ok(Some((desc, bitmap))),
        Err(error) => {
            group.give_up_inodes(state, Space::of(volume)?);
            volume.notice(error.at_group(nr));
            Ok(None)
        }
    }
}

/// Marks an inode as used: bitmap, table, descriptor.
fn mark(
    handle: &mut Handle<'_>,
    nr: GroupNr,
    (desc, bitmap): (&GroupDesc, &Bitmap),
    (index, is_dir): (u32, bool),
) -> Result<()> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    let blocks_checksum = first_use_of_blocks(handle, nr, desc)?;
    zero_table(handle, nr, desc, index)?;
    let fill = |bytes: &mut [u8]| {
        bitmap::fill(bytes, index..index.saturating_add(1), true);
        Ok(bitmaps::checksum(geometry, bytes, geometry.inodes_per_group))
    };
    let checksum = match bitmap {
        Bitmap::Loaded(_) => handle.edit(desc.inode_bitmap, fill)?,
        Bitmap::Fresh(fresh) => handle.create(desc.inode_bitmap, |bytes| {
            bytes.iter_mut().zip(fresh).for_each(|(to, from)| *to = *from);
            fill(bytes)
        })?,
    };
    group::edit(handle, nr, |desc| {
        desc.free_inodes = desc.free_inodes.saturating_sub(1);
        desc.used_dirs = desc.used_dirs.saturating_add(u32::from(is_dir));
        desc.inode_bitmap_checksum = checksum.unwrap_or(desc.inode_bitmap_checksum);
        if geometry.features.group_checksums() {
            let behind = geometry.inodes_per_group.saturating_sub(index).saturating_sub(1);
            // The whole table of a group without inodes is unused, whatever the field says.
            let unused = if desc.flags & INODE_UNINIT != 0 { behind } else { desc.unused_inodes };
            desc.unused_inodes = unused.min(behind);
            desc.flags &= !INODE_UNINIT;
        }
        if let Some(checksum) = blocks_checksum {
            desc.flags &= !BLOCK_UNINIT;
            desc.block_bitmap_checksum = checksum.unwrap_or(desc.block_bitmap_checksum);
        }
        Ok(())
    })
}

/// Writes the block bitmap of a group in which no block was used so far: a group with inodes has
/// both bitmaps, as the kernel keeps it. The new checksum, if it did.
fn first_use_of_blocks(
    handle: &mut Handle<'_>,
    nr: GroupNr,
    desc: &GroupDesc,
) -> Result<Option<Option<u32>>> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    let group = Space::of(volume)?.group(nr)?;
    if !geometry.features.group_checksums() || desc.flags & BLOCK_UNINIT == 0 {
        return Ok(None);
    }
    let Ok(Bitmap::Fresh(fresh)) = bitmaps::blocks(volume, nr, desc) else {
        // Allocating blocks here will find out, too.
        group.longest.store(u32::MAX, Ordering::Relaxed);
        return Ok(None);
    };
    let checksum = handle.create(desc.block_bitmap, |bytes| {
        bytes.iter_mut().zip(&fresh).for_each(|(to, from)| *to = *from);
        Ok(bitmaps::checksum(geometry, bytes, geometry.clusters_per_group()))
    })?;
    Ok(Some(checksum))
}

/// Zeros the blocks of the inode table that come into use with `index`: those that no inode used
/// before and that mke2fs left as they were. One block as a rule, because inodes are taken in order.
fn zero_table(handle: &mut Handle<'_>, nr: GroupNr, desc: &GroupDesc, index: u32) -> Result<()> {
    let geometry = &handle.volume().geometry;
    if !geometry.features.group_checksums() || desc.flags & INODE_ZEROED != 0 {
        return Ok(());
    }
    let unused = match desc.flags & INODE_UNINIT {
        0 => desc.unused_inodes.min(geometry.inodes_per_group),
        _ => geometry.inodes_per_group,
    };
    let used = geometry.inodes_per_group.saturating_sub(unused);
    let per_block = geometry.block_size.checked_div(geometry.inode_size.into()).unwrap_or(1).max(1);
    let table = desc.inode_table_in(nr, geometry)?;
    let last = index.checked_div(per_block).unwrap_or(0);
    for block in used.div_ceil(per_block)..=last {
        let nr = BlockNr::new(table.get().saturating_add(block.into()));
        handle.create(nr, |_| Ok(()))?;
    }
    Ok(())
}

/// Whether the bitmap says that `inode` is taken.
///
/// # Errors
/// [`CorruptKind::InodeNumber`] for one that cannot be; corruption of bitmaps; I/O errors.
pub(crate) fn inode_in_use(volume: &Volume, inode: InodeNr) -> Result<bool> {
    let outside = CorruptKind::InodeNumber { nr: inode.get() };
    let (nr, index) = (volume.geometry.group_of_inode(inode))
        .ok_or_else(|| Error::corrupt(Place::inode(inode), outside))?;
    // Bitmap and descriptor agree under the lock only.
    let group = Space::of(volume).and_then(|space| space.group(nr));
    let _state = group.as_ref().map(|group| group.lock());
    let desc = group::descriptor(volume, nr)?;
    let bitmap = bitmaps::inodes(volume, nr, &desc).map_err(|error| error.at_group(nr))?;
    Ok(bitmap::is_set(bitmap.bytes(), index))
}

/// Frees the number of `inode`, which has no blocks any more. Its record is the caller's business.
/// Costs [`FREE_INODE`].
///
/// # Errors
/// [`CorruptKind::InodeNumber`] for reserved ones, [`CorruptKind::BitmapFree`]; corruption of
/// bitmaps; I/O errors.
pub(crate) fn free_inode(handle: &mut Handle<'_>, inode: &Inode) -> Result<()> {
    let volume = handle.volume();
    let (geometry, space) = (&volume.geometry, Space::of(volume)?);
    let place = Place::inode(inode.nr);
    let reserved = inode.nr == InodeNr::ROOT || geometry.is_special(inode.nr);
    let (nr, index) = geometry
        .group_of_inode(inode.nr)
        .filter(|_| !reserved)
        .ok_or_else(|| Error::corrupt(place, CorruptKind::InodeNumber { nr: inode.nr.get() }))?;
    release(volume, inode.nr)?;
    let group = space.group(nr)?;
    bitmaps::warm(volume, group::descriptor(volume, nr)?.inode_bitmap);
    let mut state = group.lock();
    let desc = group::descriptor(volume, nr)?;
    let bitmap = bitmaps::inodes(volume, nr, &desc).map_err(|error| error.at_group(nr))?;
    if !bitmap::is_set(bitmap.bytes(), index) {
        let kind = CorruptKind::BitmapFree { what: "inode", nr: inode.nr.get().into() };
        return Err(Error::corrupt(place, kind));
    }
    let checksum = handle.edit(desc.inode_bitmap, |bytes| {
        bitmap::fill(bytes, index..index.saturating_add(1), false);
        Ok(bitmaps::checksum(geometry, bytes, geometry.inodes_per_group))
    })?;
    let is_dir = inode.is_directory();
    group::edit(handle, nr, |desc| {
        desc.free_inodes = desc.free_inodes.saturating_add(1);
        desc.used_dirs = desc.used_dirs.saturating_sub(u32::from(is_dir));
        desc.inode_bitmap_checksum = checksum.unwrap_or(desc.inode_bitmap_checksum);
        Ok(())
    })?;
    state.freed_inodes.push((handle.tid(), index));
    group.free_inodes.fetch_add(1, Ordering::Relaxed);
    space.free_inodes.fetch_add(1, Ordering::Relaxed);
    if is_dir {
        // Both counts come from the disk and may be too small.
        let less = |dirs: u32| Some(dirs.saturating_sub(1));
        let _ = group.used_dirs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        let less = |dirs: u64| Some(dirs.saturating_sub(1));
        let _ = space.used_dirs.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
    Ok(())
}
