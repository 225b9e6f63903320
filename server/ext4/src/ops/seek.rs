//! Where data and holes are.

use crate::error::Result;
use crate::file::{self, Seek};
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// The first byte of a regular file at or after `offset` that is data or a hole.
    ///
    /// # Errors
    /// [`crate::Refusal::PastEnd`], `NoKey`, `IsDirectory`, `Invalid`; corruption and I/O errors.
    pub fn seek(&self, inode: &Inode, offset: u64, what: Seek) -> Result<u64> {
        let (_lock, inode) = self.newest(inode)?;
        self.open_regular(&inode)?;
        file::seek(&self.volume, &inode, offset, what)
    }
}
