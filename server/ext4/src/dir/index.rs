//! Indexes are made, and grow: a full leaf is split by hash, then the node above it, and when all
//! nodes on the way are full the root moves into a node of its own.
//!
//! Kernel: fs/ext4/namei.c `make_indexed_dir`, `ext4_dx_add_entry`, `do_split`

use super::Wanted;
use super::block::Directory;
use super::grow::append;
use super::hash::Hasher;
use super::htree::{Level, Path, Root, most_levels};
use super::insert::{Plan, Step, put_into_packed, room_in};
use crate::alloc::Reservation;
use crate::cache::Block;
use crate::disk::checksum::ChecksumSeed;
use crate::disk::dirent::edit::{self, NewEntry, Piece};
use crate::disk::dirent::{DirLayout, Entries};
use crate::disk::dx::{self, RawDxEntry, Role};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::handle::Handle;
use crate::ids::{BlockNr, on_disk};
use crate::inode::{Inode, InodeFlags};

/// One way in which an index grows.
pub(super) enum Growth {
    /// A leaf is split, and the new name put into one half.
    Leaf { leaf: BlockNr, parent: NodeEntry, pieces: Vec<Hashed>, hash: u32 },
    /// A node is split.
    Node { node: BlockNr, parent: NodeEntry },
    /// The root's entries go into a node below it.
    Deepen { root: BlockNr },
}

/// An entry of an index block.
#[derive(Clone, Copy)]
pub(super) struct NodeEntry {
    block: BlockNr,
    role: Role,
    at: usize,
}

impl NodeEntry {
    fn of(level: &Level) -> Self {
        Self { block: level.block.nr(), role: level.role, at: level.at }
    }
}

/// An entry of a leaf with its name's hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Hashed {
    hash: u32,
    piece: Piece,
}

/// Looks for room in the leaf that `wanted` belongs to.
///
/// # Errors
/// [`Refusal::NoSpace`] if the index is full, [`Refusal::Exists`]; corruption.
pub(super) fn plan(dir: &Directory<'_>, wanted: &Wanted<'_>, need: u32) -> Result<Plan> {
    let root = Root::read(dir)?;
    let hash = wanted.hash(dir, &root.hasher).major;
    let mut path = Path::probe(dir, &root, hash)?;
    let leaf = path.leaf()?;
    if let Some(room) = room_in(dir, &leaf, wanted, need)? {
        return Ok(Plan { step: Step::Fill { block: leaf.nr(), room }, blocks: 0 });
    }
    let pieces = hashed(dir, &root.hasher, &leaf)?;
    let used = pieces.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.piece.len.into()));
    if used.saturating_add(need.into()) <= on_disk(dir.layout.stretch_len()) {
        let pieces = pieces.iter().map(|entry| entry.piece).collect();
        return Ok(Plan { step: Step::Repack { leaf: leaf.nr(), pieces }, blocks: 0 });
    }
    plan_growth(dir, &path.levels, |parent| Growth::Leaf { leaf: leaf.nr(), parent, pieces, hash })
}

/// What must grow first so that there is room for a new leaf under the last of `levels`.
fn plan_growth(
    dir: &Directory<'_>,
    levels: &[Level],
    split_leaf: impl FnOnce(NodeEntry) -> Growth,
) -> Result<Plan> {
    let is_full = |level: &&Level| on_disk(level.count) >= level.role.limit(dir.layout);
    let full = levels.iter().rev().take_while(is_full).count();
    // Each full node is split, the leaf is; or, at the top, the root is copied, and then has room.
    let blocks = on_disk(full).saturating_add(1);
    let at = levels.len().saturating_sub(full);
    let growth = match (at.checked_sub(1).and_then(|above| levels.get(above)), levels.get(at)) {
        (Some(parent), None) => split_leaf(NodeEntry::of(parent)),
        (Some(parent), Some(node)) => {
            Growth::Node { node: node.block.nr(), parent: NodeEntry::of(parent) }
        }
        (None, _) if levels.len() >= usize::from(most_levels(dir)) => {
            return Err(Refusal::NoSpace.into());
        }
        (None, Some(root)) => Growth::Deepen { root: root.block.nr() },
        (None, None) => return Err(dir.corrupt(None, CorruptKind::DirHole { block: 0 })),
    };
    Ok(Plan { step: Step::Grow(growth), blocks })
}

