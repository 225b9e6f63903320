//! The writing verbs of maps, for both kinds: holes are filled, ranges removed, states converted.

use core::ops::Range;

use super::{LIMIT, Mapping, cluster, extent, indirect, lookup_on_disk};
use crate::alloc::{self, Goal, Reservation, Run};
use crate::disk::extent::{Extent, MAX_UNWRITTEN};
use crate::error::{Error, Refusal, Result};
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::handle::Handle;
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::{Inode, InodeFlags};
use crate::volume::Volume;

/// What is in the blocks of a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Data.
    Written,
    /// Nothing yet: they read as zeros. Extents only.
    Unwritten,
}

/// How far a removal has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// All of the range is removed.
    Done,
    /// What is before this block is still to be removed, by another handle.
    Until(LogicalBlock),
}

/// What one step of a removal took out of the map.
#[derive(Debug)]
pub(super) struct Removed {
    /// From the last to the first; none share a logical block.
    pub(super) runs: Vec<Extent>,
    /// The first logical block that is removed.
    pub(super) reached: u32,
}

/// Blocks that were allocated for a hole and are not mapped yet.
#[derive(Debug)]
#[must_use = "blocks that are neither filled in nor given back are lost"]
pub(crate) struct Claim {
    /// The first block of the hole.
    pub(crate) at: LogicalBlock,
    /// What is to back it.
    pub(crate) first: BlockNr,
    /// Blocks of the run, at least 1.
    pub(crate) len: u32,
    /// What the allocator gave, in whole clusters; nothing if the cluster was the file's already.
    fresh: Option<Run>,
}

/// Gives a new inode an empty map of the kind that the file system's features ask for.
pub(crate) fn init(inode: &mut Inode, geometry: &Geometry) {
    inode.block = [0; 60];
    if geometry.features.incompat.contains(Incompat::EXTENTS) {
        inode.flags = inode.flags.with(InodeFlags::EXTENTS);
        crate::disk::extent::init_root_unless_there(&mut inode.block);
    }
}

/// Blocks that one [`fill`] or [`convert`], with its [`claim`], may change: the nodes on the way (six),
/// those that are allocated (seven, each with a bitmap and a descriptor), the run's bitmap and
/// descriptor, and the inode.
pub(crate) const CHANGE: u32 = 6 + 7 * (1 + alloc::ALLOCATE.0) + alloc::ALLOCATE.0 + 1;

/// Blocks that one [`remove`] may change: bitmap and descriptor of each group that is freed in and of
/// each node that goes (six), the nodes that stay, and the inode.
pub(crate) const REMOVE: u32 = 2 * super::budget::GROUPS + 6 * 2 + 6 + 1;

/// The first logical block that the inode's map cannot hold.
pub(crate) fn most_blocks(geometry: &Geometry, inode: &Inode) -> u32 {
    if inode.flags.has(InodeFlags::EXTENTS) {
        return LIMIT;
    }
    u32::try_from(indirect::most_pointers(geometry.block_size)).unwrap_or(LIMIT)
}

/// Clusters for nodes that mapping one more run at `at` takes, at most seven.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn growth_cost(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<u64> {
    let cost = if inode.flags.has(InodeFlags::EXTENTS) {
        extent::room_cost(volume, inode, at, 1)
    } else {
        indirect::missing(volume, inode, at)
    };
    cost.map_err(|error| error.at_inode(inode.nr))
}

/// Clusters for nodes that mapping `blocks` blocks from `at` on takes, each as a run of its own. They
/// are few: a node that was split has room for all of them.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn runs_cost(
    volume: &Volume,
    inode: &Inode,
    (at, blocks): (LogicalBlock, u32),
) -> Result<u64> {
    let at_inode = |error: Error| error.at_inode(inode.nr);
    if inode.flags.has(InodeFlags::EXTENTS) {
        let runs = crate::ids::in_memory(blocks.into());
        return extent::room_cost(volume, inode, at, runs).map_err(at_inode);
    }
    let first = indirect::missing(volume, inode, at).map_err(at_inode)?;
    let last = LogicalBlock::new(at.get().saturating_add(blocks.saturating_sub(1)));
    if last == at {
        return Ok(first);
    }
    // The same nodes, or the last block is behind a border.
    let behind = indirect::missing(volume, inode, last).map_err(at_inode)?;
    Ok(first.saturating_add(behind))
}

