//! Opening everything in order: superblock, features, descriptors, journal, ready.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::Result;
use crate::filesystem::{Filesystem, MountOptions, Observer};
use crate::geometry::Geometry;

/// Reads and checks the superblock only: what the server must know before it answers FUSE_INIT.
/// `superblock` is its place in 1 KiB units, else the primary one.
///
/// # Errors
/// As [`Filesystem::mount`], without the journal's.
pub fn probe(device: &dyn BlockDevice, superblock: Option<u64>) -> Result<Geometry> {
    let _ = (device, superblock);
    unimplemented!()
}

impl Filesystem {
    /// Mounts `device`.
    ///
    /// # Errors
    /// [`crate::Error::Unmountable`] with the reason; corruption and I/O errors.
    pub fn mount(
        device: Arc<dyn BlockDevice>,
        options: &MountOptions,
        observer: &dyn Observer,
    ) -> Result<Self> {
        let _ = (device, options, observer);
        unimplemented!()
    }
}
