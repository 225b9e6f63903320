//! Which group gets a new inode: files near their directory, directories near their parent unless it
//! is crowded there, and directories of the root far apart (Orlov).
//!
//! Only counters are looked at, without locks: the answer is where to look first.
//! Kernel: fs/ext4/ialloc.c `find_group_orlov`, `find_group_other`

use std::sync::atomic::Ordering;

use super::space::{Group, Space};
use crate::geometry::Geometry;
use crate::ids::{GroupNr, InodeNr, in_memory, on_disk};
use crate::inode::Inode;

/// EXT4_TOPDIR_FL: directories in this one have nothing to do with each other.
const TOPDIR: u32 = 0x2_0000;

/// What a flexible group has.
#[derive(Clone, Copy, Default)]
struct Sum {
    inodes: u64,
    clusters: u64,
    dirs: u64,
}

/// The file system as rows of flexible groups.
pub(super) struct Chooser<'a> {
    space: &'a Space,
    geometry: &'a Geometry,
    /// Groups of a flexible group.
    flex: u32,
}

impl<'a> Chooser<'a> {
    pub(super) fn new(space: &'a Space, geometry: &'a Geometry) -> Self {
        let flex = 1_u32.checked_shl(space.log_flex.into()).unwrap_or(1);
        Self { space, geometry, flex: flex.min(geometry.group_count.max(1)) }
    }

    /// Where to look first for a directory in `parent`; `seed` spreads those of the root.
    pub(super) fn directory(&self, parent: &Inode, seed: u64) -> GroupNr {
        let count = self.flex_count();
        let average = |total: u64| total.checked_div(count.into()).unwrap_or(0);
        let inodes = average(self.space.free_inodes.load(Ordering::Relaxed));
        let clusters = average(self.space.reserve.free());
        let is_top = parent.nr == InodeNr::ROOT || parent.flags.has(TOPDIR);
        let start = if is_top {
            u32::try_from(seed.checked_rem(count.into()).unwrap_or(0)).unwrap_or(0)
        } else {
            self.flex_of(self.home(parent))
        };
        let all =
            || (0..count).map(|step| start.wrapping_add(step).checked_rem(count).unwrap_or(0));
        let found = if is_top {
            let fits =
                |sum: &Sum| sum.inodes > 0 && sum.inodes >= inodes && sum.clusters >= clusters;
            let fitting = all().map(|flex| (flex, self.sum(flex))).filter(|(_, sum)| fits(sum));
            fitting.min_by_key(|(_, sum)| sum.dirs).map(|(flex, _)| flex)
        } else {
            let least = self.least(inodes, clusters, average);
            all().find(|&flex| {
                let sum = self.sum(flex);
                sum.dirs < least.dirs
                    && sum.inodes >= least.inodes
                    && sum.clusters >= least.clusters
            })
        };
        let enough = |flex: &u32| self.sum(*flex).inodes >= inodes.max(1);
        let flex = found.or_else(|| all().find(enough)).unwrap_or(start);
        self.first_with_inodes(flex)
    }

    /// What a flexible group must have so that it is not crowded.
    fn least(&self, inodes: u64, clusters: u64, average: impl Fn(u64) -> u64) -> Sum {
        let per_flex = |per_group: u32| u64::from(per_group).saturating_mul(self.flex.into());
        let all_inodes = per_flex(self.geometry.inodes_per_group);
        let all_clusters = per_flex(self.geometry.clusters_per_group());
        let dirs = average(self.space.used_dirs.load(Ordering::Relaxed));
        Sum {
            inodes: inodes.saturating_sub(all_inodes / 4).max(1),
            clusters: clusters.saturating_sub(all_clusters / 4),
            dirs: dirs.saturating_add(all_inodes / 16).max(1),
        }
    }

    /// Where to look first for anything but a directory in `parent`.
    pub(super) fn other(&self, parent: &Inode) -> GroupNr {
        let home = self.home(parent);
        let flex = self.flex_of(home);
        let has_inodes = |group: &Group| group.free_inodes.load(Ordering::Relaxed) > 0;
        if self.flex > 1 && self.groups(flex).iter().any(has_inodes) {
            let at_home = self.space.group(home).is_ok_and(has_inodes);
            return if at_home { home } else { self.first_with_inodes(flex) };
        }
        let usable = |nr: u32| {
            let group = self.space.group(GroupNr::new(nr));
            group.is_ok_and(|group| has_inodes(group) && group.usable.load(Ordering::Relaxed) > 0)
        };
        if usable(home.get()) {
            return home;
        }
        // Files of one directory go the same way, those of others another.
        let count = self.geometry.group_count.max(1);
        let mut nr = home.get().wrapping_add(parent.nr.get()).checked_rem(count).unwrap_or(0);
        let mut step = 1_u32;
        while step < count {
            nr = nr.wrapping_add(step).checked_rem(count).unwrap_or(0);
            if usable(nr) {
                return GroupNr::new(nr);
            }
            step = step.saturating_mul(2);
        }
        home
    }

    fn home(&self, parent: &Inode) -> GroupNr {
        self.geometry.group_of_inode(parent.nr).map_or(GroupNr::new(0), |(group, _)| group)
    }

    fn flex_count(&self) -> u32 {
        self.geometry.group_count.div_ceil(self.flex).max(1)
    }

    fn flex_of(&self, group: GroupNr) -> u32 {
        group.get().checked_div(self.flex).unwrap_or(0)
    }

    fn first_of(&self, flex: u32) -> u32 {
        flex.saturating_mul(self.flex)
    }

    fn groups(&self, flex: u32) -> &[Group] {
        let groups = self.space.groups();
        let start = in_memory(self.first_of(flex).into()).min(groups.len());
        let end = start.saturating_add(in_memory(self.flex.into())).min(groups.len());
        groups.get(start..end).unwrap_or_default()
    }

    fn sum(&self, flex: u32) -> Sum {
        self.groups(flex).iter().fold(Sum::default(), |sum, group| Sum {
            inodes: sum.inodes.saturating_add(group.free_inodes.load(Ordering::Relaxed).into()),
            clusters: sum.clusters.saturating_add(group.usable.load(Ordering::Relaxed).into()),
            dirs: sum.dirs.saturating_add(group.used_dirs.load(Ordering::Relaxed).into()),
        })
    }

    fn first_with_inodes(&self, flex: u32) -> GroupNr {
        let has_inodes = |group: &Group| group.free_inodes.load(Ordering::Relaxed) > 0;
        let offset = self.groups(flex).iter().position(has_inodes).map_or(0, on_disk);
        let offset = u32::try_from(offset).unwrap_or(0);
        GroupNr::new(self.first_of(flex).saturating_add(offset))
    }
}
