//! The hash index of a directory: its root in block 0, behind "." and "..", and its inner nodes.
//!
//! Both hold a sorted array of (hash, block) pairs. The first pair stands for everything below the
//! second's hash, so its hash field holds the array's limit and count. To code without htree the
//! root looks like ".." filling the block, and an inner node like one unused entry.
//! Source: Documentation/filesystems/ext4/directory.rst, "Hash Tree Directories"; rules: `dx_probe`.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::ChecksumSeed;
use crate::disk::dirent::DirLayout;
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::ids::{LogicalBlock, in_memory, on_disk};

/// Bytes of "." and ".." before the root's own fields.
const ROOT_INFO: usize = 24;
/// Bytes of the unused entry before an inner node's array.
const NODE_ENTRIES: usize = 8;
/// The place of rec_len in an entry.
const REC_LEN: usize = 4;
/// Bytes of [`RawDxRootInfo`], the only info_length there is.
const INFO_LENGTH: u8 = 8;
/// The bits of a block pointer that count.
const BLOCK_MASK: u32 = 0x0fff_ffff;

/// `struct dx_root_info`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct RawDxRootInfo {
    pub(crate) reserved_zero: U32,  // 0x0
    pub(crate) hash_version: u8,    // 0x4
    pub(crate) info_length: u8,     // 0x5
    pub(crate) indirect_levels: u8, // 0x6
    pub(crate) unused_flags: u8,    // 0x7
}

/// `struct dx_entry`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawDxEntry {
    hash: U32,  // 0x0
    block: U32, // 0x4
}

const ENTRY: usize = size_of::<RawDxEntry>();

/// `struct dx_countlimit`, in place of the first entry's hash.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawDxCountLimit {
    limit: U16, // 0x0
    count: U16, // 0x2
}

/// `struct dx_tail`, behind the array's last possible entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawDxTail {
    reserved: U32, // 0x0
    checksum: U32, // 0x4
}

const TAIL: usize = size_of::<RawDxTail>();

impl RawDxEntry {
    /// An entry for `block`, which holds the hashes from `hash` on (with the continuation bit).
    pub(crate) fn new(hash: u32, block: LogicalBlock) -> Self {
        Self { hash: U32::new(hash), block: U32::new(block.get() & BLOCK_MASK) }
    }

    /// The first hash below this entry; bit 0 tells that the leaf before holds names of it too. Of
    /// no meaning in the first entry.
    pub(crate) fn hash(&self) -> u32 {
        self.hash.get()
    }

    /// The leaf or node below.
    pub(crate) fn block(&self) -> LogicalBlock {
        LogicalBlock::new(self.block.get() & BLOCK_MASK)
    }
}

/// Which place in the index a block has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Root,
    Node,
}

impl Role {
    fn entries_offset(self) -> usize {
        match self {
            Self::Root => ROOT_INFO.saturating_add(INFO_LENGTH.into()),
            Self::Node => NODE_ENTRIES,
        }
    }

    /// The limit that such a block must state (`dx_root_limit`, `dx_node_limit`).
    pub(crate) fn limit(self, layout: DirLayout) -> u64 {
        let head = match self {
            Self::Root => on_disk(self.entries_offset()),
            Self::Node => DirLayout::min_rec_len(0, layout.hash_in_dirent).into(),
        };
        let tail = if layout.metadata_csum { on_disk(TAIL) } else { 0 };
        let space = u64::from(layout.block_size).saturating_sub(head).saturating_sub(tail);
        space.checked_div(on_disk(ENTRY)).unwrap_or(0)
    }
}

/// The root's own fields, checked apart from hash_version, which the caller must know.
pub(crate) fn root_info(block: &[u8], levels: u8) -> Result<RawDxRootInfo> {
    let rest = block.get(ROOT_INFO..).unwrap_or_default();
    let info: RawDxRootInfo = *prefix(Place::default(), rest)?;
    let field = |field, value: u8| {
        Err(Error::corrupt(
            Place::default(),
            CorruptKind::DxRootField { field, value: value.into() },
        ))
    };
    if info.unused_flags & 1 != 0 {
        return field("unused_flags", info.unused_flags);
    }
    if info.indirect_levels >= levels {
        return field("indirect_levels", info.indirect_levels);
    }
    if info.info_length != INFO_LENGTH {
        return field("info_length", info.info_length);
    }
    Ok(info)
}

