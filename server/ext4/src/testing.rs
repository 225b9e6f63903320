//! Small volumes and inodes made of bytes, for unit tests.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::{Arc, OnceLock};

use zerocopy::FromZeros;

use crate::device::MemDevice;
use crate::disk::checksum::ChecksumSeed;
use crate::disk::superblock::{self, RawSuperblock};
use crate::error::{CorruptKind, Error, Result};
use crate::features::{Incompat, RoCompat};
use crate::filesystem::Filesystem;
use crate::geometry::Geometry;
use crate::ids::{BlockNr, InodeNr, in_memory};
use crate::inode::{FileKind, Inode, InodeFlags, Timestamp};
use crate::source::Source;
use crate::superblock::Facts;
use crate::volume::Volume;

/// The seed of the volume and of its inodes.
pub(crate) const SEED: ChecksumSeed = ChecksumSeed::new(0x1234_5678);

/// A device under construction: 1 KiB blocks, ea_inode, and metadata_csum if asked for.
pub(crate) struct Image {
    bytes: Vec<u8>,
    geometry: Geometry,
}

impl Image {
    pub(crate) fn new(blocks: u64) -> Self {
        let mut raw = RawSuperblock::new_zeroed();
        raw.magic.set(superblock::MAGIC);
        raw.rev_level.set(1);
        raw.blocks_count_lo.set(u32::try_from(blocks).unwrap());
        raw.first_data_block.set(1);
        raw.blocks_per_group.set(8192);
        raw.clusters_per_group.set(8192);
        raw.inodes_per_group.set(1024);
        raw.inodes_count.set(1024 * u32::try_from(blocks.div_ceil(8192)).unwrap());
        raw.first_ino.set(11);
        raw.inode_size.set(256);
        let size = blocks * 1024;
        let mut geometry = Geometry::new(&raw, superblock::OFFSET, size).unwrap();
        geometry.features.incompat = Incompat::EA_INODE;
        geometry.checksum_seed = SEED;
        Self { bytes: vec![0; in_memory(size)], geometry }
    }

    pub(crate) fn with_checksums(mut self) -> Self {
        self.geometry.features.ro_compat = RoCompat::METADATA_CSUM;
        self
    }

    /// Changes facts of the superblock.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Geometry)) -> Self {
        change(&mut self.geometry);
        self
    }

    /// Writes `bytes` at the start of `block`.
    pub(crate) fn put(mut self, block: usize, bytes: &[u8]) -> Self {
        let start = block * 1024;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn volume(self) -> Volume {
        let source = Source::new(Arc::new(MemDevice::new(self.bytes)), self.geometry.block_size);
        Volume::new(self.geometry, source, 1 << 20)
    }
}

/// A mounted file system on `volume`.
pub(crate) fn filesystem(volume: Volume) -> Filesystem {
    let facts = Facts::new(&RawSuperblock::new_zeroed());
    Filesystem { volume, facts, usage: OnceLock::new() }
}

/// A regular file with number 12, empty and without blocks.
pub(crate) fn inode(flags: u32) -> Inode {
    Inode {
        nr: InodeNr::new(12),
        generation: 0,
        kind: FileKind::Regular,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        project: 0,
        links: 1,
        size: 0,
        blocks512: 0,
        flags: InodeFlags::new(flags),
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        crtime: None,
        rdev: (0, 0),
        xattr_block: None,
        block: [0; 60],
        tail: Box::default(),
        checksum_seed: SEED,
    }
}

/// An inode whose i_block begins with `bytes`.
pub(crate) fn inode_with(flags: u32, bytes: &[u8]) -> Inode {
    let mut inode = inode(flags);
    inode.block[..bytes.len()].copy_from_slice(bytes);
    inode
}

/// The code of the corruption that `result` must be.
pub(crate) fn code<T>(result: Result<T>) -> &'static str {
    kind(result).code()
}

/// The corruption that `result` must be.
pub(crate) fn kind<T>(result: Result<T>) -> CorruptKind {
    match result {
        Err(Error::Corrupt { kind, .. }) => kind,
        Err(other) => panic!("expected corruption, got {other}"),
        Ok(_) => panic!("expected corruption, got an answer"),
    }
}

/// Bytes of little-endian 32-bit words.
pub(crate) fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Block `nr` as callers name it.
pub(crate) fn block(nr: u64) -> BlockNr {
    BlockNr::new(nr)
}
