//! What verbs that change names or content have in common.

use crate::dir;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::Handle;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags, Timestamp, WriteGuard};
use crate::volume::Volume;

/// EXT4_NAME_LEN.
const NAME_MAX: usize = 255;

/// A directory and one of its entries, locked for changing both.
pub(super) struct Entry {
    pub(super) dir: Inode,
    pub(super) child: Inode,
    _locks: Vec<WriteGuard>,
}

/// Whether `name` can be given to something.
///
/// # Errors
/// [`Refusal::NameTooLong`], [`Refusal::Invalid`]; [`Refusal::Exists`] for "." and "..".
pub(super) fn check_new_name(name: &[u8]) -> Result<()> {
    match name {
        b"." | b".." => Err(Refusal::Exists.into()),
        _ if name.len() > NAME_MAX => Err(Refusal::NameTooLong.into()),
        _ if name.is_empty() || name.contains(&b'/') || name.contains(&0) => {
            Err(Refusal::Invalid.into())
        }
        _ => Ok(()),
    }
}

/// The newest version of directory `nr`, whose lock the caller holds, for changing names in it.
///
/// # Errors
/// [`Refusal::NotDirectory`]; [`Refusal::NotFound`] for one that was removed; [`Refusal::Stale`] for a number
/// that no directory may name; [`Refusal::NotPermitted`] for an immutable one.
pub(super) fn directory(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    let dir = inode::named(volume, nr)?;
    if !dir.is_directory() {
        return Err(Refusal::NotDirectory.into());
    }
    if dir.links == 0 {
        return Err(Refusal::NotFound.into());
    }
    if dir.flags.has(InodeFlags::IMMUTABLE) {
        return Err(Refusal::NotPermitted.into());
    }
    Ok((*dir).clone())
}

/// Whether `child` may lose its name in `dir`.
///
/// # Errors
/// [`Refusal::NotPermitted`].
pub(super) fn check_removable(dir: &Inode, child: &Inode) -> Result<()> {
    let fixed = InodeFlags::IMMUTABLE | InodeFlags::APPEND;
    if dir.flags.has(InodeFlags::APPEND) || child.flags.has(fixed) {
        return Err(Refusal::NotPermitted.into());
    }
    Ok(())
}

/// The content of a file, or the names of a directory, have changed.
pub(super) fn changed(inode: &mut Inode, now: Timestamp) {
    (inode.mtime, inode.ctime) = (now, now);
}

impl Filesystem {
    /// Locks directory `parent` and what `name` names in it. As locks are taken in the order of
    /// inode numbers, the name is looked up first and once more when both are locked. `name` is neither
    /// "." nor "..".
    ///
    /// # Errors
    /// As [`Filesystem::lookup`] and [`directory`].
    pub(super) fn lock_entry(&self, parent: InodeNr, name: &[u8]) -> Result<Entry> {
        let volume = &self.volume;
        loop {
            let expected = self.named(parent, name)?;
            let locks = self.lock_all(&[parent, expected])?;
            let dir = directory(volume, parent)?;
            if dir::find(volume, &dir, name)? != Some(expected) {
                continue;
            }
            let child = (*self.target(&dir, name, expected)?).clone();
            return Ok(Entry { dir, child, _locks: locks });
        }
    }

    /// Stops the handle of a verb that changed `dirs`. With dirsync (the mount's or a directory's)
    /// the change is durable then.
    ///
    /// # Errors
    /// [`Refusal::Aborted`]; I/O errors of the commit.
    pub(super) fn finish(&self, handle: Handle<'_>, dirs: &[&Inode]) -> Result<()> {
        let tid = handle.tid();
        handle.stop()?;
        let durable = InodeFlags::SYNC | InodeFlags::DIRSYNC;
        if self.volume.rules.dirsync || dirs.iter().any(|dir| dir.flags.has(durable)) {
            self.volume.fsync(tid)?;
        }
        Ok(())
    }

    /// The inode that `name` names in `parent` at the moment.
    pub(super) fn named(&self, parent: InodeNr, name: &[u8]) -> Result<InodeNr> {
        let _lock = self.lock_shared(parent)?;
        let dir = directory(&self.volume, parent)?;
        dir::find(&self.volume, &dir, name)?.ok_or_else(|| Refusal::NotFound.into())
    }
}