/// The used entries of an index block, at least one. Their order is checked apart, by [`check_order`].
///
/// # Errors
/// [`CorruptKind::DxLimit`], [`CorruptKind::DxCount`].
pub(crate) fn entries(layout: DirLayout, role: Role, block: &[u8]) -> Result<&[RawDxEntry]> {
    let corrupt = |kind| Err(Error::corrupt(Place::default(), kind));
    let array = block.get(role.entries_offset()..).unwrap_or_default();
    let head: &RawDxCountLimit = prefix(Place::default(), array)?;
    let (limit, count) = (head.limit.get(), head.count.get());
    if u64::from(limit) != role.limit(layout) {
        return corrupt(CorruptKind::DxLimit { limit, expected: role.limit(layout) });
    }
    if count == 0 || count > limit {
        return corrupt(CorruptKind::DxCount { count, limit });
    }
    Ok(self::array(role, block, count.into()))
}

/// Checks that hashes ascend.
///
/// # Errors
/// [`CorruptKind::DxOrder`].
pub(crate) fn check_order(entries: &[RawDxEntry]) -> Result<()> {
    // Equal hashes follow each other only with the continuation bit set.
    let in_order = |a: &RawDxEntry, b: &RawDxEntry| {
        a.hash() < b.hash() || a.hash() == b.hash() && b.hash() & 1 != 0
    };
    if !entries.get(1..).unwrap_or_default().is_sorted_by(in_order) {
        return Err(Error::corrupt(Place::default(), CorruptKind::DxOrder {}));
    }
    Ok(())
}

/// The first `count` entries of an index block that [`entries`] has checked.
pub(crate) fn array(role: Role, block: &[u8], count: usize) -> &[RawDxEntry] {
    let array = block.get(role.entries_offset()..).unwrap_or_default();
    <[RawDxEntry]>::ref_from_prefix_with_elems(array, count).map_or(&[], |(entries, _)| entries)
}

/// Checks the checksum of an index block whose [`entries`] are `count`.
///
/// # Errors
/// [`CorruptKind::DxChecksum`].
pub(crate) fn check_tail(
    layout: DirLayout,
    role: Role,
    seed: ChecksumSeed,
    block: &[u8],
) -> Result<()> {
    if !layout.metadata_csum {
        return Ok(());
    }
    let (at, computed) = checksum(role, seed, block)?;
    let tail: &RawDxTail = prefix(Place::default(), block.get(at..).unwrap_or_default())?;
    let stored = tail.checksum.get();
    if stored != computed {
        let kind = CorruptKind::DxChecksum { stored, computed };
        return Err(Error::corrupt(Place::default(), kind));
    }
    Ok(())
}

/// The place of an index block's tail and the checksum that belongs there.
fn checksum(role: Role, seed: ChecksumSeed, block: &[u8]) -> Result<(usize, u32)> {
    let array = block.get(role.entries_offset()..).unwrap_or_default();
    let head: &RawDxCountLimit = prefix(Place::default(), array)?;
    let end = |entries: U16| {
        let bytes = usize::from(entries.get()).saturating_mul(ENTRY);
        role.entries_offset().saturating_add(bytes)
    };
    let at = end(head.limit);
    let tail: &RawDxTail = prefix(Place::default(), block.get(at..).unwrap_or_default())?;
    let covered = block.get(..end(head.count)).unwrap_or_default();
    Ok((at, seed.chain(covered).chain(tail.reserved.as_bytes()).of(&[0; 4])))
}

/// Makes `entries` those of an index block whose head is right, and its checksum right. The first
/// entry's hash does not matter.
///
/// # Errors
/// [`CorruptKind::DxCount`] for none or more than fit; [`CorruptKind::Truncated`].
pub(crate) fn store(
    layout: DirLayout,
    role: Role,
    seed: ChecksumSeed,
    block: &mut [u8],
    entries: &[RawDxEntry],
) -> Result<()> {
    let limit = u16::try_from(role.limit(layout)).unwrap_or(u16::MAX);
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    if count == 0 || count > limit {
        return Err(Error::corrupt(Place::default(), CorruptKind::DxCount { count, limit }));
    }
    let array = block.get_mut(role.entries_offset()..).unwrap_or_default();
    array.fill(0);
    array.iter_mut().zip(entries.as_bytes()).for_each(|(to, from)| *to = *from);
    let head = RawDxCountLimit { limit: U16::new(limit), count: U16::new(count) };
    array.iter_mut().zip(head.as_bytes()).for_each(|(to, from)| *to = *from);
    seal(layout, role, seed, block)
}

