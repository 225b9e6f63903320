//! Directories with a hash index: binary search down to a leaf, and leaf after leaf in hash order.
//!
//! A leaf is a block of entries whose hashes lie between its index entry's and the next one's. Names
//! of equal hash may spill into the leaf after, whose index entry then has bit 0 set.
//! Kernel: fs/ext4/namei.c `dx_probe`, `ext4_htree_next_block`, `ext4_htree_fill_tree`

use std::sync::Arc;

use super::block::{Directory, Found};
use super::hash::{HashVersion, Hasher};
use super::order::{self, Batch, Cursor};
use super::{Emit, Wanted, linear};
use crate::cache::{self, Block};
use crate::disk::dirent::Entries;
use crate::disk::dx::{self, RawDxEntry, Role};
use crate::error::{CorruptKind, Result};
use crate::features::Incompat;
use crate::ids::LogicalBlock;

/// EXT4_HTREE_LEVEL_COMPAT and EXT4_HTREE_LEVEL: depths without and with large_dir.
const LEVELS: u8 = 2;
const LEVELS_LARGE_DIR: u8 = 3;

/// The most levels of index blocks (`ext4_dir_htree_level`).
pub(super) fn most_levels(dir: &Directory<'_>) -> u8 {
    let large = dir.volume.geometry.features.incompat.contains(Incompat::LARGEDIR);
    if large { LEVELS_LARGE_DIR } else { LEVELS }
}

/// The root of an index, checked.
pub(super) struct Root {
    block: Arc<Block>,
    count: usize,
    indirect_levels: u8,
    pub(super) hasher: Hasher,
}

impl Root {
    /// Reads and checks block 0 of an indexed directory.
    ///
    /// # Errors
    /// `Dx…` corruption; I/O errors.
    pub(super) fn read(dir: &Directory<'_>) -> Result<Self> {
        let (block, count) = read_node(dir, Role::Root, LogicalBlock::new(0))?;
        let info = dx::root_info(block.bytes(), most_levels(dir))
            .map_err(|error| dir.located(error, &block))?;
        let version = HashVersion::from_disk(info.hash_version)
            .filter(|version| (*version == HashVersion::Siphash) == dir.layout.hash_in_dirent);
        let Some(version) = version else {
            let kind = CorruptKind::DxHashVersion { version: info.hash_version };
            return Err(dir.corrupt(Some(block.nr()), kind));
        };
        let hasher = Hasher::new(&dir.volume.geometry, version);
        Ok(Self { block, count, indirect_levels: info.indirect_levels, hasher })
    }
}

/// Reads an index block, checks it, and tells how many entries it uses.
fn read_node(dir: &Directory<'_>, role: Role, at: LogicalBlock) -> Result<(Arc<Block>, usize)> {
    let block = dir.block_or_hole_error(at)?;
    let seed = dir.inode.checksum_seed;
    // The shape first: a block of another kind in this place has no checksum of this kind.
    let entries = dx::entries(dir.layout, role, block.bytes());
    let checked = entries.and_then(|entries| {
        block.verify_once(cache::Role::Index, |bytes| {
            dx::check_order(entries)?;
            dx::check_tail(dir.layout, role, seed, bytes)
        })?;
        Ok(entries.len())
    });
    let count = checked.map_err(|error| dir.located(error, &block))?;
    Ok((block, count))
}

/// One index block on the way to a leaf, and the entry taken in it.
#[derive(Clone)]
pub(super) struct Level {
    pub(super) block: Arc<Block>,
    pub(super) role: Role,
    pub(super) count: usize,
    pub(super) at: usize,
}

impl Level {
    fn entry(&self, at: usize) -> Option<&RawDxEntry> {
        dx::array(self.role, self.block.bytes(), self.count).get(at)
    }

    /// Takes the last entry whose hash is not above `hash`.
    fn search(&mut self, hash: u32) {
        let entries = dx::array(self.role, self.block.bytes(), self.count);
        // The first entry's hash field holds the counts; it takes all that is below the second.
        let above_first = entries.get(1..).unwrap_or_default();
        self.at = above_first.partition_point(|entry| entry.hash() <= hash);
    }
}

/// The way from the root to one leaf.
#[derive(Clone)]
pub(super) struct Path<'a> {
    dir: &'a Directory<'a>,
    /// At least one, the root first.
    pub(super) levels: Vec<Level>,
    /// The leaf's own lower bound, with the continuation bit.
    low: u32,
    /// Leaves that may still be visited.
    left: u64,
}

impl<'a> Path<'a> {
    /// Goes down to the leaf that holds `hash`.
    pub(super) fn probe(dir: &'a Directory<'a>, root: &Root, hash: u32) -> Result<Self> {
        let top = Level { block: root.block.clone(), role: Role::Root, count: root.count, at: 0 };
        let mut path = Self { dir, levels: vec![top], low: 0, left: dir.budget() };
        path.descend(root.indirect_levels, Some(hash))?;
        Ok(path)
    }

