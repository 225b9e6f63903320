//! ACLs of inodes: setting them, keeping them in step with the mode, inheriting them.
//!
//! Kernel: fs/ext4/acl.c `ext4_set_acl`, `ext4_init_acl`, fs/posix_acl.c `posix_acl_create`

use super::acl::Acl;
use super::{ACL_ACCESS, ACL_DEFAULT, Change, Mode, get_raw};
use crate::error::{Refusal, Result};
use crate::inode::{self, FileKind, Inode};
use crate::kind::S_ISGID;
use crate::volume::Volume;

const PERMISSIONS: u16 = 0o777;

/// The two lists that an inode can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Which {
    /// `system.posix_acl_access`: who may do what.
    Access,
    /// `system.posix_acl_default`: what a directory hands on.
    Default,
}

impl Which {
    /// The list that the attribute `name` is, if it is one.
    pub(crate) fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"system.posix_acl_access" => Some(Self::Access),
            b"system.posix_acl_default" => Some(Self::Default),
            _ => None,
        }
    }

    const fn index(self) -> u8 {
        match self {
            Self::Access => ACL_ACCESS,
            Self::Default => ACL_DEFAULT,
        }
    }
}

/// What a new inode gets of its directory, decided before anything changes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Inherited {
    /// Permission bits, set-id and sticky bits included.
    pub(crate) permissions: u16,
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
}

impl Inherited {
    /// The changes that store the lists, in the order in which the kernel makes them.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let lists = [(Which::Default, &self.default), (Which::Access, &self.access)];
        lists
            .into_iter()
            .filter_map(|(which, disk)| disk.as_deref().map(|disk| change(which, Some(disk))))
    }

    /// Clusters that storing them may take: an attribute block, if there are lists at all.
    pub(crate) fn blocks_needed(&self) -> u64 {
        u64::from(self.access.is_some() || self.default.is_some())
    }
}

/// The permission bits and the list, as it is stored, of an inode one list of which is set, in the
/// format of system calls, or removed. A list that says no more than the mode is not kept. The mode
/// follows the access list, and loses set-gid if `drop_sgid`.
///
/// # Errors
/// [`Refusal::NotSupported`] on symbolic links; `Invalid` for what no list can be; `NotPermitted`
/// for a default list on anything but a directory.
pub(crate) fn decide(
    inode: &Inode,
    which: Which,
    vfs: Option<&[u8]>,
    drop_sgid: bool,
) -> Result<(u16, Option<Vec<u8>>)> {
    if inode.kind == FileKind::Symlink {
        return Err(Refusal::NotSupported.into());
    }
    let mode = inode.permissions;
    let Some(acl) = vfs.map(Acl::from_vfs).transpose()?.flatten() else { return Ok((mode, None)) };
    if which == Which::Default {
        if !inode.is_directory() {
            return Err(Refusal::NotPermitted.into());
        }
        return Ok((mode, Some(acl.to_disk())));
    }
    let (bits, minimal) = acl.mode();
    let special = if drop_sgid { !(PERMISSIONS | S_ISGID) } else { !PERMISSIONS };
    Ok((mode & special | bits, (!minimal).then(|| acl.to_disk())))
}

/// The access list of an inode that gets the permission bits `mode`, as it is stored
/// (`posix_acl_chmod`); `None` if it has none.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn after_chmod(volume: &Volume, inode: &Inode, mode: u16) -> Result<Option<Vec<u8>>> {
    if inode.kind == FileKind::Symlink {
        return Ok(None);
    }
    let acl = of(volume, inode, Which::Access)?;
    Ok(acl.map(|mut acl| {
        acl.chmod(mode);
        acl.to_disk()
    }))
}

/// The change that stores such a list.
pub(crate) const fn change(which: Which, disk: Option<&[u8]>) -> Change<'_> {
    Change { index: which.index(), name: b"", value: disk, mode: Mode::Any }
}

/// What a `kind` made in `dir` with the bits `mode` and this `umask` gets: the directory's default
/// list decides instead of the umask, if there is one.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn inherit(
    volume: &Volume,
    dir: &Inode,
    kind: FileKind,
    mode: u16,
    umask: u16,
) -> Result<Inherited> {
    let plain = |permissions| Inherited { permissions, access: None, default: None };
    if kind == FileKind::Symlink {
        return Ok(plain(mode));
    }
    let Some(default) = of(volume, dir, Which::Default)? else {
        return Ok(plain(mode & !(umask & PERMISSIONS)));
    };
    let mut access = default.clone();
    let bits = access.create(mode & PERMISSIONS);
    let (_, minimal) = access.mode();
    Ok(Inherited {
        permissions: mode & !PERMISSIONS | bits,
        access: (!minimal).then(|| access.to_disk()),
        default: (kind == FileKind::Directory).then(|| default.to_disk()),
    })
}

fn of(volume: &Volume, inode: &Inode, which: Which) -> Result<Option<Acl>> {
    if !volume.rules.acl {
        return Ok(None);
    }
    let load = |nr| inode::get(volume, nr);
    match get_raw(volume, inode, which.index(), b"", load)? {
        Some(disk) => Acl::from_disk(inode, &disk),
        None => Ok(None),
    }
}
