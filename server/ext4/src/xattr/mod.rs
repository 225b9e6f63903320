//! Extended attributes: names with their prefixes, and values wherever they are.
//!
//! An inode's own attributes come first, then those of its attribute block, each in stored order, as
//! the kernel lists them. What the file system keeps for itself (inline data, the encryption
//! context) is never shown.
//! Kernel: fs/ext4/xattr.c · Documentation/filesystems/ext4/attributes.rst

mod acl;
mod block;
mod ea_inode;
mod ibody;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::disk::xattr::{Entry, Value};
use crate::error::{Refusal, Result};
use crate::ids::InodeNr;
use crate::inode::Inode;
use crate::volume::Volume;
use ea_inode::Claim;

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
    let find = |all: &[Entry<'_>]| Ok(find(all, index, name));
    let stored = match ibody::with_entries(volume, inode, find)? {
        Some(stored) => stored,
        None => block::with_entries(volume, inode, find)?.ok_or(Refusal::NoData)?,
    };
    let value = match stored {
        Stored::Here(value) => value,
        Stored::Inode(claim) => ea_inode::read(volume, inode, name, claim, load)?,
    };
    if matches!(index, ACL_ACCESS | ACL_DEFAULT) {
        return Ok(acl::to_vfs(inode, &value)?.ok_or(Refusal::NoData)?);
    }
    Ok(value)
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
