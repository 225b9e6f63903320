//! The content of files: bytes, and where they are.
//!
//! Data goes past the metadata cache: the kernel's page cache is above us and keeps it.
//! Kernel: fs/ext4/file.c, inode.c, inline.c

mod copy;
mod data;
mod fallocate;
mod inline;
mod plan;
mod read;
mod seek;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;
mod truncate;
mod write;
#[cfg(test)]
mod write_tests;

use crate::features::RoCompat;
use crate::ids::LogicalBlock;
use crate::inode::{Inode, InodeFlags};
use crate::map::{self, Mapping};
use crate::volume::Volume;

pub(crate) use copy::copy;
pub use fallocate::KeepSize;
pub(crate) use fallocate::{allocate, punch, zero_range};
pub use plan::Run;
pub(crate) use plan::plan;
pub(crate) use read::read;
pub use seek::Seek;
pub(crate) use seek::seek;
pub(crate) use truncate::{shrink, truncate};
pub(crate) use write::{can_overwrite, overwrite, write};

/// Bytes that can be read: i_size, cut where block numbers end (the kernel's s_maxbytes).
fn size(volume: &Volume, inode: &Inode) -> u64 {
    inode.size.min(start_of(LogicalBlock::new(map::LIMIT), volume.block_size()))
}

/// The most bytes that the file can have, by its map and by what i_blocks can count
/// (`ext4_max_size`, `ext4_max_bitmap_size`).
fn largest(volume: &Volume, inode: &Inode) -> u64 {
    let geometry = &volume.geometry;
    let block_size = u64::from(geometry.block_size);
    let huge = geometry.features.ro_compat.contains(RoCompat::HUGE_FILE);
    let sectors = u64::from(geometry.block_size >> 9);
    let narrow = u64::from(u32::MAX).checked_div(sectors).unwrap_or(0);
    let countable = if huge { (1 << 48) - 1 } else { narrow };
    let mapped = u64::from(map::most_blocks(geometry, inode));
    let extents = inode.flags.has(InodeFlags::EXTENTS);
    let pointers = if extents { 0 } else { pointer_blocks(mapped, countable, block_size >> 2) };
    let blocks = mapped.min(countable.saturating_sub(pointers));
    blocks.saturating_mul(block_size).min(i64::MAX.cast_unsigned())
}

/// Blocks of pointers that a file has which uses all it can: `mapped` blocks, or, with its pointers,
/// `countable` ones.
fn pointer_blocks(mapped: u64, countable: u64, per_block: u64) -> u64 {
    let square = per_block.saturating_mul(per_block);
    let two_trees = per_block.saturating_add(2);
    let all = two_trees.saturating_add(1).saturating_add(per_block).saturating_add(square);
    if mapped.saturating_add(all) <= countable {
        return 0;
    }
    let rest = countable.saturating_sub(12).saturating_sub(per_block);
    if rest < square {
        return rest.div_ceil(per_block.max(1)).saturating_add(2);
    }
    let rest = rest.saturating_sub(square);
    let third = rest.div_ceil(per_block.max(1)).saturating_add(rest.div_ceil(square.max(1)));
    two_trees.saturating_add(1).saturating_add(third)
}

/// The byte where block `at` of a file starts.
fn start_of(at: LogicalBlock, block_size: u32) -> u64 {
    u64::from(at.get()).saturating_mul(block_size.into())
}

/// The block that byte `position` lies in, and how many bytes of that block come before it.
/// Positions past the last block are taken as its start: [`size`] keeps callers from them.
fn locate(position: u64, block_size: u32) -> (LogicalBlock, u32) {
    let block_size = u64::from(block_size);
    let at = position.checked_div(block_size).unwrap_or(0);
    let skip = position.checked_rem(block_size).unwrap_or(0);
    match (u32::try_from(at), u32::try_from(skip)) {
        (Ok(at), Ok(skip)) => (LogicalBlock::new(at), skip),
        _ => (LogicalBlock::new(map::LIMIT), 0),
    }
}

/// Bytes of the run after the first `skip`; at least one, as `skip` is less than a block.
fn run_bytes(mapping: Mapping, block_size: u32, skip: u32) -> u64 {
    u64::from(mapping.blocks()).saturating_mul(block_size.into()).saturating_sub(skip.into())
}
