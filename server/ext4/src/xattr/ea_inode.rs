//! Values too large for their list: each is the content of an inode.
//!
//! A value inode has no attributes of its own, so following one never leads to another.
//! Kernel: fs/ext4/xattr.c `ext4_xattr_inode_get`

use std::sync::Arc;

use crate::disk::xattr::{self, entry_hashes, value_hash};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::file;
use crate::ids::{InodeNr, in_memory};
use crate::inode::{Inode, InodeFlags, Timestamp};
use crate::volume::Volume;

/// What an entry says of the inode that holds its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    /// That inode.
    pub(super) nr: InodeNr,
    /// Bytes of the value, 1..=65536.
    pub(super) size: u32,
    /// e_hash of the entry.
    pub(super) entry_hash: u32,
}

/// The value that `claim` is about, of the attribute `name` (without prefix) of `owner`.
pub(super) fn read(
    volume: &Volume,
    owner: &Inode,
    name: &[u8],
    claim: Claim,
    load: impl FnOnce(InodeNr) -> Result<Arc<Inode>>,
) -> Result<Vec<u8>> {
    let dangling = || corrupt(owner.nr, CorruptKind::XattrInode { inode: claim.nr.get() });
    if claim.nr == owner.nr {
        return Err(dangling());
    }
    let holder = load(claim.nr).map_err(|error| match error {
        Error::Refused(_) => dangling(),
        other => other,
    })?;
    check_holder(volume, &holder, claim.size)?;
    let mut value = vec![0; in_memory(claim.size.into())];
    file::read(volume, &holder, 0, &mut value)?;
    check_hashes(volume, owner, &holder, name, claim.entry_hash, &value)?;
    Ok(value)
}

fn check_holder(volume: &Volume, holder: &Inode, size: u32) -> Result<()> {
    let place = Place::inode(holder.nr);
    let has_attributes = || {
        let own = xattr::in_inode(&volume.geometry, place, &holder.tail)?;
        Ok::<bool, Error>(holder.xattr_block.is_some() || !own.is_empty())
    };
    let kind = if !holder.flags.has(InodeFlags::EA_INODE) {
        CorruptKind::XattrInodeFlag {}
    } else if has_attributes()? {
        CorruptKind::XattrInodeAttributes {}
    } else if holder.size != u64::from(size) {
        CorruptKind::XattrInodeSize { size: holder.size, expected: size.into() }
    } else {
        return Ok(());
    };
    Err(Error::corrupt(place, kind))
}

/// The value's hash stands in the holder's atime, and with the name in the entry. Lustre's older
/// holders have no hashes but name their owner in mtime.
fn check_hashes(
    volume: &Volume,
    owner: &Inode,
    holder: &Inode,
    name: &[u8],
    entry_hash: u32,
    value: &[u8],
) -> Result<()> {
    let stored = low_seconds(holder.atime);
    let is_lustre = entry_hash != stored
        && low_seconds(holder.mtime) == owner.nr.get()
        && holder.generation == owner.generation;
    if is_lustre {
        return Ok(());
    }
    let computed = value_hash(volume.geometry.checksum_seed, value);
    if stored != computed {
        return Err(corrupt(holder.nr, CorruptKind::XattrValueHash { stored, computed }));
    }
    let hashes = entry_hashes(name, computed);
    if !hashes.contains(&entry_hash) {
        let [computed, _] = hashes;
        let kind = CorruptKind::XattrEntryHash { stored: entry_hash, computed };
        return Err(corrupt(owner.nr, kind));
    }
    Ok(())
}

/// The 32 bits of the seconds that every inode has, which value inodes use as plain numbers.
fn low_seconds(time: Timestamp) -> u32 {
    let [a, b, c, d, ..] = time.seconds.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn corrupt(inode: InodeNr, kind: CorruptKind) -> Error {
    Error::corrupt(Place::inode(inode), kind)
}
