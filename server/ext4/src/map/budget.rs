//! How much one handle may free, so that a truncate of any length runs in bounded transactions.

use crate::disk::extent::Extent;
use crate::geometry::Geometry;

/// Groups whose bitmap and descriptor one call of `remove` may change.
pub(crate) const GROUPS: u32 = 16;

/// What is left of the groups that may be changed.
pub(super) struct Budget {
    groups: u64,
    blocks_per_group: u64,
    first_data_block: u64,
    last: Option<u64>,
}

impl Budget {
    pub(super) fn new(geometry: &Geometry) -> Self {
        Self {
            groups: GROUPS.into(),
            blocks_per_group: geometry.blocks_per_group.into(),
            first_data_block: geometry.first_data_block.into(),
            last: None,
        }
    }

    /// For a cut that was within a budget before.
    pub(super) fn unlimited() -> Self {
        Self { groups: u64::MAX, blocks_per_group: 1, first_data_block: 0, last: None }
    }

    fn group(&self, block: u64) -> u64 {
        let offset = block.saturating_sub(self.first_data_block);
        offset.checked_div(self.blocks_per_group).unwrap_or(0)
    }

    /// The end of `run` that may be freed, as long as it is not nothing. A group that the run before
    /// was in is not counted again.
    pub(super) fn take(&mut self, run: Extent) -> Option<Extent> {
        let first = run.first.get();
        let end = first.saturating_add(run.len.into());
        let (low, high) = (self.group(first), self.group(end.saturating_sub(1)));
        let known = u64::from(self.last == Some(high));
        let needed = high.saturating_sub(low).saturating_add(1).saturating_sub(known);
        let allowed = needed.min(self.groups);
        if allowed.saturating_add(known) == 0 {
            return None;
        }
        self.groups = self.groups.saturating_sub(allowed);
        self.last = Some(low);
        if allowed == needed {
            return Some(run);
        }
        // The first group that is still within.
        let from = high.saturating_add(1).saturating_sub(allowed.saturating_add(known));
        let start = from
            .saturating_mul(self.blocks_per_group)
            .saturating_add(self.first_data_block)
            .max(first);
        let skip = u32::try_from(start.saturating_sub(first)).ok()?;
        run.part(run.at.get().saturating_add(skip), u32::MAX)
    }
}
