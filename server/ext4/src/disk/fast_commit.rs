//! Fast commits: what changed since the last full commit, told by inode, range and name.
//!
//! Tags stand one after the other in each block of their area; a tag does not cross blocks. Unlike
//! the rest of the log they are little-endian.
//! Source: Documentation/filesystems/ext4/journal.rst, "Fast commits"; struct names of the kernel's
//! fs/ext4/fast_commit.h.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::ids::{BlockNr, InodeNr, LogicalBlock, Tid};

/// `struct ext4_fc_tl`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTag {
    tag: U16,
    len: U16,
}

/// `struct ext4_fc_add_range`, with its extent spelled out.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawAddRange {
    ino: U32,
    block: U32,
    len: U16,
    start_hi: U16,
    start_lo: U32,
}

/// `struct ext4_fc_del_range`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawDelRange {
    ino: U32,
    lblk: U32,
    len: U32,
}

/// `struct ext4_fc_dentry_info` without the name.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawName {
    parent_ino: U32,
    ino: U32,
}

/// `struct ext4_fc_head`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHead {
    features: U32,
    tid: U32,
}

/// `struct ext4_fc_tail`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTail {
    tid: U32,
    crc: U32,
}

/// An inode and the name it has in a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Named<'a> {
    /// The directory.
    pub(crate) parent: InodeNr,
    /// The inode.
    pub(crate) inode: InodeNr,
    /// 1..=255 bytes.
    pub(crate) name: &'a [u8],
}

/// One change, or a mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tag<'a> {
    /// A file's blocks from `logical` are the `len` ones from `first`.
    AddRange { inode: InodeNr, logical: LogicalBlock, first: BlockNr, len: u32, unwritten: bool },
    /// A file has no blocks for `len` ones from `logical`.
    DelRange { inode: InodeNr, logical: LogicalBlock, len: u32 },
    /// A new inode got its first name.
    Create(Named<'a>),
    /// An inode got a name.
    Link(Named<'a>),
    /// An inode lost a name.
    Unlink(Named<'a>),
    /// An inode as it is now, 128 bytes or more, without what its block map says.
    Inode { inode: InodeNr, raw: &'a [u8] },
    /// Nothing, up to the end of the block.
    Pad,
    /// The end of one fast commit, with the crc32c of all since the last end.
    Tail { tid: Tid, crc: u32 },
    /// The start of the area.
    Head { features: u32, tid: Tid },
}

/// A tag and its place in the block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Placed<'a> {
    /// The tag.
    pub(crate) tag: Tag<'a>,
    /// What the checksum covers: header and value, for a tail without its checksum.
    pub(crate) summed: &'a [u8],
}

/// What stands where a tag is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Next<'a> {
    /// A tag, and the bytes after it.
    Tag(Placed<'a>, &'a [u8]),
    /// The block is used up.
    End,
    /// Nothing that a fast commit has.
    Invalid,
}

/// Bytes that a tail's checksum covers: its header and tid.
const TAIL_SUMMED: usize = size_of::<RawTag>() + size_of::<U32>();

/// The tag at the start of `bytes`, which go to the end of the block.
pub(crate) fn next(bytes: &[u8], inode_size: u16) -> Next<'_> {
    let Ok((raw, rest)) = RawTag::ref_from_prefix(bytes) else { return Next::End };
    let len = usize::from(raw.len.get());
    let Some((value, after)) = rest.split_at_checked(len) else { return Next::Invalid };
    let Some(tag) = tag(raw.tag.get(), value, inode_size) else { return Next::Invalid };
    let whole = size_of::<RawTag>().saturating_add(len);
    let summed = if matches!(tag, Tag::Tail { .. }) { TAIL_SUMMED } else { whole };
    Next::Tag(Placed { tag, summed: bytes.get(..summed).unwrap_or_default() }, after)
}

fn tag(kind: u16, value: &[u8], inode_size: u16) -> Option<Tag<'_>> {
    Some(match kind {
        1 => add_range(RawAddRange::ref_from_bytes(value).ok()?),
        2 => {
            let raw = RawDelRange::ref_from_bytes(value).ok()?;
            Tag::DelRange {
                inode: InodeNr::new(raw.ino.get()),
                logical: LogicalBlock::new(raw.lblk.get()),
                len: raw.len.get(),
            }
        }
        3 => Tag::Create(named(value)?),
        4 => Tag::Link(named(value)?),
        5 => Tag::Unlink(named(value)?),
        6 => {
            let (ino, raw) = U32::ref_from_prefix(value).ok()?;
            let fits = (128..=usize::from(inode_size)).contains(&raw.len());
            fits.then_some(Tag::Inode { inode: InodeNr::new(ino.get()), raw })?
        }
        7 => Tag::Pad,
        8 => {
            let (raw, _) = RawTail::ref_from_prefix(value).ok()?;
            Tag::Tail { tid: Tid::new(raw.tid.get()), crc: raw.crc.get() }
        }
        9 => {
            let raw = RawHead::ref_from_bytes(value).ok()?;
            Tag::Head { features: raw.features.get(), tid: Tid::new(raw.tid.get()) }
        }
        _ => return None,
    })
}

