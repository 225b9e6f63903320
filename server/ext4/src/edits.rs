//! What fast commits changed, kept in memory over a file system that may not be written.
//!
//! Three layers ask here before they believe the disk: the inode table (a whole inode), block maps
//! (a range of a file) and directories (a name). Built once, at mount.
//! # Locking
//! Immutable after mount.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::FileKind;
use crate::map::Mapping;

/// Directory cookies from here on are those of added names: half-hash 0x7fffffff, which no name has.
const ADDED_COOKIES: u64 = 0x7fff_ffff_0000_0000;

/// All changes, by inode.
#[derive(Debug, Default)]
pub(crate) struct Edits {
    inodes: BTreeMap<InodeNr, Edit>,
    space: SpaceChange,
}

/// How much more is in use than the group descriptors know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct SpaceChange {
    /// Clusters.
    pub(crate) clusters: i64,
    /// Inodes.
    pub(crate) inodes: i64,
}

/// One inode that was changed.
pub(crate) struct Edited<'a> {
    pub(crate) inode: InodeNr,
    /// Changed names, if it is a directory that has any.
    pub(crate) names: Option<&'a Names>,
    /// It lost all it had on the disk, and may be another one now.
    pub(crate) was_freed: bool,
    ranges: &'a Ranges,
}

impl Edited<'_> {
    /// Changed ranges: first logical block, blocks, and what they are now.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (u32, u32, Backing)> {
        self.ranges.0.iter().map(|(logical, (len, backing))| (*logical, *len, *backing))
    }
}

/// Changes of one inode.
#[derive(Debug, Default)]
struct Edit {
    raw: Option<Box<[u8]>>,
    was_freed: bool,
    ranges: Ranges,
    names: Option<Names>,
}

impl Edits {
    /// All changed inodes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Edited<'_>> {
        self.inodes.iter().map(|(inode, edit)| Edited {
            inode: *inode,
            names: edit.names.as_ref(),
            was_freed: edit.was_freed,
            ranges: &edit.ranges,
        })
    }

    /// What the changes did to the free space.
    pub(crate) fn space(&self) -> SpaceChange {
        self.space
    }

    pub(crate) fn set_space(&mut self, space: SpaceChange) {
        self.space = space;
    }

    /// The inode as it would stand in the inode table, its checksum aside.
    pub(crate) fn inode(&self, nr: InodeNr) -> Option<&[u8]> {
        self.inodes.get(&nr)?.raw.as_deref()
    }

    pub(crate) fn set_inode(&mut self, nr: InodeNr, raw: Box<[u8]>) {
        self.inodes.entry(nr).or_default().raw = Some(raw);
    }

    /// Forgets which blocks the inode has: it was freed, and may come back as another.
    pub(crate) fn clear_map(&mut self, nr: InodeNr) {
        let edit = self.inodes.entry(nr).or_default();
        edit.was_freed = true;
        edit.ranges = Ranges::default();
        edit.names = None;
    }

    /// What backs `at`, where `on_disk` answers for what was not changed.
    ///
    /// # Errors
    /// Those of `on_disk`.
    pub(crate) fn map<E>(
        &self,
        nr: InodeNr,
        at: LogicalBlock,
        on_disk: impl FnOnce() -> Result<Mapping, E>,
    ) -> Result<Mapping, E> {
        match self.inodes.get(&nr) {
            Some(edit) => edit.ranges.map(at, on_disk),
            None => on_disk(),
        }
    }

    /// From now on `len` blocks from `logical` are `to`.
    pub(crate) fn set_range(&mut self, nr: InodeNr, logical: LogicalBlock, len: u32, to: Backing) {
        self.inodes.entry(nr).or_default().ranges.set(logical.get(), len, to);
    }

    /// What changed in the directory `nr`.
    pub(crate) fn names(&self, nr: InodeNr) -> Option<&Names> {
        self.inodes.get(&nr)?.names.as_ref()
    }

    pub(crate) fn names_mut(&mut self, nr: InodeNr) -> &mut Names {
        self.inodes.entry(nr).or_default().names.get_or_insert_default()
    }
}

/// What a changed range is backed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Backing {
    Hole,
    Unwritten(BlockNr),
    Written(BlockNr),
}

impl Backing {
    /// What backs the blocks from the `skip`th on.
    pub(crate) fn after(self, skip: u32) -> Self {
        let later = |first: BlockNr| BlockNr::new(first.get().saturating_add(skip.into()));
        match self {
            Self::Hole => Self::Hole,
            Self::Unwritten(first) => Self::Unwritten(later(first)),
            Self::Written(first) => Self::Written(later(first)),
        }
    }

    fn mapping(self, len: u32) -> Mapping {
        match self {
            Self::Hole => Mapping::Hole { len },
            Self::Unwritten(first) => Mapping::Unwritten { first, len },
            Self::Written(first) => Mapping::Written { first, len },
        }
    }
}

