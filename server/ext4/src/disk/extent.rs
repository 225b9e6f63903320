//! Extent tree nodes: a header, then extents (depth 0) or index entries, then a checksum.
//!
//! The root node fills the 60 bytes of i_block and has no checksum: the inode's covers it.
//! Source: Documentation/filesystems/ext4/ifork.rst, "Extent Tree".

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::ChecksumSeed;
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::ids::{BlockNr, LogicalBlock};

/// eh_magic.
const MAGIC: u16 = 0xf30a;
/// EXT4_MAX_EXTENT_DEPTH: five levels of index nodes hold 2^32 blocks at any block size.
pub(crate) const MAX_DEPTH: u16 = 5;
/// EXT_INIT_MAX_LEN, the most blocks of an extent; a larger ee_len marks an unwritten one.
pub(crate) const MAX_WRITTEN: u16 = 32768;
/// EXT_UNWRITTEN_MAX_LEN.
pub(crate) const MAX_UNWRITTEN: u16 = MAX_WRITTEN - 1;

/// `struct ext4_extent_header`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: U16,
    pub(crate) entries: U16,
    pub(crate) max: U16,
    pub(crate) depth: U16,
    pub(crate) generation: U32,
}

/// `struct ext4_extent`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawExtent {
    pub(crate) block: U32,
    pub(crate) len: U16,
    pub(crate) start_hi: U16,
    pub(crate) start_lo: U32,
}

/// `struct ext4_extent_idx`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawIndex {
    pub(crate) block: U32,
    pub(crate) leaf_lo: U32,
    pub(crate) leaf_hi: U16,
    pub(crate) unused: U16,
}

const _: () = assert!(size_of::<RawHeader>() == 12);
const _: () = assert!(size_of::<RawExtent>() == 12);
const _: () = assert!(size_of::<RawIndex>() == 12);

/// A run of blocks, decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// ee_block.
    pub(crate) at: LogicalBlock,
    /// Where the run starts on the device.
    pub(crate) first: BlockNr,
    /// Blocks of the run, 0..=32768; 0 only in corrupt nodes.
    pub(crate) len: u16,
    /// Allocated but never written.
    pub(crate) unwritten: bool,
}

impl RawExtent {
    pub(crate) fn get(&self) -> Extent {
        let len = self.len.get();
        let unwritten = len > MAX_WRITTEN;
        Extent {
            at: LogicalBlock::new(self.block.get()),
            first: join(self.start_lo, self.start_hi),
            len: if unwritten { len.saturating_sub(MAX_WRITTEN) } else { len },
            unwritten,
        }
    }
}

impl RawIndex {
    /// The node one level down.
    pub(crate) fn child(&self) -> BlockNr {
        join(self.leaf_lo, self.leaf_hi)
    }
}

/// An extent or an index entry as it stands in a node: both have twelve bytes and begin with the
/// first logical block.
pub(crate) type RawEntry = [u8; 12];

impl Extent {
    /// The first logical block past it; past any file's last in corrupt nodes only.
    pub(crate) fn end(&self) -> u32 {
        self.at.get().saturating_add(self.len.into())
    }

    /// The part of it in `from..to`, if there is one.
    pub(crate) fn part(&self, from: u32, to: u32) -> Option<Self> {
        let start = self.at.get().max(from);
        let len = self.end().min(to).checked_sub(start).filter(|len| *len > 0)?;
        let skip = start.saturating_sub(self.at.get());
        Some(Self {
            at: LogicalBlock::new(start),
            first: self.first.checked_add(skip.into())?,
            len: u16::try_from(len).ok()?,
            unwritten: self.unwritten,
        })
    }

    /// This extent and `next` as one, if they are neighbours in the file and on the device, of the
    /// same state, and not too long together.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let most = if self.unwritten { MAX_UNWRITTEN } else { MAX_WRITTEN };
        let len = self.len.checked_add(next.len).filter(|len| *len <= most)?;
        let follows = self.end() == next.at.get()
            && self.first.checked_add(self.len.into()) == Some(next.first)
            && self.unwritten == next.unwritten;
        follows.then_some(Self { len, ..*self })
    }

    /// As it stands in a leaf.
    pub(crate) fn raw(&self) -> RawEntry {
        let mark = if self.unwritten { MAX_WRITTEN } else { 0 };
        let (lo, hi) = split(self.first);
        zerocopy::transmute!(RawExtent {
            block: self.at.get().into(),
            len: self.len.saturating_add(mark).into(),
            start_hi: hi,
            start_lo: lo,
        })
    }
}

