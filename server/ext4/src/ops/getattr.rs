//! Inodes by number.

use std::sync::Arc;

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::Inode;

impl Filesystem {
    /// The inode `nr`.
    ///
    /// # Errors
    /// [`crate::Refusal::Stale`] for reserved numbers (other than the root), free inodes and numbers past the end;
    /// corruption and I/O errors.
    pub fn inode(&self, nr: InodeNr) -> Result<Arc<Inode>> {
        let _ = nr;
        unimplemented!()
    }
}
