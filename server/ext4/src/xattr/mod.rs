//! Extended attributes: names with their prefixes, and values wherever they are.
//!
//! An inode's own attributes come first, then those of its attribute block, each in stored order, as
//! the kernel lists them. What the file system keeps for itself (inline data, the encryption
//! context) is never shown.
//! Kernel: fs/ext4/xattr.c · Documentation/filesystems/ext4/attributes.rst

pub(crate) mod access;
mod acl;
#[cfg(test)]
mod acl_tests;
mod block;
mod ea_inode;
mod ibody;
mod set;
#[cfg(test)]
mod set_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::alloc::{self, Reservation};
use crate::disk::xattr::{self, Entry, Value};
use crate::error::{Place, Refusal, Result};
use crate::features::Incompat;
use crate::handle::{Credits, Handle};
use crate::ids::InodeNr;
use crate::inode::Inode;
use crate::volume::Volume;
use ea_inode::Claim;
use set::outside;
pub(crate) use set::{fit_in_inode, needs, set};

/// The longest name behind a prefix: e_name_len is a byte.
const MAX_NAME: usize = 255;

/// e_name_index and the prefix it stands for. The two ACLs have empty names.
const PREFIXES: &[(u8, &[u8])] = &[
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (10, b"gnu."),
];
const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

/// The value of the attribute `name`, prefix included; ACLs in the VFS's format. `load` reads the
/// inode of a value that has one.
///
/// # Errors
/// [`Refusal::NoData`], `NotSupported`, `Invalid`, `Range`; corruption, I/O errors.
pub(crate) fn get(
    volume: &Volume,
    inode: &Inode,
    name: &[u8],
    load: impl FnOnce(InodeNr) -> Result<Arc<Inode>>,
) -> Result<Vec<u8>> {
    let (index, name) = split(name)?;
    let value = get_raw(volume, inode, index, name, load)?.ok_or(Refusal::NoData)?;
    if matches!(index, ACL_ACCESS | ACL_DEFAULT) {
        return Ok(acl::to_vfs(inode, &value)?.ok_or(Refusal::NoData)?);
    }
    Ok(value)
}

/// The value as it is stored.
fn get_raw(
    volume: &Volume,
    inode: &Inode,
    index: u8,
    name: &[u8],
    load: impl FnOnce(InodeNr) -> Result<Arc<Inode>>,
) -> Result<Option<Vec<u8>>> {
    let find = |all: &[Entry<'_>]| Ok(find(all, index, name));
    let stored = match ibody::with_entries(volume, inode, find)? {
        Some(stored) => Some(stored),
        None => block::with_entries(volume, inode, find)?,
    };
    Ok(match stored {
        None => None,
        Some(Stored::Here(value)) => Some(value),
        Some(Stored::Inode(claim)) => Some(ea_inode::read(volume, inode, name, claim, load)?),
    })
}

/// What may be there already when an attribute is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Whatever is there.
    Any,
    /// XATTR_CREATE: nothing.
    Create,
    /// XATTR_REPLACE: a value.
    Replace,
}

/// What a change of attributes works on.
pub(crate) struct Set<'s, 'v, 'r> {
    pub(crate) handle: &'s mut Handle<'v>,
    pub(crate) inode: &'s mut Inode,
    pub(crate) space: &'s mut Reservation<'r>,
}

/// One attribute that is set or removed. Also what new inodes get is given as such.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change<'a> {
    index: u8,
    /// Without its prefix.
    name: &'a [u8],
    /// As it is stored; `None` removes it.
    value: Option<&'a [u8]>,
    mode: Mode,
}

impl<'a> Change<'a> {
    /// Sets the attribute `name`, prefix included, to `value`, or removes it: `None` with
    /// [`Mode::Replace`] refuses what is not there. ACLs have [`access::decide`].
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] for an unknown prefix, `Invalid`, `Range`.
    pub(crate) fn new(name: &'a [u8], value: Option<&'a [u8]>, mode: Mode) -> Result<Self> {
        let (index, name) = split(name)?;
        if matches!(index, ACL_ACCESS | ACL_DEFAULT) {
            return Err(Refusal::Invalid.into());
        }
        Ok(Self { index, name, value, mode })
    }
}

