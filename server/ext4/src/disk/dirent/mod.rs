//! Directory entries: how a directory block (or an inline directory) divides into names.
//!
//! Entries fill the block: each leads to the next by its rec_len, and inode 0 marks unused space. With
//! metadata_csum the last 12 bytes look like an unused entry and hold the block's checksum.
//! Source: Documentation/filesystems/ext4/directory.rst; rules: `__ext4_check_dir_entry`.

pub(crate) mod edit;

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::ChecksumSeed;
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::{InodeNr, in_memory, on_disk};
use crate::kind::{FileKind, InodeFlags};

/// Bytes of an entry before its name.
const HEADER: usize = 8;
/// Bytes of the checksum's entry at the end of a block.
pub(crate) const TAIL: usize = 12;
/// det_reserved_ft, the file type of the checksum's entry.
const TAIL_FILE_TYPE: u8 = 0xde;
/// The block size at which 16 bits no longer hold every record length.
const HUGE_BLOCK: u32 = 65536;

/// `struct ext4_dir_entry_2`, less its name. Without the filetype feature, file_type is the unused
/// upper half of name_len.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawDirEntry {
    pub(crate) inode: U32,    // 0x0
    pub(crate) rec_len: U16,  // 0x4
    pub(crate) name_len: u8,  // 0x6
    pub(crate) file_type: u8, // 0x7
}

const _: () = assert!(size_of::<RawDirEntry>() == HEADER);

/// `struct ext4_dir_entry_tail`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawDirTail {
    reserved_zero1: U32, // 0x0
    rec_len: U16,        // 0x4
    reserved_zero2: u8,  // 0x6
    reserved_ft: u8,     // 0x7
    checksum: U32,       // 0x8
}

const _: () = assert!(size_of::<RawDirTail>() == TAIL);

/// `struct ext4_dir_entry_hash`: follows the name in directories that are encrypted and casefolded.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawDirHash {
    hash: U32,       // 0x0
    minor_hash: U32, // 0x4
}

/// What the layout of a directory's blocks depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DirLayout {
    pub(crate) block_size: u32,
    pub(crate) inodes_count: u32,
    pub(crate) metadata_csum: bool,
    pub(crate) filetype: bool,
    /// Whether each entry holds its hash behind its name (`ext4_hash_in_dirent`).
    pub(crate) hash_in_dirent: bool,
}

impl DirLayout {
    /// The layout of the blocks of a directory with these flags.
    pub(crate) fn of(geometry: &Geometry, flags: InodeFlags) -> Self {
        let features = geometry.features;
        Self {
            block_size: geometry.block_size,
            inodes_count: geometry.inodes_count,
            metadata_csum: features.metadata_csum(),
            filetype: features.incompat.contains(crate::features::Incompat::FILETYPE),
            hash_in_dirent: flags.has(InodeFlags::ENCRYPT) && flags.has(InodeFlags::CASEFOLD),
        }
    }

    /// The bytes rec_len stands for: blocks of 64 KiB keep bits 16 and 17 in the two low ones, and
    /// write a whole block as 0 or 65535.
    pub(crate) fn rec_len(&self, stored: u16) -> u32 {
        match stored {
            _ if self.block_size < HUGE_BLOCK => stored.into(),
            0 | u16::MAX => HUGE_BLOCK,
            _ => u32::from(stored & !3) | u32::from(stored & 3) << 16,
        }
    }

    /// rec_len as stored (`ext4_rec_len_to_disk`); `len` is a multiple of 4 up to the block size.
    pub(crate) fn stored_rec_len(&self, len: u32) -> U16 {
        U16::new(u16::try_from(len).unwrap_or(u16::MAX))
    }

    /// i_file_type as stored: nothing without the filetype feature.
    pub(crate) fn file_type(&self, kind: FileKind) -> u8 {
        match kind {
            _ if !self.filetype => 0,
            FileKind::Regular => 1,
            FileKind::Directory => 2,
            FileKind::CharDevice => 3,
            FileKind::BlockDevice => 4,
            FileKind::Fifo => 5,
            FileKind::Socket => 6,
            FileKind::Symlink => 7,
        }
    }

    /// Bytes of a block that entries fill: all but the checksum's entry.
    pub(crate) fn stretch_len(&self) -> usize {
        let block = in_memory(self.block_size.into());
        if self.metadata_csum { block.saturating_sub(TAIL) } else { block }
    }

