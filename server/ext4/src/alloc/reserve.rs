//! Promises of free clusters: what makes ENOSPC exact and never too late.
//!
//! # Locking
//! [`Reserve`]'s lock is a leaf.
//! # Invariant
//! `promised` is at most `free - pending`, so what was promised is there.
//! Kernel: fs/ext4/balloc.c `ext4_has_free_clusters`, `ext4_claim_free_clusters`

use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::discard::take_discards;
use super::space::Space;
use crate::device::would_wait;
use crate::error::{Refusal, Result};
use crate::geometry::Geometry;
use crate::rules::Rules;
use crate::superblock::Facts;
use crate::volume::Volume;

/// Commits that are awaited for one promise, while others take what each of them sets free.
const PATIENCE: u32 = 8;

/// How long a discard under way is awaited at a time.
const MOMENT: Duration = Duration::from_millis(100);

/// Who asks for blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Privilege {
    /// May not touch the reserve.
    Ordinary,
    /// May use every block: the reserve's owners.
    Reserve,
    /// The same, and may pass limits of quotas (CAP_SYS_RESOURCE).
    Root,
}

impl Privilege {
    /// The privilege of user `uid` with these groups.
    pub(crate) fn of(volume: &Volume, uid: u32, groups: &[u32]) -> Self {
        let owns = |reserve: &Reserve| {
            let group = reserve.gid;
            reserve.uid == uid || group != 0 && groups.contains(&group)
        };
        match volume.space.get() {
            _ if uid == 0 => Self::Root,
            Some(space) if owns(&space.reserve) => Self::Reserve,
            _ => Self::Ordinary,
        }
    }

    /// With the reserve, for what nobody may be kept from.
    pub(crate) fn with_reserve(self) -> Self {
        if self == Self::Ordinary { Self::Reserve } else { self }
    }
}

/// The free clusters of the file system.
#[derive(Debug)]
pub(super) struct Reserve {
    counts: Mutex<Counts>,
    /// Told when `pending` becomes less.
    usable: Condvar,
    /// Clusters that ordinary users leave alone, and who else does not.
    kept: u64,
    uid: u32,
    gid: u32,
}

#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    /// Free, as bitmaps and descriptors show it.
    free: u64,
    /// Of those: freed by transactions that have not committed.
    pending: u64,
    /// Of the others: promised.
    promised: u64,
}

/// Whether a promise can be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Chance {
    Now,
    AfterCommit,
    Never,
}

impl Reserve {
    pub(super) fn new(free: u64, geometry: &Geometry, facts: &Facts, rules: &Rules) -> Self {
        let counts = Mutex::new(Counts { free, ..Counts::default() });
        let kept = geometry.whole_clusters(facts.reserved_blocks);
        let uid = rules.reserve_uid.unwrap_or(facts.reserved_uid);
        let gid = rules.reserve_gid.unwrap_or(facts.reserved_gid);
        Self { counts, usable: Condvar::new(), kept, uid, gid }
    }

    /// Free clusters, those included that are not usable yet.
    pub(super) fn free(&self) -> u64 {
        self.counts.lock().free
    }

    fn promise(&self, clusters: u64, who: Privilege) -> Chance {
        let mut counts = self.counts.lock();
        let kept = if who == Privilege::Ordinary { self.kept } else { 0 };
        let needed = counts.promised.saturating_add(clusters).saturating_add(kept);
        if clusters == 0 || needed <= counts.free.saturating_sub(counts.pending) {
            counts.promised = counts.promised.saturating_add(clusters);
            return Chance::Now;
        }
        if needed <= counts.free { Chance::AfterCommit } else { Chance::Never }
    }

    fn give_back(&self, clusters: u64) {
        let mut counts = self.counts.lock();
        counts.promised = counts.promised.saturating_sub(clusters);
    }

    /// Promised clusters are taken.
    pub(super) fn took(&self, clusters: u64) {
        let mut counts = self.counts.lock();
        counts.promised = counts.promised.saturating_sub(clusters);
        counts.free = counts.free.saturating_sub(clusters);
    }

