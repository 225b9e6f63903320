//! Nobody knows an inode any more.

use crate::error::{Error, Refusal, Result};
use crate::evict;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{self, Timestamp};

impl Filesystem {
    /// The kernel has forgotten `nr`, and no file of it is open: if it has no name either, it is
    /// freed. Costs nothing for all others.
    ///
    /// # Errors
    /// `ReadOnly`; corruption and I/O errors. The inode stays an orphan then, and is freed by the
    /// next mount.
    pub fn forget(&self, nr: InodeNr, now: Timestamp) -> Result<()> {
        let volume = &self.volume;
        if !volume.orphans.contains(nr) {
            return Ok(());
        }
        let _lock = self.lock(nr)?;
        match inode::get(volume, nr) {
            Ok(inode) if inode.links == 0 => evict::free(volume, &inode, now),
            Ok(_) | Err(Error::Refused(Refusal::Stale)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// As [`Filesystem::forget`] for all inodes, at the end of the mount.
    ///
    /// # Errors
    /// The first of those of [`Filesystem::forget`]; the others are tried all the same.
    pub fn forget_all(&self, now: Timestamp) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let all = self.volume.orphans.all();
        all.into_iter().map(|nr| self.forget(nr, now)).fold(Ok(()), Result::and)
    }
}