    /// Extends the path by `below` nodes, towards `hash` or along the first entries.
    fn descend(&mut self, below: u8, hash: Option<u32>) -> Result<()> {
        for more in (0..=below).rev() {
            let Some(level) = self.levels.last_mut() else { break };
            if let Some(hash) = hash {
                level.search(hash);
            }
            if level.at > 0 {
                self.low = level.entry(level.at).map_or(0, RawDxEntry::hash);
            }
            if more > 0 {
                let at = self.below();
                let (block, count) = read_node(self.dir, Role::Node, at)?;
                self.levels.push(Level { block, role: Role::Node, count, at: 0 });
            }
        }
        Ok(())
    }

    /// The block that the path leads to.
    fn below(&self) -> LogicalBlock {
        let entry = self.levels.last().and_then(|level| level.entry(level.at));
        entry.map_or(LogicalBlock::new(0), RawDxEntry::block)
    }

    /// The leaf, checked against its checksum.
    pub(super) fn leaf(&mut self) -> Result<Arc<Block>> {
        let at = self.below();
        // Block 0 is the root, and no leaf.
        let left = self.left.checked_sub(1).filter(|_| at.get() != 0);
        let Some(left) = left else {
            return Err(self.dir.corrupt(None, CorruptKind::DxCycle { block: at.get() }));
        };
        self.left = left;
        let block = self.dir.block_or_hole_error(at)?;
        self.dir.verify_entries(&block)?;
        Ok(block)
    }

    /// The lower bound of the next leaf, with the continuation bit.
    fn next_low(&self) -> Option<u32> {
        let mut levels = self.levels.iter().rev();
        levels.find_map(|level| level.entry(level.at.saturating_add(1))).map(RawDxEntry::hash)
    }

    /// Moves to the next leaf; `false` at the last one.
    pub(super) fn advance(&mut self) -> Result<bool> {
        let has_next = |level: &Level| level.at.saturating_add(1) < level.count;
        let Some(turn) = self.levels.iter().rposition(has_next) else { return Ok(false) };
        let below = self.levels.len().saturating_sub(turn).saturating_sub(1);
        self.levels.truncate(turn.saturating_add(1));
        if let Some(level) = self.levels.last_mut() {
            level.at = level.at.saturating_add(1);
        }
        self.descend(u8::try_from(below).unwrap_or(LEVELS_LARGE_DIR), None)?;
        Ok(true)
    }

    /// Gathers the entries of this leaf, and of those after it as long as they continue it. The path
    /// is at the last of them then.
    fn gather(&mut self, batch: &mut Batch<'_>) -> Result<()> {
        loop {
            let leaf = self.leaf()?;
            let next = self.next_low();
            let continues = next.is_some_and(|next| next & 1 != 0);
            let high = match next {
                None => order::LAST,
                Some(next) if continues => next & !1,
                Some(next) => next.saturating_sub(2),
            };
            let entries = Entries::new(self.dir.layout, leaf.bytes());
            batch.add(entries, self.low & !1, high, Some(leaf.nr()));
            if !continues || !self.advance()? {
                return Ok(());
            }
        }
    }
}

/// Looks `wanted` up through the index.
///
/// # Errors
/// Corruption of the index or of a leaf that was searched: the caller can still search linearly.
pub(super) fn find(dir: &Directory<'_>, wanted: &Wanted<'_>) -> Result<Option<Found>> {
    let root = Root::read(dir)?;
    let hash = wanted.hash(dir, &root.hasher).major;
    let mut path = Path::probe(dir, &root, hash)?;
    loop {
        let leaf = path.leaf()?;
        if let Some(found) = linear::find_in(dir, path.below(), &leaf, wanted)? {
            return Ok(Some(found));
        }
        let continues = path.next_low().is_some_and(|next| next & !1 == hash);
        if !continues || !path.advance()? {
            return Ok(None);
        }
    }
}

/// Emits entries in hash order.
pub(super) fn iterate(
    dir: &Directory<'_>,
    root: &Root,
    cookie: u64,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let first = Entries::new(dir.layout, root.block.bytes());
    if order::list_dots(&first, cookie, emit).is_break() {
        return Ok(());
    }
    let mut cursor = Cursor::new(cookie);
    let mut path = Path::probe(dir, root, cursor.major())?;
    loop {
        let start = path.clone();
        let flow = order::list(dir, &root.hasher, &mut cursor, emit, &mut |batch| {
            path.clone_from(&start);
            path.gather(batch)
        })?;
        if flow.is_break() || !path.advance()? {
            return Ok(());
        }
    }
}