/// Makes the checksum of an index block right.
///
/// # Errors
/// [`CorruptKind::Truncated`] if its counts leave no room for one.
pub(crate) fn seal(
    layout: DirLayout,
    role: Role,
    seed: ChecksumSeed,
    block: &mut [u8],
) -> Result<()> {
    if !layout.metadata_csum {
        return Ok(());
    }
    let (at, computed) = checksum(role, seed, block)?;
    let have = block.len();
    let place = block.get_mut(at..).and_then(|rest| RawDxTail::mut_from_prefix(rest).ok());
    let Some((tail, _)) = place else {
        let needed = at.saturating_add(TAIL);
        return Err(Error::corrupt(Place::default(), CorruptKind::Truncated { needed, have }));
    };
    tail.checksum.set(computed);
    Ok(())
}

/// Turns a first block that holds "." and ".." in their usual places into a root without entries.
///
/// # Errors
/// [`CorruptKind::Truncated`].
pub(crate) fn make_root(layout: DirLayout, block: &mut [u8], hash_version: u8) -> Result<()> {
    block.get_mut(ROOT_INFO..).unwrap_or_default().fill(0);
    let dotdot = DirLayout::min_rec_len(1, false);
    let span = layout.stored_rec_len(layout.block_size.saturating_sub(dotdot));
    write(block, in_memory(dotdot.into()).saturating_add(REC_LEN), &span)?;
    let info = RawDxRootInfo {
        reserved_zero: U32::ZERO,
        hash_version,
        info_length: INFO_LENGTH,
        indirect_levels: 0,
        unused_flags: 0,
    };
    write(block, ROOT_INFO, &info)
}

/// Turns a block of zeros into a node without entries: one unused entry to code without htree.
///
/// # Errors
/// [`CorruptKind::Truncated`].
pub(crate) fn make_node(layout: DirLayout, block: &mut [u8]) -> Result<()> {
    write(block, REC_LEN, &layout.stored_rec_len(layout.block_size))
}

/// States the number of levels below a root. The caller stores its entries next.
///
/// # Errors
/// [`CorruptKind::Truncated`].
pub(crate) fn set_levels(block: &mut [u8], indirect_levels: u8) -> Result<()> {
    let info: RawDxRootInfo =
        *prefix(Place::default(), block.get(ROOT_INFO..).unwrap_or_default())?;
    write(block, ROOT_INFO, &RawDxRootInfo { indirect_levels, ..info })
}

