//! Attributes in a block, which inodes with equal attributes share.
//!
//! A block that several use is never changed: who wants other attributes gets another block. The
//! count of users and the content of a block change under [`Sharing`]'s lock only.
//! Kernel: fs/ext4/xattr.c `ext4_xattr_block_set`, `ext4_xattr_release_block`
//!
//! [`Sharing`]: crate::sharing::Sharing

use std::sync::Arc;

use super::set::outside;
use super::{Set, ea_inode};
use crate::alloc::{self, Goal};
use crate::cache::{Block, Role};
use crate::disk::xattr::{self, Entry};
use crate::error::{Place, Result};
use crate::handle::Handle;
use crate::ids::{BlockNr, InodeNr};
use crate::inode::Inode;
use crate::sharing::Recent;
use crate::volume::Volume;

/// The most inodes that share a block (EXT4_XATTR_REFCOUNT_MAX).
const MOST_USERS: u32 = 1024;

/// Who counts as a user of value inodes when a block changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Users {
    /// A value inode that is named newly; it counts this user already.
    pub(super) fresh: Option<InodeNr>,
    /// One that is not named any more.
    pub(super) gone: Option<InodeNr>,
}

/// Calls `f` with the attributes in i_file_acl's block, in stored order; with none if there is no
/// block.
pub(super) fn with_entries<T>(
    volume: &Volume,
    inode: &Inode,
    f: impl FnOnce(&[Entry<'_>]) -> Result<T>,
) -> Result<T> {
    let Some(block) = load(volume, inode)? else { return f(&[]) };
    let place = Place { inode: Some(inode.nr), ..Place::block(block.nr()) };
    f(&xattr::in_block(&volume.geometry, place, block.bytes())?)
}

/// The attribute block of `inode`, checked.
pub(super) fn load(volume: &Volume, inode: &Inode) -> Result<Option<Arc<Block>>> {
    inode.xattr_block.map(|nr| checked(volume, nr, inode.nr)).transpose()
}

fn checked(volume: &Volume, nr: BlockNr, user: InodeNr) -> Result<Arc<Block>> {
    let place = Place { inode: Some(user), ..Place::block(nr) };
    let block = volume.metadata(nr)?;
    let check = |bytes: &[u8]| xattr::check_block(&volume.geometry, place, nr, bytes);
    block.verify_once(Role::Attributes, check)?;
    Ok(block)
}

/// Gives the inode a block with the attributes `list`, in order: its own, one that others have
/// already, or a new one; none for an empty list.
pub(super) fn replace(set: &mut Set<'_, '_, '_>, list: &[Entry<'_>], users: Users) -> Result<()> {
    if list.is_empty() {
        // The block's last user gives back what the block names.
        return remove(set.handle, set.inode);
    }
    let volume = set.handle.volume();
    let mut recent = volume.sharing.lock();
    let mut bytes = xattr::to_block(list, crate::ids::in_memory(volume.block_size().into()))?;
    let (_, hash) = xattr::users(Place::default(), &bytes)?;
    let old = load(volume, set.inode)?;
    if let Some(shared) = find_equal(volume, &recent, set.inode, (list, hash))? {
        let (count, _) = xattr::users(Place::block(shared), volume.metadata(shared)?.bytes())?;
        set_users(set.handle, shared, count.saturating_add(1))?;
        if let Some(fresh) = users.fresh {
            ea_inode::give_back_locked(set.handle, &mut recent, fresh)?;
        }
        return move_to(set.handle, set.inode, &mut recent, shared);
    }
    if let Some(old) = old {
        let (count, old_hash) = xattr::users(Place::block(old.nr()), old.bytes())?;
        if count <= 1 {
            recent.remove_block(old_hash, old.nr());
            set.handle.edit(old.nr(), |block| {
                block.copy_from_slice(&bytes);
                xattr::seal_block(&volume.geometry, old.nr(), block, 1);
                Ok(())
            })?;
            recent.add_block(hash, old.nr());
            return match users.gone {
                Some(gone) => ea_inode::give_back_locked(set.handle, &mut recent, gone),
                None => Ok(()),
            };
        }
    }
    let run = alloc::allocate(set.handle, set.space, Goal::metadata(volume, set.inode, None), 1)?;
    xattr::seal_block(&volume.geometry, run.first, &mut bytes, 1);
    set.handle.create(run.first, |block| {
        block.copy_from_slice(&bytes);
        Ok(())
    })?;
    for (nr, _) in list.iter().copied().filter_map(outside) {
        ea_inode::add_user(set.handle, nr)?;
    }
    if let Some(fresh) = users.fresh {
        ea_inode::give_back_locked(set.handle, &mut recent, fresh)?;
    }
    recent.add_block(hash, run.first);
    move_to(set.handle, set.inode, &mut recent, run.first)
}

/// Whether `block` has one user only.
pub(super) fn is_own(block: &Block) -> Result<bool> {
    let (count, _) = xattr::users(Place::block(block.nr()), block.bytes())?;
    Ok(count <= 1)
}

/// Takes the inode's block from it, and all that only this block names.
pub(super) fn remove(handle: &mut Handle<'_>, inode: &mut Inode) -> Result<()> {
    let volume = handle.volume();
    let Some(block) = load(volume, inode)? else { return Ok(()) };
    let mut recent = volume.sharing.lock();
    release(handle, &mut recent, block.nr(), inode.nr)?;
    inode.xattr_block = None;
    inode.blocks512 = inode.blocks512.saturating_sub(block512(volume));
    Ok(())
}

/// The inode has the block `nr` from now on, which counts it already.
fn move_to(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    recent: &mut Recent,
    nr: BlockNr,
) -> Result<()> {
    match inode.xattr_block.replace(nr) {
        Some(old) => release(handle, recent, old, inode.nr),
        None => {
            let more = block512(handle.volume());
            inode.blocks512 = inode.blocks512.saturating_add(more);
            Ok(())
        }
    }
}

/// One user less; the last one frees the block.
fn release(handle: &mut Handle<'_>, recent: &mut Recent, nr: BlockNr, user: InodeNr) -> Result<()> {
    let volume = handle.volume();
    let block = checked(volume, nr, user)?;
    let (count, hash) = xattr::users(Place::block(nr), block.bytes())?;
    if count > 1 {
        return set_users(handle, nr, count.saturating_sub(1));
    }
    recent.remove_block(hash, nr);
    let list = xattr::in_block(&volume.geometry, Place::block(nr), block.bytes())?;
    for (nr, _) in list.iter().copied().filter_map(outside) {
        ea_inode::give_back_locked(handle, recent, nr)?;
    }
    handle.forget(nr, 1)?;
    alloc::free(handle, nr, 1)
}

fn set_users(handle: &mut Handle<'_>, nr: BlockNr, count: u32) -> Result<()> {
    let geometry = &handle.volume().geometry;
    handle.edit(nr, |block| {
        xattr::seal_block(geometry, nr, block, count);
        Ok(())
    })
}

/// Another block with the same attributes that can take a user more.
fn find_equal(
    volume: &Volume,
    recent: &Recent,
    inode: &Inode,
    (list, hash): (&[Entry<'_>], u32),
) -> Result<Option<BlockNr>> {
    let Some(nr) = recent.block(hash).filter(|nr| Some(*nr) != inode.xattr_block) else {
        return Ok(None);
    };
    let block = checked(volume, nr, inode.nr)?;
    let (count, _) = xattr::users(Place::block(nr), block.bytes())?;
    let equal = xattr::in_block(&volume.geometry, Place::block(nr), block.bytes())? == list;
    Ok((equal && (1..MOST_USERS).contains(&count)).then_some(nr))
}

/// What an attribute block adds to i_blocks of each of its users.
fn block512(volume: &Volume) -> u64 {
    let geometry = &volume.geometry;
    u64::from(geometry.cluster_blocks).saturating_mul((geometry.block_size / 512).into())
}