    /// `ext4_dir_rec_len`: the least record that holds a name of `name_len` bytes.
    pub(crate) fn min_rec_len(name_len: u8, hashed: bool) -> u32 {
        let hash = if hashed { 8 } else { 0 };
        u32::from(name_len).saturating_add(hash).saturating_add(8 + 3) & !3
    }
}

/// One entry, checked; `inode` 0 marks unused space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry<'a> {
    /// Its place in the block, in bytes.
    pub(crate) offset: u32,
    /// The place of the next entry.
    pub(crate) next: u32,
    pub(crate) inode: InodeNr,
    pub(crate) kind: Option<FileKind>,
    pub(crate) name: &'a [u8],
    /// The hash and minor hash stored behind the name, where the layout has them.
    pub(crate) hash: Option<(u32, u32)>,
}

/// The entries of one block (or of one part of an inline directory), in disk order. Ends after the
/// first error.
#[derive(Clone, Debug)]
pub(crate) struct Entries<'a> {
    layout: DirLayout,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Entries<'a> {
    /// The entries that fill `bytes`.
    pub(crate) fn new(layout: DirLayout, bytes: &'a [u8]) -> Self {
        Self { layout, bytes, at: 0 }
    }

    // These three in one piece: else each entry goes through memory, a third of a lookup's time.
    #[inline]
    fn parse(&self) -> Result<Entry<'a>> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let raw: &RawDirEntry = prefix(Place::default(), rest)?;
        let body = rest.get(HEADER..).unwrap_or_default();
        let rec_len = self.layout.rec_len(raw.rec_len.get());
        let offset = u32::try_from(self.at).unwrap_or(u32::MAX);
        let next = offset.saturating_add(rec_len);
        let hashed = self.layout.hash_in_dirent && !is_exempt(raw, body);
        self.check_lengths(raw, offset, rec_len, hashed)?;
        let inode = InodeNr::new(raw.inode.get());
        let corrupt = |kind| Err(Error::corrupt(Place::default(), kind));
        if inode.get() > self.layout.inodes_count {
            return corrupt(CorruptKind::DirInodeRange { offset, inode: inode.get() });
        }
        let name = body.get(..raw.name_len.into()).unwrap_or_default();
        if name == b"." && in_memory(next.into()) == self.bytes.len() {
            return corrupt(CorruptKind::DirDotLast { offset });
        }
        let hash = if hashed { stored_hash(body, raw.name_len) } else { None };
        Ok(Entry { offset, next, inode, kind: self.kind(raw.file_type), name, hash })
    }

    #[inline]
    fn check_lengths(
        &self,
        raw: &RawDirEntry,
        offset: u32,
        rec_len: u32,
        hashed: bool,
    ) -> Result<()> {
        let size = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let next = offset.saturating_add(rec_len);
        let name_len = raw.name_len;
        // The room that must stay free behind an entry that is not the last.
        let least =
            DirLayout::min_rec_len(1, self.layout.hash_in_dirent && !self.layout.metadata_csum);
        let kind = if rec_len < DirLayout::min_rec_len(1, hashed) {
            CorruptKind::DirRecLenSmall { offset, rec_len }
        } else if !rec_len.is_multiple_of(4) {
            CorruptKind::DirRecLenUnaligned { offset, rec_len }
        } else if rec_len < DirLayout::min_rec_len(name_len, hashed) {
            CorruptKind::DirNameTooLong { offset, rec_len, name_len }
        } else if next > size {
            CorruptKind::DirEntryOverrun { offset, rec_len }
        } else if next != size && next > size.saturating_sub(least) {
            CorruptKind::DirEntryNearEnd { offset, rec_len }
        } else {
            return Ok(());
        };
        Err(Error::corrupt(Place::default(), kind))
    }

    fn kind(&self, file_type: u8) -> Option<FileKind> {
        match file_type {
            _ if !self.layout.filetype => None,
            1 => Some(FileKind::Regular),
            2 => Some(FileKind::Directory),
            3 => Some(FileKind::CharDevice),
            4 => Some(FileKind::BlockDevice),
            5 => Some(FileKind::Fifo),
            6 => Some(FileKind::Socket),
            7 => Some(FileKind::Symlink),
            _ => None,
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let entry = self.parse();
        self.at = match &entry {
            // A checked entry is at least 12 bytes long, so this moves on.
            Ok(entry) => in_memory(entry.next.into()),
            Err(_) => self.bytes.len(),
        };
        Some(entry)
    }
}

