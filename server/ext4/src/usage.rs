//! How much of the file system is free, and how much is its own metadata.
//!
//! Kernel: fs/ext4/super.c `ext4_calculate_overhead`, balloc.c `ext4_count_free_clusters`

use crate::error::Result;
use crate::features::{Compat, Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::group;
use crate::ids::GroupNr;
use crate::inode;
use crate::superblock::Facts;
use crate::volume::Volume;

/// Groups that are counted one by one: 512 TiB of 4 KiB blocks. Past that the superblock's sums are
/// taken, so that no image makes a caller of statfs wait for long.
const MAX_GROUPS: u32 = 1 << 22;
/// Groups whose metadata is looked at one by one with bigalloc: 128 TiB of 64 KiB clusters.
const MAX_CLUSTERED_GROUPS: u32 = 1 << 16;

/// Sums over all groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Usage {
    /// Free blocks, in whole clusters.
    pub(crate) free_blocks: u64,
    /// Free inodes.
    pub(crate) free_inodes: u64,
    /// Blocks of metadata, in whole clusters.
    pub(crate) overhead_blocks: u64,
}

/// Counts. Reads every group descriptor, as the device has it: on a volume that is written only the
/// overhead is right.
pub(crate) fn count(volume: &Volume, facts: &Facts) -> Result<Usage> {
    let geometry = &volume.geometry;
    let ratio = u64::from(geometry.cluster_blocks);
    let bigalloc = geometry.features.ro_compat.contains(RoCompat::BIGALLOC);
    let recorded = u64::from(facts.overhead_clusters);
    let recorded = if recorded > geometry.blocks_count { 0 } else { recorded };
    if geometry.group_count > MAX_GROUPS {
        return Ok(Usage {
            free_blocks: facts.free_blocks,
            free_inodes: facts.free_inodes.into(),
            overhead_blocks: recorded.saturating_mul(ratio),
        });
    }
    let (mut free_clusters, mut free_inodes) = (0_u64, 0_u64);
    group::for_each(volume, |_, desc, _| {
        free_clusters = free_clusters.saturating_add(desc.free_clusters.into());
        free_inodes = free_inodes.saturating_add(desc.free_inodes.into());
        Ok(())
    })?;
    let space = volume.edits().space();
    free_clusters = free_clusters.saturating_sub_signed(space.clusters);
    free_inodes = free_inodes.saturating_sub_signed(space.inodes);
    let overhead = match recorded {
        1.. if bigalloc => recorded,
        _ if bigalloc => overhead(volume, facts, clustered(volume)?),
        _ => overhead(volume, facts, unclustered(geometry)),
    };
    Ok(Usage {
        free_blocks: free_clusters.saturating_mul(ratio),
        free_inodes,
        overhead_blocks: overhead.saturating_mul(ratio),
    })
}

/// Clusters of metadata: what comes before the first group, what the groups hold, and the journal.
fn overhead(volume: &Volume, facts: &Facts, groups: u64) -> u64 {
    let geometry = &volume.geometry;
    let before = geometry.whole_clusters(geometry.first_data_block.into());
    before.saturating_add(groups).saturating_add(journal_clusters(volume, facts))
}

fn journal_clusters(volume: &Volume, facts: &Facts) -> u64 {
    let geometry = &volume.geometry;
    let inside =
        facts.journal_inode.filter(|_| geometry.features.compat.contains(Compat::HAS_JOURNAL));
    let size = inside.and_then(|nr| inode::get(volume, nr).ok()).map_or(0, |journal| journal.size);
    let blocks = size.checked_div(geometry.block_size.into()).unwrap_or(0);
    touched_clusters(geometry, blocks)
}

/// Metadata of all groups where a cluster is a block (`count_overhead`).
fn unclustered(geometry: &Geometry) -> u64 {
    let each = u64::from(geometry.inode_table_blocks()).saturating_add(2);
    let mut sum = each.saturating_mul(geometry.group_count.into());
    for group in (0..geometry.group_count).map(GroupNr::new) {
        sum = sum.saturating_add(base_blocks(geometry, group));
        if geometry.has_super(group) {
            sum = sum.saturating_add(geometry.reserved_gdt_blocks.into());
        }
    }
    sum
}

/// The superblock and descriptors that `group` begins with (`ext4_bg_has_super`,
/// `ext4_bg_num_gdb`).
pub(crate) fn base_blocks(geometry: &Geometry, group: GroupNr) -> u64 {
    let has_super = geometry.has_super(group);
    let (index, slot) = geometry.descriptor_slot(group);
    let meta_bg = geometry.features.incompat.contains(Incompat::META_BG);
    let descriptors = if meta_bg && index >= geometry.first_meta_bg {
        u32::from(slot <= 1 || slot.saturating_add(1) == geometry.descriptors_per_block())
    } else if !has_super {
        0
    } else if meta_bg {
        geometry.first_meta_bg
    } else {
        geometry.descriptor_blocks()
    };
    u64::from(has_super).saturating_add(descriptors.into())
}

/// Clusters that metadata touches, each counted once although several groups may share it.
fn clustered(volume: &Volume) -> Result<u64> {
    let geometry = &volume.geometry;
    if geometry.group_count > MAX_CLUSTERED_GROUPS {
        return Ok(0);
    }
    let mut runs = Vec::new();
    let mut add = |start: u64, blocks: u64| {
        // Clusters are counted from the first group on.
        let Some(start) = start.checked_sub(geometry.first_data_block.into()) else { return };
        let end = touched_clusters(geometry, start.saturating_add(blocks));
        runs.push((geometry.whole_clusters(start), end));
    };
    group::for_each(volume, |group, desc, _| {
        add(geometry.first_block(group).get(), base_blocks(geometry, group));
        add(desc.block_bitmap.get(), 1);
        add(desc.inode_bitmap.get(), 1);
        add(desc.inode_table.get(), geometry.inode_table_blocks().into());
        Ok(())
    })?;
    Ok(union(runs))
}

/// Clusters that the first `blocks` blocks touch.
fn touched_clusters(geometry: &Geometry, blocks: u64) -> u64 {
    let rest = u64::from(geometry.cluster_blocks).saturating_sub(1);
    geometry.whole_clusters(blocks.saturating_add(rest))
}

/// How many numbers lie in at least one of the ranges.
fn union(mut runs: Vec<(u64, u64)>) -> u64 {
    runs.sort_unstable();
    let (mut sum, mut reached) = (0_u64, 0_u64);
    for (start, end) in runs {
        sum = sum.saturating_add(end.saturating_sub(start.max(reached)));
        reached = reached.max(end);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_ranges_are_counted_once() {
        assert_eq!(union(vec![(5, 7), (0, 3), (2, 4), (6, 6), (9, 8)]), 6);
    }
}
