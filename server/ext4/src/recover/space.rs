//! How much space fast commits used and freed: the group descriptors were written before them.
//!
//! Kernel: fs/ext4/fast_commit.c `ext4_fc_set_bitmaps_and_counters`

use core::ops::Range;

use crate::edits::{Backing, Edited, SpaceChange};
use crate::error::{Error, Result};
use crate::evict;
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::{self, Inode};
use crate::map::{self, Mapping};
use crate::volume::Volume;

/// Runs of blocks that are looked up in all; past that the counts stay as they were written.
const BUDGET: u32 = 1 << 18;

/// Clusters that fast commits gave and took, in order, each once.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Those that nobody had before.
    pub(super) used: Vec<Range<u64>>,
    /// Those that nobody has any more. What inodes had that are gone is not among them.
    pub(super) freed: Vec<Range<u64>>,
}

/// Compares what the edited inodes of `view` have now with what they have on the disk.
///
/// # Errors
/// I/O errors.
pub(super) fn change(view: &Volume) -> Result<SpaceChange> {
    let mut change = SpaceChange::default();
    for edited in view.edits().iter() {
        let (before, after) = existence(view, &edited);
        change.inodes = change.inodes.saturating_add(i64::from(after));
        change.inodes = change.inodes.saturating_sub(i64::from(before.is_some()));
        let has_block = after && edited.names.is_some_and(|names| names.is_fresh());
        change.clusters = change.clusters.saturating_add(i64::from(has_block));
    }
    let Some(census) = Census::take(view, true)? else { return Ok(SpaceChange::default()) };
    // Blocks in both count on both sides.
    let more = total(&census.new).saturating_sub(total(&census.old));
    change.clusters = change.clusters.saturating_add(more);
    Ok(change)
}

/// The clusters that become used and free. `None` if they are too many to be told.
///
/// # Errors
/// I/O errors.
pub(super) fn moved(view: &Volume) -> Result<Option<Moved>> {
    let census = Census::take(view, false)?;
    Ok(census.map(|census| Moved {
        used: without(&census.new, &census.old),
        freed: without(&census.old, &census.new),
    }))
}

/// The inode as it is on the disk, if it is in use there, and whether it is in use now.
pub(super) fn existence(view: &Volume, edited: &Edited<'_>) -> (Option<Inode>, bool) {
    let on_disk = inode::decode_on_disk(view, edited.inode).ok();
    let after = inode::get(view, edited.inode).is_ok_and(|inode| inode.links > 0);
    (on_disk.filter(|inode| inode.links > 0), after)
}

/// The clusters that edited inodes had and have.
struct Census<'a> {
    volume: &'a Volume,
    budget: u32,
    old: Vec<Range<u64>>,
    new: Vec<Range<u64>>,
}

impl<'a> Census<'a> {
    /// `gone`: count what inodes had that are no more.
    fn take(volume: &'a Volume, gone: bool) -> Result<Option<Self>> {
        let mut census = Census { volume, budget: BUDGET, old: Vec::new(), new: Vec::new() };
        for edited in volume.edits().iter() {
            let (before, after) = existence(volume, &edited);
            if !after && !gone {
                continue;
            }
            if let Err(error @ Error::Io { .. }) = census.compare(&edited, before.as_ref(), after) {
                return Err(error);
            }
        }
        if census.budget == 0 {
            return Ok(None);
        }
        census.old = merged(census.old);
        census.new = merged(census.new);
        Ok(Some(census))
    }

    fn compare(&mut self, edited: &Edited<'_>, before: Option<&Inode>, after: bool) -> Result<()> {
        let lost_all = edited.was_freed || !after;
        if let Some(inode) = before.filter(|inode| lost_all && evict::has_map(self.volume, inode)) {
            self.walk(inode, 0..map::LIMIT, true)?;
        }
        if !after {
            return Ok(());
        }
        let kept = before.filter(|_| !lost_all);
        if self.volume.geometry.cluster_blocks > 1 && edited.ranges().next().is_some() {
            // What is left of a cluster keeps all of it.
            if let Some(inode) = kept {
                self.walk(inode, 0..map::LIMIT, true)?;
            }
            let inode = inode::get(self.volume, edited.inode)?;
            return self.walk(&inode, 0..map::LIMIT, false);
        }
        for (logical, len, backing) in edited.ranges() {
            if let Some(inode) = kept {
                self.walk(inode, logical..logical.saturating_add(len), true)?;
            }
            if let Backing::Written(first) | Backing::Unwritten(first) = backing {
                let run = self.clusters(first, len);
                self.new.push(run);
            }
        }
        Ok(())
    }

    /// Adds what backs `range` of `inode`: on the disk, or now.
    fn walk(&mut self, inode: &Inode, range: Range<u32>, on_disk: bool) -> Result<()> {
        let mut at = range.start;
        while at < range.end && self.budget > 0 {
            self.budget = self.budget.saturating_sub(1);
            let here = LogicalBlock::new(at);
            let mapping = if on_disk {
                map::lookup_on_disk(self.volume, inode, here)?
            } else {
                map::lookup(self.volume, inode, here)?
            };
            let len = mapping.blocks().clamp(1, range.end.saturating_sub(at));
            if let Mapping::Written { first, .. } | Mapping::Unwritten { first, .. } = mapping {
                let run = self.clusters(first, len);
                if on_disk { self.old.push(run) } else { self.new.push(run) }
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

/// What of `runs` is not in `others`; both are merged.
fn without(runs: &[Range<u64>], others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left = Vec::new();
    for run in runs {
        let mut start = run.start;
        let from = others.partition_point(|other| other.end <= run.start);
        let others = others.get(from..).unwrap_or_default();
        for other in others.iter().take_while(|other| other.start < run.end) {
            if start < other.start {
                left.push(start..other.start);
            }
            start = other.end;
        }
        if start < run.end {
            left.push(start..run.end);
        }
    }
    left
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

    #[test]
    fn what_one_side_has_alone_is_what_the_other_has_not() {
        let without = |runs: &[Range<u64>]| without(runs, &[2..4, 6..8, 9..20]);
        assert_eq!(without(&[0..10, 40..40]), [0..2, 4..6, 8..9]);
        assert_eq!(without(&[2..3, 4..5, 7..30]), [4..5, 8..9, 20..30]);
        assert!(without(&[10..12, 13..20]).is_empty() && without(&[]).is_empty());
    }
}