impl RawIndex {
    /// The entry of the node in block `child` whose first logical block is `key`.
    pub(crate) fn entry(key: LogicalBlock, child: BlockNr) -> RawEntry {
        let (leaf_lo, leaf_hi) = split(child);
        zerocopy::transmute!(Self { block: key.get().into(), leaf_lo, leaf_hi, unused: U16::ZERO })
    }
}

fn split(nr: BlockNr) -> (U32, U16) {
    let [a, b, c, d, e, f, ..] = nr.get().to_le_bytes();
    (U32::from_bytes([a, b, c, d]), U16::from_bytes([e, f]))
}

fn join(lo: U32, hi: U16) -> BlockNr {
    BlockNr::new(u64::from(lo.get()) | u64::from(hi.get()) << 32)
}

/// What a node holds, by its depth.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Entries<'a> {
    /// Depth 0.
    Leaf(&'a [RawExtent]),
    /// Depth 1 and more.
    Index(&'a [RawIndex]),
}

/// A node whose header was checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    /// eh_depth: distance to the leaves; 0 is a leaf.
    pub(crate) depth: u16,
    /// The entries in use.
    pub(crate) entries: Entries<'a>,
    place: Place,
    bytes: &'a [u8],
    max: u16,
}

impl<'a> Node<'a> {
    /// The root node in `i_block`.
    ///
    /// # Errors
    /// Any header field that cannot be.
    pub(crate) fn root(place: Place, i_block: &'a [u8]) -> Result<Self> {
        let header: &RawHeader = prefix(place, i_block)?;
        let depth = header.depth.get();
        if header.magic.get() == MAGIC && depth > MAX_DEPTH {
            let kind = CorruptKind::ExtentTooDeep { depth, max: MAX_DEPTH };
            return Err(Error::corrupt(place, kind));
        }
        Self::parse(place, i_block, depth)
    }

    /// A node that must have this `depth`.
    ///
    /// # Errors
    /// Any header field that cannot be.
    pub(crate) fn parse(place: Place, bytes: &'a [u8], depth: u16) -> Result<Self> {
        let header: &RawHeader = prefix(place, bytes)?;
        let body = bytes.get(size_of::<RawHeader>()..).unwrap_or_default();
        let (entries, max) = (header.entries.get(), header.max.get());
        let room = body.len().checked_div(size_of::<RawExtent>()).unwrap_or(0);
        let kind = if header.magic.get() != MAGIC {
            CorruptKind::ExtentMagic { magic: header.magic.get() }
        } else if header.depth.get() != depth {
            CorruptKind::ExtentDepth { depth: header.depth.get(), expected: depth }
        } else if max == 0 || usize::from(max) > room {
            CorruptKind::ExtentMax { max, room }
        } else if entries > max {
            CorruptKind::ExtentEntries { entries, max }
        } else if entries == 0 && depth > 0 {
            CorruptKind::ExtentEmpty { depth }
        } else {
            let entries = entries_of(place, body, depth, entries.into())?;
            return Ok(Self { depth, entries, place, bytes, max });
        };
        Err(Error::corrupt(place, kind))
    }

    /// Checks the tail that follows the last entry there is room for (not in a root node).
    ///
    /// # Errors
    /// [`CorruptKind::ExtentChecksum`].
    pub(crate) fn check_checksum(&self, seed: ChecksumSeed) -> Result<()> {
        let covered = usize::from(self.max)
            .saturating_mul(size_of::<RawExtent>())
            .saturating_add(size_of::<RawHeader>());
        let (node, tail) = self.bytes.split_at_checked(covered).unwrap_or((self.bytes, &[]));
        let stored = prefix::<U32>(self.place, tail)?.get();
        let computed = seed.of(node);
        if stored == computed {
            return Ok(());
        }
        Err(self.corrupt(CorruptKind::ExtentChecksum { stored, computed }))
    }

