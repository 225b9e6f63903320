//! Inline data: content that lives in the inode, first in i_block, then in the in-inode attribute
//! system.data.
//!
//! The parts are one run of bytes, except in directories: there the first four bytes are the parent
//! inode number, and each part is a list of entries of its own.
//! Kernel: fs/ext4/inline.c · Documentation/filesystems/ext4/ifork.rst, "Inline Data"

use crate::disk::xattr::{self, Entry, INDEX_SYSTEM, Value};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::{in_memory, on_disk};
use crate::inode::{Inode, InodeFlags};

/// Bytes of i_block.
const HEAD: usize = 60;

/// The two parts, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inline<'a> {
    /// All of i_block.
    pub(crate) head: &'a [u8; HEAD],
    /// The value of system.data; may be empty.
    pub(crate) tail: &'a [u8],
}

/// The inline data of `inode`, or `None` if its content is in blocks.
///
/// # Errors
/// [`CorruptKind::InlineMissing`] and others about the flag or the attribute.
pub(crate) fn of<'a>(geometry: &Geometry, inode: &'a Inode) -> Result<Option<Inline<'a>>> {
    if !inode.flags.has(InodeFlags::INLINE_DATA) {
        return Ok(None);
    }
    let place = Place::inode(inode.nr);
    let corrupt = |kind| Err(Error::corrupt(place, kind));
    if inode.flags.has(InodeFlags::EXTENTS) {
        return corrupt(CorruptKind::InlineMixed {});
    }
    let entries = xattr::in_inode(geometry, place, &inode.tail)?;
    let data = entries.iter().find(|entry| entry.index == INDEX_SYSTEM && entry.name == b"data");
    match data.map(|entry| entry.value) {
        Some(Value::Here(tail)) => Ok(Some(Inline { head: &inode.block, tail })),
        Some(Value::Inode { nr, .. }) => corrupt(CorruptKind::InlineExternal { inode: nr.get() }),
        None => corrupt(CorruptKind::InlineMissing {}),
    }
}

impl Inline<'_> {
    /// Fills `into` from byte `offset`; zeros where nothing is stored, as the kernel reads a size
    /// larger than the content.
    pub(crate) fn read(&self, offset: u64, into: &mut [u8]) {
        into.fill(0);
        copy(self.head, offset, into);
        let behind = on_disk(self.head.len());
        match offset.checked_sub(behind) {
            Some(offset) => copy(self.tail, offset, into),
            None => {
                let gap = in_memory(behind.saturating_sub(offset));
                copy(self.tail, 0, into.get_mut(gap..).unwrap_or_default());
            }
        }
    }
}

/// Bytes that can be inline: i_block, and what the other attributes leave for system.data.
///
/// # Errors
/// Corruption of the attributes.
pub(crate) fn capacity(geometry: &Geometry, inode: &Inode) -> Result<u64> {
    let entries = others(geometry, inode)?;
    let used = xattr::needed(&with_data(entries, &[]));
    let room = xattr::room_in_inode(inode.tail.len()).checked_sub(used);
    // Values are padded to words.
    Ok(room.map_or(0, |room| on_disk(room & !3).saturating_add(on_disk(HEAD))))
}

/// Makes `bytes` the inline content, and the inode one that has such. They are at most [`capacity`];
/// the size is left to the caller.
///
/// # Errors
/// Corruption of the attributes; [`CorruptKind::Truncated`] if they do not fit.
pub(crate) fn set(geometry: &Geometry, inode: &mut Inode, bytes: &[u8]) -> Result<()> {
    let (head, value) = bytes.split_at_checked(HEAD).unwrap_or((bytes, &[]));
    let entries = with_data(others(geometry, inode)?, value);
    let tail = xattr::to_inode(&entries, inode.tail.len());
    inode.tail = tail.map_err(|error| error.at_inode(inode.nr))?;
    inode.block = [0; HEAD];
    inode.block.iter_mut().zip(head).for_each(|(to, from)| *to = *from);
    inode.flags = inode.flags.with(InodeFlags::INLINE_DATA);
    Ok(())
}

/// Takes the inline content away; other attributes stay. The inode has no map then.
///
/// # Errors
/// Corruption of the attributes.
pub(crate) fn clear(geometry: &Geometry, inode: &mut Inode) -> Result<()> {
    let tail = xattr::to_inode(&others(geometry, inode)?, inode.tail.len());
    inode.tail = tail.map_err(|error| error.at_inode(inode.nr))?;
    inode.block = [0; HEAD];
    inode.flags = inode.flags.without(InodeFlags::INLINE_DATA);
    Ok(())
}

/// The attributes in the inode that are not its content.
fn others<'a>(geometry: &Geometry, inode: &'a Inode) -> Result<Vec<Entry<'a>>> {
    let mut entries = xattr::in_inode(geometry, Place::inode(inode.nr), &inode.tail)?;
    entries.retain(|entry| entry.index != INDEX_SYSTEM || entry.name != b"data");
    Ok(entries)
}

fn with_data<'a>(mut entries: Vec<Entry<'a>>, value: &'a [u8]) -> Vec<Entry<'a>> {
    // In inodes e_hash is 0.
    entries.push(Entry { index: INDEX_SYSTEM, name: b"data", hash: 0, value: Value::Here(value) });
    entries
}

/// Copies what there is of `from` after `offset`.
fn copy(from: &[u8], offset: u64, into: &mut [u8]) {
    let from = from.get(in_memory(offset)..).unwrap_or_default();
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
