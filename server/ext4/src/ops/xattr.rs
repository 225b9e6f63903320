//! Extended attributes.

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// The value of the attribute `name` (with its prefix, for example `user.mime_type`). POSIX ACLs
    /// come in the format of the VFS (version 2, `linux/posix_acl_xattr.h`).
    ///
    /// # Errors
    /// [`crate::Refusal::NoData`], `NotSupported` for an unknown prefix; corruption and I/O errors.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        let _ = (inode, name);
        unimplemented!()
    }

    /// The names of all attributes, each followed by a NUL, as listxattr(2) wants them.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn xattr_names(&self, inode: &Inode) -> Result<Vec<u8>> {
        let _ = inode;
        unimplemented!()
    }
}
