//! What fast commits mean for the tree, as edits in memory.
//!
//! Tags are applied in order to the tree as it is so far, as the kernel does on the disk; like there,
//! a tag whose inode or directory is not there is passed over. Where the kernel's replay and e2fsck's
//! differ, this follows the kernel: a new directory, for example, has one link.
//! Kernel: fs/ext4/fast_commit.c, "Replay Path Routines"

use zerocopy::FromBytes;

use crate::dir;
use crate::disk::extent;
use crate::disk::fast_commit::{Named, Tag};
use crate::disk::inode::{self as layout, FIXED, RawInode};
use crate::edits::Backing;
use crate::error::{Error, Refusal, Result};
use crate::ids::{InodeNr, LogicalBlock};
use crate::inode::{self, FileKind, Inode, InodeFlags};
use crate::journal::{FastCommitArea, FastCommits};
use crate::volume::Volume;

/// Where i_block begins and i_generation, which follows it.
const BLOCK: usize = 0x28;
const GENERATION: usize = 0x64;

/// Directory blocks that may be searched in all, some seconds' worth: far more than a sound log
/// needs, and the bound on what a crafted one can cost.
const SEARCH_BUDGET: u64 = 1 << 21;

/// Applies what counts of `area` to `volume`. False if it had to stop early because names would have
/// had to be searched for too long.
///
/// # Errors
/// I/O errors.
pub(super) fn replay(
    volume: &mut Volume,
    area: &FastCommitArea<'_>,
    found: &FastCommits,
) -> Result<bool> {
    let mut budget = Some(SEARCH_BUDGET);
    area.replay(found, &mut |tag| {
        budget = budget.and_then(|left| left.checked_sub(cost(volume, tag)));
        if budget.is_none() {
            return Ok(());
        }
        match apply(volume, tag) {
            Err(error @ Error::Io { .. }) => Err(error),
            // The tag does not fit the tree: the kernel goes on as well.
            Ok(()) | Err(_) => Ok(()),
        }
    })?;
    Ok(budget.is_some())
}

/// Directory blocks that applying `tag` may have to search.
fn cost(volume: &Volume, tag: &Tag<'_>) -> u64 {
    let (Tag::Create(named) | Tag::Link(named) | Tag::Unlink(named)) = tag else { return 1 };
    let Ok(dir) = directory(volume, named.parent) else { return 1 };
    let indexed = dir.flags.has(InodeFlags::INDEX);
    let blocks = dir.size.checked_div(volume.block_size().into()).unwrap_or(0);
    if indexed { 4 } else { blocks.saturating_add(1) }
}

fn apply(volume: &mut Volume, tag: &Tag<'_>) -> Result<()> {
    match *tag {
        Tag::AddRange { inode, logical, first, len, unwritten } => {
            let to = if unwritten { Backing::Unwritten(first) } else { Backing::Written(first) };
            set_range(volume, inode, logical, len, to)
        }
        Tag::DelRange { inode, logical, len } => {
            set_range(volume, inode, logical, len, Backing::Hole)
        }
        Tag::Create(named) => create(volume, &named),
        Tag::Link(named) => link(volume, &named),
        Tag::Unlink(named) => unlink(volume, &named),
        Tag::Inode { inode, raw } => set_inode(volume, inode, raw),
        Tag::Pad | Tag::Tail { .. } | Tag::Head { .. } => Ok(()),
    }
}

/// An inode that is in use.
fn live(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    let inode = inode::decode(nr, &inode::record(volume, nr)?, &volume.geometry)?;
    if inode.links == 0 { Err(Refusal::Stale.into()) } else { Ok(inode) }
}

fn directory(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    let dir = live(volume, nr)?;
    if dir.is_directory() { Ok(dir) } else { Err(Refusal::NotDirectory.into()) }
}

fn set_range(
    volume: &mut Volume,
    nr: InodeNr,
    logical: LogicalBlock,
    len: u32,
    to: Backing,
) -> Result<()> {
    if live(volume, nr)?.flags.has(InodeFlags::EXTENTS) {
        volume.edits_mut().set_range(nr, logical, len, to);
    }
    Ok(())
}

