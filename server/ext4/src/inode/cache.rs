//! Decoded inodes, as [`crate::cache::Memory`] keeps them beside the blocks they come from.

use std::sync::Arc;

use super::{Inode, InodeFlags, What, codec, encode};
use crate::cache::{Ahead, Decoded};
use crate::disk::inode as disk;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::group;
use crate::handle::Handle;
use crate::ids::{BlockNr, InodeNr, in_memory};
use crate::quota;
use crate::volume::Volume;

/// Blocks of an inode table that are read at once.
const TABLE_BLOCKS: u32 = 32;

/// The most bytes of a file that readers without large_file know.
const SMALL: u64 = (1 << 31) - 1;

impl Decoded for Inode {
    fn bytes(&self) -> usize {
        size_of::<Self>().saturating_add(self.tail.len())
    }
}

/// The inode `nr`, reserved ones included. One without links is there for as long as it is an
/// orphan of this mount: open, or being processed.
///
/// # Errors
/// [`CorruptKind::InodeNumber`] for 0 and numbers past the last, [`crate::Refusal::Stale`] for a
/// free inode, and whatever its record or its group's descriptor shows.
pub(crate) fn get(volume: &Volume, nr: InodeNr) -> Result<Arc<Inode>> {
    let device = &**volume.source().device();
    let inode = volume.memory().inode(nr, device, || load(volume, nr))?;
    check_links(volume, &inode)?;
    Ok(inode)
}

/// The same for a number that somebody names as a file's.
///
/// # Errors
/// [`Refusal::Stale`] for what no directory may name: reserved inodes other than the root, quota files. As [`get`].
pub(crate) fn named(volume: &Volume, nr: InodeNr) -> Result<Arc<Inode>> {
    if volume.geometry.is_special(nr) {
        return Err(Refusal::Stale.into());
    }
    get(volume, nr)
}

fn check_links(volume: &Volume, inode: &Inode) -> Result<()> {
    if inode.links == 0 && !volume.orphans.knows(&**volume.source().device(), inode.nr)? {
        return Err(Refusal::Stale.into());
    }
    Ok(())
}

fn load(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    let decode = |record: &[u8]| codec::decode_any(nr, record, &volume.geometry);
    let mut inode = match volume.edits().inode(nr) {
        Some(record) => decode(record),
        None => on_disk_record(volume, nr, decode),
    }?;
    inode.atime = volume.lazy.get(nr).unwrap_or(inode.atime);
    // Checked here, too, so that a free inode takes no room.
    check_links(volume, &inode)?;
    Ok(inode)
}

/// Drops the version in memory of an inode that is free now, or free still.
pub(crate) fn forget(volume: &Volume, nr: InodeNr) {
    volume.memory().drop_inode(nr);
    volume.lazy.done(nr);
}

/// The inode `nr` as it stands in the inode table, whatever fast commits made of it.
///
/// # Errors
/// As [`get`].
pub(crate) fn decode_on_disk(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    on_disk_record(volume, nr, |record| codec::decode(nr, record, &volume.geometry))
}

/// The record of `nr` as it stands in the inode table, unchecked, or as fast commits left it.
///
/// # Errors
/// [`CorruptKind::InodeNumber`]; corruption on the way to the record; I/O errors.
pub(crate) fn record(volume: &Volume, nr: InodeNr) -> Result<Vec<u8>> {
    match volume.edits().inode(nr) {
        Some(record) => Ok(record.to_vec()),
        None => on_disk_record(volume, nr, |record| Ok(record.to_vec())),
    }
}

/// Makes `inode` the newest version: in its record, and for whoever asks from now on. The caller
/// holds the inode's lock exclusively. Times are clamped to what the record can hold, and i_version
/// becomes another one. Owners are charged. Changes one block, and with quotas
/// [`quota::CREDITS`] more.
///
/// # Errors
/// Corruption on the way to the record; I/O errors.
pub(crate) fn store(handle: &mut Handle<'_>, inode: &Inode) -> Result<()> {
    store_as(handle, next_version(inode), What::Content)
}

/// As [`store`], where nothing but times has changed: fdatasync need not wait for it.
///
/// # Errors
/// As [`store`].
pub(crate) fn store_times(handle: &mut Handle<'_>, inode: &Inode) -> Result<()> {
    store_as(handle, next_version(inode), What::Times)
}

/// As [`store_times`] for the access time, which is no change to i_version.
///
/// # Errors
/// As [`store`].
pub(crate) fn store_atime(handle: &mut Handle<'_>, inode: &Inode) -> Result<()> {
    store_as(handle, inode.clone(), What::Times)
}

fn next_version(inode: &Inode) -> Inode {
    let mut next = inode.clone();
    if !inode.flags.has(InodeFlags::EA_INODE) {
        next.version = next.version.wrapping_add(1);
    }
    next
}