/// The live entries of a leaf in hash order.
fn hashed(dir: &Directory<'_>, hasher: &Hasher, leaf: &Block) -> Result<Vec<Hashed>> {
    let mut all = Vec::new();
    for entry in Entries::new(dir.layout, edit::stretch(dir.layout, leaf.bytes())) {
        let entry = entry.map_err(|error| dir.located(error, leaf))?;
        if entry.inode.get() != 0 {
            let hash = dir.hash(hasher, entry.name).major;
            all.push(Hashed { hash, piece: Piece::of(&entry) });
        }
    }
    all.sort_by_key(|entry| entry.hash);
    Ok(all)
}

/// How many of the entries stay where a leaf is split: at least one, and about half of their bytes,
/// so that either half has room for any name.
fn split_at(pieces: &[Hashed]) -> usize {
    let len = |entry: &Hashed| entry.piece.len;
    let total = pieces.iter().map(len).fold(0, u32::saturating_add);
    let mut before = 0_u32;
    let stay = pieces
        .iter()
        .take_while(|entry| {
            let middle = before.saturating_add(len(entry) >> 1);
            before = before.saturating_add(len(entry));
            middle < total >> 1
        })
        .count();
    stay.clamp(1, pieces.len().saturating_sub(1).max(1))
}

impl Growth {
    /// Does it; whether `new` is in now.
    pub(super) fn take(
        self,
        handle: &mut Handle<'_>,
        dir: &mut Inode,
        new: &NewEntry<'_>,
        reservation: &mut Reservation<'_>,
    ) -> Result<bool> {
        match self {
            Self::Leaf { leaf, parent, pieces, hash } => {
                split_leaf(handle, dir, (leaf, parent, &pieces), (new, hash), reservation)?;
                return Ok(true);
            }
            Self::Node { node, parent } => split_node(handle, dir, node, parent, reservation)?,
            Self::Deepen { root } => deepen(handle, dir, root, reservation)?,
        }
        Ok(false)
    }
}

fn split_leaf(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    (leaf, parent, pieces): (BlockNr, NodeEntry, &[Hashed]),
    (new, hash): (&NewEntry<'_>, u32),
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let layout = DirLayout::of(&handle.volume().geometry, dir.flags);
    let seed = dir.checksum_seed;
    let old = handle.volume().metadata(leaf)?;
    let (low, high) = pieces.split_at_checked(split_at(pieces)).unwrap_or_default();
    let bound = high.first().map_or(hash, |entry| entry.hash);
    let continued = low.last().is_some_and(|entry| entry.hash == bound);
    let fill = |half: &[Hashed], new: Option<&NewEntry<'_>>, bytes: &mut [u8]| -> Result<()> {
        let half: Vec<Piece> = half.iter().map(|entry| entry.piece).collect();
        edit::pack(layout, old.bytes(), &half, edit::stretch_mut(layout, bytes))?;
        if let Some(new) = new {
            put_into_packed(layout, bytes, new)?;
        }
        edit::seal(layout, seed, bytes);
        Ok(())
    };
    let (in_low, in_high) = if hash >= bound { (None, Some(new)) } else { (Some(new), None) };
    let block = append(handle, dir, reservation, |bytes| fill(high, in_high, bytes))?;
    handle.edit(leaf, |bytes| fill(low, in_low, bytes))?;
    let entry = RawDxEntry::new(bound | u32::from(continued), block);
    insert_entry(handle, (layout, seed), parent, entry)
}

/// Moves the upper half of a node's entries into a node of their own.
fn split_node(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    node: BlockNr,
    parent: NodeEntry,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let layout = DirLayout::of(&handle.volume().geometry, dir.flags);
    let seed = dir.checksum_seed;
    let old = handle.volume().metadata(node)?;
    let entries = dx::entries(layout, Role::Node, old.bytes())?;
    let (low, high) = entries.split_at_checked(entries.len() >> 1).unwrap_or_default();
    let Some(bound) = high.first().map(RawDxEntry::hash) else {
        return Err(Error::corrupt(Place::block(node), CorruptKind::DxOrder {}));
    };
    let block = append(handle, dir, reservation, |bytes| {
        dx::make_node(layout, bytes)?;
        dx::store(layout, Role::Node, seed, bytes, high)
    })?;
    handle.edit(node, |bytes| dx::store(layout, Role::Node, seed, bytes, low))?;
    insert_entry(handle, (layout, seed), parent, RawDxEntry::new(bound, block))
}

