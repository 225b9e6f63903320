//! Decoded inodes by number, evicted by weight.
//!
//! # Locking
//! Internally sharded; no lock is held while the device is read.

use std::sync::Arc;

use quick_cache::Weighter;
use quick_cache::sync::Cache as QuickCache;

use super::{Inode, codec};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::group;
use crate::ids::{BlockNr, InodeNr, in_memory, on_disk};
use crate::volume::Volume;

#[derive(Clone)]
struct ByBytes;

impl Weighter<InodeNr, Arc<Inode>> for ByBytes {
    fn weight(&self, _: &InodeNr, inode: &Arc<Inode>) -> u64 {
        on_disk(inode.tail.len().saturating_add(size_of::<Inode>()).saturating_add(64))
    }
}

/// The inodes in memory.
pub(crate) struct Cache(QuickCache<InodeNr, Arc<Inode>, ByBytes>);

impl Cache {
    /// A cache that holds at most about `budget` bytes.
    pub(crate) fn new(budget: u64) -> Self {
        let items = in_memory((budget / 512).clamp(16, 1 << 20));
        Self(QuickCache::with_weighter(items, budget, ByBytes))
    }
}

impl core::fmt::Debug for Cache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("inode::Cache").field("bytes", &self.0.weight()).finish()
    }
}

/// The inode `nr`, reserved ones included.
///
/// # Errors
/// [`CorruptKind::InodeNumber`] for 0 and numbers past the last, [`crate::Refusal::Stale`] for a
/// free inode, and whatever its record or its group's descriptor shows.
pub(crate) fn get(volume: &Volume, nr: InodeNr) -> Result<Arc<Inode>> {
    volume.inodes.0.get_or_insert_with(&nr, || load(volume, nr).map(Arc::new))
}

fn load(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    if let Some(record) = volume.edits().inode(nr) {
        return codec::decode(nr, record, &volume.geometry);
    }
    decode_on_disk(volume, nr)
}

/// The inode `nr` as it stands in the inode table, whatever fast commits made of it.
///
/// # Errors
/// As [`get`].
pub(crate) fn decode_on_disk(volume: &Volume, nr: InodeNr) -> Result<Inode> {
    on_disk_record(volume, nr, |record| codec::decode(nr, record, &volume.geometry))
}

/// The record of `nr` as it stands in the inode table, unchecked, or as fast commits left it.
///
/// # Errors
/// [`CorruptKind::InodeNumber`]; corruption on the way to the record; I/O errors.
pub(crate) fn record(volume: &Volume, nr: InodeNr) -> Result<Vec<u8>> {
    match volume.edits().inode(nr) {
        Some(record) => Ok(record.to_vec()),
        None => on_disk_record(volume, nr, |record| Ok(record.to_vec())),
    }
}

fn on_disk_record<T>(
    volume: &Volume,
    nr: InodeNr,
    take: impl FnOnce(&[u8]) -> Result<T>,
) -> Result<T> {
    let geometry = &volume.geometry;
    let outside = || Error::corrupt(Place::inode(nr), CorruptKind::InodeNumber { nr: nr.get() });
    let (group, index) = geometry.group_of_inode(nr).ok_or_else(outside)?;
    let table = group::descriptor(volume, group)?.inode_table_in(group, geometry)?;
    let size = u64::from(geometry.inode_size);
    let byte = u64::from(index).saturating_mul(size);
    let block_size = u64::from(geometry.block_size);
    let nr_in_table = byte.checked_div(block_size).unwrap_or(0);
    let block = table.get().checked_add(nr_in_table).ok_or_else(outside)?;
    let block = volume.metadata(BlockNr::new(block)).map_err(|error| error.at_inode(nr))?;
    let start = in_memory(byte.checked_rem(block_size).unwrap_or(0));
    let end = start.saturating_add(usize::from(geometry.inode_size));
    let record = block.bytes().get(start..end).ok_or_else(outside)?;
    take(record).map_err(|error| error.at_block(block.nr()))
}
