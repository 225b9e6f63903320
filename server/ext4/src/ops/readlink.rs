//! Targets of symbolic links.

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// The target of a symbolic link, without a NUL. An encrypted one is shown as the kernel shows
    /// it without its key.
    ///
    /// # Errors
    /// [`crate::Refusal::Invalid`] if `inode` is no symbolic link; corruption and I/O errors.
    pub fn readlink(&self, inode: &Inode) -> Result<Vec<u8>> {
        let _ = inode;
        unimplemented!()
    }
}
