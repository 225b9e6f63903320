//! Attribute lists become bytes: the other direction.
//!
//! A list is always written as a whole, entries from the front and values from the back, so that
//! all free space is in one piece between them.

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::{Entry, MAGIC, RawEntry, RawHeader, Value, block_checksum, padded};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::BlockNr;

/// Bytes of the mark that ends a list, and of the magic before an inode's.
const MARK: usize = size_of::<U32>();

impl Entry<'_> {
    /// Bytes that the entry takes in its list.
    fn entry_bytes(&self) -> usize {
        padded(size_of::<RawEntry>(), self.name.len())
    }

    /// Bytes that its value takes there.
    fn value_bytes(&self) -> usize {
        match self.value {
            Value::Here(value) => padded(0, value.len()),
            Value::Inode { .. } => 0,
        }
    }

    /// What attribute blocks are sorted by.
    pub(crate) fn key(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), self.name)
    }
}

/// Bytes that `entries` and the mark behind them take.
pub(crate) fn needed(entries: &[Entry<'_>]) -> usize {
    let each = |entry: &Entry<'_>| entry.entry_bytes().saturating_add(entry.value_bytes());
    entries.iter().map(each).fold(MARK, usize::saturating_add)
}

/// Bytes that their values take.
pub(crate) fn needed_by_values(entries: &[Entry<'_>]) -> usize {
    entries.iter().map(Entry::value_bytes).fold(0, usize::saturating_add)
}

/// Bytes for a list in an inode whose tail has `len`.
pub(crate) const fn room_in_inode(len: usize) -> usize {
    len.saturating_sub(MARK)
}

/// Bytes for a list in a block of `len`.
pub(crate) const fn room_in_block(len: usize) -> usize {
    len.saturating_sub(size_of::<RawHeader>())
}

/// A tail of `len` bytes with `entries`, or nothing but zeros if there are none. The caller knows
/// that they fit.
///
/// # Errors
/// [`CorruptKind::Truncated`] if they do not.
pub(crate) fn to_inode(entries: &[Entry<'_>], len: usize) -> Result<Box<[u8]>> {
    let mut tail = vec![0; len];
    if entries.is_empty() {
        return Ok(tail.into());
    }
    let (magic, list) = tail.split_at_mut_checked(MARK).ok_or_else(|| too_long(entries, len))?;
    magic.copy_from_slice(&MAGIC.to_le_bytes());
    put(entries, list, 0).ok_or_else(|| too_long(entries, len))?;
    Ok(tail.into())
}

/// A block of `len` bytes with `entries`, used once, without its checksum; see [`seal_block`].
///
/// # Errors
/// As [`to_inode`].
pub(crate) fn to_block(entries: &[Entry<'_>], len: usize) -> Result<Vec<u8>> {
    let mut block = vec![0; len];
    let at = size_of::<RawHeader>();
    put(entries, &mut block, at).ok_or_else(|| too_long(entries, len))?;
    let header = RawHeader {
        magic: U32::new(MAGIC),
        refcount: U32::new(1),
        blocks: U32::new(1),
        hash: U32::new(block_hash(entries)),
        checksum: U32::ZERO,
        reserved: [U32::ZERO; 3],
    };
    if let Some(place) = block.get_mut(..at) {
        place.copy_from_slice(header.as_bytes());
    }
    Ok(block)
}

/// Sets how many inodes use the attribute block `nr`, and makes its checksum right.
pub(crate) fn seal_block(geometry: &Geometry, nr: BlockNr, block: &mut [u8], refcount: u32) {
    let mut header = match <RawHeader as zerocopy::FromBytes>::read_from_prefix(block) {
        Ok((header, _)) => header,
        Err(_) => return,
    };
    header.refcount.set(refcount);
    if geometry.features.metadata_csum() {
        header.checksum.set(block_checksum(geometry.checksum_seed, nr, &header, block));
    }
    if let Some(place) = block.get_mut(..size_of::<RawHeader>()) {
        place.copy_from_slice(header.as_bytes());
    }
}

/// Writes `entries` into `bytes` from `at`; value offsets count from the start of `bytes`.
fn put(entries: &[Entry<'_>], bytes: &mut [u8], mut at: usize) -> Option<()> {
    let mut values = bytes.len();
    for entry in entries {
        let raw = RawEntry {
            name_len: u8::try_from(entry.name.len()).ok()?,
            name_index: entry.index,
            value_offs: U16::ZERO,
            value_inum: U32::ZERO,
            value_size: U32::ZERO,
            hash: U32::new(entry.hash),
        };
        let raw = match entry.value {
            Value::Inode { nr, size } => {
                RawEntry { value_inum: nr.get().into(), value_size: size.into(), ..raw }
            }
            Value::Here([]) => raw,
            Value::Here(value) => {
                values = values.checked_sub(padded(0, value.len()))?;
                bytes.get_mut(values..)?.get_mut(..value.len())?.copy_from_slice(value);
                let value_size = u32::try_from(value.len()).ok()?.into();
                RawEntry { value_offs: u16::try_from(values).ok()?.into(), value_size, ..raw }
            }
        };
        let end = at.checked_add(entry.entry_bytes())?;
        let place = bytes.get_mut(at..end)?;
        let (head, name) = place.split_at_mut_checked(size_of::<RawEntry>())?;
        head.copy_from_slice(raw.as_bytes());
        name.get_mut(..entry.name.len())?.copy_from_slice(entry.name);
        at = end;
    }
    // The mark must not be a value.
    (at.checked_add(MARK)? <= values).then_some(())
}

fn too_long(entries: &[Entry<'_>], have: usize) -> Error {
    let kind = CorruptKind::Truncated { needed: needed(entries), have };
    Error::corrupt(Place::default(), kind)
}

/// e_hash of an attribute whose value is in a block: over the name and the value's words.
pub(crate) fn entry_hash(name: &[u8], value: &[u8]) -> u32 {
    let hash = name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(MARK).fold(hash, |hash, chunk| {
        let mut word = [0; MARK];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}

/// h_hash of a block: 0, which is never shared, if one of its entries has no hash.
pub(crate) fn block_hash(entries: &[Entry<'_>]) -> u32 {
    if entries.iter().any(|entry| entry.hash == 0) {
        return 0;
    }
    entries.iter().fold(0_u32, |hash, entry| hash.rotate_left(16) ^ entry.hash)
}
