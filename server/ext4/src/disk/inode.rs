//! The inode record: 128 fixed bytes, i_extra_isize more, then in-inode attributes.
//!
//! Source: Documentation/filesystems/ext4/inodes.rst, checksums.rst.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::ChecksumSeed;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::ids::InodeNr;

/// The first 128 bytes, `struct ext4_inode` with its Linux fields.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct RawInode {
    pub(crate) mode: U16,
    pub(crate) uid: U16,
    pub(crate) size_lo: U32,
    pub(crate) atime: U32,
    pub(crate) ctime: U32,
    pub(crate) mtime: U32,
    pub(crate) dtime: U32,
    pub(crate) gid: U16,
    pub(crate) links_count: U16,
    pub(crate) blocks_lo: U32,
    pub(crate) flags: U32,
    pub(crate) version: U32,
    pub(crate) block: [u8; 60],
    pub(crate) generation: U32,
    pub(crate) file_acl_lo: U32,
    pub(crate) size_high: U32,
    pub(crate) obso_faddr: U32,
    pub(crate) blocks_high: U16,
    pub(crate) file_acl_high: U16,
    pub(crate) uid_high: U16,
    pub(crate) gid_high: U16,
    pub(crate) checksum_lo: U16,
    pub(crate) reserved: U16,
}

/// The fields behind, of which i_extra_isize says how many are there; the rest read as zero.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct RawExtra {
    pub(crate) extra_isize: U16,
    pub(crate) checksum_hi: U16,
    pub(crate) ctime_extra: U32,
    pub(crate) mtime_extra: U32,
    pub(crate) atime_extra: U32,
    pub(crate) crtime: U32,
    pub(crate) crtime_extra: U32,
    pub(crate) version_hi: U32,
    pub(crate) projid: U32,
}

/// EXT4_GOOD_OLD_INODE_SIZE.
pub const FIXED: usize = size_of::<RawInode>();
const _: () = assert!(FIXED == 128 && size_of::<RawExtra>() == 32);
/// Offset of i_checksum_lo.
const CHECKSUM_LO: usize = 0x7c;
/// Byte of i_checksum_hi.
const CHECKSUM_HI: usize = FIXED + 2;
/// Bytes of i_extra_isize that reach past i_checksum_hi.
const WITH_CHECKSUM_HI: usize = 4;
/// Bytes of i_extra_isize that reach past i_crtime.
pub(crate) const WITH_CRTIME: usize = 20;

/// One inode's bytes, taken apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) fixed: &'a RawInode,
    pub(crate) extra: RawExtra,
    /// Bytes that i_extra_isize covers.
    pub(crate) extra_isize: usize,
    /// Bytes behind the fixed ones in which times may lie.
    pub(crate) times: usize,
    /// The space for in-inode attributes.
    pub(crate) tail: &'a [u8],
}

/// Takes apart `bytes`, which are s_inode_size long.
///
/// # Errors
/// i_extra_isize that is odd or larger than the record.
pub(crate) fn parts(bytes: &[u8], nr: InodeNr) -> Result<Parts<'_>> {
    let place = Place::inode(nr);
    let fixed: &RawInode = super::prefix(place, bytes)?;
    let behind = bytes.get(FIXED..).unwrap_or_default();
    let mut extra = RawExtra::new_zeroed();
    let Some(size) = behind.first_chunk::<2>().map(|size| u16::from_le_bytes(*size)) else {
        return Ok(Parts { fixed, extra, extra_isize: 0, times: 0, tail: &[] });
    };
    let extra_isize = usize::from(size);
    let (present, tail) = behind
        .split_at_checked(extra_isize)
        .filter(|_| extra_isize.is_multiple_of(4))
        .ok_or_else(|| Error::corrupt(place, CorruptKind::InodeExtraSize { extra_isize: size }))?;
    // Zero stands for an inode older than the fields: the kernel takes them to be there, and all
    // that follows to be empty.
    let fresh = extra_isize == 0;
    for (to, from) in extra.as_mut_bytes().iter_mut().zip(if fresh { behind } else { present }) {
        *to = *from;
    }
    let (tail, times) = if fresh { (&[][..], size_of::<RawExtra>()) } else { (tail, extra_isize) };
    Ok(Parts { fixed, extra, extra_isize, times, tail })
}

/// The seed for checksums of and under the inode: its number and generation on top of the file
/// system's.
pub(crate) fn seed(fs: ChecksumSeed, nr: InodeNr, generation: u32) -> ChecksumSeed {
    fs.chain(&nr.get().to_le_bytes()).chain(&generation.to_le_bytes())
}

/// Checks the record's own checksum; `seed` is the inode's.
///
/// # Errors
/// [`CorruptKind::InodeChecksum`].
pub(crate) fn check(
    bytes: &[u8],
    parts: &Parts<'_>,
    nr: InodeNr,
    seed: ChecksumSeed,
) -> Result<()> {
    let computed = checksum(bytes, parts.extra_isize, seed);
    let low = u32::from(parts.fixed.checksum_lo.get());
    let (stored, computed) = if parts.extra_isize >= WITH_CHECKSUM_HI {
        (low | u32::from(parts.extra.checksum_hi.get()) << 16, computed)
    } else {
        (low, computed & 0xffff)
    };
    if stored == computed {
        return Ok(());
    }
    Err(Error::corrupt(Place::inode(nr), CorruptKind::InodeChecksum { stored, computed }))
}

/// All 32 bits of a record's checksum.
fn checksum(bytes: &[u8], extra_isize: usize, seed: ChecksumSeed) -> u32 {
    let range = |from: usize, to: usize| bytes.get(from..to).unwrap_or_default();
    let mut running = seed
        .chain(range(0, CHECKSUM_LO))
        .chain(&[0, 0])
        .chain(range(CHECKSUM_LO.saturating_add(2), FIXED))
        .chain(range(FIXED, CHECKSUM_HI));
    let mut rest = CHECKSUM_HI;
    if extra_isize >= WITH_CHECKSUM_HI {
        running = running.chain(&[0, 0]);
        rest = rest.saturating_add(2);
    }
    running.of(range(rest, bytes.len()))
}

/// Sets i_dtime.
pub(crate) fn set_dtime(bytes: &mut [u8], dtime: u32) {
    if let Ok((raw, _)) = RawInode::mut_from_prefix(bytes) {
        raw.dtime.set(dtime);
    }
}

/// Makes the checksum of a changed record right; `fs` is the file system's seed. A record that
/// cannot be taken apart stays as it is.
pub(crate) fn seal(bytes: &mut [u8], nr: InodeNr, fs: ChecksumSeed) {
    let Ok(parts) = parts(bytes, nr) else { return };
    let seed = seed(fs, nr, parts.fixed.generation.get());
    let wide = parts.extra_isize >= WITH_CHECKSUM_HI;
    let [a, b, c, d] = checksum(bytes, parts.extra_isize, seed).to_le_bytes();
    for (at, half, present) in [(CHECKSUM_LO, [a, b], true), (CHECKSUM_HI, [c, d], wide)] {
        let place = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
        if let Some(place) = place.filter(|_| present) {
            *place = half;
        }
    }
}