fn store_as(handle: &mut Handle<'_>, mut newest: Inode, what: What) -> Result<()> {
    let volume = handle.volume();
    let (nr, flags) = (newest.nr, newest.flags);
    let before = edit_record(handle, nr, |record| {
        let before = codec::charge(nr, record, &volume.geometry)?;
        encode::encode(&mut newest, record, &volume.geometry)?;
        Ok(before)
    })?;
    if quota::counts(volume, nr, flags) {
        quota::follow(handle, before, &newest)?;
    }
    if newest.size > SMALL {
        volume.superblock.note_large_file();
    }
    volume.changed.note(nr, handle.tid(), what, volume.committed_tid());
    volume.lazy.done(nr);
    volume.memory().put_inode(nr, newest);
    Ok(())
}

/// Sets i_dtime of `nr`, which [`store`] leaves alone: the time of deletion, or the next orphan.
/// Changes one block.
///
/// # Errors
/// Corruption on the way to the record; I/O errors.
pub(crate) fn set_dtime(handle: &mut Handle<'_>, nr: InodeNr, dtime: u32) -> Result<()> {
    let seed = handle.volume().geometry.checksum_seed;
    edit_record(handle, nr, |record| {
        disk::set_dtime(record, dtime);
        disk::seal(record, nr, seed);
        Ok(())
    })
}

/// i_dtime of `nr`.
///
/// # Errors
/// Corruption on the way to the record; I/O errors.
pub(crate) fn dtime(volume: &Volume, nr: InodeNr) -> Result<u32> {
    on_disk_record(volume, nr, |record| Ok(disk::parts(record, nr)?.fixed.dtime.get()))
}

/// Prepares the record of `nr`, which was free, for [`store`]: the bytes that [`Inode`] does not know
/// come from `raw`, and nobody was charged yet. Changes one block.
///
/// # Errors
/// Corruption on the way to the record; I/O errors.
pub(crate) fn prepare(handle: &mut Handle<'_>, nr: InodeNr, raw: &[u8]) -> Result<()> {
    forget(handle.volume(), nr);
    edit_record(handle, nr, |record| {
        record.fill(0);
        record.iter_mut().zip(raw).skip(size_of::<u16>()).for_each(|(to, from)| *to = *from);
        Ok(())
    })
}

/// Changes the record of `nr`, of s_inode_size bytes.
pub(super) fn edit_record<T>(
    handle: &mut Handle<'_>,
    nr: InodeNr,
    edit: impl FnOnce(&mut [u8]) -> Result<T>,
) -> Result<T> {
    let (block, start) = locate(handle.volume(), nr)?;
    let end = start.saturating_add(handle.volume().geometry.inode_size.into());
    handle.edit(block, |bytes| edit(bytes.get_mut(start..end).ok_or_else(|| outside(nr))?))
}

fn outside(nr: InodeNr) -> Error {
    Error::corrupt(Place::inode(nr), CorruptKind::InodeNumber { nr: nr.get() })
}

fn on_disk_record<T>(
    volume: &Volume,
    nr: InodeNr,
    take: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    let (block, start) = locate(volume, nr)?;
    let ahead = table_around(volume, nr, block);
    let block = volume.metadata_among(block, ahead).map_err(|error| error.at_inode(nr))?;
    let end = start.saturating_add(usize::from(volume.geometry.inode_size));
    let record = block.bytes().get(start..end).ok_or_else(|| outside(nr))?;
    take(record).map_err(|error| error.at_block(block.nr()))
}

/// The part of the inode table that is read with `block`, which holds the record of `nr`
/// (s_inode_readahead_blks).
fn table_around(volume: &Volume, nr: InodeNr, block: BlockNr) -> Ahead {
    let geometry = &volume.geometry;
    let per_block = geometry.block_size.checked_div(geometry.inode_size.into()).unwrap_or(1);
    let Some((_, index)) = geometry.group_of_inode(nr) else { return Ahead::NOTHING };
    let at = index.checked_div(per_block).unwrap_or(0);
    let blocks = geometry.inodes_per_group.div_ceil(per_block.max(1));
    let before = at.checked_rem(TABLE_BLOCKS).unwrap_or(0);
    let first = block.get().saturating_sub(before.into());
    let count = TABLE_BLOCKS.min(blocks.saturating_sub(at.saturating_sub(before)));
    Ahead::of(BlockNr::new(first), count.into())
}

/// The block that holds the record of `nr`, and the byte in it where the record starts.
pub(crate) fn locate(volume: &Volume, nr: InodeNr) -> Result<(BlockNr, usize)> {
    let geometry = &volume.geometry;
    let (group, index) = geometry.group_of_inode(nr).ok_or_else(|| outside(nr))?;
    let table = group::descriptor(volume, group)?.inode_table_in(group, geometry)?;
    let size = u64::from(geometry.inode_size);
    let byte = u64::from(index).saturating_mul(size);
    let block_size = u64::from(geometry.block_size);
    let nr_in_table = byte.checked_div(block_size).unwrap_or(0);
    let block = table.get().checked_add(nr_in_table).ok_or_else(|| outside(nr))?;
    let start = in_memory(byte.checked_rem(block_size).unwrap_or(0));
    Ok((BlockNr::new(block), start))
}
