//! Which block holds which part of a file.
//!
//! [`lookup`] answers for one logical block and the run it starts. There is no cache of runs (the
//! kernel's extent status tree): the nodes it walks are in the metadata cache, already checked, and
//! a walk through four levels takes 0.3 µs, little beside the request that asks for it.
//!
//! The writing side changes the given inode and blocks through the handle; the inode is stored by the
//! verb. A hole is filled in two steps, so that data can be written in between and an error of that
//! costs nothing: [`claim`] allocates, [`fill`] maps. [`remove`] works from the end of its range and
//! does a bounded part at a time.
//! # Locking
//! Changes need the inode's lock exclusively.
//! Kernel: fs/ext4/inode.c `ext4_map_blocks`, extents.c, indirect.c

mod budget;
mod change;
mod cluster;
mod extent;
mod indirect;
pub(crate) mod inline;
#[cfg(test)]
mod tests;

pub(crate) use change::runs_cost;
pub(crate) use change::{
    CHANGE, Progress, REMOVE, State, allocate, attach, claim, clusters, convert, detach, fill,
    fill_cost, hole_cost, init, most_blocks, punch, remove, run_around, sectors, split_cost,
    unclaim,
};
use change::{Removed, free_node, node_block};

use crate::alloc;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::{Inode, InodeFlags};
use crate::volume::Volume;

/// EXT_MAX_BLOCKS: the first logical block no file has; file sizes end with the block before it.
pub(crate) const LIMIT: u32 = u32::MAX;

/// What a run of logical blocks is backed by. `len` is in blocks and at least 1; it may end before
/// the real run does (a caller that wants more asks again).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Nothing; reads as zeros.
    Hole {
        /// Blocks of the run.
        len: u32,
    },
    /// Allocated but never written; reads as zeros, SEEK_DATA skips it as the kernel does.
    Unwritten {
        /// Where the run starts.
        first: BlockNr,
        /// Blocks of the run.
        len: u32,
    },
    /// Data.
    Written {
        /// Where the run starts.
        first: BlockNr,
        /// Blocks of the run.
        len: u32,
    },
}

impl Mapping {
    /// Blocks of the run, at least 1.
    #[must_use]
    pub const fn blocks(self) -> u32 {
        match self {
            Self::Hole { len } | Self::Unwritten { len, .. } | Self::Written { len, .. } => len,
        }
    }
}

/// What logical block `at` of `inode` and the blocks after it are backed by. The run's blocks are
/// inside the file system. Inline data has no blocks: callers ask `inline` first.
///
/// # Errors
/// Corruption, with inode and block; I/O errors.
pub(crate) fn lookup(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Mapping> {
    volume.edits().map(inode.nr, at, || lookup_on_disk(volume, inode, at))
}

/// As [`lookup`], without what fast commits changed.
pub(crate) fn lookup_on_disk(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Mapping> {
    let mapping = if inode.flags.has(InodeFlags::EXTENTS) {
        extent::lookup(volume, inode, at)
    } else {
        indirect::lookup(volume, inode, at)
    };
    mapping.map_err(|error| error.at_inode(inode.nr))
}

/// Whether the map of `inode` may name these blocks: the one place where every pointer of every map
/// passes. On a mount that may write the file system's own metadata is out of bounds, too.
fn check_run(volume: &Volume, inode: InodeNr, first: BlockNr, count: u64) -> Result<()> {
    if volume.geometry.contains(first, count) {
        return alloc::check_blocks(volume, inode, first, count);
    }
    let kind = CorruptKind::BlockRange { first: first.get(), count };
    Err(Error::corrupt(Place::default(), kind))
}
