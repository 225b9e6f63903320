//! What is refused already when a file is opened.

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// Checks that `inode`'s content can be read at all.
    ///
    /// # Errors
    /// [`crate::Refusal::NoKey`] for encrypted regular files.
    pub fn open(&self, inode: &Inode) -> Result<()> {
        let _ = inode;
        unimplemented!()
    }
}
