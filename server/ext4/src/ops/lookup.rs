//! A name in a directory.

use std::sync::Arc;

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// The inode that `name` (1..=255 bytes; "." and ".." included) names in `dir`.
    ///
    /// # Errors
    /// [`crate::Refusal::NotFound`], `NotDirectory`, `NameTooLong`; corruption and I/O errors.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Arc<Inode>> {
        let _ = (dir, name);
        unimplemented!()
    }
}