/// Clusters that filling the hole at `at` takes at most, nodes included.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn fill_cost(
    volume: &Volume,
    inode: &Inode,
    (at, len): (LogicalBlock, u32),
) -> Result<u64> {
    let nodes = growth_cost(volume, inode, at)?;
    Ok(hole_cost(volume, inode, (at, len))?.saturating_add(nodes))
}

/// Clusters that the blocks of the hole at `at` take; the file may have the first and the last of
/// them already.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn hole_cost(
    volume: &Volume,
    inode: &Inode,
    (at, len): (LogicalBlock, u32),
) -> Result<u64> {
    let clusters = alloc::clusters_spanned(&volume.geometry, at, len);
    let last = LogicalBlock::new(at.get().saturating_add(len.saturating_sub(1)));
    let mut known = u64::from(backing(volume, inode, at)?.is_some());
    if clusters > 1 && backing(volume, inode, last)?.is_some() {
        known = known.saturating_add(1);
    }
    Ok(clusters.saturating_sub(known))
}

/// Clusters for nodes that taking something out of the middle of the run at `at`, or converting it,
/// takes.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn split_cost(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<u64> {
    if !inode.flags.has(InodeFlags::EXTENTS) {
        return Ok(0);
    }
    extent::room_cost(volume, inode, at, 2).map_err(|error| error.at_inode(inode.nr))
}

/// The whole run that `at` is in: its first block and its length. Where there are no extents that is
/// the block itself.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn run_around(
    volume: &Volume,
    inode: &Inode,
    at: LogicalBlock,
) -> Result<(LogicalBlock, u32)> {
    if !inode.flags.has(InodeFlags::EXTENTS) {
        return Ok((at, 1));
    }
    extent::run_around(volume, inode, at).map_err(|error| error.at_inode(inode.nr))
}

/// Fills the hole at `at`, or the first part of it: up to `len` blocks, all of which must be hole.
/// Takes at most [`alloc::clusters_spanned`] and [`growth_cost`] from the reservation.
///
/// # Errors
/// [`Refusal::NotSupported`] for unwritten blocks where there are no extents; corruption; I/O errors.
pub(crate) fn allocate(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    (at, len): (LogicalBlock, u32),
    state: State,
    reservation: &mut Reservation<'_>,
) -> Result<Mapping> {
    let claim = claim(handle, inode, (at, len), reservation)?;
    let (first, len) = (claim.first, claim.len);
    fill(handle, inode, claim, state, reservation)?;
    Ok(match state {
        State::Written => Mapping::Written { first, len },
        State::Unwritten => Mapping::Unwritten { first, len },
    })
}

/// Allocates blocks for the hole at `at`, or for its first part: 1..=`len` blocks, all of which must
/// be hole.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn claim(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    (at, len): (LogicalBlock, u32),
    reservation: &mut Reservation<'_>,
) -> Result<Claim> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    let most = if inode.flags.has(InodeFlags::EXTENTS) {
        MAX_UNWRITTEN.into()
    } else {
        indirect::pointers_left(at, geometry.block_size)
    };
    let len = len.min(most).max(1);
    let skip = cluster::offset_of(geometry, at.get());
    if let Some(cluster) = backing(volume, inode, at)? {
        let first = BlockNr::new(cluster.get().saturating_add(skip.into()));
        let len = len.min(geometry.cluster_blocks.saturating_sub(skip));
        return Ok(Claim { at, first, len, fresh: None });
    }
    let len = before_next_cluster(volume, inode, at, len)?;
    let want = skip.saturating_add(len).next_multiple_of(geometry.cluster_blocks);
    let goal = goal(volume, inode, at)?;
    let run = alloc::allocate(handle, reservation, goal, want)?;
    cluster::charge(geometry, inode, alloc::clusters(geometry, run.len.into()));
    let first = BlockNr::new(run.first.get().saturating_add(skip.into()));
    let len = len.min(run.len.saturating_sub(skip));
    Ok(Claim { at, first, len, fresh: Some(run) })
}

