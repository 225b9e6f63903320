//! Surgery on extent trees: entries of a leaf are replaced, and whatever hangs on that follows: nodes
//! are split, the tree grows, keys are corrected upwards, empty nodes are freed.
//!
//! # Invariant
//! An index entry's key is the first logical block of its child; only the root may be empty.
//! Kernel: fs/ext4/extents.c `ext4_ext_create_new_leaf`, `ext4_ext_correct_indexes`, `ext4_ext_rm_idx`

use core::ops::Range;

use super::path::{Home, Level, Path, find};
use crate::alloc::Reservation;
use crate::disk::extent::{Extent, MAX_DEPTH, Node, NodeMut, RawEntry, RawIndex};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::handle::Handle;
use crate::ids::{BlockNr, LogicalBlock};
use crate::inode::Inode;
use crate::map::{free_node, node_block};

/// What becomes of a leaf: `put` stands where the extents at `slots` were.
pub(super) struct Plan {
    pub(super) slots: Range<usize>,
    pub(super) put: Vec<Extent>,
}

/// Where nodes come from: none may be needed where there is no reservation.
pub(super) type Nodes<'r, 'v> = Option<&'r mut Reservation<'v>>;

/// Carries out what `plan` says about the leaf where `at` is or belongs. The plan is made again if
/// room had to be made for it first.
///
/// # Errors
/// Those of `plan`, before anything has changed; corruption; I/O errors; [`Refusal::NoSpace`] if
/// nodes are needed and none are reserved.
pub(super) fn rewrite(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    at: LogicalBlock,
    nodes: Nodes<'_, '_>,
    plan: impl Fn(&Path) -> Result<Plan>,
) -> Result<()> {
    let mut path = find(handle.volume(), inode, at)?;
    let mut change = plan(&path)?;
    let more = change.put.len().saturating_sub(change.slots.len());
    if path.leaf.room() < more {
        let reservation = nodes.ok_or(Refusal::NoSpace)?;
        path = make_room(handle, inode, at, more, reservation)?;
        change = plan(&path)?;
    }
    let raw: Vec<RawEntry> = change.put.iter().map(Extent::raw).collect();
    let (start, count) = (change.slots.start, change.slots.len());
    let left = path.leaf.entries.saturating_sub(count).saturating_add(raw.len());
    if left == 0 && path.leaf.home != Home::Root {
        return remove_node(handle, inode, &path, path.indexes.len());
    }
    edit(handle, inode, path.leaf.home, |node| node.splice(start, count, &raw))?;
    let before = path.extents.first().map(|extent| extent.at);
    let first = change.put.iter().chain(path.extents.get(change.slots.end..).unwrap_or_default());
    match first.map(|extent| extent.at).next() {
        Some(key) if start == 0 && Some(key) != before => {
            correct_keys(handle, inode, &path.indexes, key)
        }
        _ => Ok(()),
    }
}

/// The path to `at` once its leaf has room for `more` entries (at most two).
fn make_room(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    at: LogicalBlock,
    more: usize,
    reservation: &mut Reservation<'_>,
) -> Result<Path> {
    // Each turn splits one level or adds one.
    for _ in 0..=MAX_DEPTH.saturating_add(2) {
        let path = find(handle.volume(), inode, at)?;
        if path.leaf.room() >= more {
            return Ok(path);
        }
        match path.indexes.iter().rposition(|level| level.room() > 0) {
            Some(parent) => split_below(handle, inode, &path, parent, reservation)?,
            None => grow(handle, inode, &path, reservation)?,
        }
    }
    let kind = CorruptKind::ExtentTooDeep { depth: MAX_DEPTH, max: MAX_DEPTH };
    Err(Error::corrupt(Place::inode(inode.nr), kind))
}

/// Splits the node below `path.indexes[parent]`, which has room for one more entry. A path to the
/// node's end leaves it full, so that a file that is appended to has full leaves.
fn split_below(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    path: &Path,
    parent: usize,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let Some(above) = path.indexes.get(parent) else { return Ok(()) };
    let below = path.indexes.get(parent.saturating_add(1)).unwrap_or(&path.leaf);
    let is_leaf = below.depth == 0;
    let last = below.entries.saturating_sub(1);
    let at_end = if is_leaf { below.slot > last } else { below.slot == last };
    let cut = if at_end { last } else { below.entries / 2 };
    let entries = entries_of(handle, inode, below)?;
    let moved = entries.get(cut..).unwrap_or_default();
    let key = key_of(moved);
    let nr = node_block(handle, inode, reservation)?;
    create(handle, inode, nr, below.depth, moved)?;
    edit(handle, inode, below.home, |node| node.splice(cut, moved.len(), &[]))?;
    let entry = RawIndex::entry(key, nr);
    let slot = above.slot.saturating_add(1);
    edit(handle, inode, above.home, |node| node.splice(slot, 0, &[entry]))
}

