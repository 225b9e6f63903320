//! Bitmaps as they are needed: loaded and checked once, or made up where a group was never used.
//!
//! Kernel: fs/ext4/balloc.c `ext4_read_block_bitmap`, `ext4_init_block_bitmap`,
//! `ext4_validate_block_bitmap`; ialloc.c `ext4_read_inode_bitmap`; bitmap.c

use std::sync::Arc;

use super::space::Space;
use crate::cache::{Block, Role};
use crate::disk::bitmap;
use crate::disk::group_desc::{BLOCK_UNINIT, GroupDesc, INODE_UNINIT};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, GroupNr, in_memory};
use crate::volume::Volume;

/// A group's bitmap.
pub(super) enum Bitmap {
    /// As it is on the disk.
    Loaded(Arc<Block>),
    /// As it will be when it is written for the first time.
    Fresh(Vec<u8>),
}

impl Bitmap {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Loaded(block) => block.bytes(),
            Self::Fresh(bytes) => bytes,
        }
    }
}

/// The block bitmap of `group`, whose lock the caller holds.
///
/// # Errors
/// [`CorruptKind::BitmapChecksum`], [`CorruptKind::BitmapMetadata`], [`CorruptKind::BitmapCount`];
/// I/O errors.
pub(super) fn blocks(volume: &Volume, group: GroupNr, desc: &GroupDesc) -> Result<Bitmap> {
    let geometry = &volume.geometry;
    let bits = geometry.clusters_in_group(group);
    let count = |bytes: &[u8]| {
        check_count("block bitmap", bitmap::count_clear(bytes, bits), desc.free_clusters)
    };
    if is_fresh(geometry, desc, BLOCK_UNINIT) {
        let bytes = fresh_blocks(volume, group)?;
        count(&bytes)?;
        return Ok(Bitmap::Fresh(bytes));
    }
    let block = volume.metadata(desc.block_bitmap)?;
    let check = |bytes: &[u8]| {
        let sum = (bytes, geometry.clusters_per_group());
        check_checksum(geometry, "block bitmap", sum, desc.block_bitmap_checksum)?;
        check_metadata(volume, group, bytes)?;
        count(bytes)
    };
    block.verify_once(Role::BlockBitmap, check).map_err(|error| error.at_block(block.nr()))?;
    Ok(Bitmap::Loaded(block))
}

/// The inode bitmap of `group`, whose lock the caller holds.
///
/// # Errors
/// [`CorruptKind::BitmapChecksum`], [`CorruptKind::BitmapCount`]; I/O errors.
pub(super) fn inodes(volume: &Volume, group: GroupNr, desc: &GroupDesc) -> Result<Bitmap> {
    let geometry = &volume.geometry;
    let bits = geometry.inodes_per_group;
    let count = |bytes: &[u8]| {
        check_count("inode bitmap", bitmap::count_clear(bytes, bits), desc.free_inodes)
    };
    if is_fresh(geometry, desc, INODE_UNINIT) {
        let mut bytes = vec![0; in_memory(geometry.block_size.into())];
        bitmap::fill(&mut bytes, bits..geometry.block_size.saturating_mul(8), true);
        count(&bytes).map_err(|error| error.at_group(group))?;
        return Ok(Bitmap::Fresh(bytes));
    }
    let block = volume.metadata(desc.inode_bitmap)?;
    let check = |bytes: &[u8]| {
        let sum = (bytes, bits);
        check_checksum(geometry, "inode bitmap", sum, desc.inode_bitmap_checksum)?;
        count(bytes)
    };
    block.verify_once(Role::InodeBitmap, check).map_err(|error| error.at_block(block.nr()))?;
    Ok(Bitmap::Loaded(block))
}

fn is_fresh(geometry: &Geometry, desc: &GroupDesc, flag: u16) -> bool {
    geometry.features.group_checksums() && desc.flags & flag != 0
}

/// A group in which only metadata is in use.
fn fresh_blocks(volume: &Volume, group: GroupNr) -> Result<Vec<u8>> {
    let geometry = &volume.geometry;
    let mut bytes = vec![0; in_memory(geometry.block_size.into())];
    for (start, end) in metadata(volume, group)? {
        bitmap::fill(&mut bytes, start..end, true);
    }
    let bits = geometry.clusters_in_group(group);
    bitmap::fill(&mut bytes, bits..geometry.block_size.saturating_mul(8), true);
    Ok(bytes)
}

/// The clusters of `group` that hold metadata: first and end.
fn metadata(volume: &Volume, group: GroupNr) -> Result<impl Iterator<Item = (u32, u32)>> {
    let geometry = &volume.geometry;
    let zones = &Space::of(volume)?.zones;
    let first = geometry.first_block(group).get();
    let (size, bits) = (geometry.cluster_blocks.max(1), geometry.clusters_in_group(group));
    let within = zones.within(first, geometry.blocks_per_group.into());
    Ok(within.map(move |(start, count)| {
        let start = u32::try_from(start.saturating_sub(first)).unwrap_or(u32::MAX);
        let end = start.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        (start.checked_div(size).unwrap_or(0), end.div_ceil(size).min(bits))
    }))
}

fn check_metadata(volume: &Volume, group: GroupNr, bytes: &[u8]) -> Result<()> {
    for (start, end) in metadata(volume, group)? {
        let clear = bitmap::next(bytes, start..end, false);
        if clear < end {
            let block = volume.geometry.cluster_block(group, clear);
            let kind = CorruptKind::BitmapMetadata { block: block.get() };
            return Err(Error::corrupt(Place::group(group), kind));
        }
    }
    Ok(())
}

fn check_count(what: &'static str, counted: u32, recorded: u32) -> Result<()> {
    if counted == recorded {
        return Ok(());
    }
    let kind = CorruptKind::BitmapCount { what, counted, recorded };
    Err(Error::corrupt(Place::default(), kind))
}

fn check_checksum(
    geometry: &Geometry,
    what: &'static str,
    (bytes, bits): (&[u8], u32),
    stored: u32,
) -> Result<()> {
    match checksum(geometry, bytes, bits) {
        Some(computed) if computed != stored => {
            let kind = CorruptKind::BitmapChecksum { what, stored, computed };
            Err(Error::corrupt(Place::default(), kind))
        }
        _ => Ok(()),
    }
}

/// The checksum of a bitmap as its descriptor has it, where it has one.
pub(super) fn checksum(geometry: &Geometry, bytes: &[u8], bits: u32) -> Option<u32> {
    let whole = || bitmap::checksum(geometry.checksum_seed, bytes, bits);
    let mask = if geometry.desc_size < 64 { 0xffff } else { u32::MAX };
    geometry.features.metadata_csum().then(|| whole() & mask)
}

/// Brings the bitmap at `block` into the cache before the group is locked. An error shows later.
pub(super) fn warm(volume: &Volume, block: BlockNr) {
    drop(volume.metadata(block));
}
