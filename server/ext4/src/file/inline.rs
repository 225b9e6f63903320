//! Files whose content is in the inode: written there while it fits, moved to a block when it does not.
//!
//! Kernel: fs/ext4/inline.c `ext4_try_to_write_inline_data`, `ext4_convert_inline_data`

use super::data::{self, Via};
use crate::alloc::Privilege;
use crate::error::Result;
use crate::handle::Credits;
use crate::ids::{LogicalBlock, in_memory, on_disk};
use crate::inode::{self, Inode, InodeFlags};
use crate::map::{self, State, inline};
use crate::quota;
use crate::volume::Volume;

pub(super) fn is_inline(inode: &Inode) -> bool {
    inode.flags.has(InodeFlags::INLINE_DATA)
}

/// Writes `data` into the inode and stores it. False if they do not fit, or the content was in blocks
/// before: now it is.
pub(super) fn write(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    (offset, data): (u64, &[u8]),
) -> Result<bool> {
    if !is_inline(inode) {
        return Ok(false);
    }
    // The size that is there may be a lie.
    let size = offset.saturating_add(on_disk(data.len())).max(inode.size);
    if size > inline::capacity(&volume.geometry, inode)? {
        to_blocks(volume, inode, who)?;
        return Ok(false);
    }
    let mut bytes = content(volume, inode, size)?;
    bytes.iter_mut().skip(in_memory(offset)).zip(data).for_each(|(to, from)| *to = *from);
    replace(volume, inode, &bytes)?;
    Ok(true)
}

/// Gives the inline file `size` bytes and stores it. False if they do not fit, and then the content is
/// in blocks as it was.
pub(super) fn resize(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    size: u64,
) -> Result<bool> {
    if !is_inline(inode) {
        return Ok(false);
    }
    if size > inline::capacity(&volume.geometry, inode)? {
        to_blocks(volume, inode, who)?;
        return Ok(false);
    }
    let bytes = content(volume, inode, size)?;
    replace(volume, inode, &bytes)?;
    Ok(true)
}

/// The first `len` bytes, zeros behind the end. `len` is bounded by the caller.
fn content(volume: &Volume, inode: &Inode, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![0; in_memory(len)];
    let kept = in_memory(inode.size.min(len));
    if let Some(stored) = inline::of(&volume.geometry, inode)? {
        stored.read(0, bytes.get_mut(..kept).unwrap_or_default());
    }
    Ok(bytes)
}

fn replace(volume: &Volume, inode: &mut Inode, bytes: &[u8]) -> Result<()> {
    let mut next = inode.clone();
    inline::set(&volume.geometry, &mut next, bytes)?;
    next.size = on_disk(bytes.len());
    let mut handle = volume.begin(Credits(1))?;
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(())
}

/// Moves the content into the file's first block and stores the inode. Nothing to do for a file that
/// is in blocks.
///
/// # Errors
/// [`crate::Refusal::NoSpace`], `Quota`; corruption; I/O errors.
pub(super) fn to_blocks(volume: &Volume, inode: &mut Inode, who: Privilege) -> Result<()> {
    if !is_inline(inode) {
        return Ok(());
    }
    let block_size = u64::from(volume.block_size());
    let bytes = content(volume, inode, inode.size.min(block_size))?;
    let mut next = inode.clone();
    inline::clear(&volume.geometry, &mut next)?;
    map::init(&mut next, &volume.geometry);
    let first = (LogicalBlock::new(0), 1);
    let clusters = u64::from(!bytes.is_empty());
    let (claim, mut reservation) = quota::reserve(volume, inode, clusters, who)?;
    let mut handle = volume.begin(Credits(map::CHANGE.saturating_add(1)))?.with(claim);
    if !bytes.is_empty() {
        let claim = map::claim(&mut handle, &mut next, first, &mut reservation)?;
        let written = if volume.journals(&next) {
            data::put(&mut Via::Log(&mut handle), inode.nr, (claim.first, 0), &bytes, 0)
        } else {
            data::put(&mut Via::Device(volume), inode.nr, (claim.first, 0), &bytes, 0)
        };
        if let Err(error) = written {
            map::unclaim(&mut handle, &mut next, claim)?;
            handle.stop()?;
            return Err(error);
        }
        map::fill(&mut handle, &mut next, claim, State::Written, &mut reservation)?;
    }
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(())
}
