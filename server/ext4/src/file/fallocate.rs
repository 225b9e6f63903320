//! fallocate(2): space is set aside, given back, or turned into zeros.
//!
//! Each runs in bounded steps; one that ends early has done a part, which is a valid state.
//! Kernel: fs/ext4/extents.c `ext4_fallocate`, `ext4_zero_range`; inode.c `ext4_punch_hole`

use core::ops::Range;

use super::data;
use super::write::reserve_for;
use super::{inline, largest, locate, start_of};
use crate::alloc::{self, Privilege};
use crate::error::{Refusal, Result};
use crate::handle::Credits;
use crate::ids::LogicalBlock;
use crate::inode::{self, Inode, InodeFlags};
use crate::map::{self, Mapping, Progress, State};
use crate::quota;
use crate::volume::Volume;

/// Whether fallocate(2) may move the file's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeepSize {
    /// FALLOC_FL_KEEP_SIZE.
    Yes,
    /// The file grows to the end of the range.
    No,
}

/// Backs `range` (in bytes) with blocks; new ones read as zeros. The inode is stored as it is by then.
///
/// # Errors
/// [`Refusal::NotSupported`] without extents, [`Refusal::TooBig`]; [`Refusal::NoSpace`] and
/// [`Refusal::Quota`], first of all if there is not enough for the whole range; corruption; I/O errors.
pub(crate) fn allocate(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    range: Range<u64>,
    keep: KeepSize,
) -> Result<()> {
    if range.end > largest(volume, inode) {
        return Err(Refusal::TooBig.into());
    }
    inline::to_blocks(volume, inode, who)?;
    if !inode.flags.has(InodeFlags::EXTENTS) {
        return Err(Refusal::NotSupported.into());
    }
    if keep == KeepSize::No && range.start > inode.size {
        data::zero_behind(volume, inode, inode.size)?;
    }
    let blocks = touched(volume, &range);
    drop(quota::reserve(volume, inode, holes(volume, inode, blocks.clone())?, who)?);
    let mut at = blocks.start;
    while at < blocks.end {
        let mapping = map::lookup(volume, inode, LogicalBlock::new(at))?;
        let len = mapping.blocks().min(blocks.end.saturating_sub(at));
        let done = match mapping {
            Mapping::Hole { .. } => {
                fill_hole(volume, inode, who, (LogicalBlock::new(at), len), (&range, keep))?
            }
            Mapping::Written { .. } | Mapping::Unwritten { .. } => len,
        };
        at = at.saturating_add(done);
    }
    let mut next = inode.clone();
    if keep == KeepSize::No {
        next.size = next.size.max(range.end);
    }
    store(volume, inode, next)
}

/// Makes `range` read as zeros without writing them: blocks become unwritten, holes too.
///
/// # Errors
/// As [`allocate`].
pub(crate) fn zero_range(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    range: Range<u64>,
    keep: KeepSize,
) -> Result<()> {
    allocate(volume, inode, who, range.clone(), keep)?;
    let whole = zero_edges(volume, inode, &range)?;
    let mut at = whole.start;
    while at < whole.end {
        let here = LogicalBlock::new(at);
        let mapping = map::lookup(volume, inode, here)?;
        let len = mapping.blocks().min(whole.end.saturating_sub(at));
        let done = match mapping {
            Mapping::Written { .. } => unwrite(volume, inode, (here, len))?,
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => len,
        };
        at = at.saturating_add(done.max(1));
    }
    Ok(())
}

/// Gives back the blocks that lie wholly in `range` and makes the rest of it zeros. The size stays.
///
/// # Errors
/// [`Refusal::NoSpace`] if a map must grow and cannot; corruption; I/O errors.
pub(crate) fn punch(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    range: Range<u64>,
) -> Result<()> {
    inline::to_blocks(volume, inode, who)?;
    let block_size = u64::from(volume.block_size());
    // Behind the end there is nothing to keep: the last block goes as a whole.
    let last = inode.size.checked_next_multiple_of(block_size).unwrap_or(u64::MAX);
    let end = if range.end >= inode.size { last } else { range.end };
    if range.start >= end {
        return Ok(());
    }
    let whole = zero_edges(volume, inode, &(range.start..end))?;
    let mut to = whole.end;
    while whole.start < to {
        let at = LogicalBlock::new(to.saturating_sub(1));
        // Neither a full disk nor a limit must keep anybody from freeing.
        let cost = map::split_cost(volume, inode, at)?;
        let mut reservation = alloc::reserve(volume, cost, Privilege::Reserve)?;
        let mut next = inode.clone();
        let mut handle = volume.begin(Credits(map::REMOVE.saturating_add(map::CHANGE)))?;
        let progress = map::punch(&mut handle, &mut next, whole.start..to, &mut reservation)?;
        inode::store(&mut handle, &next)?;
        handle.stop()?;
        *inode = next;
        match progress {
            Progress::Done => break,
            Progress::Until(rest) => to = rest.get(),
        }
    }
    Ok(())
}