/// `is_fake_dir_entry`: "." and ".." and the checksum's entry never carry a hash.
fn is_exempt(raw: &RawDirEntry, body: &[u8]) -> bool {
    let dots = matches!(raw.name_len, 1 | 2) && matches!(body, [b'.', b'.' | 0, ..]);
    dots || raw.file_type == TAIL_FILE_TYPE
}

fn stored_hash(body: &[u8], name_len: u8) -> Option<(u32, u32)> {
    let start = usize::from(name_len).next_multiple_of(4);
    let (raw, _) = RawDirHash::ref_from_prefix(body.get(start..)?).ok()?;
    Some((raw.hash.get(), raw.minor_hash.get()))
}

/// Checks the checksum at the end of a directory block of entries.
///
/// # Errors
/// [`CorruptKind::DirTailMissing`] if there is no room for it, [`CorruptKind::DirChecksum`].
pub(crate) fn check_tail(layout: DirLayout, seed: ChecksumSeed, block: &[u8]) -> Result<()> {
    if !layout.metadata_csum {
        return Ok(());
    }
    let corrupt = |kind| Error::corrupt(Place::default(), kind);
    let covered = block.len().saturating_sub(TAIL);
    let (entries, tail) = block.split_at_checked(covered).unwrap_or_default();
    let tail: &RawDirTail = prefix(Place::default(), tail)?;
    let shaped = tail.reserved_zero1.get() == 0
        && on_disk(TAIL) == u64::from(layout.rec_len(tail.rec_len.get()))
        && tail.reserved_zero2 == 0
        && tail.reserved_ft == TAIL_FILE_TYPE;
    if !shaped {
        return Err(corrupt(CorruptKind::DirTailMissing {}));
    }
    let (stored, computed) = (tail.checksum.get(), seed.of(entries));
    if stored != computed {
        return Err(corrupt(CorruptKind::DirChecksum { stored, computed }));
    }
    Ok(())
}

