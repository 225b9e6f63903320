//! [`Inode`]s become inode records: the other direction of `codec`.
//!
//! Fields that are not in [`Inode`] (i_dtime, ...) stay as the record has them.
//! Kernel: fs/ext4/inode.c `ext4_do_update_inode`, `ext4_inode_blocks_set`

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::{FileKind, Inode, InodeFlags, Timestamp};
use crate::disk;
use crate::disk::inode::{self, FIXED, RawExtra, RawInode};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::{Incompat, RoCompat};
use crate::geometry::{EXTRA_ISIZE, Geometry};

/// The least seconds there are, and the most that 32 and 34 bits hold.
const FIRST: i64 = -(1 << 31);
const LAST_NARROW: i64 = (1 << 31) - 1;
const LAST_WIDE: i64 = (1 << 34) - (1 << 31) - 1;

/// Writes `inode` into its record of s_inode_size bytes, checksum included. Its times become what
/// the record can hold.
///
/// # Errors
/// [`CorruptKind::InodeExtraSize`] and others if the record cannot be one.
pub(super) fn encode(inode: &mut Inode, record: &mut [u8], geometry: &Geometry) -> Result<()> {
    // Bytes behind the fixed ones at which the upper halves of the times end. What value inodes have
    // there are no times, but 32 bits in any case.
    let value = inode.flags.has(InodeFlags::EA_INODE);
    let wide = if value { u16::MAX } else { extra_isize(record) };
    inode.ctime = clamp(inode.ctime, wide >= 8);
    inode.mtime = clamp(inode.mtime, wide >= 12);
    inode.atime = clamp(inode.atime, wide >= 16);
    inode.crtime = inode.crtime.map(|time| clamp(time, wide >= 24));
    fixed(inode, record, geometry)?;
    extra(inode, record, geometry)?;
    inode::seal(record, inode.nr, geometry.checksum_seed);
    Ok(())
}

/// What i_extra_isize of `record` is or becomes.
fn extra_isize(record: &[u8]) -> u16 {
    match record.get(FIXED..).and_then(|behind| behind.first_chunk::<2>()) {
        Some([0, 0]) => EXTRA_ISIZE,
        Some(size) => u16::from_le_bytes(*size),
        None => 0,
    }
}

/// The nearest time that can be stored, in 34 bits of seconds with nanoseconds or in 32 without.
/// Kernel: `timestamp_truncate`
pub(crate) fn clamp(time: Timestamp, wide: bool) -> Timestamp {
    let last = if wide { LAST_WIDE } else { LAST_NARROW };
    let seconds = time.seconds.clamp(FIRST, last);
    let exact = wide && seconds == time.seconds && seconds != FIRST && seconds != last;
    Timestamp { seconds, nanoseconds: if exact { time.nanoseconds } else { 0 } }
}

fn fixed(inode: &Inode, record: &mut [u8], geometry: &Geometry) -> Result<()> {
    let (raw, _) = disk::split_mut::<RawInode>(Place::inode(inode.nr), record)?;
    raw.mode.set(inode.kind.type_bits() | (inode.permissions & 0o7777));
    (raw.uid, raw.gid) = (low16(inode.uid), low16(inode.gid));
    if !geometry.short_ids {
        (raw.uid_high, raw.gid_high) = (high16(inode.uid), high16(inode.gid));
    }
    raw.size_lo = low32(inode.size);
    let wide = geometry.features.incompat.contains(Incompat::LARGEDIR);
    if wide || inode.kind == FileKind::Regular {
        raw.size_high = low32(inode.size >> 32);
    }
    raw.atime.set(seconds(inode.atime, false));
    raw.ctime.set(seconds(inode.ctime, false));
    raw.mtime.set(seconds(inode.mtime, false));
    raw.links_count.set(inode.links);
    if !geometry.made_by_hurd {
        raw.version = low32(inode.version);
    }
    raw.block = inode.block;
    raw.generation.set(inode.generation);
    let acl = inode.xattr_block.map_or(0, |block| block.get());
    raw.file_acl_lo = low32(acl);
    if geometry.features.incompat.contains(Incompat::BIT64) {
        raw.file_acl_high = low16(low32(acl >> 32).get());
    }
    blocks(inode, raw, geometry);
    Ok(())
}

/// i_blocks in 512-byte units as long as they fit, else in blocks.
fn blocks(inode: &Inode, raw: &mut RawInode, geometry: &Geometry) {
    let mut flags = inode.flags.bits() & !InodeFlags::HUGE_FILE;
    let mut count = inode.blocks512;
    let huge = geometry.features.ro_compat.contains(RoCompat::HUGE_FILE);
    if huge && count >> 48 != 0 {
        flags |= InodeFlags::HUGE_FILE;
        count = count.checked_div((geometry.block_size / 512).into()).unwrap_or(count);
    }
    raw.blocks_lo = low32(count);
    if huge {
        raw.blocks_high = low16(low32(count >> 32).get());
    }
    raw.flags.set(flags);
}

