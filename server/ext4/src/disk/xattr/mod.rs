//! Extended attributes: a list of entries that grows up, and their values that grow down.
//!
//! The same list stands in an inode's tail (after a magic number) and in an attribute block (after a
//! header). Value offsets count from the first entry in an inode and from the block's start in a
//! block. Large values live in inodes of their own (ea_inode).
//! Source: Documentation/filesystems/ext4/attributes.rst

mod encode;

pub(crate) use encode::{
    entry_hash, needed, needed_by_values, room_in_block, room_in_inode, seal_block, to_block,
    to_inode,
};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::{ChecksumSeed, crc32c};
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::ids::{BlockNr, InodeNr};

/// h_magic, in inodes and in blocks.
const MAGIC: u32 = 0xea02_0000;
/// The largest value, XATTR_SIZE_MAX of the VFS: nothing larger can have been set.
const MAX_VALUE: u32 = 65536;
/// EXT4_XATTR_PAD: names and values are padded to it.
const PAD: usize = 4;

/// e_name_index of attributes the file system keeps for itself ("system.").
pub(crate) const INDEX_SYSTEM: u8 = 7;

/// `struct ext4_xattr_header`, the head of an attribute block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: U32,
    pub(crate) refcount: U32,
    pub(crate) blocks: U32,
    pub(crate) hash: U32,
    pub(crate) checksum: U32,
    pub(crate) reserved: [U32; 3],
}

/// `struct ext4_xattr_entry`; the name follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawEntry {
    pub(crate) name_len: u8,
    pub(crate) name_index: u8,
    pub(crate) value_offs: U16,
    pub(crate) value_inum: U32,
    pub(crate) value_size: U32,
    pub(crate) hash: U32,
}

const _: () = assert!(size_of::<RawHeader>() == 32);
const _: () = assert!(size_of::<RawEntry>() == 16);

/// One attribute, checked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry<'a> {
    /// e_name_index: which prefix the name has.
    pub(crate) index: u8,
    /// The name behind the prefix; may be empty.
    pub(crate) name: &'a [u8],
    /// e_hash.
    pub(crate) hash: u32,
    /// The value or where it is.
    pub(crate) value: Value<'a>,
}

/// A value, or where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value<'a> {
    /// Beside its entry.
    Here(&'a [u8]),
    /// The content of an inode.
    Inode {
        /// That inode; not checked to exist.
        nr: InodeNr,
        /// Bytes, 1..=65536.
        size: u32,
    },
}

/// The attributes in an inode's `tail`, in their order; none if it does not begin with the magic.
///
/// # Errors
/// Names or values that cannot be.
pub(crate) fn in_inode<'a>(
    geometry: &Geometry,
    place: Place,
    tail: &'a [u8],
) -> Result<Vec<Entry<'a>>> {
    match U32::ref_from_prefix(tail) {
        Ok((magic, list)) if magic.get() == MAGIC => {
            List { geometry, place, names: list, values: list }.entries()
        }
        _ => Ok(Vec::new()),
    }
}

/// The attributes in the block `nr`, in their order. The caller has seen [`check_block`] succeed.
///
/// # Errors
/// Names or values that cannot be.
pub(crate) fn in_block<'a>(
    geometry: &Geometry,
    place: Place,
    block: &'a [u8],
) -> Result<Vec<Entry<'a>>> {
    let names = block.get(size_of::<RawHeader>()..).unwrap_or_default();
    List { geometry, place, names, values: block }.entries()
}

/// How many inodes use the attribute block `block`, and its h_hash.
///
/// # Errors
/// A block too short for a header.
pub(crate) fn users(place: Place, block: &[u8]) -> Result<(u32, u32)> {
    let header: &RawHeader = prefix(place, block)?;
    Ok((header.refcount.get(), header.hash.get()))
}

/// Checks the header of an attribute block, and its checksum if there are any.
///
/// # Errors
/// A header field that cannot be; [`CorruptKind::XattrChecksum`].
pub(crate) fn check_block(
    geometry: &Geometry,
    place: Place,
    nr: BlockNr,
    block: &[u8],
) -> Result<()> {
    let header: &RawHeader = prefix(place, block)?;
    let (magic, blocks) = (header.magic.get(), header.blocks.get());
    if magic != MAGIC {
        return Err(Error::corrupt(place, CorruptKind::XattrMagic { magic }));
    }
    if blocks != 1 {
        return Err(Error::corrupt(place, CorruptKind::XattrBlocks { blocks }));
    }
    let stored = header.checksum.get();
    let computed = block_checksum(geometry.checksum_seed, nr, header, block);
    if geometry.features.metadata_csum() && stored != computed {
        return Err(Error::corrupt(place, CorruptKind::XattrChecksum { stored, computed }));
    }
    Ok(())
}

