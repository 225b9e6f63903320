//! Names that go: unlink(2) and rmdir(2). The inode goes with its last name and its last user,
//! see `release`.
//!
//! Kernel: fs/ext4/namei.c `ext4_unlink`, `ext4_rmdir`

use super::change::{changed, check_removable};
use crate::caller::Caller;
use crate::dir;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::{Credits, Handle};
use crate::ids::InodeNr;
use crate::inode::{self, Inode};
use crate::orphan;

/// The directory's block (two where an inline directory's parts are), both inodes, an orphan's place.
const UNLINK: Credits = Credits(8);

/// What lost a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unlinked {
    /// The inode.
    pub inode: InodeNr,
    /// That was its last name: it waits for [`Filesystem::release`].
    pub last: bool,
}

impl Filesystem {
    /// Takes `name` out of `parent`, where it names anything but a directory.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], `IsDirectory`, `NotPermitted`, `ReadOnly`; corruption and I/O errors.
    pub fn unlink(&self, caller: &Caller, parent: InodeNr, name: &[u8]) -> Result<Unlinked> {
        if matches!(name, b"." | b"..") {
            return Err(Refusal::IsDirectory.into());
        }
        let mut entry = self.lock_entry(parent, name)?;
        if entry.child.is_directory() {
            return Err(Refusal::IsDirectory.into());
        }
        check_removable(&entry.dir, &entry.child)?;
        let mut handle = self.volume.begin(UNLINK)?;
        dir::remove(&mut handle, &mut entry.dir, name)?;
        changed(&mut entry.dir, caller.now);
        let left = entry.child.links.saturating_sub(1);
        let unlinked = drop_links(&mut handle, caller, &mut entry.child, left)?;
        inode::store(&mut handle, &entry.dir)?;
        self.finish(handle, &[&entry.dir])?;
        Ok(unlinked)
    }

    /// Takes `name` out of `parent`, where it names an empty directory.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], `NotDirectory`, `NotEmpty`, `NotPermitted`, `ReadOnly`, `Invalid` for
    /// "."; corruption and I/O errors.
    pub fn rmdir(&self, caller: &Caller, parent: InodeNr, name: &[u8]) -> Result<Unlinked> {
        match name {
            b"." => return Err(Refusal::Invalid.into()),
            b".." => return Err(Refusal::NotEmpty.into()),
            _ => {}
        }
        let mut entry = self.lock_entry(parent, name)?;
        if !entry.child.is_directory() {
            return Err(Refusal::NotDirectory.into());
        }
        check_removable(&entry.dir, &entry.child)?;
        if !dir::is_empty(&self.volume, &entry.child)? {
            return Err(Refusal::NotEmpty.into());
        }
        let mut handle = self.volume.begin(UNLINK)?;
        dir::remove(&mut handle, &mut entry.dir, name)?;
        dir::drop_link(&mut entry.dir);
        changed(&mut entry.dir, caller.now);
        let unlinked = drop_links(&mut handle, caller, &mut entry.child, 0)?;
        inode::store(&mut handle, &entry.dir)?;
        self.finish(handle, &[&entry.dir])?;
        Ok(unlinked)
    }
}

/// Leaves `inode` with `left` links, and as an orphan if that is none.
pub(super) fn drop_links(
    handle: &mut Handle<'_>,
    caller: &Caller,
    inode: &mut Inode,
    left: u16,
) -> Result<Unlinked> {
    inode.links = left;
    inode.ctime = caller.now;
    if left == 0 {
        orphan::add(handle, inode.nr)?;
    }
    inode::store(handle, inode)?;
    Ok(Unlinked { inode: inode.nr, last: left == 0 })
}