/// Maps what was claimed.
///
/// # Errors
/// As [`allocate`].
pub(crate) fn fill(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    claim: Claim,
    state: State,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let nr = inode.nr;
    let len = u16::try_from(claim.len).unwrap_or(MAX_UNWRITTEN);
    let unwritten = state == State::Unwritten;
    let run = Extent { at: claim.at, first: claim.first, len, unwritten };
    let filled = if inode.flags.has(InodeFlags::EXTENTS) {
        extent::insert(handle, inode, run, Some(reservation))
    } else if unwritten {
        return Err(Refusal::NotSupported.into());
    } else {
        indirect::fill(handle, inode, run, reservation)
    };
    filled.map_err(|error| error.at_inode(nr))
}

/// Gives back what was claimed and is not mapped.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn unclaim(handle: &mut Handle<'_>, inode: &mut Inode, claim: Claim) -> Result<()> {
    let Some(run) = claim.fresh else { return Ok(()) };
    alloc::free(handle, run.first, run.len)?;
    let geometry = &handle.volume().geometry;
    cluster::refund(geometry, inode, alloc::clusters(geometry, run.len.into()));
    Ok(())
}

/// Gives the blocks from `at` on, at most `len` and as far as their run goes, the state `to`. Returns
/// how many that were: 0 if `at` is in a hole. Takes at most [`split_cost`] from the reservation.
///
/// # Errors
/// [`Refusal::NotSupported`] where there are no extents; corruption; I/O errors.
pub(crate) fn convert(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    (at, len): (LogicalBlock, u32),
    to: State,
    reservation: &mut Reservation<'_>,
) -> Result<u32> {
    let nr = inode.nr;
    if !inode.flags.has(InodeFlags::EXTENTS) {
        return Err(Refusal::NotSupported.into());
    }
    let converted = extent::convert(handle, inode, (at, len), to, Some(reservation));
    converted.map_err(|error| error.at_inode(nr))
}

/// Removes a bounded part of `range` from its end, and frees what backed it. The range must not begin
/// and end inside the same extent: that takes [`punch`].
///
/// # Errors
/// [`Refusal::NoSpace`] if it does after all; corruption; I/O errors.
pub(crate) fn remove(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
) -> Result<Progress> {
    remove_part(handle, inode, range, None)
}

/// As [`remove`], for any range. Takes at most [`split_cost`] at its end from the reservation.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn punch(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
    reservation: &mut Reservation<'_>,
) -> Result<Progress> {
    remove_part(handle, inode, range, Some(reservation))
}

fn remove_part(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
    nodes: Option<&mut Reservation<'_>>,
) -> Result<Progress> {
    if range.is_empty() {
        return Ok(Progress::Done);
    }
    let (nr, start) = (inode.nr, range.start);
    let removed = if inode.flags.has(InodeFlags::EXTENTS) {
        extent::remove(handle, inode, range, nodes)
    } else {
        indirect::remove(handle, inode, range)
    };
    let removed = removed.map_err(|error| error.at_inode(nr))?;
    cluster::free(handle, inode, &removed.runs).map_err(|error| error.at_inode(nr))?;
    if removed.reached > start {
        return Ok(Progress::Until(LogicalBlock::new(removed.reached)));
    }
    Ok(Progress::Done)
}

