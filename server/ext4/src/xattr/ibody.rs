//! Attributes in the inode itself, behind its fixed fields.

use crate::disk::xattr::{self, Entry};
use crate::error::{Place, Result};
use crate::inode::Inode;
use crate::volume::Volume;

/// Calls `f` with the inode's own attributes, in stored order.
pub(super) fn with_entries<T>(
    volume: &Volume,
    inode: &Inode,
    f: impl FnOnce(&[Entry<'_>]) -> Result<T>,
) -> Result<T> {
    f(&xattr::in_inode(&volume.geometry, Place::inode(inode.nr), &inode.tail)?)
}