    /// Clusters were freed; they are not usable yet.
    pub(super) fn freed(&self, clusters: u64) {
        let mut counts = self.counts.lock();
        counts.free = counts.free.saturating_add(clusters);
        counts.pending = counts.pending.saturating_add(clusters);
    }

    /// Freed clusters are usable now.
    pub(super) fn settled(&self, clusters: u64) {
        let mut counts = self.counts.lock();
        counts.pending = counts.pending.saturating_sub(clusters);
        self.usable.notify_all();
    }

    /// Clusters that seemed free cannot be had.
    pub(super) fn lose(&self, clusters: u64) {
        let mut counts = self.counts.lock();
        counts.free = counts.free.saturating_sub(clusters);
    }

    /// Keeps free clusters from being taken, unless they are promised.
    pub(super) fn hold(&self, clusters: u64) -> bool {
        let mut counts = self.counts.lock();
        let pending = counts.pending.saturating_add(clusters);
        let fits = counts.promised <= counts.free.saturating_sub(pending);
        if fits {
            counts.pending = pending;
        }
        fits
    }

    /// Waits a moment for clusters that are being discarded.
    fn await_discard(&self) {
        let mut counts = self.counts.lock();
        if counts.pending > 0 {
            self.usable.wait_for(&mut counts, MOMENT);
        }
    }
}

/// Free clusters that nobody else can take; what is not used goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reservation<'v> {
    space: &'v Space,
    left: u64,
}

impl Reservation<'_> {
    /// Clusters that are left of it.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(super) fn took(&mut self, clusters: u64) {
        self.left = self.left.saturating_sub(clusters);
        self.space.reserve.took(clusters);
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.space.reserve.give_back(self.left);
    }
}

/// Reserves `clusters` for `who`. The caller has no handle open: if what uncommitted transactions
/// have freed would do, their commit is awaited.
///
/// # Errors
/// [`Refusal::NoSpace`], from nowhere else; [`Refusal::ReadOnly`]; those of a commit; `WouldBlock`.
pub(crate) fn reserve(volume: &Volume, clusters: u64, who: Privilege) -> Result<Reservation<'_>> {
    let space = Space::of(volume)?;
    for _ in 0..PATIENCE {
        match space.reserve.promise(clusters, who) {
            Chance::Now => return Ok(Reservation { space, left: clusters }),
            Chance::Never => break,
            Chance::AfterCommit => {}
        }
        // Blocks are worth more than the advice to discard them.
        drop(take_discards(volume)?);
        if space.reserve.promise(clusters, who) == Chance::Now {
            return Ok(Reservation { space, left: clusters });
        }
        match space.newest_freed() {
            Some(tid) => drop(volume.commit(tid)?),
            None if volume.source().device().may_wait() => space.reserve.await_discard(),
            None => return Err(would_wait()),
        }
        drop(take_discards(volume)?);
    }
    if space.reserve.promise(clusters, who) == Chance::Now {
        return Ok(Reservation { space, left: clusters });
    }
    Err(Refusal::NoSpace.into())
}

/// As [`reserve`], with a handle open: nothing is awaited. `None` if there is no room.
///
/// # Errors
/// [`Refusal::ReadOnly`].
pub(crate) fn try_reserve(
    volume: &Volume,
    clusters: u64,
    who: Privilege,
) -> Result<Option<Reservation<'_>>> {
    let space = Space::of(volume)?;
    let promised = space.reserve.promise(clusters, who) == Chance::Now;
    Ok(promised.then_some(Reservation { space, left: clusters }))
}

/// What is free, as the superblock and statfs count it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Totals {
    /// Blocks, in whole clusters.
    pub(crate) blocks: u64,
    /// Inodes.
    pub(crate) inodes: u64,
}

/// What is free now; `None` where nothing may be written.
pub(crate) fn totals(volume: &Volume) -> Option<Totals> {
    let space = volume.space.get()?;
    let clusters = space.reserve.free();
    let blocks = clusters.saturating_mul(volume.geometry.cluster_blocks.into());
    Some(Totals { blocks, inodes: space.free_inodes.load(Ordering::Relaxed) })
}
