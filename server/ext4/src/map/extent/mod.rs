//! Extent trees: from a logical block down to the extent that holds it.
//!
//! A lookup visits one node per level, at most six with the root: each node's depth must be one less
//! than its parent's. Nodes come from the metadata cache; their entries are checked once per stay.
//! Kernel: fs/ext4/extents.c `ext4_find_extent`, `__ext4_ext_check`

mod change;
mod path;
mod verbs;

pub(super) use verbs::{convert, insert, remove, room_cost, run_around};

use std::sync::Arc;

use super::{LIMIT, Mapping, check_run};
use crate::cache::{Ahead, Block, Role};
use crate::disk::extent::{Entries, Extent, Node, RawExtent, RawIndex};
use crate::error::{CorruptKind, Place, Result};
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::Inode;
use crate::volume::Volume;

/// What one node says about a logical block.
enum Step {
    Found(Mapping),
    /// Into this node; the one after it may come next.
    Down(Child, Option<BlockNr>),
}

/// A node to visit, and what its parent says of it.
#[derive(Clone, Copy)]
struct Child {
    block: BlockNr,
    depth: u16,
    /// The first logical block it maps.
    key: LogicalBlock,
    /// The first logical block past it.
    limit: u32,
}

/// The run that starts at `at`; a hole may end early, at a node's border.
pub(super) fn lookup(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Mapping> {
    let root = Node::root(Place::inode(inode.nr), &inode.block)?;
    root.check_entries(|first, count| check_run(volume, inode.nr, first, count))?;
    let mut step = search(&root, at, LIMIT)?;
    loop {
        match step {
            Step::Found(mapping) => return Ok(mapping),
            Step::Down(child, next) => step = descend(volume, inode, at, (child, next))?,
        }
    }
}

/// Goes on in `child`. Who has to read it will want the `next` node, too, if it goes on so far.
fn descend(
    volume: &Volume,
    inode: &Inode,
    at: LogicalBlock,
    (child, next): (Child, Option<BlockNr>),
) -> Result<Step> {
    let ahead = next.map_or(Ahead::NOTHING, |next| Ahead::of(next, 1));
    let block = volume.metadata_among(child.block, ahead)?;
    let node = check(volume, inode, &block, child)?;
    search(&node, at, child.limit)
}

/// The node that `block` is, as its parent says.
fn check<'b>(
    volume: &Volume,
    inode: &Inode,
    block: &'b Arc<Block>,
    child: Child,
) -> Result<Node<'b>> {
    let place = Place { inode: Some(inode.nr), ..Place::block(child.block) };
    // The header is cheap to check and decides what follows, so the node of another depth cannot stand
    // in for it.
    let node = Node::parse(place, block.bytes(), child.depth)?;
    block.verify_once(Role::Extents, |_| {
        if volume.geometry.features.metadata_csum() {
            node.check_checksum(inode.checksum_seed)?;
        }
        node.check_entries(|first, count| check_run(volume, inode.nr, first, count))
    })?;
    node.check_key(child.key)?;
    Ok(node)
}

fn search(node: &Node<'_>, at: LogicalBlock, limit: u32) -> Result<Step> {
    match node.entries {
        Entries::Leaf(extents) => search_leaf(node, extents, at, limit).map(Step::Found),
        Entries::Index(indexes) => Ok(search_index(node, indexes, at, limit)),
    }
}

fn search_leaf(
    node: &Node<'_>,
    extents: &[RawExtent],
    at: LogicalBlock,
    limit: u32,
) -> Result<Mapping> {
    let after = extents.partition_point(|extent| extent.block.get() <= at.get());
    if let Some(extent) = after.checked_sub(1).and_then(|index| extents.get(index)) {
        let extent = extent.get();
        let end = u64::from(extent.at.get()).saturating_add(extent.len.into());
        if end > limit.into() {
            return Err(node.corrupt(CorruptKind::ExtentBounds { end, limit }));
        }
        if let Some(mapping) = rest_of(extent, at) {
            return Ok(mapping);
        }
    }
    let next = extents.get(after).map_or(limit, |extent| extent.block.get());
    Ok(hole(at, next.min(limit)))
}

/// The part of `extent` from `at` on, if it holds `at`.
fn rest_of(extent: Extent, at: LogicalBlock) -> Option<Mapping> {
    let skip = at.checked_sub(extent.at.get())?.get();
    let len = u32::from(extent.len).checked_sub(skip).filter(|len| *len > 0)?;
    let first = extent.first.checked_add(skip.into())?;
    Some(if extent.unwritten {
        Mapping::Unwritten { first, len }
    } else {
        Mapping::Written { first, len }
    })
}

fn search_index(node: &Node<'_>, indexes: &[RawIndex], at: LogicalBlock, limit: u32) -> Step {
    let after = indexes.partition_point(|index| index.block.get() <= at.get());
    let limit = indexes.get(after).map_or(limit, |next| next.block.get().min(limit));
    match after.checked_sub(1).and_then(|index| indexes.get(index)) {
        Some(index) => {
            let child = Child {
                block: index.child(),
                depth: node.depth.saturating_sub(1),
                key: LogicalBlock::new(index.block.get()),
                limit,
            };
            Step::Down(child, indexes.get(after).map(RawIndex::child))
        }
        None => Step::Found(hole(at, limit)),
    }
}

fn hole(at: LogicalBlock, end: u32) -> Mapping {
    Mapping::Hole { len: end.saturating_sub(at.get()).max(1) }
}
