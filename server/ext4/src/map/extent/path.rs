//! The way from the root to the leaf that holds a logical block, or would hold it.
//!
//! A path is a snapshot: it is taken under the inode's exclusive lock and is void after any change.
//! Kernel: fs/ext4/extents.c `struct ext4_ext_path`

use super::{Child, LIMIT, check};
use crate::disk::extent::{Entries, Extent, Node, RawExtent};
use crate::error::{CorruptKind, Place, Result};
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::Inode;
use crate::map::check_run;
use crate::volume::Volume;

/// Where a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Home {
    /// In i_block.
    Root,
    /// In a block of its own.
    Block(BlockNr),
}

/// One node of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Level {
    pub(super) home: Home,
    /// Distance to the leaves.
    pub(super) depth: u16,
    /// Entries in use.
    pub(super) entries: usize,
    /// Entries there is room for.
    pub(super) max: usize,
    /// In an index node the entry that was followed; in the leaf the place of the first extent that
    /// begins after the wanted block.
    pub(super) slot: usize,
}

impl Level {
    /// Entries that fit in.
    pub(super) fn room(&self) -> usize {
        self.max.saturating_sub(self.entries)
    }
}

/// The nodes from the root to a leaf, and the leaf's extents.
#[derive(Debug)]
pub(super) struct Path {
    /// Index nodes, the root first; empty if the root is the leaf.
    pub(super) indexes: Vec<Level>,
    pub(super) leaf: Level,
    pub(super) extents: Vec<Extent>,
    /// The first logical block that the leaf answers for; 0 for the leftmost.
    pub(super) start: u32,
}

/// The path to the leaf where `at` is or belongs.
///
/// # Errors
/// Corruption of a node on the way, I/O errors.
pub(super) fn find(volume: &Volume, inode: &Inode, at: LogicalBlock) -> Result<Path> {
    let root = Node::root(Place::inode(inode.nr), &inode.block)?;
    root.check_entries(|first, count| check_run(volume, inode.nr, first, count))?;
    let mut indexes = Vec::new();
    let mut step = follow(&root, Home::Root, at, Bounds { start: 0, limit: LIMIT })?;
    loop {
        let (level, child, bounds) = match step {
            Step::Leaf(leaf, extents, start) => {
                return Ok(Path { indexes, leaf, extents, start });
            }
            Step::Down(level, child, bounds) => (level, child, bounds),
        };
        indexes.push(level);
        let block = volume.metadata(child.block)?;
        let node = check(volume, inode, &block, child)?;
        // Each child's depth is one less, so the loop ends.
        step = follow(&node, Home::Block(child.block), at, bounds)?;
    }
}

enum Step {
    Leaf(Level, Vec<Extent>, u32),
    Down(Level, Child, Bounds),
}

/// The logical blocks that a node answers for.
#[derive(Clone, Copy)]
struct Bounds {
    start: u32,
    limit: u32,
}

fn follow(node: &Node<'_>, home: Home, at: LogicalBlock, bounds: Bounds) -> Result<Step> {
    let max = usize::from(node.max());
    let level = |entries, slot| Level { home, depth: node.depth, entries, max, slot };
    match node.entries {
        Entries::Leaf(extents) => {
            let last = extents.last().map_or(0, |extent| extent.get().end());
            if last > bounds.limit {
                let kind = CorruptKind::ExtentBounds { end: last.into(), limit: bounds.limit };
                return Err(node.corrupt(kind));
            }
            let slot = extents.partition_point(|extent| extent.block.get() <= at.get());
            let decoded = extents.iter().map(RawExtent::get).collect();
            Ok(Step::Leaf(level(extents.len(), slot), decoded, bounds.start))
        }
        Entries::Index(indexes) => {
            let after = indexes.partition_point(|index| index.block.get() <= at.get());
            // What lies before the first entry belongs to the first child.
            let slot = after.saturating_sub(1);
            let next = indexes.get(slot.saturating_add(1)).map(|next| next.block.get());
            let limit = next.map_or(bounds.limit, |next| next.min(bounds.limit));
            let empty = || node.corrupt(CorruptKind::ExtentEmpty { depth: node.depth });
            let index = indexes.get(slot).ok_or_else(empty)?;
            let key = LogicalBlock::new(index.block.get());
            let start = if slot == 0 { bounds.start } else { key.get() };
            let depth = node.depth.saturating_sub(1);
            let child = Child { block: index.child(), depth, key, limit };
            Ok(Step::Down(level(indexes.len(), slot), child, Bounds { start, limit }))
        }
    }
}

impl Path {
    /// The extent at or before the wanted block, and its place.
    pub(super) fn before(&self) -> Option<(usize, Extent)> {
        let slot = self.leaf.slot.checked_sub(1)?;
        self.extents.get(slot).map(|extent| (slot, *extent))
    }

    /// Nodes that must be allocated before `more` entries fit into the leaf.
    pub(super) fn room_cost(&self, more: usize) -> u64 {
        if self.leaf.room() >= more {
            return 0;
        }
        let full = self.indexes.iter().rev().take_while(|level| level.room() == 0).count();
        // Each full node is split; the root cannot be, the tree grows by a level instead.
        crate::ids::on_disk(full).saturating_add(1)
    }
}
