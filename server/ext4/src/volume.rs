//! What every layer of the engine needs: the geometry, the blocks, and the recovered edits.
//!
//! Lower layers (map, dir, xattr, inode) take `&Volume`; only `mount.rs` builds one.

use std::sync::Arc;

use crate::cache::{Block, Cache};
use crate::edits::Edits;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, on_disk};
use crate::inode;
use crate::notices::Notices;
use crate::source::Source;

/// One mounted file system, below the verbs.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) geometry: Geometry,
    pub(crate) inodes: inode::Cache,
    pub(crate) notices: Notices,
    edits: Edits,
    source: Source,
    cache: Cache,
}

impl Volume {
    pub(crate) fn new(geometry: Geometry, source: Source, cache_bytes: u64) -> Self {
        // Decoded inodes are a fraction of the blocks they come from.
        let inodes = inode::Cache::new(cache_bytes / 4);
        let cache = Cache::new(cache_bytes.saturating_sub(cache_bytes / 4), geometry.block_size);
        let (notices, edits) = (Notices::default(), Edits::default());
        Self { geometry, inodes, notices, edits, source, cache }
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.geometry.block_size
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    /// Gives up the volume for its source.
    pub(crate) fn into_source(self) -> Source {
        self.source
    }

    /// What fast commits changed.
    pub(crate) fn edits(&self) -> &Edits {
        &self.edits
    }

    /// For recovery, before any inode is cached.
    pub(crate) fn edits_mut(&mut self) -> &mut Edits {
        &mut self.edits
    }

    /// A metadata block through the cache.
    ///
    /// # Errors
    /// [`CorruptKind::BlockRange`] if a pointer on the disk led outside the file system; I/O errors.
    pub(crate) fn metadata(&self, nr: BlockNr) -> Result<Arc<Block>> {
        self.check_range(nr, 1)?;
        self.cache.get(&self.source, nr)
    }

    /// File data past the cache: fills `into` from `skip` bytes into block `first`.
    ///
    /// # Errors
    /// As [`Volume::metadata`].
    pub(crate) fn data(&self, first: BlockNr, skip: u32, into: &mut [u8]) -> Result<()> {
        let bytes = on_disk(into.len()).saturating_add(skip.into());
        self.check_range(first, bytes.div_ceil(self.block_size().into()))?;
        self.source.read(first, skip, into)
    }

    fn check_range(&self, first: BlockNr, count: u64) -> Result<()> {
        if self.geometry.contains(first, count) {
            return Ok(());
        }
        let kind = CorruptKind::BlockRange { first: first.get(), count };
        Err(Error::corrupt(Place::default(), kind))
    }
}