fn add_range(raw: &RawAddRange) -> Tag<'static> {
    // As in extents: lengths above 32768 mean unwritten.
    const WRITTEN_MAX: u16 = 1 << 15;
    let stored = raw.len.get();
    let unwritten = stored > WRITTEN_MAX;
    let len = if unwritten { stored.saturating_sub(WRITTEN_MAX) } else { stored };
    let first = u64::from(raw.start_lo.get()) | u64::from(raw.start_hi.get()) << 32;
    Tag::AddRange {
        inode: InodeNr::new(raw.ino.get()),
        logical: LogicalBlock::new(raw.block.get()),
        first: BlockNr::new(first),
        len: len.into(),
        unwritten,
    }
}

fn named(value: &[u8]) -> Option<Named<'_>> {
    let (raw, name) = RawName::ref_from_prefix(value).ok()?;
    (1..=255).contains(&name.len()).then_some(Named {
        parent: InodeNr::new(raw.parent_ino.get()),
        inode: InodeNr::new(raw.ino.get()),
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u16, value: &[u8]) -> Vec<u8> {
        let len = u16::try_from(value.len()).unwrap();
        [&kind.to_le_bytes(), &len.to_le_bytes(), value, &[0xaa; 3]].concat()
    }

    fn one(kind: u16, value: &[u8]) -> Option<(String, usize)> {
        match next(&bytes(kind, value), 256) {
            Next::Tag(placed, after) => {
                assert_eq!(after, [0xaa; 3]);
                Some((format!("{:?}", placed.tag), placed.summed.len()))
            }
            _ => None,
        }
    }

    #[test]
    fn a_range_says_where_and_whether_it_is_written() {
        let value = [9, 0, 0, 0, 5, 0, 0, 0, 2, 0x80, 1, 0, 7, 0, 0, 0];
        let bytes = bytes(1, &value);
        let Next::Tag(Placed { tag, .. }, _) = next(&bytes, 256) else { panic!() };
        let expected = Tag::AddRange {
            inode: InodeNr::new(9),
            logical: LogicalBlock::new(5),
            first: BlockNr::new(0x1_0000_0007),
            len: 2,
            unwritten: true,
        };
        assert_eq!(tag, expected);
    }

    #[test]
    fn values_of_the_wrong_length_are_no_tags() {
        assert!(one(1, &[0; 16]).is_some() && one(1, &[0; 15]).is_none());
        assert!(one(2, &[0; 12]).is_some() && one(2, &[0; 13]).is_none());
        for kind in 3..6 {
            assert!(one(kind, &[0; 9]).is_some() && one(kind, &[0; 263]).is_some());
            assert!(one(kind, &[0; 8]).is_none() && one(kind, &[0; 264]).is_none());
        }
        assert!(one(6, &[0; 132]).is_some() && one(6, &[0; 260]).is_some());
        assert!(one(6, &[0; 131]).is_none() && one(6, &[0; 261]).is_none());
        assert!(one(8, &[0; 8]).is_some() && one(8, &[0; 7]).is_none());
        assert!(one(9, &[0; 8]).is_some() && one(9, &[0; 9]).is_none());
        assert!(one(0, &[]).is_none() && one(10, &[0; 8]).is_none());
    }

    #[test]
    fn a_checksum_covers_all_of_a_tag_but_the_checksum_itself() {
        assert_eq!(one(7, &[0; 20]).map(|(_, summed)| summed), Some(24));
        assert_eq!(one(8, &[0; 20]).map(|(_, summed)| summed), Some(8));
    }

    #[test]
    fn a_block_ends_where_no_header_fits() {
        assert!(matches!(next(&[1, 2, 3], 256), Next::End));
        assert!(matches!(next(&[], 256), Next::End));
        assert!(matches!(next(&[7, 0, 1, 0], 256), Next::Invalid));
    }
}
