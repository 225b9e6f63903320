//! Bytes of a file.

use std::sync::Arc;

use crate::error::{Refusal, Result};
use crate::file;
use crate::filesystem::Filesystem;
use crate::inode::{self, Inode, ReadGuard};

impl Filesystem {
    /// Fills `into` from byte `offset` of a regular file; holes and unwritten extents read as zeros.
    /// Returns the bytes filled: fewer than asked only at the end of the file.
    ///
    /// # Errors
    /// [`crate::Refusal::NoKey`], `IsDirectory`, `Invalid`; corruption and I/O errors.
    pub fn read(&self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize> {
        let (_lock, inode) = self.newest(inode)?;
        self.open_regular(&inode)?;
        file::read(&self.volume, &inode, offset, into)
    }

    /// The newest version of `inode`, and what keeps it from being changed: the map in an older one
    /// may lead to blocks that are no longer its own.
    ///
    /// # Errors
    /// [`Refusal::Stale`] if it is gone; corruption and I/O errors; `WouldBlock` where this thread may
    /// not wait, see [`crate::device::BlockDevice::may_wait`].
    pub(super) fn newest(&self, inode: &Inode) -> Result<(ReadGuard, Arc<Inode>)> {
        let lock = self.lock_shared(inode.nr)?;
        if !self.volume.may_change() {
            return Ok((lock, Arc::new(inode.clone())));
        }
        let newest = inode::get(&self.volume, inode.nr)?;
        if newest.generation != inode.generation {
            return Err(Refusal::Stale.into());
        }
        Ok((lock, newest))
    }
}