/// Over the block's number and the block with h_checksum as zero: blocks are shared between inodes,
/// so no inode is part of it.
fn block_checksum(seed: ChecksumSeed, nr: BlockNr, header: &RawHeader, block: &[u8]) -> u32 {
    let header = RawHeader { checksum: U32::ZERO, ..*header };
    let rest = block.get(size_of::<RawHeader>()..).unwrap_or_default();
    let seed = seed.chain(U64::new(nr.get()).as_bytes()).chain(header.as_bytes());
    seed.of(rest)
}

/// The hash of a name and the hash of its value, as entries of value inodes hold it in e_hash.
/// Some kernels took the name's bytes as signed; both results were written.
pub(crate) fn entry_hashes(name: &[u8], value_hash: u32) -> [u32; 2] {
    let fold = |widen: fn(u8) -> u32| {
        let name = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ widen(*byte));
        name.rotate_left(16) ^ value_hash
    };
    [fold(u32::from), fold(|byte| i32::from(byte.cast_signed()).cast_unsigned())]
}

/// The hash of a value that has an inode of its own.
pub(crate) fn value_hash(seed: ChecksumSeed, value: &[u8]) -> u32 {
    crc32c(seed.get(), value)
}

/// A list of entries and the bytes that their value offsets count in; both end at the same byte.
struct List<'a, 'g> {
    geometry: &'g Geometry,
    place: Place,
    names: &'a [u8],
    values: &'a [u8],
}

impl<'a> List<'a, '_> {
    /// Checks as the kernel's `check_xattrs`: first all names, which tells where values may begin,
    /// then the values.
    fn entries(&self) -> Result<Vec<Entry<'a>>> {
        let mut raw = Vec::new();
        let mut offset = 0_usize;
        while let Some(entry) = self.name_at(offset)? {
            offset = offset.saturating_add(padded(size_of::<RawEntry>(), entry.1.len()));
            raw.push(entry);
        }
        let names_end = self
            .values
            .len()
            .saturating_sub(self.names.len())
            .saturating_add(offset)
            .saturating_add(size_of::<U32>());
        raw.into_iter()
            .map(|(entry, name)| {
                let value = self.value(entry, names_end)?;
                Ok(Entry { index: entry.name_index, name, hash: entry.hash.get(), value })
            })
            .collect()
    }

    /// The entry at `offset`, or `None` where four zero bytes end the list.
    fn name_at(&self, offset: usize) -> Result<Option<(&'a RawEntry, &'a [u8])>> {
        let past_end = || self.corrupt(CorruptKind::XattrNames { offset });
        let bytes = self.names.get(offset..).ok_or_else(past_end)?;
        let (mark, _) = U32::ref_from_prefix(bytes).map_err(|_| past_end())?;
        if mark.get() == 0 {
            return Ok(None);
        }
        let (entry, rest) = RawEntry::ref_from_prefix(bytes).map_err(|_| past_end())?;
        let name = rest.get(..entry.name_len.into()).ok_or_else(past_end)?;
        if name.contains(&0) {
            return Err(self.corrupt(CorruptKind::XattrName { offset }));
        }
        Ok(Some((entry, name)))
    }

    fn value(&self, entry: &RawEntry, names_end: usize) -> Result<Value<'a>> {
        let (size, inum) = (entry.value_size.get(), entry.value_inum.get());
        if size > MAX_VALUE {
            return Err(self.corrupt(CorruptKind::XattrValueSize { size }));
        }
        if inum != 0 {
            return self.in_other_inode(inum, size);
        }
        if size == 0 {
            return Ok(Value::Here(&[]));
        }
        let offset = usize::from(entry.value_offs.get());
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let value = self
            .values
            .get(offset..)
            .filter(|rest| offset >= names_end && padded(0, size) <= rest.len())
            .and_then(|rest| rest.get(..size));
        value
            .map(Value::Here)
            .ok_or_else(|| self.corrupt(CorruptKind::XattrValueRange { offset, size }))
    }

    fn in_other_inode(&self, inum: u32, size: u32) -> Result<Value<'a>> {
        let geometry = self.geometry;
        let possible = geometry.features.incompat.contains(Incompat::EA_INODE)
            && (geometry.first_inode..=geometry.inodes_count).contains(&inum)
            && size > 0;
        if possible {
            return Ok(Value::Inode { nr: InodeNr::new(inum), size });
        }
        Err(self.corrupt(CorruptKind::XattrInode { inode: inum }))
    }

    fn corrupt(&self, kind: CorruptKind) -> Error {
        Error::corrupt(self.place, kind)
    }
}

/// `head` plus `len` bytes, rounded up to the padding.
fn padded(head: usize, len: usize) -> usize {
    len.checked_next_multiple_of(PAD).unwrap_or(usize::MAX).saturating_add(head)
}
