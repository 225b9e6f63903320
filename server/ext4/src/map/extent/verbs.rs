//! What is done to extents: inserted into holes, converted between written and unwritten, removed.
//!
//! Kernel: fs/ext4/extents.c `ext4_ext_insert_extent`, `ext4_split_convert_extents`,
//! `ext4_ext_remove_space`

use core::ops::Range;

use super::change::{Nodes, Plan, rewrite};
use super::path::{Path, find};
use crate::disk::extent::{Extent, MAX_UNWRITTEN};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::handle::Handle;
use crate::ids::LogicalBlock;
use crate::inode::Inode;
use crate::map::budget::Budget;
use crate::map::{Removed, State};
use crate::volume::Volume;

/// Nodes that must be allocated before `more` entries fit into the leaf of `at`, at most seven.
pub(in crate::map) fn room_cost(
    volume: &Volume,
    inode: &Inode,
    at: LogicalBlock,
    more: usize,
) -> Result<u64> {
    Ok(find(volume, inode, at)?.room_cost(more))
}

/// The extent that holds `at`: its first block and its length. `at` alone if it is in a hole.
pub(in crate::map) fn run_around(
    volume: &Volume,
    inode: &Inode,
    at: LogicalBlock,
) -> Result<(LogicalBlock, u32)> {
    let path = find(volume, inode, at)?;
    let holder = path.before().filter(|(_, extent)| extent.end() > at.get());
    Ok(holder.map_or((at, 1), |(_, extent)| (extent.at, extent.len.into())))
}

/// Puts `new` into a hole. It becomes one with its neighbours where they fit together.
pub(in crate::map) fn insert(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    new: Extent,
    nodes: Nodes<'_, '_>,
) -> Result<()> {
    let nr = inode.nr;
    rewrite(handle, inode, new.at, nodes, |path| {
        let slot = path.leaf.slot;
        let (around, neighbours) = neighbours(path, slot..slot);
        let overlap = neighbours
            .iter()
            .flatten()
            .find(|extent| extent.at.get() < new.end() && extent.end() > new.at.get());
        if let Some(extent) = overlap {
            let (first, previous_end) = (new.at.get(), extent.end().into());
            return Err(Error::corrupt(
                Place::inode(nr),
                CorruptKind::ExtentOrder { first, previous_end },
            ));
        }
        let [before, after] = neighbours;
        Ok(Plan { slots: around, put: coalesced([before, Some(new), after]) })
    })
}

/// Gives the blocks from `at` on, at most `len`, the state `to`, as far as the extent that holds `at`
/// reaches. Returns how many: 0 if `at` is in a hole.
pub(in crate::map) fn convert(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    (at, len): (LogicalBlock, u32),
    to: State,
    nodes: Nodes<'_, '_>,
) -> Result<u32> {
    let path = find(handle.volume(), inode, at)?;
    let Some((_, extent)) = path.before().filter(|(_, extent)| extent.end() > at.get()) else {
        return Ok(0);
    };
    // A written extent can be one block longer than an unwritten one.
    let len = len.min(MAX_UNWRITTEN.into());
    let end = extent.end().min(at.get().saturating_add(len));
    let unwritten = to == State::Unwritten;
    if extent.unwritten != unwritten {
        rewrite(handle, inode, at, nodes, |path| {
            let slot = path.leaf.slot;
            let Some((holder, extent)) = path.before() else {
                return Ok(Plan { slots: slot..slot, put: Vec::new() });
            };
            let (around, [before, after]) = neighbours(path, holder..slot);
            let middle = extent.part(at.get(), end).map(|part| Extent { unwritten, ..part });
            let (left, right) = (extent.part(0, at.get()), extent.part(end, u32::MAX));
            Ok(Plan { slots: around, put: coalesced([before, left, middle, right, after]) })
        })?;
    }
    Ok(end.saturating_sub(at.get()))
}

/// Takes the blocks of `range` out of the leaf that holds the last of them, from its end on and as
/// far as the budget goes. Needs a node only if the range ends inside an extent and begins in it, too.
pub(in crate::map) fn remove(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
    nodes: Nodes<'_, '_>,
) -> Result<Removed> {
    let last = LogicalBlock::new(range.end.saturating_sub(1));
    let path = find(handle.volume(), inode, last)?;
    let cut = Cut::new(&path, &range, Budget::new(&handle.volume().geometry));
    if !cut.removed.is_empty() {
        let again = |path: &Path| {
            let cut = Cut::new(path, &(cut.reached..range.end), Budget::unlimited());
            Ok(Plan { slots: cut.slots, put: cut.put })
        };
        rewrite(handle, inode, last, nodes, again)?;
    }
    Ok(Removed { runs: cut.removed, reached: cut.reached })
}

/// What removing a range does to a leaf.
struct Cut {
    slots: Range<usize>,
    put: Vec<Extent>,
    /// From the last to the first.
    removed: Vec<Extent>,
    /// The range is removed from here on.
    reached: u32,
}

impl Cut {
    fn new(path: &Path, range: &Range<u32>, mut budget: Budget) -> Self {
        let end = path.leaf.slot;
        let mut cut =
            Self { slots: end..end, put: Vec::new(), removed: Vec::new(), reached: range.end };
        let holders = path.extents.get(..end).unwrap_or_default().iter().enumerate().rev();
        for (slot, extent) in holders {
            let Some(within) = extent.part(range.start, range.end) else { break };
            let Some(part) = budget.take(within) else { return cut };
            let kept = [extent.part(0, part.at.get()), extent.part(part.end(), u32::MAX)];
            kept.into_iter().rev().flatten().for_each(|kept| cut.put.insert(0, kept));
            cut.slots.start = slot;
            cut.reached = part.at.get();
            cut.removed.push(part);
            if part.at != within.at {
                return cut;
            }
        }
        cut.reached = path.start.max(range.start);
        cut
    }
}

/// `slots` with the places around them, and the extents there.
fn neighbours(path: &Path, slots: Range<usize>) -> (Range<usize>, [Option<Extent>; 2]) {
    let before = slots.start.checked_sub(1);
    let [first, last] =
        [before, Some(slots.end)].map(|slot| slot.and_then(|slot| path.extents.get(slot).copied()));
    let start = before.filter(|_| first.is_some()).unwrap_or(slots.start);
    let end = slots.end.saturating_add(usize::from(last.is_some()));
    (start..end, [first, last])
}

/// The extents in their order, joined where they fit together.
fn coalesced<const N: usize>(extents: [Option<Extent>; N]) -> Vec<Extent> {
    let mut all: Vec<Extent> = Vec::new();
    for extent in extents.into_iter().flatten() {
        match all.last_mut().and_then(|last| Some((last.joined(&extent)?, last))) {
            Some((joined, last)) => *last = joined,
            None => all.push(extent),
        }
    }
    all
}