/// The blocks that `range` touches.
fn touched(volume: &Volume, range: &Range<u64>) -> Range<u32> {
    let (first, _) = locate(range.start, volume.block_size());
    let end = range.end.div_ceil(volume.block_size().into());
    first.get()..u32::try_from(end).unwrap_or(map::LIMIT)
}

/// Zeros the bytes of `range` that fill their block only in part; the blocks that they fill.
fn zero_edges(volume: &Volume, inode: &Inode, range: &Range<u64>) -> Result<Range<u32>> {
    let block_size = volume.block_size();
    let touched = touched(volume, range);
    let (mut first, mut end) = (touched.start, touched.end);
    let first_end = start_of(LogicalBlock::new(first.saturating_add(1)), block_size);
    if range.start > start_of(LogicalBlock::new(first), block_size) {
        data::zero(volume, inode, range.start, range.end.min(first_end))?;
        first = first.saturating_add(1);
    }
    let last_start = start_of(LogicalBlock::new(end.saturating_sub(1)), block_size);
    if first < end && range.end < start_of(LogicalBlock::new(end), block_size) {
        data::zero(volume, inode, last_start, range.end)?;
        end = end.saturating_sub(1);
    }
    Ok(first..end.max(first))
}

/// Clusters that the holes among `blocks` take.
fn holes(volume: &Volume, inode: &Inode, blocks: Range<u32>) -> Result<u64> {
    let (mut at, mut clusters) = (blocks.start, 0_u64);
    while at < blocks.end {
        let here = LogicalBlock::new(at);
        let mapping = map::lookup(volume, inode, here)?;
        let len = mapping.blocks().min(blocks.end.saturating_sub(at));
        if matches!(mapping, Mapping::Hole { .. }) {
            clusters = clusters.saturating_add(map::hole_cost(volume, inode, (here, len))?);
        }
        at = at.saturating_add(len);
    }
    Ok(clusters)
}

/// Preallocates a part of a hole, and lets the file grow over it.
fn fill_hole(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    hole: (LogicalBlock, u32),
    (range, keep): (&Range<u64>, KeepSize),
) -> Result<u32> {
    let ((claim, mut reservation), len) = reserve_for(volume, inode, hole, who)?;
    let mut next = inode.clone();
    let mut handle = volume.begin(Credits(map::CHANGE))?.with(claim);
    let state = State::Unwritten;
    let mapping = map::allocate(&mut handle, &mut next, (hole.0, len), state, &mut reservation)?;
    if keep == KeepSize::No {
        let end = LogicalBlock::new(hole.0.get().saturating_add(mapping.blocks()));
        let reached = start_of(end, volume.block_size()).min(range.end);
        next.size = next.size.max(reached);
    }
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(mapping.blocks())
}

/// Makes written blocks unwritten.
fn unwrite(volume: &Volume, inode: &mut Inode, run: (LogicalBlock, u32)) -> Result<u32> {
    let cost = map::split_cost(volume, inode, run.0)?;
    let mut reservation = alloc::reserve(volume, cost, Privilege::Reserve)?;
    let mut next = inode.clone();
    let mut handle = volume.begin(Credits(map::CHANGE))?;
    let state = State::Unwritten;
    let done = map::convert(&mut handle, &mut next, run, state, &mut reservation)?;
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(done)
}

fn store(volume: &Volume, inode: &mut Inode, next: Inode) -> Result<()> {
    let mut handle = volume.begin(Credits(1))?;
    inode::store(&mut handle, &next)?;
    handle.stop()?;
    *inode = next;
    Ok(())
}
