//! The state of the allocator: what each group has free, what is kept back there, and the totals.
//!
//! Bitmaps and descriptors stay in the metadata cache; here are summaries of them, 80 bytes a group.
//! # Locking
//! [`Group::lock`] is rank "group": it is held while a group's bitmap and descriptor are changed
//! together, and over no device read but of those two, which callers bring into the cache first.
//! # Invariant
//! A group's `usable` is what its descriptor shows as free less what [`super::claims`] has as freed
//! and not yet committed; their sum is the totals' `free - pending`.
//! Kernel: fs/ext4/ext4.h `struct ext4_group_info`, mballoc.c `ext4_mb_init_backend`

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::claims::{Claims, Why};
use super::prefetch::Prefetch;
use super::reserve::Reserve;
use super::search::length;
use super::validity::Zones;
use crate::disk::group_desc::GroupDesc;
use crate::error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
use crate::geometry::Geometry;
use crate::group;
use crate::ids::{GroupNr, InodeNr, Tid, in_memory};
use crate::superblock::Facts;
use crate::volume::Volume;

/// Block groups of a file system that is opened for writing: 512 TiB of 4 KiB blocks.
const MAX_GROUPS: u32 = 1 << 22;

/// Free blocks and inodes of a file system that is open for writing.
#[derive(Debug)]
pub(crate) struct Space {
    groups: Box<[Group]>,
    pub(super) zones: Zones,
    /// Free clusters, and whom they are promised to.
    pub(super) reserve: Reserve,
    pub(super) free_inodes: AtomicU64,
    pub(super) used_dirs: AtomicU64,
    /// Groups that have runs freed by transactions not known to have committed.
    freed: Mutex<VecDeque<(Tid, BTreeSet<GroupNr>)>>,
    /// Where files keep their windows: the claims of the group are what counts.
    pub(super) windows: Mutex<HashMap<InodeNr, (GroupNr, u32)>>,
    /// Whether committed runs are to be discarded, and those that wait for it.
    pub(super) discard: AtomicBool,
    pub(super) discards: Mutex<Vec<(GroupNr, Range<u32>)>>,
    /// log2 of the groups whose metadata is together.
    pub(super) log_flex: u8,
    /// For generations.
    pub(super) random: RandomState,
    pub(super) generations: AtomicU64,
}

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Clusters that can be taken now, windows included.
    pub(super) usable: AtomicU32,
    /// No run of free clusters is longer, windows and uncommitted ones left out.
    pub(super) longest: AtomicU32,
    pub(super) free_inodes: AtomicU32,
    pub(super) used_dirs: AtomicU32,
    state: Mutex<State>,
}

/// What a group's lock protects, beside the group's bitmaps and descriptor.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) claims: Claims,
    /// The block bitmap cannot be believed: nothing is taken from here.
    pub(super) bad_blocks: bool,
    /// Likewise the inode bitmap.
    pub(super) bad_inodes: bool,
    /// Inodes freed by transactions not known to have committed, by index.
    pub(super) freed_inodes: Vec<(Tid, u32)>,
}

