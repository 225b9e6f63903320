//! Opening everything in order: superblock, features, journal, root.
//!
//! Kernel: fs/ext4/super.c `ext4_fill_super`

use std::sync::{Arc, OnceLock};

use crate::device::BlockDevice;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::filesystem::{Filesystem, MountOptions};
use crate::geometry::Geometry;
use crate::ids::InodeNr;
use crate::inode;
use crate::observer::Observer;
use crate::recover;
use crate::source::Source;
use crate::superblock::Superblock;
use crate::volume::Volume;

/// Reads and checks the superblock only: what the server must know before it answers FUSE_INIT.
/// `superblock` is its place in 1 KiB units, else the primary one.
///
/// # Errors
/// As [`Filesystem::mount`], without the journal's.
pub fn probe(device: &dyn BlockDevice, superblock: Option<u64>) -> Result<Geometry> {
    Ok(Superblock::read(device, superblock)?.geometry)
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
        let Superblock { geometry, mut facts } = Superblock::read(&*device, options.superblock)?;
        let source = Source::new(device, geometry.block_size);
        let mut volume = Volume::new(geometry, source, options.cache_bytes);
        if let Some(mut log) = recover::replay(&volume, &facts, options, observer)? {
            let source = volume.into_source().with_overlay(log.take_overlay());
            // It may have changed in the log, by a resize for example.
            let recovered = Superblock::read_again(&source, options.superblock)?;
            facts = recovered.facts;
            volume = Volume::new(recovered.geometry, source, options.cache_bytes);
            log.fast_commits(&mut volume, observer)?;
        }
        let filesystem = Self { volume, facts, usage: OnceLock::new() };
        filesystem.check_root()?;
        Ok(filesystem)
    }

    /// Nothing can be shown without the root.
    fn check_root(&self) -> Result<()> {
        let broken = || Error::corrupt(Place::inode(InodeNr::ROOT), CorruptKind::RootInode {});
        match inode::get(&self.volume, InodeNr::ROOT) {
            Ok(root) if root.is_directory() && root.size > 0 => Ok(()),
            Ok(_) | Err(Error::Refused(Refusal::Stale)) => Err(broken()),
            Err(error) => Err(error),
        }
    }
}