fn write<T: IntoBytes + Immutable>(block: &mut [u8], at: usize, value: &T) -> Result<()> {
    let (have, needed) = (block.len(), at.saturating_add(size_of::<T>()));
    let truncated = || Error::corrupt(Place::default(), CorruptKind::Truncated { needed, have });
    block.get_mut(at..needed).ok_or_else(truncated)?.copy_from_slice(value.as_bytes());
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]
    use super::*;
    use crate::disk::dirent::tests::entry;
    use crate::testing::{SEED, kind as corrupt_kind};

    const LAYOUT: DirLayout = DirLayout {
        block_size: 1024,
        inodes_count: 1024,
        metadata_csum: true,
        filetype: true,
        hash_in_dirent: false,
    };

    /// The limits of a root and of a node in 1 KiB blocks with checksums.
    const ROOT_LIMIT: u16 = 123;
    const NODE_LIMIT: u16 = 126;

    fn array_bytes(limit: u16, entries: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (hash, block) in entries {
            bytes.extend(hash.to_le_bytes());
            bytes.extend(block.to_le_bytes());
        }
        bytes[..2].copy_from_slice(&limit.to_le_bytes());
        bytes[2..4].copy_from_slice(&(entries.len() as u16).to_le_bytes());
        bytes
    }

    fn seal(mut block: Vec<u8>) -> Vec<u8> {
        let used = block.len();
        block.resize(1024, 0);
        let checksum = SEED.chain(&block[..used]).of(&[0; 8]);
        block[1020..].copy_from_slice(&checksum.to_le_bytes());
        block
    }

    /// A root block with these entries; the first hash is of no meaning.
    pub(crate) fn root(version: u8, levels: u8, entries: &[(u32, u32)]) -> Vec<u8> {
        let mut block = [entry(12, 12, b"."), entry(2, 1012, b"..")].concat();
        block.truncate(ROOT_INFO);
        block.extend([0, 0, 0, 0, version, INFO_LENGTH, levels, 0]);
        block.extend(array_bytes(ROOT_LIMIT, entries));
        seal(block)
    }

    /// An inner node with these entries.
    pub(crate) fn node(entries: &[(u32, u32)]) -> Vec<u8> {
        let mut block = entry(0, 1024, b"");
        block.truncate(NODE_ENTRIES);
        block.extend(array_bytes(NODE_LIMIT, entries));
        seal(block)
    }

    fn root_kind(change: impl Fn(&mut Vec<u8>)) -> CorruptKind {
        let mut block = root(1, 0, &[(0, 1), (8, 2)]);
        change(&mut block);
        corrupt_kind(
            root_info(&block, 2).and_then(|_| entries(LAYOUT, Role::Root, &block).map(drop)),
        )
    }

    #[test]
    fn a_root_and_a_node_tell_their_entries() {
        let block = root(1, 1, &[(0, 1), (8, 2)]);
        let info = root_info(&block, 2).unwrap();
        assert_eq!((info.hash_version, info.indirect_levels), (1, 1));
        check_tail(LAYOUT, Role::Root, SEED, &block).unwrap();
        let entries = entries(LAYOUT, Role::Root, &block).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[1].hash(), entries[1].block().get()), (8, 2));
        check_tail(LAYOUT, Role::Node, SEED, &node(&[(0, 3)])).unwrap();
    }

    #[test]
    fn fields_of_the_root_that_cannot_be_are_corrupt() {
        let field = |field, value| CorruptKind::DxRootField { field, value };
        assert_eq!(root_kind(|block| block[29] = 9), field("info_length", 9));
        assert_eq!(root_kind(|block| block[30] = 2), field("indirect_levels", 2));
        assert_eq!(root_kind(|block| block[31] = 1), field("unused_flags", 1));
    }

    #[test]
    fn a_limit_that_the_block_size_does_not_give_is_corrupt() {
        let kind = CorruptKind::DxLimit { limit: 122, expected: 123 };
        assert_eq!(root_kind(|block| block[32] = 122), kind);
    }

    #[test]
    fn no_entry_or_more_than_the_limit_are_corrupt() {
        let count = |count| CorruptKind::DxCount { count, limit: ROOT_LIMIT };
        assert_eq!(root_kind(|block| block[34] = 0), count(0));
        assert_eq!(root_kind(|block| block[34] = 124), count(124));
        assert_eq!(root_kind(|block| block[35] = 255), count(0xff02));
    }

    #[test]
    fn hashes_that_fall_are_corrupt() {
        let kind = |hashes: &[(u32, u32)]| {
            corrupt_kind(entries(LAYOUT, Role::Node, &node(hashes)).and_then(check_order))
        };
        assert_eq!(kind(&[(0, 1), (8, 2), (6, 3)]), CorruptKind::DxOrder {});
        assert_eq!(kind(&[(0, 1), (8, 2), (8, 3)]), CorruptKind::DxOrder {});
        // A leaf that continues another, and one that continues that.
        let block = node(&[(0, 1), (8, 2), (9, 3), (9, 4)]);
        let entries = entries(LAYOUT, Role::Node, &block).unwrap();
        check_order(entries).unwrap();
        assert_eq!(entries.len(), 4);
    }

    #[test]
    fn a_changed_entry_does_not_match_the_checksum() {
        let mut block = node(&[(0, 1), (8, 2)]);
        block[20] ^= 1;
        let kind = corrupt_kind(check_tail(LAYOUT, Role::Node, SEED, &block));
        assert!(matches!(kind, CorruptKind::DxChecksum { .. }) && kind.is_checksum());
    }
}
