//! Values too large for their list: each is the content of an inode.
//!
//! A value inode has no attributes of its own, so following one never leads to another. Equal values
//! share one: it counts its users in i_ctime and i_version, and is freed with the last of them. Its
//! content goes through the journal, so it is read as metadata is.
//! Kernel: fs/ext4/xattr.c `ext4_xattr_inode_get`, `ext4_xattr_inode_lookup_create`
//! # Locking
//! Counts change under the lock of [`Sharing`](crate::sharing::Sharing) only.

use std::sync::Arc;

use super::Set;
use crate::alloc;
use crate::caller::Caller;
use crate::disk::xattr::{self, entry_hashes, value_hash};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::handle::Handle;
use crate::ids::{InodeNr, LogicalBlock, in_memory, on_disk};
use crate::inode::{self, Birth, FileKind, Inode, InodeFlags, Timestamp};
use crate::map::{self, Mapping, State};
use crate::quota::{self, Charge};
use crate::sharing::Recent;
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
    let value = content(volume, &holder, claim.size)?;
    check_hashes(volume, owner, &holder, name, claim.entry_hash, &value)?;
    Ok(value)
}

/// The first `size` bytes of the inode's content.
fn content(volume: &Volume, holder: &Inode, size: u32) -> Result<Vec<u8>> {
    let mut value = vec![0; in_memory(size.into())];
    for (at, part) in value.chunks_mut(in_memory(volume.block_size().into())).enumerate() {
        let at = LogicalBlock::new(u32::try_from(at).unwrap_or(u32::MAX));
        let Mapping::Written { first, .. } = map::lookup(volume, holder, at)? else { continue };
        let block = volume.metadata(first)?;
        part.iter_mut().zip(block.bytes()).for_each(|(to, from)| *to = *from);
    }
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

/// An inode that holds `value` and counts one user more than before, and the value's hash. It is
/// one that holds this value already, or a new one.
///
/// # Errors
/// [`crate::Refusal::NoSpace`] without a free inode, before any change; corruption, I/O errors.
pub(super) fn take(set: &mut Set<'_, '_, '_>, value: &[u8]) -> Result<(InodeNr, u32)> {
    let volume = set.handle.volume();
    let hash = value_hash(volume.geometry.checksum_seed, value);
    let mut recent = volume.sharing.lock();
    if let Some(nr) = find_equal(volume, &mut recent, hash, value) {
        add_user(set.handle, nr)?;
        return Ok((nr, hash));
    }
    let nr = create(set, value, hash)?;
    recent.add_value(hash, nr);
    Ok((nr, hash))
}

/// A value inode that was seen lately and holds `value`.
fn find_equal(volume: &Volume, recent: &mut Recent, hash: u32, value: &[u8]) -> Option<InodeNr> {
    let nr = recent.value(hash)?;
    let equal = || {
        let holder = inode::get(volume, nr)?;
        let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
        check_holder(volume, &holder, size)?;
        Ok::<bool, Error>(users(&holder) > 0 && content(volume, &holder, size)? == value)
    };
    match equal() {
        Ok(true) => Some(nr),
        // What is damaged is left alone; a new inode does as well.
        Ok(false) | Err(_) => {
            recent.remove_value(hash, nr);
            None
        }
    }
}

fn create(set: &mut Set<'_, '_, '_>, value: &[u8], hash: u32) -> Result<InodeNr> {
    let volume = set.handle.volume();
    let owner = &*set.inode;
    let new = alloc::allocate_inode(set.handle, owner, FileKind::Regular, b"")?;
    let (uid, gid, now) = (owner.uid, owner.gid, owner.ctime);
    let caller = Caller { uid, gid, group: None, umask: 0, now };
    let birth = Birth {
        nr: new.nr,
        generation: new.generation,
        parent: owner,
        kind: FileKind::Regular,
        permissions: 0o600,
        rdev: (0, 0),
        caller: &caller,
    };
    let mut holder = inode::init(set.handle, &birth)?;
    (holder.flags, holder.gid) = (InodeFlags::new(InodeFlags::EA_INODE), gid);
    map::init(&mut holder, &volume.geometry);
    holder.size = on_disk(value.len());
    holder.atime = Timestamp { seconds: hash.into(), nanoseconds: 0 };
    set_users(&mut holder, 1);
    write(set, &mut holder, value)?;
    inode::store(set.handle, &holder)?;
    Ok(new.nr)
}

fn write(set: &mut Set<'_, '_, '_>, holder: &mut Inode, value: &[u8]) -> Result<()> {
    let block_size = set.handle.volume().block_size();
    let mut parts = value.chunks(in_memory(block_size.into()));
    let (mut at, end) = (0_u32, u32::try_from(parts.len()).unwrap_or(u32::MAX));
    while at < end {
        let want = (LogicalBlock::new(at), end.saturating_sub(at));
        let mapped = map::allocate(set.handle, holder, want, State::Written, set.space)?;
        let Mapping::Written { first, len } = mapped else { break };
        for (offset, part) in (0..u64::from(len)).zip(parts.by_ref()) {
            let Some(nr) = first.checked_add(offset) else { break };
            set.handle.create(nr, |block| {
                block.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
                Ok(())
            })?;
        }
        at = at.saturating_add(len);
    }
    Ok(())
}

/// One user more. Under the lock.
pub(super) fn add_user(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let mut holder = holder(handle.volume(), nr)?;
    let count = users(&holder).saturating_add(1);
    set_users(&mut holder, count);
    inode::store(handle, &holder)
}

/// One user less; the last one frees the inode.
pub(super) fn give_back(handle: &mut Handle<'_>, nr: InodeNr) -> Result<()> {
    let volume = handle.volume();
    let mut recent = volume.sharing.lock();
    give_back_locked(handle, &mut recent, nr)
}

/// As [`give_back`], under the lock.
pub(super) fn give_back_locked(
    handle: &mut Handle<'_>,
    recent: &mut Recent,
    nr: InodeNr,
) -> Result<()> {
    let mut holder = holder(handle.volume(), nr)?;
    let count = users(&holder).saturating_sub(1);
    if count > 0 {
        set_users(&mut holder, count);
        return inode::store(handle, &holder);
    }
    recent.remove_value(low_seconds(holder.atime), nr);
    free(handle, holder)
}

/// Frees a value inode: at most 65536 bytes, so one handle does.
fn free(handle: &mut Handle<'_>, mut holder: Inode) -> Result<()> {
    let volume = handle.volume();
    let blocks = holder.size.div_ceil(volume.block_size().into());
    for at in 0..u32::try_from(blocks).unwrap_or(0) {
        if let Mapping::Written { first, .. } = map::lookup(volume, &holder, LogicalBlock::new(at))?
        {
            handle.forget(first, 1)?;
        }
    }
    let mut end = map::LIMIT;
    while let map::Progress::Until(reached) = map::remove(handle, &mut holder, 0..end)? {
        end = reached.get().min(end.saturating_sub(1));
    }
    (holder.links, holder.size) = (0, 0);
    inode::store(handle, &holder)?;
    let now = u32::try_from(holder.mtime.seconds).unwrap_or(u32::MAX).max(1);
    inode::set_dtime(handle, holder.nr, now)?;
    alloc::free_inode(handle, &holder)?;
    inode::forget(volume, holder.nr);
    Ok(())
}

/// The value inode `nr`, for a change of its users.
fn holder(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    let holder = inode::get(volume, nr).map_err(|error| match error {
        Error::Refused(_) => corrupt(nr, CorruptKind::XattrInode { inode: nr.get() }),
        other => other,
    })?;
    if !holder.flags.has(InodeFlags::EA_INODE) {
        return Err(corrupt(nr, CorruptKind::XattrInodeFlag {}));
    }
    Ok((*holder).clone())
}

/// How many attributes name the inode (`ext4_xattr_inode_get_ref`).
fn users(holder: &Inode) -> u64 {
    u64::from(low_seconds(holder.ctime)) << 32 | holder.version & 0xffff_ffff
}

fn set_users(holder: &mut Inode, count: u64) {
    let seconds = i64::try_from(count >> 32).unwrap_or(0);
    holder.ctime = Timestamp { seconds, nanoseconds: 0 };
    holder.version = count & 0xffff_ffff;
}

/// A value inode's part in what its user is charged: its blocks count as the user's own in i_blocks,
/// and it is one inode more.
pub(super) fn charge(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    gone: Option<(InodeNr, u32)>,
    new: Option<usize>,
) -> Result<()> {
    let geometry = &handle.volume().geometry;
    let less = gone.map_or(0, |(_, size)| blocks512(geometry, size.into()));
    let more = new.map_or(0, |size| blocks512(geometry, on_disk(size)));
    inode.blocks512 = inode.blocks512.saturating_sub(less).saturating_add(more);
    let count = |any: bool| Charge { blocks512: 0, inodes: any.into(), ..Charge::of(inode) };
    quota::charge(handle, &count(gone.is_some()), &count(new.is_some()))
}

/// i_blocks of a value of `size` bytes, in whole clusters.
pub(super) fn blocks512(geometry: &Geometry, size: u64) -> u64 {
    let cluster = u64::from(geometry.cluster_blocks).saturating_mul(geometry.block_size.into());
    size.div_ceil(cluster).saturating_mul(cluster / 512)
}
