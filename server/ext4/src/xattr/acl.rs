//! POSIX ACLs: the compact format of the disk, the one of system calls, and what they have to do
//! with permission bits.
//!
//! On the disk (version 1) only entries for a named user or group carry an id; for system calls
//! (version 2) all do. The owner's, the group's (or the mask's) and the others' entries are the
//! permission bits: whatever changes one changes the other.
//! Kernel: fs/ext4/acl.c, fs/posix_acl.c, include/uapi/linux/posix_acl_xattr.h

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::inode::Inode;

/// EXT4_ACL_VERSION.
const DISK_VERSION: u32 = 1;
/// POSIX_ACL_XATTR_VERSION.
const VFS_VERSION: u32 = 2;
/// ACL_UNDEFINED_ID, the id of entries that have none.
const NO_ID: u32 = u32::MAX;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// `struct posix_acl_xattr_entry`; `ext4_acl_entry_short` is its first half.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
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

/// One line of an ACL.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Line {
    tag: u16,
    perm: u16,
    id: u32,
}

/// A list with at least one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acl(Vec<Line>);

impl Acl {
    /// The list in the disk's format, or `None` for one without entries, which counts as none.
    ///
    /// # Errors
    /// [`CorruptKind::AclVersion`], `AclSize`, `AclTag`.
    pub(super) fn from_disk(inode: &Inode, disk: &[u8]) -> Result<Option<Self>> {
        let corrupt = |kind| Error::corrupt(Place::inode(inode.nr), kind);
        let too_short = |_| corrupt(CorruptKind::AclSize { size: disk.len() });
        let (version, mut rest) = U32::ref_from_prefix(disk).map_err(|_| too_short(()))?;
        if version.get() != DISK_VERSION {
            return Err(corrupt(CorruptKind::AclVersion { version: version.get() }));
        }
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let (head, after) = Head::read_from_prefix(rest).map_err(|_| too_short(()))?;
            let tag = head.tag.get();
            let (id, after) = match tag {
                USER | GROUP => {
                    let (id, after) = U32::read_from_prefix(after).map_err(|_| too_short(()))?;
                    (id.get(), after)
                }
                USER_OBJ | GROUP_OBJ | MASK | OTHER => (NO_ID, after),
                _ => return Err(corrupt(CorruptKind::AclTag { tag })),
            };
            lines.push(Line { tag, perm: head.perm.get(), id });
            rest = after;
        }
        Ok((!lines.is_empty()).then_some(Self(lines)))
    }

    /// The list in the format of system calls, or `None` for one without entries.
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] for another version, `Invalid` for what no ACL can be.
    pub(super) fn from_vfs(vfs: &[u8]) -> Result<Option<Self>> {
        let (version, rest) = U32::ref_from_prefix(vfs).map_err(|_| Refusal::Invalid)?;
        if version.get() != VFS_VERSION {
            return Err(Refusal::NotSupported.into());
        }
        let raw = <[VfsEntry]>::ref_from_bytes(rest).map_err(|_| Refusal::Invalid)?;
        let line = |entry: &VfsEntry| {
            let tag = entry.head.tag.get();
            let id = if matches!(tag, USER | GROUP) { entry.id.get() } else { NO_ID };
            Line { tag, perm: entry.head.perm.get(), id }
        };
        let acl = Self(raw.iter().map(line).collect());
        if acl.0.is_empty() {
            return Ok(None);
        }
        if !acl.is_valid() {
            return Err(Refusal::Invalid.into());
        }
        Ok(Some(acl))
    }

    /// Owner, named users, group, named groups, mask, others, in this order; a mask if anybody is
    /// named (`posix_acl_valid`).
    fn is_valid(&self) -> bool {
        const ORDER: [u16; 6] = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER];
        let ranks: Option<Vec<usize>> =
            self.0.iter().map(|line| ORDER.iter().position(|tag| *tag == line.tag)).collect();
        let Some(ranks) = ranks else { return false };
        let count = |tag| self.0.iter().filter(|line| line.tag == tag).count();
        let named = count(USER) > 0 || count(GROUP) > 0;
        let lines = self
            .0
            .iter()
            .all(|line| line.perm <= 7 && (!matches!(line.tag, USER | GROUP) || line.id != NO_ID));
        lines
            && ranks.is_sorted()
            && [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(|tag| count(tag) == 1)
            && count(MASK) <= 1
            && (!named || count(MASK) == 1)
    }

    /// The disk's format.
    pub(super) fn to_disk(&self) -> Vec<u8> {
        let mut disk = DISK_VERSION.to_le_bytes().to_vec();
        for line in &self.0 {
            disk.extend_from_slice(line.head().as_bytes());
            if matches!(line.tag, USER | GROUP) {
                disk.extend_from_slice(&line.id.to_le_bytes());
            }
        }
        disk
    }

    /// The format of system calls.
    pub(super) fn to_vfs(&self) -> Vec<u8> {
        let mut vfs = VFS_VERSION.to_le_bytes().to_vec();
        for line in &self.0 {
            let entry = VfsEntry { head: line.head(), id: U32::new(line.id) };
            vfs.extend_from_slice(entry.as_bytes());
        }
        vfs
    }

    fn perm(&self, tag: u16) -> Option<u16> {
        self.0.iter().find(|line| line.tag == tag).map(|line| line.perm & 7)
    }

    /// The permission bits that the list stands for, 0..=0o777, and whether it says nothing else
    /// (`posix_acl_equiv_mode`).
    pub(super) fn mode(&self) -> (u16, bool) {
        let group = self.perm(MASK).or(self.perm(GROUP_OBJ)).unwrap_or(0);
        let (owner, others) = (self.perm(USER_OBJ), self.perm(OTHER));
        let bits = owner.unwrap_or(0) << 6 | group << 3 | others.unwrap_or(0);
        let minimal = self.0.iter().all(|line| matches!(line.tag, USER_OBJ | GROUP_OBJ | OTHER));
        (bits, minimal)
    }

    /// Takes over the permission bits of `mode` (`__posix_acl_chmod_masq`).
    pub(super) fn chmod(&mut self, mode: u16) {
        self.each_of_mode(|perm, shift| *perm = mode >> shift & 7);
    }

    /// Makes the list of a new inode of a directory's default, and cuts both it and `mode`, the
    /// bits asked for, to what both permit (`posix_acl_create_masq`).
    pub(super) fn create(&mut self, mode: u16) -> u16 {
        let mut granted = mode;
        self.each_of_mode(|perm, shift| {
            *perm &= mode >> shift & 7;
            granted = granted & !(7 << shift) | *perm << shift;
        });
        granted
    }

    /// Calls `change` for the owner's, the group's or mask's, and the others' permissions, with
    /// where they are in a mode.
    fn each_of_mode(&mut self, mut change: impl FnMut(&mut u16, u16)) {
        let group = if self.perm(MASK).is_some() { MASK } else { GROUP_OBJ };
        for line in &mut self.0 {
            let shift = match line.tag {
                USER_OBJ => 6,
                OTHER => 0,
                tag if tag == group => 3,
                _ => continue,
            };
            change(&mut line.perm, shift);
        }
    }
}

impl Line {
    fn head(self) -> Head {
        Head { tag: U16::new(self.tag), perm: U16::new(self.perm) }
    }
}

/// `disk` in the VFS's format, or `None` for an ACL without entries, which counts as none.
///
/// # Errors
/// As [`Acl::from_disk`].
pub(super) fn to_vfs(inode: &Inode, disk: &[u8]) -> Result<Option<Vec<u8>>> {
    Ok(Acl::from_disk(inode, disk)?.map(|acl| acl.to_vfs()))
}