    /// Checks that entries ascend without overlap and that their blocks are `valid`
    /// (`ext4_valid_extent_entries`).
    ///
    /// # Errors
    /// What is wrong with the first bad entry; what `valid` says.
    pub(crate) fn check_entries(&self, valid: impl Fn(BlockNr, u64) -> Result<()>) -> Result<()> {
        match self.entries {
            Entries::Leaf(extents) => self.check_extents(extents, valid),
            Entries::Index(indexes) => self.check_indexes(indexes, valid),
        }
    }

    fn check_extents(
        &self,
        extents: &[RawExtent],
        valid: impl Fn(BlockNr, u64) -> Result<()>,
    ) -> Result<()> {
        let mut previous_end = 0;
        for extent in extents.iter().map(RawExtent::get) {
            let (first, len) = (extent.at.get(), u32::from(extent.len));
            let Some(end) = first.checked_add(len).filter(|_| len > 0) else {
                return Err(self.corrupt(CorruptKind::ExtentLength { first, len }));
            };
            if u64::from(first) < previous_end {
                return Err(self.corrupt(CorruptKind::ExtentOrder { first, previous_end }));
            }
            valid(extent.first, len.into()).map_err(|error| self.locate(error))?;
            previous_end = end.into();
        }
        Ok(())
    }

    fn check_indexes(
        &self,
        indexes: &[RawIndex],
        valid: impl Fn(BlockNr, u64) -> Result<()>,
    ) -> Result<()> {
        let mut previous_end = 0;
        for index in indexes {
            let first = index.block.get();
            if u64::from(first) < previous_end {
                return Err(self.corrupt(CorruptKind::ExtentOrder { first, previous_end }));
            }
            valid(index.child(), 1).map_err(|error| self.locate(error))?;
            previous_end = u64::from(first).saturating_add(1);
        }
        Ok(())
    }

    /// Checks that the node begins where its parent's index entry says (an empty leaf may not
    /// begin at all).
    ///
    /// # Errors
    /// [`CorruptKind::ExtentKey`].
    pub(crate) fn check_key(&self, key: LogicalBlock) -> Result<()> {
        let first = match self.entries {
            Entries::Leaf(extents) => extents.first().map(|extent| extent.block),
            Entries::Index(indexes) => indexes.first().map(|index| index.block),
        };
        match first {
            Some(first) if first.get() != key.get() => {
                Err(self.corrupt(CorruptKind::ExtentKey { key: key.get(), first: first.get() }))
            }
            _ => Ok(()),
        }
    }

    /// eh_max: the entries there is room for.
    pub(crate) fn max(&self) -> u16 {
        self.max
    }

    /// The entries in use, whatever they are.
    pub(crate) fn raw(&self) -> &'a [RawEntry] {
        let bytes = match self.entries {
            Entries::Leaf(extents) => extents.as_bytes(),
            Entries::Index(indexes) => indexes.as_bytes(),
        };
        <[RawEntry]>::ref_from_bytes(bytes).unwrap_or_default()
    }

    /// An error about this node.
    pub(crate) fn corrupt(&self, kind: CorruptKind) -> Error {
        Error::corrupt(self.place, kind)
    }

    fn locate(&self, error: Error) -> Error {
        match self.place.block {
            Some(block) => error.at_block(block),
            None => error,
        }
    }
}

fn entries_of(place: Place, body: &[u8], depth: u16, count: usize) -> Result<Entries<'_>> {
    let too_short = || {
        let needed = count.saturating_mul(size_of::<RawExtent>());
        Error::corrupt(place, CorruptKind::Truncated { needed, have: body.len() })
    };
    if depth == 0 {
        let parsed = <[RawExtent]>::ref_from_prefix_with_elems(body, count);
        return parsed.map(|(all, _)| Entries::Leaf(all)).map_err(|_| too_short());
    }
    let parsed = <[RawIndex]>::ref_from_prefix_with_elems(body, count);
    parsed.map(|(all, _)| Entries::Index(all)).map_err(|_| too_short())
}

/// A node under change. Whoever changes a node has read it as a [`Node`] before, which checked it.
pub(crate) struct NodeMut<'a> {
    header: &'a mut RawHeader,
    body: &'a mut [u8],
    place: Place,
}