impl Group {
    fn new(desc: &GroupDesc) -> Self {
        Self {
            usable: AtomicU32::new(desc.free_clusters),
            longest: AtomicU32::new(u32::MAX),
            free_inodes: AtomicU32::new(desc.free_inodes),
            used_dirs: AtomicU32::new(desc.used_dirs),
            state: Mutex::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// The longest run that there may be.
    pub(super) fn longest(&self) -> u32 {
        self.longest.load(Ordering::Relaxed).min(self.usable.load(Ordering::Relaxed))
    }

    /// Clusters that were kept back can be taken again; their claims are gone already.
    pub(super) fn settle(&self, state: &State, space: &Space, clusters: u32) {
        if state.bad_blocks {
            space.reserve.lose(clusters.into());
        } else {
            self.usable.fetch_add(clusters, Ordering::Relaxed);
            self.longest.store(u32::MAX, Ordering::Relaxed);
        }
        space.reserve.settled(clusters.into());
    }

    /// Nothing is taken from this group any more: its block bitmap cannot be believed.
    pub(super) fn give_up_blocks(&self, state: &mut State, space: &Space) {
        state.bad_blocks = true;
        space.reserve.lose(self.usable.swap(0, Ordering::Relaxed).into());
    }

    /// Likewise its inode bitmap.
    pub(super) fn give_up_inodes(&self, state: &mut State, space: &Space) {
        state.bad_inodes = true;
        let lost = self.free_inodes.swap(0, Ordering::Relaxed);
        space.free_inodes.fetch_sub(lost.into(), Ordering::Relaxed);
    }
}

impl Space {
    /// The space of a volume that may be written.
    ///
    /// # Errors
    /// [`Refusal::ReadOnly`].
    pub(super) fn of(volume: &Volume) -> Result<&Self> {
        volume.space.get().ok_or(Refusal::ReadOnly.into())
    }

    pub(super) fn group(&self, nr: GroupNr) -> Result<&Group> {
        self.groups.get(in_memory(nr.get().into())).ok_or_else(|| {
            let kind = CorruptKind::GroupPlace { what: "group", block: 0 };
            Error::corrupt(Place::group(nr), kind)
        })
    }

    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Notes that transaction `tid` freed something in `group`.
    pub(super) fn note_freed(&self, tid: Tid, group: GroupNr) {
        let mut freed = self.freed.lock();
        match freed.iter_mut().find(|(other, _)| *other == tid) {
            Some((_, groups)) => {
                groups.insert(group);
            }
            None => freed.push_back((tid, BTreeSet::from([group]))),
        }
    }

    /// The newest transaction whose freed runs are still kept back.
    pub(super) fn newest_freed(&self) -> Option<Tid> {
        let newer = |a: Tid, b: Tid| if b.reached(a) { b } else { a };
        self.freed.lock().iter().map(|&(tid, _)| tid).reduce(newer)
    }

    /// Takes the groups whose runs were freed by a transaction up to `committed`.
    fn take_freed(&self, committed: Tid) -> BTreeSet<GroupNr> {
        let mut taken = BTreeSet::new();
        self.freed.lock().retain_mut(|(tid, groups)| {
            let settled = committed.reached(*tid);
            if settled {
                taken.append(groups);
            }
            !settled
        });
        taken
    }
}

/// Opens the space of `volume` for writing: reads all group descriptors and finds the metadata.
///
/// # Errors
/// [`Unmountable::TooManyGroups`]; corruption that forbids writing; I/O errors.
pub(crate) fn open(volume: &Volume, facts: &Facts) -> Result<()> {
    let geometry = &volume.geometry;
    let (groups, limit) = (geometry.group_count, MAX_GROUPS);
    if groups > limit {
        return Err(Unmountable::TooManyGroups { groups, limit }.into());
    }
    check_clusters(geometry)?;
    let mut zones = Zones::default();
    let mut groups = Vec::new();
    let mut bitmaps = Prefetch::new(volume);
    group::for_each(volume, |nr, desc, bytes| {
        GroupDesc::check_checksum(nr, bytes, geometry)?;
        check_counts(nr, desc, geometry)?;
        zones.add_group(nr, desc, geometry)?;
        bitmaps.add(desc);
        groups.push(Group::new(desc));
        Ok(())
    })?;
    bitmaps.finish();
    zones.add_rest(volume, facts)?;
    let sum = |count: fn(&Group) -> &AtomicU32| {
        groups.iter().map(|group| u64::from(count(group).load(Ordering::Relaxed))).sum::<u64>()
    };
    let space = Space {
        zones: zones.finish()?,
        reserve: Reserve::new(sum(|group| &group.usable), geometry, facts, &volume.rules),
        free_inodes: sum(|group| &group.free_inodes).into(),
        used_dirs: sum(|group| &group.used_dirs).into(),
        freed: Mutex::default(),
        windows: Mutex::default(),
        discard: AtomicBool::new(false),
        discards: Mutex::default(),
        log_flex: facts.log_groups_per_flex.min(31),
        random: RandomState::new(),
        generations: AtomicU64::new(0),
        groups: groups.into(),
    };
    // A second opening of one volume changes nothing.
    let _ = volume.space.set(space);
    Ok(())
}

/// Clusters are counted from the first group on, and whole.
fn check_clusters(geometry: &Geometry) -> Result<()> {
    let whole = |blocks: u64| blocks.checked_rem(geometry.cluster_blocks.into()) == Some(0);
    let first = u64::from(geometry.first_data_block);
    let field = |field, value| {
        Error::corrupt(Place::default(), CorruptKind::SuperblockField { field, value })
    };
    if geometry.cluster_blocks > 1 && first != 0 {
        return Err(field("s_first_data_block", first));
    }
    if !whole(geometry.blocks_count) {
        return Err(field("s_blocks_count", geometry.blocks_count));
    }
    // Bitmaps have checksums over whole bytes.
    if !geometry.clusters_per_group().is_multiple_of(8) {
        return Err(field("s_clusters_per_group", geometry.clusters_per_group().into()));
    }
    if !geometry.inodes_per_group.is_multiple_of(8) {
        return Err(field("s_inodes_per_group", geometry.inodes_per_group.into()));
    }
    Ok(())
}

fn check_counts(group: GroupNr, desc: &GroupDesc, geometry: &Geometry) -> Result<()> {
    let clusters = geometry.clusters_in_group(group);
    let inodes = geometry.inodes_per_group;
    for (what, counted, recorded) in [
        ("block bitmap", clusters, desc.free_clusters),
        ("inode bitmap", inodes, desc.free_inodes),
        ("unused inode table", inodes, desc.unused_inodes),
    ] {
        if recorded > counted {
            let kind = CorruptKind::BitmapCount { what, counted, recorded };
            return Err(Error::corrupt(Place::group(group), kind));
        }
    }
    Ok(())
}

/// Makes usable what committed transactions have freed.
///
/// # Errors
/// [`Refusal::ReadOnly`].
pub(crate) fn settle(volume: &Volume) -> Result<()> {
    let space = Space::of(volume)?;
    let committed = volume.committed_tid();
    for nr in space.take_freed(committed) {
        let group = space.group(nr)?;
        let mut state = group.lock();
        let runs = state.claims.settle(committed);
        if space.discard.load(Ordering::Relaxed) {
            for run in runs {
                state.claims.insert(run.clone(), Why::Discard);
                space.discards.lock().push((nr, run));
            }
            continue;
        }
        group.settle(&state, space, runs.iter().map(length).fold(0, u32::saturating_add));
    }
    Ok(())
}
