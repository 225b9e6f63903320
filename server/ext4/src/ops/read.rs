//! Bytes of a file.

use crate::error::Result;
use crate::file;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// Fills `into` from byte `offset` of a regular file; holes and unwritten extents read as zeros.
    /// Returns the bytes filled: fewer than asked only at the end of the file.
    ///
    /// # Errors
    /// [`crate::Refusal::NoKey`], `IsDirectory`, `Invalid`; corruption and I/O errors.
    pub fn read(&self, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize> {
        self.open_regular(inode)?;
        file::read(&self.volume, inode, offset, into)
    }
}
