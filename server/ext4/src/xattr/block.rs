//! Attributes in a block, which inodes with equal attributes share.

use crate::disk::xattr::{self, Entry};
use crate::error::{Place, Result};
use crate::inode::Inode;
use crate::volume::Volume;

/// Calls `f` with the attributes in i_file_acl's block, in stored order; with none if there is no
/// block.
pub(super) fn with_entries<T>(
    volume: &Volume,
    inode: &Inode,
    f: impl FnOnce(&[Entry<'_>]) -> Result<T>,
) -> Result<T> {
    let Some(nr) = inode.xattr_block else { return f(&[]) };
    let geometry = &volume.geometry;
    let place = Place { inode: Some(inode.nr), ..Place::block(nr) };
    let block = volume.metadata(nr)?;
    block.verify_once(|bytes| xattr::check_block(geometry, place, nr, bytes))?;
    f(&xattr::in_block(geometry, place, block.bytes())?)
}
