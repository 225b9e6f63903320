//! Inline data: content that lives in the inode, first in i_block, then in the in-inode attribute
//! system.data.
//!
//! The parts are one run of bytes, except in directories: there the first four bytes are the parent
//! inode number, and each part is a list of entries of its own.
//! Kernel: fs/ext4/inline.c · Documentation/filesystems/ext4/ifork.rst, "Inline Data"

use crate::disk::xattr::{self, INDEX_SYSTEM, Value};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::{in_memory, on_disk};
use crate::inode::{Inode, InodeFlags};

/// The two parts, as stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inline<'a> {
    /// All of i_block.
    pub(crate) head: &'a [u8; 60],
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

/// Copies what there is of `from` after `offset`.
fn copy(from: &[u8], offset: u64, into: &mut [u8]) {
    let from = from.get(in_memory(offset)..).unwrap_or_default();
    into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
}
