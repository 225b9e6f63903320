//! Pointers are set and cleared. Blocks of pointers come with their first pointer and go with their
//! last.
//!
//! Kernel: fs/ext4/indirect.c `ext4_ind_map_blocks`, `ext4_ind_remove_space`

use core::ops::Range;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::path::{Path, most_pointers};
use super::{POINTERS, load, pointers_of};
use crate::alloc::Reservation;
use crate::disk::extent::Extent;
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::handle::Handle;
use crate::ids::{BlockNr, LogicalBlock, in_memory};
use crate::inode::Inode;
use crate::map::budget::Budget;
use crate::map::{Removed, free_node, node_block};
use crate::volume::Volume;

/// Where a pointer is.
#[derive(Clone, Copy)]
enum Home {
    Inode,
    Block(BlockNr),
}

/// Blocks of pointers that must be allocated before `at` can be mapped, at most three.
pub(in crate::map) fn missing(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<u64> {
    let path = path_to(volume, at.get())?;
    let homes = walk(volume, inode, &path)?;
    Ok(crate::ids::on_disk(path.indexes().len().saturating_sub(homes.len())))
}

/// Points the `len` null pointers from that of `at` on to `first` and its neighbours. They are in one
/// block ([`super::pointers_left`]).
pub(in crate::map) fn fill(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    run: Extent,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let path = path_to(handle.volume(), run.at.get())?;
    let homes = walk(handle.volume(), inode, &path)?;
    let mut home = homes.last().copied().unwrap_or(Home::Inode);
    let absent = path.indexes().get(homes.len().saturating_sub(1)..).unwrap_or_default();
    let (last, upper) = absent.split_last().unwrap_or((&0, &[]));
    for index in upper {
        let nr = node_block(handle, inode, reservation)?;
        handle.create(nr, |_| Ok(()))?;
        set(handle, inode, home, *index, &[pointer_to(nr)?])?;
        home = Home::Block(nr);
    }
    let pointers: Vec<U32> = (0..run.len)
        .map(|offset| pointer_to(BlockNr::new(run.first.get().saturating_add(offset.into()))))
        .collect::<Result<_>>()?;
    set(handle, inode, home, *last, &pointers)
}

/// Clears the pointers of `range` in the block that holds the last of them, from its end on and as
/// far as the budget goes. Where there is no such block, all that it would hold is skipped.
pub(in crate::map) fn remove(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
) -> Result<Removed> {
    let last = range.end.saturating_sub(1);
    let block_size = handle.volume().block_size();
    let Some(path) = Path::to(last.into(), block_size) else {
        // Nothing can be mapped there; go on with the last block that can.
        let reached = most_pointers(block_size).clamp(range.start.into(), range.end.into());
        return Ok(Removed { runs: Vec::new(), reached: low32(reached) });
    };
    let homes = walk(handle.volume(), inode, &path)?;
    let deepest = homes.len().saturating_sub(1);
    if homes.len() < path.indexes().len() {
        let skipped = path.before(deepest);
        let reached = u64::from(last).saturating_sub(skipped).max(range.start.into());
        return Ok(Removed { runs: Vec::new(), reached: low32(reached) });
    }
    let start = last.saturating_sub(u32::try_from(path.last()).unwrap_or(0)).max(range.start);
    let count = last.saturating_sub(start).saturating_add(1);
    let from = path.last().saturating_add(1).saturating_sub(in_memory(count.into()));
    let home = homes.last().copied().unwrap_or(Home::Inode);
    let pointers = get(handle.volume(), inode, home)?;
    let held = pointers.get(from..=path.last()).unwrap_or_default();
    let (runs, reached) = within(Budget::new(&handle.volume().geometry), held, start)?;
    if runs.is_empty() && reached > start {
        return Ok(Removed { runs, reached });
    }
    if !runs.is_empty() {
        let index = from.saturating_add(in_memory(reached.saturating_sub(start).into()));
        let nulls = vec![U32::ZERO; path.last().saturating_add(1).saturating_sub(index)];
        set(handle, inode, home, index, &nulls)?;
    }
    free_empty(handle, inode, &path, &homes)?;
    Ok(Removed { runs, reached })
}

/// The runs that `pointers`, of which the first is that of `start`, lead to, from the last to the
/// first and within the budget; and the logical block it reaches down to.
fn within(mut budget: Budget, pointers: &[U32], start: u32) -> Result<(Vec<Extent>, u32)> {
    let mut runs: Vec<Extent> = Vec::new();
    let end = start.saturating_add(u32::try_from(pointers.len()).unwrap_or(0));
    let backwards = (start..end).rev().zip(pointers.iter().rev());
    for (at, pointer) in backwards.filter(|(_, pointer)| pointer.get() != 0) {
        let one = Extent {
            at: LogicalBlock::new(at),
            first: BlockNr::new(pointer.get().into()),
            len: 1,
            unwritten: false,
        };
        if let Some(last) = runs.last_mut()
            && let Some(joined) = one.joined(last)
            && budget.take(one).is_some()
        {
            *last = joined;
            continue;
        }
        match budget.take(one) {
            Some(one) => runs.push(one),
            None => return Ok((runs, at.saturating_add(1))),
        }
    }
    Ok((runs, start))
}

/// Frees the lowest block of the path if it holds no pointer any more, then the one above it, ...
fn free_empty(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    path: &Path,
    homes: &[Home],
) -> Result<()> {
    let levels = homes.iter().zip(homes.iter().skip(1)).zip(path.indexes()).rev();
    for ((above, home), index) in levels {
        let Home::Block(nr) = *home else { break };
        if get(handle.volume(), inode, *home)?.iter().any(|pointer| pointer.get() != 0) {
            break;
        }
        set(handle, inode, *above, *index, &[U32::ZERO])?;
        free_node(handle, inode, nr)?;
    }
    Ok(())
}

/// Where the pointers of the path are, as far as there are blocks for them; i_block is the first.
fn walk(volume: &Volume, inode: &Inode, path: &Path) -> Result<Vec<Home>> {
    let mut homes = vec![Home::Inode];
    let mut home = Home::Inode;
    let (_, upper) = path.indexes().split_last().unwrap_or((&0, &[]));
    for index in upper {
        let pointer = get(volume, inode, home)?.get(*index).map_or(0, |pointer| pointer.get());
        if pointer == 0 {
            break;
        }
        home = Home::Block(BlockNr::new(pointer.into()));
        homes.push(home);
    }
    Ok(homes)
}

/// The pointers at `home`, checked.
fn get(volume: &Volume, inode: &Inode, home: Home) -> Result<Vec<U32>> {
    match home {
        Home::Inode => {
            let pointers: &[U32; POINTERS] = prefix(Place::inode(inode.nr), &inode.block)?;
            Ok(pointers.to_vec())
        }
        Home::Block(nr) => Ok(pointers_of(load(volume, inode.nr, nr)?.bytes()).to_vec()),
    }
}

/// Writes `new` over the pointers from `index` on.
fn set(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    home: Home,
    index: usize,
    new: &[U32],
) -> Result<()> {
    match home {
        Home::Inode => {
            write(&mut inode.block, index, new);
            Ok(())
        }
        Home::Block(nr) => handle.edit(nr, |bytes| {
            write(bytes, index, new);
            Ok(())
        }),
    }
}

fn write(bytes: &mut [u8], index: usize, new: &[U32]) {
    let pointers = <[U32]>::mut_from_bytes(bytes).unwrap_or_default();
    pointers.iter_mut().skip(index).zip(new).for_each(|(to, from)| *to = *from);
}

fn path_to(volume: &Volume, at: u32) -> Result<Path> {
    Path::to(at.into(), volume.block_size()).ok_or_else(|| Refusal::TooBig.into())
}

/// Pointers have 32 bits.
fn pointer_to(nr: BlockNr) -> Result<U32> {
    let kind = CorruptKind::BlockRange { first: nr.get(), count: 1 };
    let narrow = u32::try_from(nr.get()).map_err(|_| Error::corrupt(Place::default(), kind))?;
    Ok(U32::new(narrow))
}

fn low32(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
