//! The end of inodes: content, attributes and number are freed; and what a crash left to be done.
//!
//! An inode that is freed is an orphan until it is gone, so its end may take several transactions.
//! Kernel: fs/ext4/inode.c `ext4_evict_inode`, orphan.c `ext4_orphan_cleanup`

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;

use std::collections::HashSet;

use crate::alloc::{self, Privilege};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::file;
use crate::handle::Credits;
use crate::ids::{InodeNr, on_disk};
use crate::inode::{self, FileKind, Inode, InodeFlags, Timestamp};
use crate::observer::Observer;
use crate::orphan;
use crate::quota::{self, Charge};
use crate::volume::Volume;
use crate::xattr;

/// What was done about the orphans of an earlier mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Orphaned {
    /// Unlinked inodes that were freed.
    pub freed: u32,
    /// Files that were cut to their size.
    pub cut: u32,
}

/// Frees `inode`, which has no links and is an orphan, with all that it has. The caller holds its
/// lock, and nobody else knows it any more.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn free(volume: &Volume, inode: &Inode, now: Timestamp) -> Result<()> {
    let mut inode = inode.clone();
    if has_map(volume, &inode) {
        file::shrink(volume, &mut inode, 0)?;
    }
    let more = [xattr::credits(volume), orphan::CREDITS, alloc::FREE_INODE, Credits(1)];
    let credits = more.iter().fold(0_u32, |sum, credits| sum.saturating_add(credits.0));
    let mut handle = volume.begin(Credits(credits))?;
    xattr::remove_all(&mut handle, &mut inode)?;
    orphan::remove(&mut handle, inode.nr)?;
    inode.size = 0;
    inode::store(&mut handle, &inode)?;
    let owners = Charge { blocks512: 0, ..Charge::of(&inode) };
    quota::charge(&mut handle, &owners, &Charge { inodes: 0, ..owners })?;
    // 0 would stand for an inode in use.
    let dtime = u32::try_from(now.seconds).unwrap_or(u32::MAX).max(1);
    inode::set_dtime(&mut handle, inode.nr, dtime)?;
    alloc::free_inode(&mut handle, &inode)?;
    inode::forget(volume, inode.nr);
    handle.stop()
}

/// Whether i_block of `inode` holds a map.
pub(crate) fn has_map(volume: &Volume, inode: &Inode) -> bool {
    let plain = match inode.kind {
        FileKind::Regular | FileKind::Directory => true,
        FileKind::Symlink => !inode.has_fast_target(&volume.geometry),
        _ => false,
    };
    plain && !inode.flags.has(InodeFlags::INLINE_DATA)
}

/// Finishes with the orphans that an earlier mount left. What is damaged is told and left alone.
///
/// # Errors
/// I/O errors; [`crate::Refusal::ReadOnly`].
pub(crate) fn recover(
    volume: &Volume,
    now: Timestamp,
    observer: &dyn Observer,
) -> Result<Orphaned> {
    let mut done = Orphaned::default();
    match orphan::adopt_file(volume) {
        Ok(nrs) => {
            let total = on_disk(nrs.len());
            for (nr, index) in nrs.into_iter().zip(0..) {
                observer.orphans(index, total);
                if let Err(error) = finish(volume, nr, now, &mut done) {
                    told(volume, error)?;
                    let mut handle = volume.begin(orphan::CREDITS)?;
                    orphan::remove(&mut handle, nr)?;
                    handle.stop()?;
                }
            }
        }
        Err(error) => told(volume, error)?,
    }
    // A list that leads back to an inode that was done with must not keep the mount.
    let mut met = HashSet::new();
    loop {
        let step = match orphan::adopt_head(volume) {
            Ok(None) => return Ok(done),
            Ok(Some(nr)) if met.insert(nr) => {
                let known = on_disk(met.len());
                observer.orphans(known.saturating_sub(1), known);
                finish(volume, nr, now, &mut done)
            }
            Ok(Some(nr)) => Err(bad_list(nr)),
            Err(error) => Err(error),
        };
        if let Err(error) = step {
            told(volume, error)?;
            drop_list(volume)?;
            return Ok(done);
        }
    }
}

/// Forgets the list of orphans unprocessed (`ext4_orphan_cleanup` after errors).
///
/// # Errors
/// I/O errors; [`crate::Refusal::ReadOnly`].
pub(crate) fn drop_list(volume: &Volume) -> Result<()> {
    if orphan::head(volume)?.is_none() {
        return Ok(());
    }
    let mut handle = volume.begin(orphan::CREDITS)?;
    orphan::drop_list(&mut handle)?;
    handle.stop()
}

/// Notes damage; what the device or the journal says goes on.
fn told(volume: &Volume, error: Error) -> Result<()> {
    match error {
        Error::Corrupt { .. } => {
            volume.notice(error);
            Ok(())
        }
        other => Err(other),
    }
}

fn bad_list(nr: InodeNr) -> Error {
    Error::corrupt(Place::default(), CorruptKind::OrphanList { inode: nr.get() })
}

fn finish(volume: &Volume, nr: InodeNr, now: Timestamp, done: &mut Orphaned) -> Result<()> {
    let _lock = volume.locks.write(nr);
    let free_already = |error| match error {
        Error::Refused(crate::Refusal::Stale) => bad_list(nr),
        other => other,
    };
    let inode = inode::get(volume, nr).map_err(free_already)?;
    if !alloc::inode_in_use(volume, nr)? {
        return Err(bad_list(nr));
    }
    if inode.links == 0 {
        free(volume, &inode, now)?;
        done.freed = done.freed.saturating_add(1);
        return Ok(());
    }
    if inode.kind == FileKind::Regular && has_map(volume, &inode) {
        let mut inode = (*inode).clone();
        let size = inode.size;
        file::truncate(volume, &mut inode, Privilege::Root, size)?;
    }
    let mut handle = volume.begin(orphan::CREDITS)?;
    orphan::remove(&mut handle, nr)?;
    handle.stop()?;
    done.cut = done.cut.saturating_add(1);
    Ok(())
}