/// Moves the root's entries into a node, which becomes the root's only entry.
fn deepen(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    root: BlockNr,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let layout = DirLayout::of(&handle.volume().geometry, dir.flags);
    let seed = dir.checksum_seed;
    let levels = most_levels(&Directory::new(handle.volume(), dir));
    let old = handle.volume().metadata(root)?;
    let entries = dx::entries(layout, Role::Root, old.bytes())?;
    let depth = dx::root_info(old.bytes(), levels)?.indirect_levels.saturating_add(1);
    let block = append(handle, dir, reservation, |bytes| {
        dx::make_node(layout, bytes)?;
        dx::store(layout, Role::Node, seed, bytes, entries)
    })?;
    handle.edit(root, |bytes| {
        dx::set_levels(bytes, depth)?;
        dx::store(layout, Role::Root, seed, bytes, &[RawDxEntry::new(0, block)])
    })
}

/// Puts an entry behind `after` into an index block that has room.
fn insert_entry(
    handle: &mut Handle<'_>,
    (layout, seed): (DirLayout, ChecksumSeed),
    after: NodeEntry,
    entry: RawDxEntry,
) -> Result<()> {
    let NodeEntry { block, role, at } = after;
    handle.edit(block, |bytes| {
        let mut entries = dx::entries(layout, role, bytes)?.to_vec();
        let place = at.saturating_add(1).min(entries.len());
        entries.insert(place, entry);
        dx::store(layout, role, seed, bytes, &entries)
    })
}

/// Whether the first block begins with "." and ".." in their usual places, as an index needs.
///
/// # Errors
/// [`CorruptKind::DirDots`]; other corruption.
pub(super) fn check_dots(dir: &Directory<'_>, block: &Block) -> Result<()> {
    let mut entries = Entries::new(dir.layout, block.bytes());
    for (offset, name) in [(0, b".".as_slice()), (12, b"..")] {
        let entry = entries.next().transpose().map_err(|error| dir.located(error, block))?;
        let there = entry.is_some_and(|entry| {
            entry.offset == offset && entry.name == name && entry.inode.get() != 0
        });
        if !there {
            return Err(dir.corrupt(Some(block.nr()), CorruptKind::DirDots {}));
        }
    }
    Ok(())
}

/// Blocks that a directory gets when its only one, `block`, becomes the root of an index, and a name of
/// `need` bytes goes into a leaf.
pub(super) fn blocks_to_make(layout: DirLayout, block: &[u8], need: u32) -> Result<u64> {
    let used = moved(layout, block)?.iter().map(|piece| piece.len).fold(need, u32::saturating_add);
    Ok(if u64::from(used) <= on_disk(layout.stretch_len()) { 1 } else { 2 })
}

/// The entries behind "." and "..", which leave the first block for a leaf.
fn moved(layout: DirLayout, block: &[u8]) -> Result<Vec<Piece>> {
    let entries = Entries::new(layout, edit::stretch(layout, block)).skip(2);
    let live = entries.filter(|entry| !entry.as_ref().is_ok_and(|entry| entry.inode.get() == 0));
    live.map(|entry| entry.map(|entry| Piece::of(&entry))).collect()
}

/// Turns the only block of a directory into the root of an index with one leaf, which gets the names.
/// The caller has seen [`check_dots`] succeed.
pub(super) fn make(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    (root, version): (BlockNr, u8),
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let layout = DirLayout::of(&handle.volume().geometry, dir.flags);
    let seed = dir.checksum_seed;
    let old = handle.volume().metadata(root)?;
    let pieces = moved(layout, old.bytes())?;
    let leaf = append(handle, dir, reservation, |bytes| {
        edit::pack(layout, old.bytes(), &pieces, edit::stretch_mut(layout, bytes))?;
        edit::seal(layout, seed, bytes);
        Ok(())
    })?;
    handle.edit(root, |bytes| {
        dx::make_root(layout, bytes, version)?;
        dx::store(layout, Role::Root, seed, bytes, &[RawDxEntry::new(0, leaf)])
    })?;
    dir.flags = dir.flags.with(InodeFlags::INDEX);
    Ok(())
}