/// Whether `block` starts as an index node does: one unused entry that spans all of it.
pub(crate) fn looks_like_index(layout: DirLayout, block: &[u8]) -> bool {
    RawDirEntry::ref_from_prefix(block).is_ok_and(|(raw, _)| {
        raw.inode.get() == 0 && layout.rec_len(raw.rec_len.get()) == layout.block_size
    })
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]
    use super::*;
    use crate::testing::{SEED, kind as corrupt_kind};

    const LAYOUT: DirLayout = DirLayout {
        block_size: 1024,
        inodes_count: 1024,
        metadata_csum: false,
        filetype: true,
        hash_in_dirent: false,
    };

    /// The bytes of one entry of `rec_len` bytes.
    pub(crate) fn entry(inode: u32, rec_len: u16, name: &[u8]) -> Vec<u8> {
        let mut bytes = inode.to_le_bytes().to_vec();
        bytes.extend(rec_len.to_le_bytes());
        bytes.extend([name.len() as u8, 1]);
        bytes.extend(name);
        bytes.resize(bytes.len().max(rec_len.into()), 0);
        bytes
    }

    fn kind_of(layout: DirLayout, bytes: &[u8]) -> CorruptKind {
        corrupt_kind(Entries::new(layout, bytes).collect::<Result<Vec<_>>>())
    }

    #[test]
    fn entries_follow_each_other_to_the_end() {
        let bytes = [entry(11, 12, b"a"), entry(0, 16, b""), entry(12, 36, b"b.txt")].concat();
        let entries: Vec<_> = Entries::new(LAYOUT, &bytes).map(Result::unwrap).collect();
        let seen: Vec<_> =
            entries.iter().map(|entry| (entry.offset, entry.inode.get(), entry.name)).collect();
        assert_eq!(seen, [(0, 11, &b"a"[..]), (12, 0, b""), (28, 12, b"b.txt")]);
        assert_eq!(entries[0].kind, Some(FileKind::Regular));
        let untyped = DirLayout { filetype: false, ..LAYOUT };
        assert_eq!(Entries::new(untyped, &bytes).next().unwrap().unwrap().kind, None);
    }

    #[test]
    fn a_record_below_12_bytes_is_corrupt() {
        for rec_len in [0, 4, 8] {
            let kind = CorruptKind::DirRecLenSmall { offset: 0, rec_len: rec_len.into() };
            assert_eq!(kind_of(LAYOUT, &entry(11, rec_len, b"name")), kind);
        }
    }

    #[test]
    fn a_record_of_an_odd_length_is_corrupt() {
        let kind = CorruptKind::DirRecLenUnaligned { offset: 0, rec_len: 14 };
        assert_eq!(kind_of(LAYOUT, &entry(11, 14, b"a")), kind);
    }

    #[test]
    fn a_name_longer_than_its_record_is_corrupt() {
        let kind = CorruptKind::DirNameTooLong { offset: 0, rec_len: 12, name_len: 5 };
        assert_eq!(kind_of(LAYOUT, &entry(11, 12, b"abcde")), kind);
    }

    #[test]
    fn a_record_past_the_end_is_corrupt() {
        let bytes = [entry(11, 12, b"a"), entry(12, 16, b"b")].concat();
        let kind = CorruptKind::DirEntryOverrun { offset: 12, rec_len: 16 };
        assert_eq!(kind_of(LAYOUT, &bytes[..24]), kind);
    }

    #[test]
    fn a_record_that_leaves_no_room_for_another_is_corrupt() {
        let bytes = [entry(11, 16, b"a"), vec![0; 8]].concat();
        let kind = CorruptKind::DirEntryNearEnd { offset: 0, rec_len: 16 };
        assert_eq!(kind_of(LAYOUT, &bytes), kind);
    }

    #[test]
    fn an_inode_past_the_last_is_corrupt() {
        let kind = CorruptKind::DirInodeRange { offset: 0, inode: 1025 };
        assert_eq!(kind_of(LAYOUT, &entry(1025, 12, b"a")), kind);
    }

    #[test]
    fn a_dot_alone_in_its_block_is_corrupt() {
        assert_eq!(kind_of(LAYOUT, &entry(11, 12, b".")), CorruptKind::DirDotLast { offset: 0 });
    }

    #[test]
    fn a_cut_header_is_corrupt() {
        let kind = CorruptKind::Truncated { needed: 8, have: 5 };
        assert_eq!(kind_of(LAYOUT, &[0; 5]), kind);
    }

    #[test]
    fn blocks_of_64_kib_write_lengths_in_their_own_way() {
        let huge = DirLayout { block_size: 65536, ..LAYOUT };
        for (stored, bytes) in [(0, 65536), (65535, 65536), (65532, 65532), (1, 65536), (12, 12)] {
            assert_eq!(huge.rec_len(stored), bytes, "{stored}");
        }
        assert_eq!(LAYOUT.rec_len(65535), 65535);
    }

    #[test]
    fn a_hash_behind_the_name_is_read_except_for_dots() {
        let layout = DirLayout { hash_in_dirent: true, metadata_csum: true, ..LAYOUT };
        let mut bytes = [entry(2, 12, b"."), entry(11, 32, b"seventeen")].concat();
        bytes[12 + 8 + 12..12 + 8 + 20].copy_from_slice(&[1, 0, 0, 0, 2, 0, 0, 0]);
        let entries: Vec<_> = Entries::new(layout, &bytes).map(Result::unwrap).collect();
        assert_eq!(entries[0].hash, None);
        assert_eq!(entries[1].hash, Some((1, 2)));
        let short = entry(11, 20, b"five5");
        let kind = CorruptKind::DirNameTooLong { offset: 0, rec_len: 20, name_len: 5 };
        assert_eq!(kind_of(layout, &short), kind);
    }

    /// Ends a block with the checksum's entry.
    pub(crate) fn with_tail(mut bytes: Vec<u8>) -> Vec<u8> {
        let checksum = SEED.of(&bytes);
        let mut tail = entry(0, 12, b"");
        tail[7] = TAIL_FILE_TYPE;
        tail[8..].copy_from_slice(&checksum.to_le_bytes());
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn the_checksum_covers_all_entries() {
        let layout = DirLayout { metadata_csum: true, ..LAYOUT };
        let mut block = with_tail(entry(11, 1012, b"a"));
        check_tail(layout, SEED, &block).unwrap();
        block[1000] = 1;
        let kind = corrupt_kind(check_tail(layout, SEED, &block));
        assert!(matches!(kind, CorruptKind::DirChecksum { .. }) && kind.is_checksum());
        check_tail(LAYOUT, SEED, &block).unwrap();
    }

    #[test]
    fn a_block_without_the_checksums_entry_is_corrupt() {
        let layout = DirLayout { metadata_csum: true, ..LAYOUT };
        let kind = corrupt_kind(check_tail(layout, SEED, &entry(11, 1024, b"a")));
        assert_eq!(kind, CorruptKind::DirTailMissing {});
    }
}