/// Takes over the logged inode except for its block map, which ranges tell.
fn set_inode(volume: &mut Volume, nr: InodeNr, logged: &[u8]) -> Result<()> {
    change(volume, nr, |record| {
        copy(record, logged, 0..BLOCK);
        copy(record, logged, GENERATION..logged.len());
        let Ok((raw, _)) = RawInode::mut_from_prefix(record) else { return };
        let flags = InodeFlags::new(raw.flags.get());
        if flags.has(InodeFlags::EXTENTS) {
            extent::init_root_unless_there(&mut raw.block);
        } else if flags.has(InodeFlags::INLINE_DATA) {
            copy(record, logged, BLOCK..GENERATION);
        }
    })
}

fn copy(to: &mut [u8], from: &[u8], range: std::ops::Range<usize>) {
    if let (Some(to), Some(from)) = (to.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}

/// Changes an inode's record and makes its checksum right again.
fn change(volume: &mut Volume, nr: InodeNr, change: impl FnOnce(&mut [u8])) -> Result<()> {
    let mut record = inode::record(volume, nr)?;
    change(&mut record);
    layout::seal(&mut record, nr, volume.geometry.checksum_seed);
    volume.edits_mut().set_inode(nr, record.into());
    Ok(())
}

fn change_fixed(volume: &mut Volume, nr: InodeNr, edit: impl FnOnce(&mut RawInode)) -> Result<()> {
    const { assert!(FIXED == size_of::<RawInode>()) };
    change(volume, nr, |record| {
        if let Ok((raw, _)) = RawInode::mut_from_prefix(record) {
            edit(raw);
        }
    })
}

fn create(volume: &mut Volume, named: &Named<'_>) -> Result<()> {
    let inode = live(volume, named.inode)?;
    if inode.is_directory() {
        directory(volume, named.parent)?;
        let names = volume.edits_mut().names_mut(named.inode);
        names.start_fresh();
        names.add(b".", b".", named.inode, FileKind::Directory);
        names.add(b"..", b"..", named.parent, FileKind::Directory);
        let size = volume.block_size();
        change_fixed(volume, named.inode, |raw| {
            raw.size_lo = size.into();
            raw.size_high = 0.into();
            // The kernel's replay does not count the block it gives it.
            raw.blocks_lo = 0.into();
            raw.blocks_high = 0.into();
        })?;
    }
    link(volume, named)?;
    change_fixed(volume, named.inode, |raw| raw.links_count = 1.into())
}

fn link(volume: &mut Volume, named: &Named<'_>) -> Result<()> {
    let inode = live(volume, named.inode)?;
    let dir = directory(volume, named.parent)?;
    if dir::find(volume, &dir, named.name)?.is_some() {
        return Ok(());
    }
    let key = dir::key(volume, &dir, named.name).into_owned();
    volume.edits_mut().names_mut(named.parent).add(&key, named.name, named.inode, inode.kind);
    change_fixed(volume, named.inode, |raw| {
        raw.links_count = raw.links_count.get().saturating_add(1).into();
    })
}

fn unlink(volume: &mut Volume, named: &Named<'_>) -> Result<()> {
    let inode = live(volume, named.inode)?;
    let dir = directory(volume, named.parent)?;
    if dir::find(volume, &dir, named.name)? != Some(named.inode) {
        return Ok(());
    }
    let key = dir::key(volume, &dir, named.name).into_owned();
    volume.edits_mut().names_mut(named.parent).remove(&key);
    let last = inode.links == 1;
    if last {
        volume.edits_mut().clear_map(named.inode);
    }
    change_fixed(volume, named.inode, |raw| {
        raw.links_count = raw.links_count.get().saturating_sub(1).into();
        if last {
            // Freed: should the number come back, nothing of the old blocks does.
            raw.block.fill(0);
        }
    })
}
