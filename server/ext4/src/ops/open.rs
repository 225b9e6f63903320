//! What is refused already when a file is opened.

use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::inode::{FileKind, Inode, InodeFlags};

impl Filesystem {
    /// Checks that `inode`'s content can be read at all.
    ///
    /// # Errors
    /// [`Refusal::NoKey`] for encrypted regular files: keys stay with the kernel.
    pub fn open(&self, inode: &Inode) -> Result<()> {
        if inode.kind == FileKind::Regular && inode.flags.has(InodeFlags::ENCRYPT) {
            return Err(Refusal::NoKey.into());
        }
        Ok(())
    }

    /// Checks that `inode` is a regular file whose content can be read.
    pub(super) fn open_regular(&self, inode: &Inode) -> Result<()> {
        match inode.kind {
            FileKind::Regular => self.open(inode),
            FileKind::Directory => Err(Refusal::IsDirectory.into()),
            _ => Err(Refusal::Invalid.into()),
        }
    }
}