/// Moves all of the root into a block of its own, one level down.
fn grow(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    path: &Path,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let root = path.indexes.first().unwrap_or(&path.leaf);
    let depth = root.depth.saturating_add(1);
    if depth > MAX_DEPTH {
        let kind = CorruptKind::ExtentTooDeep { depth, max: MAX_DEPTH };
        return Err(Error::corrupt(Place::inode(inode.nr), kind));
    }
    let entries = entries_of(handle, inode, root)?;
    let nr = node_block(handle, inode, reservation)?;
    create(handle, inode, nr, root.depth, &entries)?;
    let entry = RawIndex::entry(key_of(&entries), nr);
    edit(handle, inode, Home::Root, |node| {
        node.splice(0, entries.len(), &[entry])?;
        node.set_depth(depth);
        Ok(())
    })
}

/// Frees the node at `level` of the path (`indexes.len()` is the leaf), which has lost its last
/// entry, and those above it that lose theirs by that.
fn remove_node(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    path: &Path,
    mut level: usize,
) -> Result<()> {
    loop {
        let node = path.indexes.get(level).unwrap_or(&path.leaf);
        let Home::Block(nr) = node.home else {
            return edit(handle, inode, Home::Root, |root| {
                root.splice(0, root.len().into(), &[])?;
                root.set_depth(0);
                Ok(())
            });
        };
        free_node(handle, inode, nr)?;
        let Some(parent) = level.checked_sub(1) else { return Ok(()) };
        let Some(above) = path.indexes.get(parent) else { return Ok(()) };
        if above.entries > 1 {
            edit(handle, inode, above.home, |node| node.splice(above.slot, 1, &[]))?;
            if above.slot == 0 {
                let key = key_of(&entries_of(handle, inode, above)?);
                let upwards = path.indexes.get(..parent).unwrap_or_default();
                return correct_keys(handle, inode, upwards, key);
            }
            return Ok(());
        }
        level = parent;
    }
}

/// Makes `key` the first logical block of the lowest of `indexes` and, as long as that is the first
/// entry of its node, of those above.
fn correct_keys(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    indexes: &[Level],
    key: LogicalBlock,
) -> Result<()> {
    for level in indexes.iter().rev() {
        edit(handle, inode, level.home, |node| node.set_key(level.slot, key))?;
        if level.slot > 0 {
            break;
        }
    }
    Ok(())
}

/// Changes a node and seals it.
fn edit(
    handle: &mut Handle<'_>,
    inode: &mut Inode,
    home: Home,
    change: impl FnOnce(&mut NodeMut<'_>) -> Result<()>,
) -> Result<()> {
    match home {
        Home::Root => change(&mut NodeMut::open(Place::inode(inode.nr), &mut inode.block)?),
        Home::Block(nr) => {
            let sums = handle.volume().geometry.features.metadata_csum();
            handle.edit(nr, |bytes| {
                let mut node = NodeMut::open(Place::block(nr), bytes)?;
                change(&mut node)?;
                if sums {
                    node.seal(inode.checksum_seed);
                }
                Ok(())
            })
        }
    }
}

/// Makes a node of `entries` in the fresh block `nr`.
fn create(
    handle: &mut Handle<'_>,
    inode: &Inode,
    nr: BlockNr,
    depth: u16,
    entries: &[RawEntry],
) -> Result<()> {
    let sums = handle.volume().geometry.features.metadata_csum();
    handle.create(nr, |bytes| {
        let mut node = NodeMut::create(Place::block(nr), bytes, depth)?;
        node.splice(0, 0, entries)?;
        if sums {
            node.seal(inode.checksum_seed);
        }
        Ok(())
    })
}

fn entries_of(handle: &Handle<'_>, inode: &Inode, level: &Level) -> Result<Vec<RawEntry>> {
    match level.home {
        Home::Root => Ok(Node::root(Place::inode(inode.nr), &inode.block)?.raw().to_vec()),
        Home::Block(nr) => {
            let block = handle.volume().metadata(nr)?;
            let node = Node::parse(Place::block(nr), block.bytes(), level.depth)?;
            Ok(node.raw().to_vec())
        }
    }
}

/// The first logical block of a node with these entries.
fn key_of(entries: &[RawEntry]) -> LogicalBlock {
    let [a, b, c, d, ..] = entries.first().copied().unwrap_or_default();
    LogicalBlock::new(u32::from_le_bytes([a, b, c, d]))
}