/// Takes a part of `range` out of the map, from its end, and leaves what backed it alone. Extents only.
/// Takes at most [`split_cost`] at its end from the reservation.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn detach(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    range: Range<u32>,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let removed = extent::remove(handle, inode, range, Some(reservation));
    removed.map(drop).map_err(|error| error.at_inode(inode.nr))
}

/// Maps `run` into a hole; its blocks are taken already. Extents only. Takes at most [`growth_cost`]
/// from the reservation.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn attach(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    run: Extent,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let inserted = extent::insert(handle, inode, run, Some(reservation));
    inserted.map_err(|error| error.at_inode(inode.nr))
}

/// Clusters that back `inode`, nodes not counted: looks at `budget` runs at most, and takes them from it.
///
/// # Errors
/// [`Refusal::TooBig`] if that is not enough; corruption; I/O errors.
pub(crate) fn clusters(volume: &Volume, inode: &Inode, budget: &mut u32) -> Result<u64> {
    let (mut at, mut count) = (0_u32, 0_u64);
    // The logical cluster behind the last one that was counted.
    let mut counted = 0_u64;
    while at < LIMIT {
        *budget = budget.checked_sub(1).ok_or(Refusal::TooBig)?;
        let mapping = lookup_on_disk(volume, inode, LogicalBlock::new(at))?;
        let end = at.saturating_add(mapping.blocks());
        if !matches!(mapping, Mapping::Hole { .. }) {
            let ratio = volume.geometry.cluster_blocks;
            let first = u64::from(at.checked_div(ratio).unwrap_or(at)).max(counted);
            counted = u64::from(end.div_ceil(ratio)).max(first);
            count = count.saturating_add(counted.saturating_sub(first));
        }
        at = end;
    }
    Ok(count)
}

/// i_blocks of `clusters` clusters.
pub(crate) fn sectors(geometry: &Geometry, clusters: u64) -> u64 {
    cluster::sectors(geometry, clusters)
}

/// Allocates a block for pointers or extents. With bigalloc it takes a whole cluster.
pub(super) fn node_block(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    reservation: &mut Reservation<'_>,
) -> Result<BlockNr> {
    let geometry = &handle.volume().geometry;
    let goal = Goal::metadata(handle.volume(), inode, None);
    let run = alloc::allocate(handle, reservation, goal, geometry.cluster_blocks)?;
    cluster::charge(geometry, inode, 1);
    Ok(run.first)
}

/// Frees a block of pointers or extents.
pub(super) fn free_node(handle: &mut Handle<'_>, inode: &mut Inode, nr: BlockNr) -> Result<()> {
    let geometry = &handle.volume().geometry;
    handle.forget(nr, 1)?;
    alloc::free(handle, nr, geometry.cluster_blocks)?;
    cluster::refund(geometry, inode, 1);
    Ok(())
}

/// The device's cluster that the file has for the logical cluster of `at` already (bigalloc).
fn backing(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Option<BlockNr>> {
    if volume.geometry.cluster_blocks == 1 {
        return Ok(None);
    }
    cluster::backing(volume, inode, at)
}

/// `len`, cut where a cluster begins that the file has already for what follows the hole (bigalloc).
fn before_next_cluster(volume: &Volume, inode: &Inode, at: LogicalBlock, len: u32) -> Result<u32> {
    let last = at.get().saturating_add(len.saturating_sub(1));
    let start = cluster::start_of(&volume.geometry, last);
    let own = start <= at.get();
    if own || backing(volume, inode, LogicalBlock::new(last))?.is_none() {
        return Ok(len);
    }
    Ok(start.saturating_sub(at.get()))
}

/// Where `at` would lie best: behind the block before it.
fn goal(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Goal> {
    let before =
        at.checked_sub(1).map(|before| lookup_on_disk(volume, inode, before)).transpose()?;
    let behind = match before {
        Some(Mapping::Written { first, .. } | Mapping::Unwritten { first, .. }) => {
            first.checked_add(1)
        }
        Some(Mapping::Hole { .. }) | None => None,
    };
    Ok(Goal::data(volume, inode, behind))
}
