//! How much space fast commits used and freed: the group descriptors were written before them.
//!
//! Kernel: fs/ext4/fast_commit.c `ext4_fc_set_bitmaps_and_counters`

use core::ops::Range;

use crate::edits::{Backing, Edited, SpaceChange};
use crate::error::{Error, Result};
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::{self, Inode};
use crate::map::{self, Mapping};
use crate::volume::Volume;

/// Runs of blocks that are looked up in all; past that the counts stay as they were written.
const BUDGET: u32 = 1 << 18;

/// Compares what the edited inodes of `volume` have now with what they have on the disk.
///
/// # Errors
/// I/O errors.
pub(super) fn change(volume: &Volume) -> Result<SpaceChange> {
    let mut census = Census { volume, budget: BUDGET, old: Vec::new(), new: Vec::new() };
    let mut change = SpaceChange::default();
    for edited in volume.edits().iter() {
        let on_disk = inode::decode_on_disk(volume, edited.inode).ok();
        let before = on_disk.filter(|inode| inode.links > 0);
        let after = inode::get(volume, edited.inode).is_ok_and(|inode| inode.links > 0);
        change.inodes = change.inodes.saturating_add(i64::from(after));
        change.inodes = change.inodes.saturating_sub(i64::from(before.is_some()));
        if let Err(error @ Error::Io { .. }) = census.compare(&edited, before.as_ref(), after) {
            return Err(error);
        }
        let has_block = after && edited.names.is_some_and(|names| names.is_fresh());
        change.clusters = change.clusters.saturating_add(i64::from(has_block));
    }
    if census.budget == 0 {
        return Ok(SpaceChange::default());
    }
    let (old, new) = (merged(census.old), merged(census.new));
    // Blocks in both count on both sides.
    change.clusters = change.clusters.saturating_add(total(&new)).saturating_sub(total(&old));
    Ok(change)
}

/// The clusters that edited inodes had and have.
struct Census<'a> {
    volume: &'a Volume,
    budget: u32,
    old: Vec<Range<u64>>,
    new: Vec<Range<u64>>,
}

impl Census<'_> {
    fn compare(&mut self, edited: &Edited<'_>, before: Option<&Inode>, after: bool) -> Result<()> {
        let lost_all = edited.was_freed || !after;
        if let Some(inode) = before.filter(|_| lost_all) {
            self.on_disk(inode, 0..map::LIMIT)?;
        }
        for (logical, len, backing) in edited.ranges().filter(|_| after) {
            if let Some(inode) = before.filter(|_| !lost_all) {
                self.on_disk(inode, logical..logical.saturating_add(len))?;
            }
            if let Backing::Written(first) | Backing::Unwritten(first) = backing {
                let run = self.clusters(first, len);
                self.new.push(run);
            }
        }
        Ok(())
    }

    /// Adds what backs `range` of `inode` on the disk.
    fn on_disk(&mut self, inode: &Inode, range: Range<u32>) -> Result<()> {
        let mut at = range.start;
        while at < range.end && self.budget > 0 {
            self.budget = self.budget.saturating_sub(1);
            let mapping = map::lookup_on_disk(self.volume, inode, LogicalBlock::new(at))?;
            let len = mapping.blocks().clamp(1, range.end.saturating_sub(at));
            if let Mapping::Written { first, .. } | Mapping::Unwritten { first, .. } = mapping {
                let run = self.clusters(first, len);
                self.old.push(run);
            }
            at = at.saturating_add(len);
        }
        Ok(())
    }

    fn clusters(&self, first: BlockNr, len: u32) -> Range<u64> {
        let ratio = u64::from(self.volume.geometry.cluster_blocks.max(1));
        let end = first.get().saturating_add(len.into());
        first.get().checked_div(ratio).unwrap_or(0)..end.div_ceil(ratio)
    }
}

/// The same clusters in order, each once.
fn merged(mut runs: Vec<Range<u64>>) -> Vec<Range<u64>> {
    runs.sort_unstable_by_key(|run| run.start);
    runs.dedup_by(|later, kept| {
        let touches = later.start <= kept.end;
        if touches {
            kept.end = kept.end.max(later.end);
        }
        touches
    });
    runs
}

fn total(runs: &[Range<u64>]) -> i64 {
    let clusters: u64 = runs.iter().map(|run| run.end.saturating_sub(run.start)).sum();
    i64::try_from(clusters).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_several_runs_share_count_once() {
        assert_eq!(total(&merged(vec![5..9, 1..3, 8..10, 2..3, 20..21])), 8);
        assert_eq!(total(&merged(Vec::new())), 0);
    }
}
