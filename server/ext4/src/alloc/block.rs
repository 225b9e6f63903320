//! Blocks: taken where they continue a file or are near its inode, and freed.
//!
//! A file that grows keeps a window behind its last block, twice as long each time, so that files
//! written side by side do not interleave and a large one lies in long runs. Windows are promises to
//! nobody: when nothing else is left they are given to whoever needs blocks.
//! Kernel: fs/ext4/mballoc.c `ext4_mb_regular_allocator`, `ext4_mb_normalize_request`,
//! `ext4_free_blocks`; balloc.c `ext4_inode_to_goal_block`

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::bitmaps::{self, Bitmap};
use super::claims::Why;
use super::cluster::clusters;
use super::reserve::Reservation;
use super::search::{self, Wish, length};
use super::space::{Group, Space, State, settle};
use crate::disk::bitmap;
use crate::disk::group_desc::BLOCK_UNINIT;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::geometry::Geometry;
use crate::group;
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, GroupNr, InodeNr};
use crate::inode::{FileKind, Inode};
use crate::volume::Volume;

/// Blocks that one [`allocate`] may change: a bitmap and a block of descriptors.
pub(crate) const ALLOCATE: Credits = Credits(2);

/// Blocks that one [`free`] of `count` blocks may change: two for each group it reaches into.
pub(crate) fn free_credits(volume: &Volume, count: u32) -> Credits {
    let groups = count.checked_div(volume.geometry.blocks_per_group).unwrap_or(0);
    Credits(groups.saturating_add(2).saturating_mul(2))
}

/// Smaller files keep no window: they are packed one behind the other.
const WINDOW_FROM: u64 = 64 << 10;
/// Windows at one time; past that some file loses its own.
const MAX_WINDOWS: usize = 1 << 14;
/// Bitmaps that are looked into for a run of the length wanted, before a shorter one is taken.
const MAX_LOOKS: u32 = 64;
/// Rounds through all groups before a reservation counts as broken.
const ROUNDS: u32 = 8;
/// EXT4_FLEX_SIZE_DIR_ALLOC_SCHEME: from four groups on files keep out of the first one.
const LOG_FLEX_SCHEME: u8 = 2;

/// Blocks side by side; whole clusters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// The first of them.
    pub(crate) first: BlockNr,
    /// How many.
    pub(crate) len: u32,
}

/// Where blocks are wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal {
    near: BlockNr,
    /// Whether a run at `near` is better than a longer one elsewhere.
    exact: bool,
    /// Who keeps a window (0: nobody), and the bytes it has so far.
    owner: InodeNr,
    bytes: u64,
}

impl Goal {
    /// For content of `inode`: at `wanted` if that is free (the block behind its last one), else
    /// near the inode.
    pub(crate) fn data(volume: &Volume, inode: &Inode, wanted: Option<BlockNr>) -> Self {
        let owner = match inode.kind {
            FileKind::Regular => inode.nr,
            _ => InodeNr::default(),
        };
        let bytes = inode.blocks512.saturating_mul(512);
        let near = wanted.unwrap_or_else(|| home(volume, inode));
        Self { near, exact: wanted.is_some(), owner, bytes }
    }

    /// For a block of metadata of `inode`: behind `near` if there is such a block, else near the
    /// inode. Windows are left alone.
    pub(crate) fn metadata(volume: &Volume, inode: &Inode, near: Option<BlockNr>) -> Self {
        let near = near.unwrap_or_else(|| home(volume, inode));
        Self { near, exact: false, owner: InodeNr::default(), bytes: 0 }
    }
}

/// The first block of the group where the blocks of `inode` belong.
fn home(volume: &Volume, inode: &Inode) -> BlockNr {
    let geometry = &volume.geometry;
    let log = volume.space.get().map_or(0, |space| space.log_flex);
    let (group, _) = geometry.group_of_inode(inode.nr).unwrap_or_default();
    let mut nr = group.get();
    if log >= LOG_FLEX_SCHEME {
        nr &= !1_u32.checked_shl(log.into()).unwrap_or(1).saturating_sub(1);
        // The first group of a flexible one holds metadata; directories are to be near that.
        let next = nr.saturating_add(1);
        if inode.kind == FileKind::Regular && next < geometry.group_count {
            nr = next;
        }
    }
    geometry.first_block(GroupNr::new(nr))
}

/// One allocation under way, in clusters.
#[derive(Clone, Copy, Debug)]
struct Request {
    group: GroupNr,
    bit: u32,
    exact: bool,
    want: u32,
    /// Run to look for so that a window follows; at least `want`.
    room: u32,
    owner: InodeNr,
}

