//! Where data and holes are.

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

/// What lseek(2) looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE; the end of the file is one.
    Hole,
}

impl Filesystem {
    /// The first byte at or after `offset` that is data or a hole.
    ///
    /// # Errors
    /// [`crate::Refusal::PastEnd`]; corruption and I/O errors.
    pub fn seek(&self, inode: &Inode, offset: u64, what: Seek) -> Result<u64> {
        let _ = (inode, offset, what);
        unimplemented!()
    }
}
