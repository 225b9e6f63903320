//! Quotas: what users, groups and projects use, kept exact in the quota files, and their limits.
//!
//! Usage follows every inode that is stored: its owner is charged for i_blocks and for the inode
//! itself, in the same handle. Limits are asked before a verb begins; between that and the charge
//! others may come, so that a limit can be passed by what is under way at the same moment.
//! # Locking
//! One mutex per quota file, taken inside an open handle after inode locks and before groups and
//! blocks.
//! Kernel: fs/quota/dquot.c, quota_tree.c, fs/ext4/super.c `ext4_enable_quotas`

mod file;
#[cfg(test)]
mod tests;

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
        let mut file = file.lock();
        if old == new {
            let less = (before.blocks512, before.inodes);
            let more = (after.blocks512, after.inodes);
            if less != more {
                file.change(handle, new, |entry, grace| entry.add(less, more, grace))?;
            }
            continue;
        }
        for (id, less, more) in [
            (old, (before.blocks512, before.inodes), (0, 0)),
            (new, (0, 0), (after.blocks512, after.inodes)),
        ] {
            if (less, more) != ((0, 0), (0, 0)) {
                file.change(handle, id, |entry, grace| entry.add(less, more, grace))?;
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

/// Whether owners may have so much more: `bytes` of space, and `inodes`. Who may use the reserve may
/// pass all limits.
///
/// # Errors
/// [`Refusal::Quota`]; corruption, I/O errors.
pub(crate) fn check(volume: &Volume, owners: &Charge, bytes: u64, inodes: u64) -> Result<()> {
    let Some(quotas) = volume.quotas.get() else { return Ok(()) };
    for (kind, file) in &quotas.files {
        let entry = file.lock().entry(volume, owners.id(*kind))?;
        if entry.is_some_and(|entry| !entry.permits(bytes, inodes, now())) {
            return Err(Refusal::Quota.into());
        }
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
    fn add(&mut self, less: (u64, u64), more: (u64, u64), grace: Grace) {
        let space = |blocks512: u64| blocks512.saturating_mul(512);
        let used = self.space.get().saturating_add(space(more.0)).saturating_sub(space(less.0));
        let inodes = self.inodes.get().saturating_add(more.1).saturating_sub(less.1);
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

    fn permits(&self, bytes: u64, inodes: u64, now: u64) -> bool {
        let within = |more: u64, used: u64, hard: u64, soft: u64, time: u64| {
            more == 0 || !(is_over(used, hard) || is_over(used, soft) && time != 0 && now > time)
        };
        let kib = self.space.get().saturating_add(bytes).div_ceil(1024);
        let total = self.inodes.get().saturating_add(inodes);
        within(bytes, kib, self.block_hard.get(), self.block_soft.get(), self.block_time.get())
            && within(
                inodes,
                total,
                self.inode_hard.get(),
                self.inode_soft.get(),
                self.inode_time.get(),
            )
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
