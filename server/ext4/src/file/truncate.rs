//! Files become shorter or longer, and lose their blocks.
//!
//! A file whose blocks do not go in one transaction is on the orphan list meanwhile: after a crash the
//! rest is removed at the next mount.
//! Kernel: fs/ext4/inode.c `ext4_setattr`, `ext4_truncate`

use super::{data, inline, largest};
use crate::alloc::Privilege;
use crate::error::{Refusal, Result};
use crate::handle::Credits;
use crate::inode::{self, Inode};
use crate::map::{self, Progress};
use crate::orphan;
use crate::volume::Volume;

/// Gives the file `size` bytes: what is behind is gone, preallocated blocks included, and what is new
/// reads as zeros. The inode is stored as it is by then; the caller holds its lock exclusively.
///
/// # Errors
/// [`Refusal::TooBig`]; [`Refusal::NoSpace`] if inline data has to move; corruption; I/O errors.
pub(crate) fn truncate(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    size: u64,
) -> Result<()> {
    if size > largest(volume, inode) {
        return Err(Refusal::TooBig.into());
    }
    if inline::resize(volume, inode, who, size)? {
        return Ok(());
    }
    // Where the file ends first, and where it ends after.
    data::zero_behind(volume, inode, size.min(inode.size))?;
    if size <= inode.size {
        inode.size = size;
        return shrink(volume, inode, size);
    }
    let mut next = inode.clone();
    next.size = size;
    let mut handle = volume.begin(Credits(1))?;
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(())
}

/// Removes all blocks behind byte `size`, in as many handles as it takes, and stores the inode in
/// each. While there is more than one, the inode is an orphan, unless it has no links: then it is one
/// anyway, before and after.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn shrink(volume: &Volume, inode: &mut Inode, size: u64) -> Result<()> {
    let from = size.div_ceil(volume.block_size().into());
    let from = u32::try_from(from).unwrap_or(map::LIMIT);
    let mut to = map::most_blocks(&volume.geometry, inode);
    let mut listed = false;
    loop {
        let mut next = inode.clone();
        let mut handle = volume.begin(Credits(map::REMOVE.saturating_add(orphan::CREDITS.0)))?;
        let progress = map::remove(&mut handle, &mut next, from..to.max(from))?;
        match progress {
            Progress::Until(_) if !listed && next.links > 0 => {
                orphan::add(&mut handle, next.nr)?;
                listed = true;
            }
            Progress::Done if listed => orphan::remove(&mut handle, next.nr)?,
            Progress::Until(_) | Progress::Done => {}
        }
        inode::store(&mut handle, &next)?;
        handle.stop()?;
        *inode = next;
        match progress {
            Progress::Done => return Ok(()),
            Progress::Until(rest) => to = rest.get(),
        }
    }
}
