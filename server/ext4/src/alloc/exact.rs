//! Blocks and inodes that are somebody's already, though the bitmaps do not know it yet: what fast
//! commits gave away.
//!
//! Kernel: fs/ext4/mballoc.c `ext4_mb_mark_bb`, ialloc.c `ext4_mark_inode_used`

use std::sync::atomic::Ordering;

use core::ops::Range;

use super::bitmaps;
use super::block::mark;
use super::reserve::Reservation;
use super::search::length;
use super::space::Space;
use crate::disk::bitmap;
use crate::error::Result;
use crate::group;
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, GroupNr, InodeNr};
use crate::volume::Volume;

/// Blocks that taking what [`part`] returns may change: bitmap and descriptors.
pub(crate) const TAKE: Credits = Credits(2);

/// Clusters of one group.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    group: GroupNr,
    bits: Range<u32>,
}

impl Part {
    /// How many clusters they are.
    pub(crate) fn clusters(&self) -> u32 {
        length(&self.bits)
    }
}

/// The first of `clusters` (numbers of clusters of the whole file system) as far as they are in one
/// group. `None` if there are none, or they are outside.
pub(crate) fn part(volume: &Volume, clusters: &Range<u64>) -> Option<Part> {
    let geometry = &volume.geometry;
    let ratio = u64::from(geometry.cluster_blocks);
    let first = BlockNr::new(clusters.start.checked_mul(ratio)?);
    let (group, bit) = geometry.group_of_block(first)?;
    let left = geometry.clusters_in_group(group).checked_sub(bit).filter(|&left| left > 0)?;
    let wanted = clusters.end.checked_sub(clusters.start).filter(|&wanted| wanted > 0)?;
    let count = u32::try_from(wanted).unwrap_or(u32::MAX).min(left);
    Some(Part { group, bits: bit..bit.saturating_add(count) })
}

/// Whether all of it is free and may be a file's.
///
/// # Errors
/// Corruption of bitmaps; I/O errors.
pub(crate) fn is_free(volume: &Volume, part: &Part) -> Result<bool> {
    let space = Space::of(volume)?;
    let first = volume.geometry.cluster_block(part.group, part.bits.start);
    let blocks = u64::from(part.clusters()).saturating_mul(volume.geometry.cluster_blocks.into());
    if !space.zones.permit(first, blocks, InodeNr::default()) {
        return Ok(false);
    }
    let _state = space.group(part.group)?.lock();
    let desc = group::descriptor(volume, part.group)?;
    let bitmap = bitmaps::blocks(volume, part.group, &desc)?;
    Ok(bitmap::next(bitmap.bytes(), part.bits.clone(), true) >= part.bits.end)
}

/// Takes what [`is_free`]. Costs [`TAKE`].
///
/// # Errors
/// Corruption of bitmaps; I/O errors.
pub(crate) fn take(
    handle: &mut Handle<'_>,
    reservation: &mut Reservation<'_>,
    part: &Part,
) -> Result<()> {
    let volume = handle.volume();
    let space = Space::of(volume)?;
    let group = space.group(part.group)?;
    let _state = group.lock();
    let desc = group::descriptor(volume, part.group)?;
    let bitmap = bitmaps::blocks(volume, part.group, &desc)?;
    mark(handle, part.group, &bitmap, &part.bits)?;
    group.usable.fetch_sub(part.clusters(), Ordering::Relaxed);
    group.longest.store(u32::MAX, Ordering::Relaxed);
    reservation.took(part.clusters().into());
    Ok(())
}