impl<'a> NodeMut<'a> {
    /// The node in `bytes`.
    ///
    /// # Errors
    /// [`CorruptKind::Truncated`].
    pub(crate) fn open(place: Place, bytes: &'a mut [u8]) -> Result<Self> {
        let (header, body) = super::split_mut(place, bytes)?;
        Ok(Self { header, body, place })
    }

    /// An empty node of `depth` in `bytes`, which fills the whole block.
    ///
    /// # Errors
    /// As [`NodeMut::open`].
    pub(crate) fn create(place: Place, bytes: &'a mut [u8], depth: u16) -> Result<Self> {
        bytes.fill(0);
        let node = Self::open(place, bytes)?;
        let room = node.body.len().checked_div(size_of::<RawEntry>()).unwrap_or(0);
        node.header.magic = MAGIC.into();
        node.header.max = u16::try_from(room).unwrap_or(u16::MAX).into();
        node.header.depth = depth.into();
        Ok(node)
    }

    pub(crate) fn set_depth(&mut self, depth: u16) {
        self.header.depth = depth.into();
    }

    /// Entries in use.
    pub(crate) fn len(&self) -> u16 {
        self.header.entries.get()
    }

    /// Puts `new` in the place of the `remove` entries from `at` on.
    ///
    /// # Errors
    /// [`CorruptKind::ExtentEntries`] if there is no room, which callers make sure of before.
    pub(crate) fn splice(&mut self, at: usize, remove: usize, new: &[RawEntry]) -> Result<()> {
        let (count, max) = (usize::from(self.len()), self.header.max.get());
        let behind = at.saturating_add(new.len());
        let rest = at.saturating_add(remove);
        let after = behind.saturating_add(count.saturating_sub(rest));
        let entries = u16::try_from(after).unwrap_or(u16::MAX);
        let kind = CorruptKind::ExtentEntries { entries, max };
        let place = self.place;
        let all = <[RawEntry]>::mut_from_prefix_with_elems(self.body, max.into());
        let all = all.ok().map(|(all, _)| all).filter(|_| entries <= max && rest <= count);
        let all = all.ok_or_else(|| Error::corrupt(place, kind))?;
        all.copy_within(rest..count, behind);
        all.iter_mut().skip(at).zip(new).for_each(|(to, from)| *to = *from);
        all.iter_mut().take(count).skip(after).for_each(|entry| entry.fill(0));
        self.header.entries = entries.into();
        Ok(())
    }

    /// Gives entry `at` the first logical block `key`.
    ///
    /// # Errors
    /// [`CorruptKind::ExtentEntries`] if there is no such entry.
    pub(crate) fn set_key(&mut self, at: usize, key: LogicalBlock) -> Result<()> {
        let entries = self.len();
        let kind = CorruptKind::ExtentEntries { entries, max: self.header.max.get() };
        let place = self.place;
        let all = <[RawIndex]>::mut_from_prefix_with_elems(self.body, entries.into());
        let index = all.ok().and_then(|(all, _)| all.get_mut(at));
        index.ok_or_else(|| Error::corrupt(place, kind))?.block = key.get().into();
        Ok(())
    }

    /// Writes the checksum behind the last entry there is room for; root nodes have none.
    pub(crate) fn seal(self, seed: ChecksumSeed) {
        let covered = usize::from(self.header.max.get()).saturating_mul(size_of::<RawEntry>());
        let Some((entries, tail)) = self.body.split_at_mut_checked(covered) else { return };
        let sum = seed.chain(self.header.as_bytes()).of(entries);
        if let Some(stored) = tail.first_chunk_mut::<4>() {
            *stored = sum.to_le_bytes();
        }
    }
}

/// Makes an i_block without a root an empty tree.
pub(crate) fn init_root_unless_there(i_block: &mut [u8; 60]) {
    const ROOM: u16 = 4;
    const { assert!(size_of::<RawHeader>() + size_of::<RawExtent>() * 4 == 60) };
    if let Ok((root, _)) = RawHeader::mut_from_prefix(i_block)
        && root.magic.get() != MAGIC
    {
        root.as_mut_bytes().fill(0);
        root.magic = MAGIC.into();
        root.max = ROOM.into();
    }
}