/// Blocks that one [`set`] or [`remove_all`] may change beside the inode's own: two attribute blocks
/// with what frees and allocates one each, and as many value inodes, which are made or freed.
pub(crate) fn credits(volume: &Volume) -> Credits {
    let geometry = &volume.geometry;
    let one = alloc::free_credits(volume, 1).0;
    let blocks = one.saturating_mul(2).saturating_add(2);
    if !geometry.features.incompat.contains(Incompat::EA_INODE) {
        return Credits(blocks);
    }
    // A value of 64 KiB, each block of which may be in another group, and the block of its inode.
    let parts = MAX_VALUE.checked_div(geometry.block_size).unwrap_or(0).max(1);
    let each = one.saturating_add(1).saturating_mul(parts.saturating_add(4)).saturating_add(8);
    Credits(blocks.saturating_add(each.saturating_mul(2)))
}

/// XATTR_SIZE_MAX
const MAX_VALUE: u32 = 65536;

/// Gives up the attribute block and all value inodes of an inode that is freed. Up to [`credits`]
/// blocks.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn remove_all(handle: &mut Handle<'_>, inode: &mut Inode) -> Result<()> {
    let geometry = &handle.volume().geometry;
    let tail = core::mem::take(&mut inode.tail);
    let list = xattr::in_inode(geometry, Place::inode(inode.nr), &tail)?;
    inode.tail = vec![0; tail.len()].into();
    for (nr, size) in list.iter().copied().filter_map(outside) {
        ea_inode::charge(handle, inode, Some((nr, size)), None)?;
        ea_inode::give_back(handle, nr)?;
    }
    let named = |list: &[Entry<'_>]| Ok(list.iter().copied().filter_map(outside).collect());
    let named: Vec<_> = block::with_entries(handle.volume(), inode, named)?;
    for value in named {
        ea_inode::charge(handle, inode, Some(value), None)?;
    }
    block::remove(handle, inode)
}

/// The names of all attributes that are shown, each followed by a NUL.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn names(volume: &Volume, inode: &Inode) -> Result<Vec<u8>> {
    let mut names = Vec::new();
    let mut collect = |all: &[Entry<'_>]| {
        for entry in all {
            if let Some((_, prefix)) = PREFIXES.iter().find(|(index, _)| *index == entry.index) {
                names.extend([prefix, entry.name, b"\0"].concat());
            }
        }
        Ok(())
    };
    ibody::with_entries(volume, inode, &mut collect)?;
    block::with_entries(volume, inode, &mut collect)?;
    Ok(names)
}

/// The index of `name`'s prefix and what follows it (`xattr_resolve_name`).
fn split(name: &[u8]) -> Result<(u8, &[u8])> {
    let matching = PREFIXES.iter().find_map(|(index, prefix)| {
        let rest = name.strip_prefix(*prefix)?;
        let is_whole = matches!(*index, ACL_ACCESS | ACL_DEFAULT);
        (!is_whole || rest.is_empty()).then_some((*index, rest, is_whole))
    });
    match matching {
        None => Err(Refusal::NotSupported.into()),
        Some((_, [], false)) => Err(Refusal::Invalid.into()),
        Some((_, rest, _)) if rest.len() > MAX_NAME => Err(Refusal::Range.into()),
        Some((index, rest, _)) => Ok((index, rest)),
    }
}

/// A value that was found.
enum Stored {
    Here(Vec<u8>),
    Inode(Claim),
}

fn find(all: &[Entry<'_>], index: u8, name: &[u8]) -> Option<Stored> {
    let entry = all.iter().find(|entry| entry.index == index && entry.name == name)?;
    Some(match entry.value {
        Value::Here(value) => Stored::Here(value.to_vec()),
        Value::Inode { nr, size } => Stored::Inode(Claim { nr, size, entry_hash: entry.hash }),
    })
}
