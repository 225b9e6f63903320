//! POSIX ACLs: the compact format of the disk, and the one of system calls.
//!
//! On the disk (version 1) only entries for a named user or group carry an id; for system calls
//! (version 2) all do.
//! Kernel: fs/ext4/acl.c `ext4_acl_from_disk`, include/uapi/linux/posix_acl_xattr.h

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{CorruptKind, Error, Place, Result};
use crate::inode::Inode;

/// EXT4_ACL_VERSION.
const DISK_VERSION: u32 = 1;
/// POSIX_ACL_XATTR_VERSION.
const VFS_VERSION: u32 = 2;
/// ACL_UNDEFINED_ID, the id of entries that have none.
const NO_ID: U32 = U32::from_bytes([0xff; 4]);

/// ACL_USER_OBJ, ACL_GROUP_OBJ, ACL_MASK, ACL_OTHER.
const WITHOUT_ID: [u16; 4] = [0x01, 0x04, 0x10, 0x20];
/// ACL_USER, ACL_GROUP.
const WITH_ID: [u16; 2] = [0x02, 0x08];

/// `struct posix_acl_xattr_entry`; `ext4_acl_entry_short` is its first half.
#[derive(IntoBytes, Immutable, Unaligned, Clone, Copy)]
#[repr(C)]
struct VfsEntry {
    head: Head,
    id: U32,
}

/// `ext4_acl_entry_short`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Head {
    tag: U16,
    perm: U16,
}

/// `disk` in the VFS's format, or `None` for an ACL without entries, which counts as none.
///
/// # Errors
/// [`CorruptKind::AclVersion`], `AclSize`, `AclTag`.
pub(super) fn to_vfs(inode: &Inode, disk: &[u8]) -> Result<Option<Vec<u8>>> {
    let corrupt = |kind| Error::corrupt(Place::inode(inode.nr), kind);
    let too_short = |_| corrupt(CorruptKind::AclSize { size: disk.len() });
    let (version, mut rest) = U32::ref_from_prefix(disk).map_err(|_| too_short(()))?;
    if version.get() != DISK_VERSION {
        return Err(corrupt(CorruptKind::AclVersion { version: version.get() }));
    }
    if rest.is_empty() {
        return Ok(None);
    }
    let mut vfs = U32::new(VFS_VERSION).as_bytes().to_vec();
    while !rest.is_empty() {
        let (head, after) = Head::read_from_prefix(rest).map_err(|_| too_short(()))?;
        let tag = head.tag.get();
        let (id, after) = if WITH_ID.contains(&tag) {
            U32::read_from_prefix(after).map_err(|_| too_short(()))?
        } else if WITHOUT_ID.contains(&tag) {
            (NO_ID, after)
        } else {
            return Err(corrupt(CorruptKind::AclTag { tag }));
        };
        vfs.extend_from_slice(VfsEntry { head, id }.as_bytes());
        rest = after;
    }
    Ok(Some(vfs))
}
