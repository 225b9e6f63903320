//! Quotas: what users, groups and projects use, kept exact in the quota files, and their limits.
//!
//! Usage follows every inode that is stored: its owner is charged for i_blocks and for the inode
//! itself, in the same handle. What a verb may add it has claimed before, see [`Claim`].
//!
//! Limits that are on the disk are enforced: the kernel wants to be asked for that by a mount option,
//! but whoever set them meant it.
//! # Locking
//! One mutex per quota file, taken inside an open handle after inode locks and before groups and
//! blocks.
//! Kernel: fs/quota/dquot.c, quota_tree.c, fs/ext4/super.c `ext4_enable_quotas`

mod claim;
mod file;
#[cfg(test)]
mod limits_tests;
#[cfg(test)]
mod tests;

pub(crate) use claim::{Amount, Claim, reserve};

use parking_lot::Mutex;

use crate::disk::quota::RawEntry;
use crate::disk::xattr::{self, Entry, Value};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::features::RoCompat;
use crate::handle::{Credits, Handle};
use crate::ids::{InodeNr, on_disk};
use crate::inode::{Inode, InodeFlags, Timestamp};
use crate::volume::Volume;
use file::File;

/// Blocks that one stored inode may change in the quota files: an entry each of the old and the new
/// user, group and project.
pub(crate) const CREDITS: Credits = Credits(6);

/// What every handle gets on top where there are quotas: it stores up to four inodes, of owners whose
/// entries are mostly in the same blocks.
pub(crate) fn surcharge(volume: &Volume) -> Credits {
    let has_files = volume.quotas.get().is_some_and(|quotas| !quotas.files.is_empty());
    Credits(if has_files { CREDITS.0.saturating_mul(4) } else { 0 })
}

/// The quota files of a mount that writes: of users, groups and projects.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    files: Vec<(Kind, Mutex<File>)>,
}

/// Whose quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    User,
    Group,
    Project,
}

/// Who is charged for an inode, and how much.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Charge {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) project: u32,
    /// i_blocks in 512-byte units.
    pub(crate) blocks512: u64,
    /// Inodes: 1, and one for each value inode its attributes name.
    pub(crate) inodes: u64,
}

impl Charge {
    /// What `inode` is charged for, without value inodes.
    pub(crate) const fn of(inode: &Inode) -> Self {
        let (uid, gid, project) = (inode.uid, inode.gid, inode.project);
        Self { uid, gid, project, blocks512: inode.blocks512, inodes: 1 }
    }

    fn amount(&self) -> Amount {
        Amount { bytes: self.blocks512.saturating_mul(512), inodes: self.inodes }
    }

    const fn id(&self, kind: Kind) -> u32 {
        match kind {
            Kind::User => self.uid,
            Kind::Group => self.gid,
            Kind::Project => self.project,
        }
    }
}

/// Opens the quota files, if the file system has any. At a mount that writes.
///
/// # Errors
/// [`CorruptKind::QuotaFile`]; other corruption; I/O errors.
pub(crate) fn open(volume: &Volume) -> Result<()> {
    let mut files = Vec::new();
    if volume.geometry.features.ro_compat.contains(RoCompat::QUOTA) {
        let [user, group, project, _] = volume.geometry.special_inodes;
        let kinds = [(Kind::User, user), (Kind::Group, group), (Kind::Project, project)];
        for (at, (kind, nr)) in kinds.into_iter().enumerate() {
            if nr != 0 {
                let file = File::open(volume, InodeNr::new(nr), at);
                files.push((kind, Mutex::new(file.map_err(|e| e.at_inode(InodeNr::new(nr)))?)));
            }
        }
    }
    // A second opening finds the same.
    let _ = volume.quotas.set(Quotas { files });
    Ok(())
}

/// Whether an inode counts: not the file system's own, and no value inode, for which its users pay.
pub(crate) fn counts(volume: &Volume, nr: InodeNr, flags: InodeFlags) -> bool {
    let has_files = volume.quotas.get().is_some_and(|quotas| !quotas.files.is_empty());
    has_files && !volume.geometry.is_special(nr) && !flags.has(InodeFlags::EA_INODE)
}

/// Takes `before` from its owners and charges `after` to its. Changes up to [`CREDITS`] blocks where
/// [`prepare`] was called for the new owners.
///
/// # Errors
/// [`Refusal::NoSpace`] if a new owner needs room in a quota file and there is none; corruption of
/// the files; I/O errors.
pub(crate) fn charge(handle: &mut Handle<'_>, before: &Charge, after: &Charge) -> Result<()> {
    let Some(quotas) = handle.volume().quotas.get() else { return Ok(()) };
    for (kind, file) in &quotas.files {
        let (old, new) = (before.id(*kind), after.id(*kind));
        let (less, more, none) = (before.amount(), after.amount(), Amount::default());
        let changes: &[_] =
            if old == new { &[(new, less, more)] } else { &[(old, less, none), (new, none, more)] };
        let mut file = file.lock();
        for &(id, less, more) in changes.iter().filter(|(_, less, more)| less != more) {
            file.change(handle, id, |entry, grace| entry.add(less, more, grace))?;
            if let Some(claim) = handle.claim() {
                claim.charged(&mut file, (*kind, id), more.minus(less));
            }
        }
    }
    Ok(())
}