/// Changed ranges of one file, by first logical block; they do not overlap.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u32, (u32, Backing)>);

impl Ranges {
    /// The range that `at` is in, cut to start there.
    fn get(&self, at: u32) -> Option<(u32, Backing)> {
        let (first, (len, backing)) = self.0.range(..=at).next_back()?;
        let skip = at.saturating_sub(*first);
        let left = len.checked_sub(skip).filter(|&left| left > 0)?;
        Some((left, backing.after(skip)))
    }

    fn set(&mut self, first: u32, len: u32, to: Backing) {
        let len = len.min(u32::MAX.saturating_sub(first));
        let end = first.saturating_add(len);
        if len == 0 {
            return;
        }
        let after = self.get(end);
        if let Some((at, range)) = self.0.range_mut(..first).next_back() {
            range.0 = range.0.min(first.saturating_sub(*at));
        }
        let inside: Vec<u32> = self.0.range(first..end).map(|(at, _)| *at).collect();
        for at in inside {
            self.0.remove(&at);
        }
        self.0.insert(first, (len, to));
        if let Some(after) = after {
            self.0.insert(end, after);
        }
    }

    fn map<E>(
        &self,
        at: LogicalBlock,
        on_disk: impl FnOnce() -> Result<Mapping, E>,
    ) -> Result<Mapping, E> {
        if let Some((len, backing)) = self.get(at.get()) {
            return Ok(backing.mapping(len));
        }
        let mapping = on_disk()?;
        let next = self.0.range(at.get()..).next().map_or(u32::MAX, |(first, _)| *first);
        let most = next.saturating_sub(at.get());
        Ok(match mapping {
            Mapping::Hole { len } => Mapping::Hole { len: len.min(most) },
            Mapping::Unwritten { first, len } => Mapping::Unwritten { first, len: len.min(most) },
            Mapping::Written { first, len } => Mapping::Written { first, len: len.min(most) },
        })
    }
}

/// A name that is not on the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AddedName {
    pub(crate) name: Box<[u8]>,
    pub(crate) inode: InodeNr,
    pub(crate) kind: FileKind,
    /// Where a listing goes on after it.
    pub(crate) cookie: u64,
}

/// Changed names of one directory. A key is what stands for a name when two are compared: the name
/// itself, or what it folds to.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// Nothing of the directory is on the disk.
    fresh: bool,
    removed: BTreeSet<Box<[u8]>>,
    added: BTreeMap<u64, AddedName>,
    by_key: BTreeMap<Box<[u8]>, u64>,
}

impl Names {
    /// Starts over with a directory of which nothing is on the disk.
    pub(crate) fn start_fresh(&mut self) {
        *self = Self { fresh: true, ..Self::default() };
    }

    /// Whether the directory's blocks are to be left alone.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Whether the name with `key` on the disk is no longer there.
    pub(crate) fn is_removed(&self, key: &[u8]) -> bool {
        self.removed.contains(key)
    }

    /// Names that are no longer on the disk, as their keys.
    pub(crate) fn removed(&self) -> impl Iterator<Item = &[u8]> {
        self.removed.iter().map(|key| &**key)
    }

    /// The inode of the added name with `key`.
    pub(crate) fn get(&self, key: &[u8]) -> Option<InodeNr> {
        self.added.get(self.by_key.get(key)?).map(|added| added.inode)
    }

    /// Added names whose place in a listing is after `cookie`, in order.
    pub(crate) fn after(&self, cookie: u64) -> impl Iterator<Item = &AddedName> {
        self.added.range(cookie.saturating_add(1)..).map(|(_, added)| added)
    }

    /// Adds a name that is not there.
    pub(crate) fn add(&mut self, key: &[u8], name: &[u8], inode: InodeNr, kind: FileKind) {
        let last = self.added.last_key_value().map_or(ADDED_COOKIES, |(cookie, _)| *cookie);
        let cookie = last.saturating_add(1);
        self.by_key.insert(key.into(), cookie);
        self.added.insert(cookie, AddedName { name: name.into(), inode, kind, cookie });
    }

    /// Takes away a name that is there, added or on the disk.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        match self.by_key.remove(key) {
            Some(cookie) => drop(self.added.remove(&cookie)),
            None => drop(self.removed.insert(key.into())),
        }
    }
}