fn extra(inode: &Inode, record: &mut [u8], geometry: &Geometry) -> Result<()> {
    let size = extra_isize(record);
    let Some(behind) = record.get_mut(FIXED..).filter(|behind| behind.len() >= 32) else {
        return Ok(());
    };
    let (mut extra, _) = RawExtra::read_from_prefix(behind).map_err(|_| bad_extra(inode, size))?;
    extra.extra_isize.set(size);
    if !geometry.made_by_hurd {
        extra.version_hi = low32(inode.version >> 32);
    }
    let wide = |time| U32::new(seconds(time, true));
    (extra.ctime_extra, extra.mtime_extra) = (wide(inode.ctime), wide(inode.mtime));
    extra.atime_extra = wide(inode.atime);
    if let Some(created) = inode.crtime {
        extra.crtime.set(seconds(created, false));
        extra.crtime_extra = wide(created);
    }
    if geometry.features.ro_compat.contains(RoCompat::PROJECT) {
        extra.projid.set(inode.project);
    }
    let split = behind.split_at_mut_checked(size.into()).filter(|_| size.is_multiple_of(4));
    let (present, tail) = split.ok_or_else(|| bad_extra(inode, size))?;
    present.iter_mut().zip(extra.as_bytes()).for_each(|(to, from)| *to = *from);
    tail.iter_mut().zip(&inode.tail).for_each(|(to, from)| *to = *from);
    Ok(())
}

fn bad_extra(inode: &Inode, extra_isize: u16) -> Error {
    Error::corrupt(Place::inode(inode.nr), CorruptKind::InodeExtraSize { extra_isize })
}

/// The two words of a time: 32 bits of seconds, or two more of them below 30 of nanoseconds.
fn seconds(time: Timestamp, upper: bool) -> u32 {
    let all = time.seconds;
    let [a, b, c, d, ..] = all.to_le_bytes();
    let low = i32::from_le_bytes([a, b, c, d]);
    if !upper {
        return low.cast_unsigned();
    }
    let epoch = all.saturating_sub(low.into()) >> 32;
    u32::try_from(epoch & 3).unwrap_or(0) | time.nanoseconds << 2
}

fn low32(value: u64) -> U32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    U32::from_bytes([a, b, c, d])
}

fn low16(value: u32) -> U16 {
    let [a, b, ..] = value.to_le_bytes();
    U16::from_bytes([a, b])
}

fn high16(value: u32) -> U16 {
    low16(value >> 16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ids::InodeNr;
    use crate::inode::codec::decode;
    use crate::testing::Image;

    const NR: InodeNr = InodeNr::new(12);

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            (uid, gid, size, blocks512) in (any::<u32>(), any::<u32>(), 0..1_u64 << 41, 0..1_u64 << 48),
            seconds in -(1_i64 << 31)..(1 << 34) - (1 << 31),
            nanoseconds in 0..1_000_000_000_u32,
            permissions in 0..0o10000_u16,
        ) {
            let geometry = Image::new(64).with_checksums().with(|geometry| {
                geometry.features.ro_compat = RoCompat::new(
                    RoCompat::METADATA_CSUM.bits() | RoCompat::HUGE_FILE.bits());
            }).volume().geometry;
            let time = Timestamp { seconds, nanoseconds };
            let mut inode = crate::testing::inode(InodeFlags::EXTENTS);
            (inode.uid, inode.gid, inode.size, inode.blocks512) = (uid, gid, size, blocks512);
            (inode.permissions, inode.mtime, inode.crtime) = (permissions, time, Some(time));
            inode.tail = vec![7; 96].into();
            let mut record = vec![0; 256];
            inode.version = u64::from(uid) << 20;
            encode(&mut inode, &mut record, &geometry).unwrap();
            let read = decode(NR, &record, &geometry).unwrap();
            prop_assert_eq!((read.uid, read.gid, read.size), (uid, gid, size));
            prop_assert_eq!((read.blocks512, read.permissions), (blocks512, permissions));
            prop_assert_eq!((read.mtime, read.crtime), (time, Some(time)));
            prop_assert_eq!((read.tail, read.version), (inode.tail, inode.version));
        }
    }

    #[test]
    fn times_become_what_can_be_stored() {
        let at = |seconds| Timestamp { seconds, nanoseconds: 5 };
        let whole = |seconds| Timestamp { seconds, nanoseconds: 0 };
        assert_eq!(clamp(at(i64::MAX), true), whole((1 << 34) - (1 << 31) - 1));
        assert_eq!(clamp(at(i64::MIN), true), whole(-(1 << 31)));
        assert_eq!(clamp(at(1 << 31), true), at(1 << 31));
        assert_eq!(clamp(at(1 << 31), false), whole((1 << 31) - 1));
        assert_eq!(clamp(at(7), false), whole(7));
        let geometry = Image::new(64).volume().geometry;
        let mut inode = crate::testing::inode(0);
        inode.mtime = at(1 << 32);
        encode(&mut inode, &mut [0; 128], &geometry).unwrap();
        assert_eq!(inode.mtime, whole((1 << 31) - 1));
    }
}