/// Charges an inode as it is stored, of which `before` was charged. Value inodes go with their user to
/// another owner.
///
/// # Errors
/// As [`charge`].
pub(crate) fn follow(handle: &mut Handle<'_>, before: Charge, inode: &Inode) -> Result<()> {
    let after = Charge::of(inode);
    let same = (before.uid, before.gid, before.project) == (after.uid, after.gid, after.project);
    let more = if same || before.inodes == 0 { 0 } else { value_inodes(handle.volume(), inode)? };
    let with = |charge: Charge| Charge { inodes: charge.inodes.saturating_add(more), ..charge };
    charge(handle, &with(before), &with(after))
}

/// How many value inodes the attributes of `inode` name.
fn value_inodes(volume: &Volume, inode: &Inode) -> Result<u64> {
    let (geometry, place) = (&volume.geometry, Place::inode(inode.nr));
    let outside = |list: &[Entry<'_>]| {
        list.iter().filter(|entry| matches!(entry.value, Value::Inode { .. })).count()
    };
    let mut count = outside(&xattr::in_inode(geometry, place, &inode.tail)?);
    if let Some(nr) = inode.xattr_block {
        let block = volume.metadata(nr)?;
        xattr::check_block(geometry, place, nr, block.bytes())?;
        let list = xattr::in_block(geometry, place, block.bytes())?;
        count = count.saturating_add(outside(&list));
    }
    Ok(on_disk(count))
}

/// Makes sure that owners have an entry in each quota file, in a transaction of its own: before a
/// verb begins that gives an inode to them.
///
/// # Errors
/// [`Refusal::NoSpace`], `ReadOnly`; corruption, I/O errors.
pub(crate) fn prepare(volume: &Volume, owners: &Charge) -> Result<()> {
    let Some(quotas) = volume.quotas.get() else { return Ok(()) };
    for (kind, file) in &quotas.files {
        let id = owners.id(*kind);
        if file.lock().find(volume, id)?.is_some() {
            continue;
        }
        let mut space =
            crate::alloc::reserve(volume, file::GROWTH, crate::alloc::Privilege::Reserve)?;
        let mut handle = volume.begin(file::INSERT)?;
        file.lock().insert(&mut handle, id, &mut space)?;
        handle.stop()?;
    }
    Ok(())
}

/// Whether an inode of `inode`'s project may get a name in `dir`: a directory that hands its project
/// on takes no others.
///
/// # Errors
/// [`Refusal::CrossDevice`].
pub(crate) fn check_project(dir: &Inode, inode: &Inode) -> Result<()> {
    if dir.flags.has(InodeFlags::PROJINHERIT) && dir.project != inode.project {
        return Err(Refusal::CrossDevice.into());
    }
    Ok(())
}

/// Seconds that soft limits may be passed, of blocks and of inodes.
#[derive(Clone, Copy, Debug)]
struct Grace {
    blocks: u32,
    inodes: u32,
}

impl RawEntry {
    fn used(&self) -> Amount {
        Amount { bytes: self.space.get(), inodes: self.inodes.get() }
    }

    fn add(&mut self, less: Amount, more: Amount, grace: Grace) {
        let Amount { bytes: used, inodes } = self.used().plus(more).minus(less);
        self.space.set(used);
        self.inodes.set(inodes);
        let timed = |over: bool, time: u64, grace: u32| match (over, time) {
            (false, _) => 0,
            (true, 0) => now().saturating_add(grace.into()),
            (true, time) => time,
        };
        let over = is_over(used.div_ceil(1024), self.block_soft.get());
        self.block_time.set(timed(over, self.block_time.get(), grace.blocks));
        let over = is_over(inodes, self.inode_soft.get());
        self.inode_time.set(timed(over, self.inode_time.get(), grace.inodes));
        self.mark_used();
    }

    fn has_limits(&self) -> bool {
        let limits = [self.block_hard, self.block_soft, self.inode_hard, self.inode_soft];
        limits.iter().any(|limit| limit.get() != 0)
    }

    /// Whether `more` may be used beside what is, and what is `promised` (`check_bdq`, `check_idq`).
    fn permits(&self, promised: Amount, more: Amount, now: u64) -> bool {
        let within = |more: u64, used: u64, hard: u64, soft: u64, time: u64| {
            more == 0 || !(is_over(used, hard) || is_over(used, soft) && time != 0 && now >= time)
        };
        let Amount { bytes, inodes } = self.used().plus(promised).plus(more);
        let (hard, soft) = (self.block_hard.get(), self.block_soft.get());
        let space = within(more.bytes, bytes.div_ceil(1024), hard, soft, self.block_time.get());
        let (hard, soft) = (self.inode_hard.get(), self.inode_soft.get());
        space && within(more.inodes, inodes, hard, soft, self.inode_time.get())
    }
}

/// Limits of 0 are none.
const fn is_over(used: u64, limit: u64) -> bool {
    limit != 0 && used > limit
}

fn now() -> u64 {
    u64::try_from(Timestamp::now().seconds).unwrap_or(0)
}

fn corrupt(why: &'static str) -> Error {
    Error::corrupt(Place::default(), CorruptKind::QuotaFile { why })
}
