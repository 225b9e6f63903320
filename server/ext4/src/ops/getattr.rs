//! Inodes by number.

use std::sync::Arc;

use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags};

impl Filesystem {
    /// The inode `nr`.
    ///
    /// # Errors
    /// [`Refusal::Stale`] for numbers that no directory may name (reserved ones other than the root,
    /// quota files), free inodes and numbers past the end; corruption and I/O errors.
    pub fn inode(&self, nr: InodeNr) -> Result<Arc<Inode>> {
        match inode::named(&self.volume, nr) {
            Err(Error::Corrupt { kind: CorruptKind::InodeNumber { .. }, .. }) => {
                Err(Refusal::Stale.into())
            }
            Ok(inode) if inode.flags.has(InodeFlags::EA_INODE) => {
                let (flags, why) = (inode.flags.bits(), "the value of an attribute, not a file");
                Err(Error::corrupt(Place::inode(nr), CorruptKind::InodeFlags { flags, why }))
            }
            answer => answer,
        }
    }
}