impl Request {
    fn new(geometry: &Geometry, goal: Goal, want: u32) -> Self {
        let (group, bit) = geometry.group_of_block(goal.near).unwrap_or_default();
        let want = want.clamp(1, geometry.clusters_per_group().max(1));
        let cluster = u64::from(geometry.block_size).saturating_mul(geometry.cluster_blocks.into());
        let bytes = goal.bytes.saturating_add(cluster.saturating_mul(want.into()));
        let mut owner = goal.owner;
        let mut room = want;
        if bytes < WINDOW_FROM {
            owner = InodeNr::default();
        }
        if owner != InodeNr::default() {
            let double = bytes.saturating_mul(2).checked_next_power_of_two().unwrap_or(u64::MAX);
            let double = double.checked_div(cluster).unwrap_or(0);
            room = u32::try_from(double).unwrap_or(u32::MAX);
            room = room.clamp(want, geometry.clusters_per_group().max(want));
        }
        Self { group, bit, exact: goal.exact, want, room, owner }
    }
}

/// Takes 1 to `want` blocks side by side (more to fill the last cluster) out of `reservation`, which
/// must have something left. Costs [`ALLOCATE`].
///
/// # Errors
/// Corruption, [`CorruptKind::FreeCount`] for one when the descriptors promised too much; I/O errors.
/// Running out of space is not among them.
pub(crate) fn allocate(
    handle: &mut Handle<'_>,
    reservation: &mut Reservation<'_>,
    goal: Goal,
    want: u32,
) -> Result<Run> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    let left = u32::try_from(reservation.left()).unwrap_or(u32::MAX);
    if left == 0 {
        return Err(Refusal::NoSpace.into());
    }
    let want = u32::try_from(clusters(geometry, want.into())).unwrap_or(left).min(left);
    let request = Request::new(geometry, goal, want);
    settle(volume)?;
    for round in 0..ROUNDS {
        // From the second round on even windows of others are taken.
        if let Some((group, taken)) = take(handle, &request, round > 0)? {
            reservation.took(length(&taken).into());
            return Ok(Run {
                first: geometry.cluster_block(group, taken.start),
                len: length(&taken).saturating_mul(geometry.cluster_blocks),
            });
        }
    }
    Err(Error::corrupt(Place::default(), CorruptKind::FreeCount { what: "block" }))
}

type Taken = (GroupNr, Range<u32>);