/// Whether a listing that goes on at `cookie` is past the names on the disk.
pub(crate) fn is_past_disk(cookie: u64) -> bool {
    cookie >= ADDED_COOKIES
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: InodeNr = InodeNr::new(12);

    fn block(nr: u64) -> BlockNr {
        BlockNr::new(nr)
    }

    /// The map of a file whose blocks on the disk are written from 1000 on.
    fn seen(edits: &Edits, blocks: u32) -> Vec<u64> {
        let mut seen = Vec::new();
        let mut at = 0;
        while at < blocks {
            let on_disk = || {
                let first = block(1000).checked_add(at.into()).unwrap();
                Ok::<_, ()>(Mapping::Written { first, len: 100 })
            };
            let mapping = edits.map(FILE, LogicalBlock::new(at), on_disk).unwrap();
            let len = mapping.blocks();
            assert!(len > 0);
            seen.extend((0..len).map(|index| match mapping {
                Mapping::Hole { .. } => 0,
                Mapping::Unwritten { .. } => 1,
                Mapping::Written { first, .. } => first.get().checked_add(index.into()).unwrap(),
            }));
            at = at.checked_add(len).unwrap();
        }
        seen.truncate(blocks.try_into().unwrap());
        seen
    }

    fn set(edits: &mut Edits, logical: u32, len: u32, to: Backing) {
        edits.set_range(FILE, LogicalBlock::new(logical), len, to);
    }

    #[test]
    fn a_file_that_was_not_changed_is_as_on_the_disk() {
        assert_eq!(seen(&Edits::default(), 3), [1000, 1001, 1002]);
    }

    #[test]
    fn later_changes_win_over_earlier_ones_and_over_the_disk() {
        let mut edits = Edits::default();
        set(&mut edits, 2, 5, Backing::Written(block(50)));
        assert_eq!(seen(&edits, 8), [1000, 1001, 50, 51, 52, 53, 54, 1007]);
        set(&mut edits, 4, 1, Backing::Hole);
        assert_eq!(seen(&edits, 8), [1000, 1001, 50, 51, 0, 53, 54, 1007]);
        set(&mut edits, 3, 3, Backing::Unwritten(block(9)));
        assert_eq!(seen(&edits, 8), [1000, 1001, 50, 1, 1, 1, 54, 1007]);
        set(&mut edits, 0, 8, Backing::Written(block(70)));
        assert_eq!(seen(&edits, 9), [70, 71, 72, 73, 74, 75, 76, 77, 1008]);
    }

    #[test]
    fn every_pair_of_ranges_leaves_each_block_with_the_last_that_covers_it() {
        for (first, len) in (0..6).flat_map(|first| (1..4).map(move |len| (first, len))) {
            for (second, len2) in (0..6).flat_map(|first| (1..4).map(move |len| (first, len))) {
                let mut edits = Edits::default();
                set(&mut edits, 1, 5, Backing::Written(block(20)));
                set(&mut edits, first, len, Backing::Written(block(40)));
                set(&mut edits, second, len2, Backing::Hole);
                let expected: Vec<u64> = (0..9_u32)
                    .map(|at| {
                        let inside =
                            |from: u32, len: u32| (from..from.saturating_add(len)).contains(&at);
                        let skip = |from: u32| u64::from(at.saturating_sub(from));
                        match at {
                            _ if inside(second, len2) => 0,
                            _ if inside(first, len) => skip(first).saturating_add(40),
                            _ if inside(1, 5) => skip(1).saturating_add(20),
                            _ => u64::from(at).saturating_add(1000),
                        }
                    })
                    .collect();
                assert_eq!(seen(&edits, 9), expected, "{first}+{len} {second}+{len2}");
            }
        }
    }

    #[test]
    fn ranges_past_the_last_block_are_cut() {
        let mut edits = Edits::default();
        set(&mut edits, u32::MAX - 1, 100, Backing::Hole);
        set(&mut edits, u32::MAX, 100, Backing::Hole);
        let at = LogicalBlock::new(u32::MAX - 1);
        let mapping = edits.map(FILE, at, || Err(())).unwrap();
        assert_eq!(mapping, Mapping::Hole { len: 1 });
    }

    #[test]
    fn names_come_and_go_and_keep_their_cookies() {
        let mut names = Names::default();
        names.add(b"a", b"a", FILE, FileKind::Regular);
        names.add(b"b", b"b", FILE, FileKind::Regular);
        names.add(b"c", b"c", FILE, FileKind::Regular);
        let before: Vec<u64> = names.after(0).map(|added| added.cookie).collect();
        assert!(before.iter().all(|&cookie| is_past_disk(cookie) && i64::try_from(cookie).is_ok()));
        names.remove(b"b");
        names.remove(b"on disk");
        let left: Vec<&[u8]> = names.after(0).map(|added| &*added.name).collect();
        assert_eq!(left, [b"a", b"c"]);
        let after: Vec<u64> = names.after(before[0]).map(|added| added.cookie).collect();
        assert_eq!(after, [before[2]]);
        assert!(names.is_removed(b"on disk") && !names.is_removed(b"b"));
        assert_eq!((names.get(b"c"), names.get(b"b")), (Some(FILE), None));
        names.start_fresh();
        assert!(names.is_fresh() && names.after(0).next().is_none());
    }
}
