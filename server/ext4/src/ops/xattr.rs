//! Extended attributes.

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::inode::{self, Inode};
use crate::xattr;

impl Filesystem {
    /// The value of the attribute `name` (with its prefix, for example `user.mime_type`). POSIX ACLs
    /// come in the format of the VFS (version 2, `linux/posix_acl_xattr.h`).
    ///
    /// # Errors
    /// [`crate::Refusal::NoData`], `NotSupported` for an unknown prefix, `Invalid` for a prefix and
    /// nothing behind it, `Range` for a name over 255 bytes; corruption and I/O errors.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        xattr::get(&self.volume, inode, name, |nr| inode::get(&self.volume, nr))
            .map_err(|error| error.at_inode(inode.nr))
    }

    /// The names of all attributes, each followed by a NUL, as listxattr(2) wants them. `trusted.`
    /// names are among them: hiding those from a caller without CAP_SYS_ADMIN is the frontend's.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn xattr_names(&self, inode: &Inode) -> Result<Vec<u8>> {
        xattr::names(&self.volume, inode).map_err(|error| error.at_inode(inode.nr))
    }
}