/// One round: at the goal, a long enough run from the goal's group on, then what there is.
fn take(handle: &mut Handle<'_>, request: &Request, steal: bool) -> Result<Option<Taken>> {
    let space = Space::of(handle.volume())?;
    if request.exact {
        let taken = take_in(handle, request, request.group, (Wish::At(request.bit), steal))?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    let mut looks = 0_u32;
    let lengths = [request.room, request.want];
    for len in lengths.into_iter().take(if request.room > request.want { 2 } else { 1 }) {
        for group in from(request.group, handle.volume().geometry.group_count) {
            let entry = space.group(group)?;
            if entry.longest() < len || looks > MAX_LOOKS {
                continue;
            }
            let bit = if group == request.group { request.bit } else { 0 };
            let taken = take_in(handle, request, group, (Wish::Fit(bit, len), steal))?;
            if taken.is_some() {
                return Ok(taken);
            }
            looks = looks.saturating_add(1);
        }
    }
    take_longest(handle, request, steal)
}

/// The longest run of the group that may have the longest one. What a group is thought to have only
/// shrinks while nobody frees, so this ends.
fn take_longest(handle: &mut Handle<'_>, request: &Request, steal: bool) -> Result<Option<Taken>> {
    let space = Space::of(handle.volume())?;
    let count = handle.volume().geometry.group_count;
    let size = |group: &GroupNr| {
        let group = space.group(*group).ok();
        let usable = |group: &Group| group.usable.load(Ordering::Relaxed);
        group.map_or(0, |group| if steal { usable(group) } else { group.longest() })
    };
    if steal {
        for group in from(request.group, count).filter(|group| size(group) > 0) {
            let taken = take_in(handle, request, group, (Wish::Longest, steal))?;
            if taken.is_some() {
                return Ok(taken);
            }
        }
        return Ok(None);
    }
    for _ in 0..count {
        // The first of equals is the nearest.
        let best = from(request.group, count).min_by_key(|group| Reverse(size(group)));
        let best = best.filter(|group| size(group) > 0);
        let Some(best) = best else { break };
        let taken = take_in(handle, request, best, (Wish::Longest, steal))?;
        if taken.is_some() {
            return Ok(taken);
        }
    }
    Ok(None)
}

/// All groups, `first` first.
fn from(first: GroupNr, count: u32) -> impl Iterator<Item = GroupNr> {
    let wrap = move |step: u32| {
        let nr = u64::from(first.get()).saturating_add(step.into());
        let nr = nr.checked_rem(count.into()).unwrap_or(0);
        GroupNr::new(u32::try_from(nr).unwrap_or(0))
    };
    (0..count).map(wrap)
}

/// Takes what `wish` finds in `group`, if anything, and moves the file's window behind it.
fn take_in(
    handle: &mut Handle<'_>,
    request: &Request,
    nr: GroupNr,
    (wish, steal): (Wish, bool),
) -> Result<Option<Taken>> {
    let volume = handle.volume();
    let space = Space::of(volume)?;
    let group = space.group(nr)?;
    bitmaps::warm(volume, group::descriptor(volume, nr)?.block_bitmap);
    let mut state = group.lock();
    if state.bad_blocks {
        return Ok(None);
    }
    let desc = group::descriptor(volume, nr)?;
    let bitmap = match bitmaps::blocks(volume, nr, &desc) {
        Ok(bitmap) => bitmap,
        Err(error) => {
            group.give_up_blocks(&mut state, space);
            volume.notice(error.at_group(nr));
            return Ok(None);
        }
    };
    let busy = state.claims.over(bitmap.bytes(), request.owner, steal);
    let found = search::find(&busy, volume.geometry.clusters_in_group(nr), wish);
    drop(busy);
    if let Some(longest) = found.longest.filter(|_| !steal) {
        group.longest.store(longest, Ordering::Relaxed);
    }
    let Some(run) = found.run else { return Ok(None) };
    let taken = run.start..run.end.min(run.start.saturating_add(request.want));
    mark(handle, nr, &bitmap, &taken)?;
    group.usable.fetch_sub(length(&taken), Ordering::Relaxed);
    let stale = if steal {
        state.claims.steal(taken.clone());
        // The bound was for the groups without their windows.
        group.longest.store(u32::MAX, Ordering::Relaxed);
        None
    } else {
        let window = taken.end..run.end.min(run.start.saturating_add(request.room));
        move_window(space, &mut state, request.owner, (nr, window))
    };
    drop(state);
    if let Some((other, start)) = stale {
        close_window(space, request.owner, other, start)?;
    }
    shed_windows(space)?;
    Ok(Some((nr, taken)))
}

/// Marks clusters as used, in the bitmap and the descriptor.
pub(super) fn mark(
    handle: &mut Handle<'_>,
    nr: GroupNr,
    bitmap: &Bitmap,
    taken: &Range<u32>,
) -> Result<()> {
    let geometry = &handle.volume().geometry;
    let desc = group::descriptor(handle.volume(), nr)?;
    let fill = |bytes: &mut [u8]| {
        bitmap::fill(bytes, taken.clone(), true);
        Ok(bitmaps::checksum(geometry, bytes, geometry.clusters_per_group()))
    };
    let checksum = match bitmap {
        Bitmap::Loaded(_) => handle.edit(desc.block_bitmap, fill)?,
        Bitmap::Fresh(fresh) => handle.create(desc.block_bitmap, |bytes| {
            bytes.iter_mut().zip(fresh).for_each(|(to, from)| *to = *from);
            fill(bytes)
        })?,
    };
    group::edit(handle, nr, |desc| {
        desc.free_clusters = desc.free_clusters.saturating_sub(length(taken));
        desc.flags &= !BLOCK_UNINIT;
        desc.block_bitmap_checksum = checksum.unwrap_or(desc.block_bitmap_checksum);
        Ok(())
    })
}

/// Gives `owner` the window `new` in the group that is locked. If its old one is in another group,
/// says where.
fn move_window(
    space: &Space,
    state: &mut State,
    owner: InodeNr,
    (nr, new): (GroupNr, Range<u32>),
) -> Option<(GroupNr, u32)> {
    if owner == InodeNr::default() {
        return None;
    }
    let mut windows = space.windows.lock();
    let old = if new.is_empty() {
        windows.remove(&owner)
    } else {
        windows.insert(owner, (nr, new.start))
    };
    let elsewhere = old.filter(|(group, _)| *group != nr);
    if let Some((_, start)) = old.filter(|_| elsewhere.is_none()) {
        state.claims.close(start, owner);
    }
    state.claims.insert(new, Why::Window(owner));
    elsewhere
}

/// Gives up the window that `owner` may have at `start` of group `nr`.
fn close_window(space: &Space, owner: InodeNr, nr: GroupNr, start: u32) -> Result<()> {
    let group = space.group(nr)?;
    let mut state = group.lock();
    if state.claims.close(start, owner).is_some() {
        group.longest.store(u32::MAX, Ordering::Relaxed);
    }
    Ok(())
}

/// Keeps the number of windows within bounds.
fn shed_windows(space: &Space) -> Result<()> {
    let mut windows = space.windows.lock();
    if windows.len() <= MAX_WINDOWS {
        return Ok(());
    }
    let Some(owner) = windows.keys().next().copied() else { return Ok(()) };
    let window = windows.remove(&owner);
    drop(windows);
    window.map_or(Ok(()), |(nr, start)| close_window(space, owner, nr, start))
}

/// Gives up the window of `inode`: it was closed, truncated or deleted.
///
/// # Errors
/// [`Refusal::ReadOnly`].
pub(crate) fn release(volume: &Volume, inode: InodeNr) -> Result<()> {
    let space = Space::of(volume)?;
    let window = space.windows.lock().remove(&inode);
    window.map_or(Ok(()), |(nr, start)| close_window(space, inode, nr, start))
}

/// Frees the clusters of `count` blocks from `first` on. They are given out again after the commit
/// of the handle's transaction. Blocks that held metadata need [`Handle::forget`] as well. Costs
/// [`free_credits`].
///
/// # Errors
/// [`CorruptKind::BlockRange`], [`CorruptKind::MetadataBlock`], [`CorruptKind::BitmapFree`], all
/// before anything of that group has changed; corruption of bitmaps; I/O errors.
pub(crate) fn free(handle: &mut Handle<'_>, first: BlockNr, count: u32) -> Result<()> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    let place = Place::block(first);
    if !geometry.contains(first, count.into()) {
        let kind = CorruptKind::BlockRange { first: first.get(), count: count.into() };
        return Err(Error::corrupt(place, kind));
    }
    if !Space::of(volume)?.zones.permit(first, count.into(), InodeNr::default()) {
        let kind = CorruptKind::MetadataBlock { first: first.get(), count: count.into() };
        return Err(Error::corrupt(place, kind));
    }
    let end = first.get().saturating_add(count.into());
    let mut at = first;
    while at.get() < end {
        let Some((group, bit)) = geometry.group_of_block(at) else { return Ok(()) };
        let next =
            geometry.first_block(group).get().saturating_add(geometry.blocks_per_group.into());
        let upto = end.min(next);
        let inside = upto.saturating_sub(geometry.first_block(group).get());
        let bits = u32::try_from(clusters(geometry, inside)).unwrap_or(bit);
        free_in(handle, group, bit..bits)?;
        at = BlockNr::new(upto);
    }
    Ok(())
}

fn free_in(handle: &mut Handle<'_>, nr: GroupNr, run: Range<u32>) -> Result<()> {
    let volume = handle.volume();
    let (geometry, space) = (&volume.geometry, Space::of(volume)?);
    let group = space.group(nr)?;
    bitmaps::warm(volume, group::descriptor(volume, nr)?.block_bitmap);
    let mut state = group.lock();
    let desc = group::descriptor(volume, nr)?;
    let bitmap = bitmaps::blocks(volume, nr, &desc).map_err(|error| error.at_group(nr))?;
    let clear = bitmap::next(bitmap.bytes(), run.clone(), false);
    if clear < run.end {
        let block = geometry.cluster_block(nr, clear);
        let kind = CorruptKind::BitmapFree { what: "block", nr: block.get() };
        return Err(Error::corrupt(Place::block(block), kind));
    }
    let checksum = handle.edit(desc.block_bitmap, |bytes| {
        bitmap::fill(bytes, run.clone(), false);
        Ok(bitmaps::checksum(geometry, bytes, geometry.clusters_per_group()))
    })?;
    group::edit(handle, nr, |desc| {
        desc.free_clusters = desc.free_clusters.saturating_add(length(&run));
        desc.block_bitmap_checksum = checksum.unwrap_or(desc.block_bitmap_checksum);
        Ok(())
    })?;
    space.reserve.freed(length(&run).into());
    space.note_freed(handle.tid(), nr);
    state.claims.insert(run, Why::Freed(handle.tid()));
    Ok(())
}
