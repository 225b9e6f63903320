//! Names are taken away, or made to name another inode.
//!
//! Blocks stay with the directory when they are empty, as in the kernel, so this never needs space.
//! # Locking
//! The caller holds the directory's inode lock exclusively.
//! Kernel: fs/ext4/namei.c `ext4_delete_entry`, `ext4_setent`, `ext4_rename_dir_finish`

use super::block::{Directory, Found};
use super::htree::Root;
use super::inline_edit::{self, Part};
use super::{Wanted, find_in_blocks};
use crate::disk::dirent::edit;
use crate::disk::dirent::{DirLayout, Entries};
use crate::disk::dx::{self, Role};
use crate::error::{CorruptKind, Error, Refusal, Result};
use crate::handle::Handle;
use crate::ids::{InodeNr, LogicalBlock};
use crate::inode::{FileKind, Inode, InodeFlags};
use crate::volume::Volume;

/// Where a name stands.
enum Place {
    Inline { part: Part, offset: u32 },
    Block(Found),
}

/// Takes `name` out of `dir`. The inode it named. The times of `dir` are the caller's business.
///
/// # Errors
/// Before any change: [`Refusal::NotFound`], [`Refusal::Invalid`] for "." and "..", corruption; then
/// I/O errors.
pub(crate) fn remove(handle: &mut Handle<'_>, dir: &mut Inode, name: &[u8]) -> Result<InodeNr> {
    let place = locate(handle.volume(), dir, name)?;
    change(handle, dir, place, edit::remove)
}

/// Makes `name` in `dir` name inode `target`. The inode it named before.
///
/// # Errors
/// As [`remove`], and [`Refusal::NoKey`] in an encrypted directory.
pub(crate) fn replace(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    name: &[u8],
    target: InodeNr,
    kind: FileKind,
) -> Result<InodeNr> {
    if dir.flags.has(InodeFlags::ENCRYPT) {
        return Err(Refusal::NoKey.into());
    }
    let place = locate(handle.volume(), dir, name)?;
    change(handle, dir, place, |layout, stretch, offset| {
        edit::set_target(layout, stretch, offset, (target, kind))
    })
}

fn locate(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Place> {
    if name == b"." || name == b".." {
        return Err(Refusal::Invalid.into());
    }
    let dir = Directory::new(volume, dir);
    let wanted = Wanted::new(&dir, name)?;
    if dir.inode.flags.has(InodeFlags::INLINE_DATA) {
        let (part, offset) = inline_edit::locate(&dir, &wanted)?.ok_or(Refusal::NotFound)?;
        return Ok(Place::Inline { part, offset });
    }
    let found = find_in_blocks(&dir, &wanted, name)?.ok_or(Refusal::NotFound)?;
    if dir.is_indexed() && found.at.get() == 0 {
        // Only "." and ".." stand before the root's entries.
        return Err(dir.corrupt(Some(found.block), CorruptKind::DirDots {}));
    }
    Ok(Place::Block(found))
}

fn change(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    place: Place,
    edit: impl FnOnce(DirLayout, &mut [u8], u32) -> Result<InodeNr>,
) -> Result<InodeNr> {
    let geometry = &handle.volume().geometry;
    let layout = DirLayout::of(geometry, dir.flags);
    let changed = match place {
        Place::Inline { part, offset } => {
            inline_edit::change(geometry, dir, part, |stretch| edit(layout, stretch, offset))
        }
        Place::Block(Found { block, offset, .. }) => handle.edit(block, |bytes| {
            let old = edit(layout, edit::stretch_mut(layout, bytes), offset)?;
            edit::seal(layout, dir.checksum_seed, bytes);
            Ok(old)
        }),
    };
    changed.map_err(|error| error.at_inode(dir.nr))
}

/// Makes ".." of `dir` name `parent`.
///
/// # Errors
/// [`CorruptKind::DirDots`] if there is no ".." in its place; other corruption; I/O errors.
pub(crate) fn set_parent(handle: &mut Handle<'_>, dir: &mut Inode, parent: InodeNr) -> Result<()> {
    if dir.flags.has(InodeFlags::INLINE_DATA) {
        let bytes = parent.get().to_le_bytes();
        dir.block.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        return Ok(());
    }
    let directory = Directory::new(handle.volume(), dir);
    let (layout, seed) = (directory.layout, dir.checksum_seed);
    let block = directory.block_or_hole_error(LogicalBlock::new(0))?;
    let indexed = directory.is_indexed();
    if indexed {
        Root::read(&directory)?;
    } else {
        directory.verify_entries(&block)?;
    }
    let dotdot = Entries::new(layout, block.bytes()).nth(1).transpose();
    let dotdot = dotdot.map_err(|error| directory.located(error, &block))?;
    let Some(offset) = dotdot.filter(|entry| entry.name == b"..").map(|entry| entry.offset) else {
        return Err(directory.corrupt(Some(block.nr()), CorruptKind::DirDots {}));
    };
    let changed = handle.edit(block.nr(), |bytes| {
        // A root's ".." spans all of the block, the checksum's place included.
        let stretch = if indexed { &mut *bytes } else { edit::stretch_mut(layout, bytes) };
        edit::set_target(layout, stretch, offset, (parent, FileKind::Directory))?;
        if indexed {
            return dx::seal(layout, Role::Root, seed, bytes);
        }
        edit::seal(layout, seed, bytes);
        Ok(())
    });
    changed.map_err(|error: Error| error.at_inode(dir.nr))
}
