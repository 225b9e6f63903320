//! Clusters (bigalloc): a group's bitmap has one bit for several neighbouring blocks.
//!
//! A file's logical clusters start at multiples of the cluster size, and logical block `n` of one
//! lies at block `n` of its cluster on the disk. So a map that has any block of a logical cluster
//! knows the places of all of them, and needs [`super::allocate`] for clusters it has nothing of.
//! Kernel: fs/ext4/ext4.h `EXT4_LBLK_CMASK`, extents.c `get_implied_cluster_alloc`

use crate::geometry::Geometry;
use crate::ids::LogicalBlock;

/// Clusters that `blocks` blocks fill, the last one perhaps in part.
pub(crate) fn clusters(geometry: &Geometry, blocks: u64) -> u64 {
    blocks.div_ceil(geometry.cluster_blocks.max(1).into())
}

/// Logical clusters that the `len` blocks from `at` of a file touch: the most that mapping them can
/// take from a reservation.
pub(crate) fn clusters_spanned(geometry: &Geometry, at: LogicalBlock, len: u32) -> u64 {
    let inside = at.get().checked_rem(geometry.cluster_blocks).unwrap_or(0);
    if len == 0 { 0 } else { clusters(geometry, u64::from(inside).saturating_add(len.into())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Image;

    #[test]
    fn a_run_spans_the_clusters_it_touches() {
        let geometry = Image::new(64).with(|geometry| {
            (geometry.cluster_blocks, geometry.first_data_block) = (16, 0);
        });
        let geometry = geometry.volume().geometry;
        assert_eq!(clusters_spanned(&geometry, LogicalBlock::new(15), 2), 2);
        assert_eq!(clusters_spanned(&geometry, LogicalBlock::new(16), 16), 1);
        assert_eq!(clusters_spanned(&geometry, LogicalBlock::new(16), 0), 0);
    }
}
