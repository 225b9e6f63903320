//! New inodes: everything that does not depend on their content.
//!
//! Kernel: fs/ext4/ialloc.c `__ext4_new_inode`, fs/inode.c `inode_init_owner`

use super::cache::{edit_record, forget};
use super::{FileKind, Inode, InodeFlags, encode};
use crate::caller::Caller;
use crate::disk::inode::{self as disk, FIXED, WITH_CRTIME};
use crate::error::Result;
use crate::features::RoCompat;
use crate::geometry::Geometry;
use crate::handle::Handle;
use crate::ids::InodeNr;
use crate::kind::{S_ISGID, S_IXGRP};
use crate::quota::Charge;
use crate::volume::Volume;

/// What an inode is born with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth<'a> {
    /// Its number, allocated already.
    pub(crate) nr: InodeNr,
    /// Its generation.
    pub(crate) generation: u32,
    /// The directory it is made in.
    pub(crate) parent: &'a Inode,
    /// What it is.
    pub(crate) kind: FileKind,
    /// Permission bits after umask and default ACL.
    pub(crate) permissions: u16,
    /// The device of a device node.
    pub(crate) rdev: (u32, u32),
    /// Whose it is.
    pub(crate) caller: &'a Caller,
}

/// The record of a new inode, emptied on the disk, and the inode: one link (a directory two), no
/// content, no map. The caller adds those and stores it. Changes one block.
///
/// # Errors
/// Corruption on the way to the record; I/O errors.
pub(crate) fn init(handle: &mut Handle<'_>, birth: &Birth<'_>) -> Result<Inode> {
    let volume = handle.volume();
    let geometry = &volume.geometry;
    clear(handle, birth.nr)?;
    let wide = geometry.extra_isize >= WITH_CRTIME_EXTRA;
    let now = encode::clamp(birth.caller.now, wide);
    let crtime = (usize::from(geometry.extra_isize) >= WITH_CRTIME).then_some(now);
    let (gid, permissions) = owner(birth, volume.rules.grpid == Some(true));
    Ok(Inode {
        nr: birth.nr,
        generation: birth.generation,
        kind: birth.kind,
        permissions,
        uid: birth.caller.uid,
        gid,
        project: project(geometry, birth.parent),
        links: if birth.kind == FileKind::Directory { 2 } else { 1 },
        size: 0,
        blocks512: 0,
        flags: birth.parent.flags.inherited(birth.kind),
        atime: now,
        mtime: now,
        ctime: now,
        crtime,
        version: 1,
        rdev: birth.rdev,
        xattr_block: None,
        block: device_block(birth.rdev),
        tail: vec![0; tail_of_new(geometry)].into(),
        checksum_seed: disk::seed(geometry.checksum_seed, birth.nr, birth.generation),
    })
}

/// Bytes of a new inode's record behind its fields, for attributes.
pub(crate) fn tail_of_new(geometry: &Geometry) -> usize {
    let used = FIXED.saturating_add(geometry.extra_isize.into());
    usize::from(geometry.inode_size).saturating_sub(used)
}

/// Bytes of i_extra_isize that reach past i_crtime_extra.
const WITH_CRTIME_EXTRA: u16 = 24;

/// Takes what an earlier inode left out of the record.
fn clear(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let extra_isize = handle.volume().geometry.extra_isize;
    forget(handle.volume(), nr);
    edit_record(handle, nr, |record| {
        record.fill(0);
        if let Some(extra) = record.get_mut(FIXED..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *extra = extra_isize.to_le_bytes();
        }
        Ok(())
    })
}

/// Who a new inode that `caller` makes in `parent` is charged to.
pub(crate) fn owners(volume: &Volume, parent: &Inode, caller: &Caller) -> Charge {
    let own = parent.permissions & S_ISGID == 0 && volume.rules.grpid != Some(true);
    let gid = if own { caller.gid } else { parent.gid };
    let project = project(&volume.geometry, parent);
    Charge { uid: caller.uid, gid, project, blocks512: 0, inodes: 0 }
}

/// Group and permissions: a set-gid directory hands its group on, and itself to directories. A
/// program that would run with a group that its maker is not in does not get the bit. With `grpid`
/// each directory hands its group on, and nothing else.
fn owner(birth: &Birth<'_>, grpid: bool) -> (u32, u16) {
    let (caller, mode) = (birth.caller, birth.permissions & 0o7777);
    if grpid {
        return (birth.parent.gid, mode);
    }
    if birth.parent.permissions & S_ISGID == 0 {
        return (caller.gid, mode);
    }
    let gid = birth.parent.gid;
    let runs = mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP;
    match birth.kind {
        FileKind::Directory => (gid, mode | S_ISGID),
        _ if runs && !caller.in_group(gid) && !caller.is_root() => (gid, mode & !S_ISGID),
        _ => (gid, mode),
    }
}

fn project(geometry: &Geometry, parent: &Inode) -> u32 {
    let kept = geometry.features.ro_compat.contains(RoCompat::PROJECT);
    if kept && parent.flags.has(InodeFlags::PROJINHERIT) { parent.project } else { 0 }
}

/// i_block of a device node: the old 8:8 form in the first word where it fits, else the 12:20 form
/// in the second (`ext4_do_update_inode`).
fn device_block((major, minor): (u32, u32)) -> [u8; 60] {
    let (old, new) = if major < 256 && minor < 256 {
        (major << 8 | minor, 0)
    } else {
        (0, (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12)
    };
    let mut block = [0; 60];
    let words = u64::from(old) | u64::from(new) << 32;
    if let Some(start) = block.first_chunk_mut::<8>() {
        *start = words.to_le_bytes();
    }
    block
}
