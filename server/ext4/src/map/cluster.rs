//! Clusters: what the allocator counts in. A cluster of the device backs one cluster of one file, so
//! extents that share a logical cluster share a cluster of the device, each with blocks of its own.
//!
//! Without bigalloc a cluster is a block and all of this is simple.
//! Kernel: fs/ext4/extents.c `get_implied_cluster_alloc`, `struct partial_cluster`

use super::{Mapping, lookup_on_disk};
use crate::alloc;
use crate::disk::extent::Extent;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::handle::Handle;
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::{FileKind, Inode};
use crate::volume::Volume;

/// `at`, rounded down to a cluster.
pub(super) fn start_of(geometry: &Geometry, at: u32) -> u32 {
    at.saturating_sub(offset_of(geometry, at))
}

/// How far `at` is into its cluster.
pub(super) fn offset_of(geometry: &Geometry, at: u32) -> u32 {
    at.checked_rem(geometry.cluster_blocks).unwrap_or(0)
}

/// The device's cluster that backs the logical cluster of `at`, if any block of that is mapped.
pub(super) fn backing(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Option<BlockNr>> {
    let start = start_of(&volume.geometry, at.get());
    let end = start.saturating_add(volume.geometry.cluster_blocks);
    let mut here = start;
    while here < end {
        match lookup_on_disk(volume, inode, LogicalBlock::new(here))? {
            Mapping::Hole { len } => here = here.saturating_add(len),
            Mapping::Written { first, .. } | Mapping::Unwritten { first, .. } => {
                return Ok(first.checked_sub(here.saturating_sub(start).into()));
            }
        }
    }
    Ok(None)
}

/// Counts `clusters` more in i_blocks.
pub(super) fn charge(geometry: &Geometry, inode: &mut Inode, clusters: u64) {
    inode.blocks512 = inode.blocks512.saturating_add(sectors(geometry, clusters));
}

/// Counts `clusters` less in i_blocks.
pub(super) fn refund(geometry: &Geometry, inode: &mut Inode, clusters: u64) {
    inode.blocks512 = inode.blocks512.saturating_sub(sectors(geometry, clusters));
}

pub(super) fn sectors(geometry: &Geometry, clusters: u64) -> u64 {
    let of_one =
        u64::from(geometry.cluster_blocks).saturating_mul(u64::from(geometry.block_size >> 9));
    clusters.saturating_mul(of_one)
}

/// Frees what backed `runs`, which the map does not hold any more; they come from the last to the
/// first. A cluster is free once no block of it is mapped.
pub(super) fn free(handle: &mut Handle<'_>, inode: &mut Inode, runs: &[Extent]) -> Result<()> {
    // Copies of these may be in the log. Data of other files never is.
    let logged = inode.kind != FileKind::Regular || handle.volume().journals(inode);
    let mut freed_from = u32::MAX;
    for run in runs {
        if logged {
            handle.forget(run.first, run.len.into())?;
        }
        let Some(whole) = whole_clusters(handle.volume(), inode, run, freed_from)? else {
            continue;
        };
        let ratio = handle.volume().geometry.cluster_blocks;
        let count = whole.1.div_ceil(ratio);
        alloc::free(handle, whole.0, whole.1)?;
        refund(&handle.volume().geometry, inode, count.into());
        freed_from = start_of(&handle.volume().geometry, run.at.get());
    }
    Ok(())
}

/// The device's clusters that `run` was the last to use, as first block and blocks. Those that begin
/// at logical block `freed_from` or later were freed already.
fn whole_clusters(
    volume: &Volume,
    inode: &Inode,
    run: &Extent,
    freed_from: u32,
) -> Result<Option<(BlockNr, u32)>> {
    let ratio = volume.geometry.cluster_blocks;
    if ratio == 1 {
        return Ok(Some((run.first, run.len.into())));
    }
    let start = start_of(&volume.geometry, run.at.get());
    let skip = run.at.get().saturating_sub(start);
    let mut first = run.first.get().saturating_sub(skip.into());
    let mut clusters = run.end().saturating_sub(start).div_ceil(ratio);
    let last = start.saturating_add(clusters.saturating_sub(1).saturating_mul(ratio));
    if last >= freed_from || backing(volume, inode, LogicalBlock::new(last))?.is_some() {
        clusters = clusters.saturating_sub(1);
    }
    if clusters > 0 && start != last && backing(volume, inode, LogicalBlock::new(start))?.is_some()
    {
        clusters = clusters.saturating_sub(1);
        first = first.saturating_add(ratio.into());
    }
    let blocks = clusters.saturating_mul(ratio);
    Ok(Some((BlockNr::new(first), blocks)).filter(|_| blocks > 0))
}
