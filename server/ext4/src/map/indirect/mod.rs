//! Block pointers: twelve direct ones, then a single, a double and a triple indirect tree.
//!
//! Neighbouring pointers to neighbouring blocks are one run; a run ends at the latest with the block
//! that holds its pointers. A null pointer above the lowest level is a hole as wide as its subtree.
//! Kernel: fs/ext4/indirect.c · Documentation/filesystems/ext4/ifork.rst, "Direct/Indirect Block
//! Addressing"

mod change;
mod path;

pub(super) use change::{fill, missing, remove};
pub(super) use path::{most_pointers, pointers_left};

use std::sync::Arc;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::{LIMIT, Mapping, check_run};
use crate::cache::{Block, Role};
use crate::disk::prefix;
use crate::error::{Place, Result};
use crate::ids::{BlockNr, InodeNr, LogicalBlock, in_memory, on_disk};
use crate::inode::Inode;
use crate::volume::Volume;

/// EXT4_NDIR_BLOCKS.
const DIRECT: usize = 12;
/// EXT4_N_BLOCKS: the direct pointers and the roots of the three trees.
const POINTERS: usize = 15;

/// The run that starts at `at`.
pub(super) fn lookup(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Mapping> {
    let place = Place::inode(inode.nr);
    let pointers: &[U32; POINTERS] = prefix(place, &inode.block)?;
    let (direct, roots) = pointers.split_at(DIRECT);
    let mut rest = u64::from(at.get());
    if rest < on_disk(DIRECT) {
        return run(volume, inode.nr, direct, in_memory(rest));
    }
    rest = rest.saturating_sub(on_disk(DIRECT));
    let per_block = u64::from(volume.block_size() >> 2);
    let mut span = 1_u64;
    for root in roots {
        span = span.saturating_mul(per_block);
        if rest < span {
            let tree = Tree { root: *root, span, per_block };
            return descend(volume, inode, tree, at, rest);
        }
        rest = rest.saturating_sub(span);
    }
    Ok(hole(at, u64::from(LIMIT)))
}

/// One of the three indirect trees.
struct Tree {
    root: U32,
    /// Logical blocks it maps.
    span: u64,
    /// Pointers of a block.
    per_block: u64,
}

/// Follows the pointers to logical block `rest` of the tree; each turn narrows the span, so there
/// are at most three.
fn descend(
    volume: &Volume,
    inode: &Inode,
    tree: Tree,
    at: LogicalBlock,
    mut rest: u64,
) -> Result<Mapping> {
    let Tree { root: mut pointer, mut span, per_block } = tree;
    loop {
        if pointer.get() == 0 {
            return Ok(hole(at, span.saturating_sub(rest)));
        }
        let nr = BlockNr::new(pointer.get().into());
        let block = load(volume, inode.nr, nr)?;
        let pointers = pointers_of(block.bytes());
        span = span.checked_div(per_block).unwrap_or(1).max(1);
        let index = in_memory(rest.checked_div(span).unwrap_or(0));
        rest = rest.checked_rem(span).unwrap_or(0);
        if span == 1 {
            return run(volume, inode.nr, pointers, index).map_err(|e| e.at_block(nr));
        }
        pointer = pointers.get(index).copied().unwrap_or_default();
    }
}

/// The block of pointers `nr`, checked.
fn load(volume: &Volume, inode: InodeNr, nr: BlockNr) -> Result<Arc<Block>> {
    check_run(volume, inode, nr, 1)?;
    let block = volume.metadata(nr)?;
    let check = |bytes: &[u8]| check_pointers(volume, inode, bytes).map_err(|e| e.at_block(nr));
    block.verify_once(Role::Pointers, check)?;
    Ok(block)
}

fn pointers_of(bytes: &[u8]) -> &[U32] {
    // Blocks are a multiple of four bytes, so nothing is left over.
    <[U32]>::ref_from_bytes(bytes).unwrap_or_default()
}

/// Every pointer of an indirect block must be null or inside the file system
/// (`ext4_check_blockref`).
fn check_pointers(volume: &Volume, inode: InodeNr, bytes: &[u8]) -> Result<()> {
    pointers_of(bytes)
        .iter()
        .filter(|pointer| pointer.get() != 0)
        .try_for_each(|pointer| check_run(volume, inode, BlockNr::new(pointer.get().into()), 1))
}

/// The run of holes or of neighbouring blocks that starts with pointer `index`.
fn run(volume: &Volume, inode: InodeNr, pointers: &[U32], index: usize) -> Result<Mapping> {
    let pointers = pointers.get(index..).unwrap_or_default();
    let first = pointers.first().map_or(0, |pointer| pointer.get());
    if first == 0 {
        let nulls = pointers.iter().take_while(|pointer| pointer.get() == 0).count();
        return Ok(Mapping::Hole { len: u32::try_from(nulls).unwrap_or(LIMIT).max(1) });
    }
    let neighbours = pointers
        .iter()
        .zip(first..=u32::MAX)
        .take_while(|(pointer, expected)| pointer.get() == *expected)
        .count();
    let len = u32::try_from(neighbours).unwrap_or(LIMIT).max(1);
    let first = BlockNr::new(first.into());
    check_run(volume, inode, first, len.into())?;
    Ok(Mapping::Written { first, len })
}

/// A hole of `len` blocks, cut where files end.
fn hole(at: LogicalBlock, len: u64) -> Mapping {
    let room = LIMIT.saturating_sub(at.get()).max(1);
    Mapping::Hole { len: u32::try_from(len).unwrap_or(room).clamp(1, room) }
}
