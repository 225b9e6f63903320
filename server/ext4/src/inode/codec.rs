//! Inode records become [`Inode`]s: every field checked as the kernel's `__ext4_iget` does.

use zerocopy::little_endian::U16;

use super::{FileKind, Inode, InodeFlags, Timestamp};
use crate::disk::inode::{self, Parts};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::features::{Compat, Incompat, RoCompat};
use crate::geometry::{EXTRA_ISIZE, Geometry};
use crate::ids::{BlockNr, InodeNr};
use crate::map;
use crate::quota::Charge;

/// Decodes the record `bytes` (s_inode_size long) of inode `nr`.
///
/// # Errors
/// [`Refusal::Stale`] for a free inode; a named [`CorruptKind`] for each check.
pub(crate) fn decode(nr: InodeNr, bytes: &[u8], geometry: &Geometry) -> Result<Inode> {
    // Deleted but open when the system went down: an orphan, for nobody but recovery.
    decode_any(nr, bytes, geometry).and_then(|inode| match inode.links {
        0 => Err(Refusal::Stale.into()),
        _ => Ok(inode),
    })
}

/// As [`decode`], for inodes without links, too.
///
/// # Errors
/// As [`decode`].
pub(super) fn decode_any(nr: InodeNr, bytes: &[u8], geometry: &Geometry) -> Result<Inode> {
    let parts = inode::parts(bytes, nr)?;
    let raw = parts.fixed;
    let generation = raw.generation.get();
    let checksum_seed = inode::seed(geometry.checksum_seed, nr, generation);
    let mode = raw.mode.get();
    if raw.links_count.get() == 0 && mode == 0 {
        return Err(Refusal::Stale.into());
    }
    if geometry.features.metadata_csum() && geometry.made_by_linux {
        inode::check(bytes, &parts, nr, checksum_seed)?;
    }
    let kind = kind(mode).ok_or_else(|| corrupt(nr, CorruptKind::InodeMode { mode }))?;
    let flags = flags(nr, &parts, kind, geometry)?;
    let size = size(nr, &parts, (kind, flags), geometry)?;
    Ok(Inode {
        nr,
        generation,
        kind,
        permissions: mode & 0o7777,
        uid: owner(raw.uid, raw.uid_high, geometry),
        gid: owner(raw.gid, raw.gid_high, geometry),
        project: project(&parts, geometry),
        links: raw.links_count.get(),
        size,
        blocks512: blocks512(&parts, flags, geometry),
        flags,
        atime: timestamp(raw.atime.get(), parts.extra.atime_extra.get()),
        mtime: timestamp(raw.mtime.get(), parts.extra.mtime_extra.get()),
        ctime: timestamp(raw.ctime.get(), parts.extra.ctime_extra.get()),
        crtime: (parts.times >= inode::WITH_CRTIME)
            .then(|| timestamp(parts.extra.crtime.get(), parts.extra.crtime_extra.get())),
        version: version(&parts, geometry),
        rdev: rdev(kind, &raw.block),
        xattr_block: xattr_block(nr, &parts, geometry)?,
        block: raw.block,
        tail: tail(&parts, bytes.len()),
        checksum_seed,
    })
}

/// i_version, which the Hurd has no place for.
fn version(parts: &Parts<'_>, geometry: &Geometry) -> u64 {
    let (low, high) = (parts.fixed.version.get(), parts.extra.version_hi.get());
    if geometry.made_by_hurd { 0 } else { u64::from(low) | u64::from(high) << 32 }
}

/// What the inode in the record `bytes` is charged for; nothing for a free one. Unchecked.
///
/// # Errors
/// As [`inode::parts`].
pub(super) fn charge(nr: InodeNr, bytes: &[u8], geometry: &Geometry) -> Result<Charge> {
    let parts = inode::parts(bytes, nr)?;
    let raw = parts.fixed;
    if raw.mode.get() == 0 {
        return Ok(Charge::default());
    }
    Ok(Charge {
        uid: owner(raw.uid, raw.uid_high, geometry),
        gid: owner(raw.gid, raw.gid_high, geometry),
        project: project(&parts, geometry),
        blocks512: blocks512(&parts, InodeFlags::new(raw.flags.get()), geometry),
        inodes: 1,
    })
}

/// An inode that is older than the extra fields has room behind them, and nothing there.
fn tail(parts: &Parts<'_>, record: usize) -> Box<[u8]> {
    if parts.extra_isize > 0 {
        return parts.tail.into();
    }
    let known = inode::FIXED.saturating_add(EXTRA_ISIZE.into());
    vec![0; record.saturating_sub(known)].into()
}

fn corrupt(nr: InodeNr, kind: CorruptKind) -> Error {
    Error::corrupt(Place::inode(nr), kind)
}

fn kind(mode: u16) -> Option<FileKind> {
    Some(match mode >> 12 {
        0x1 => FileKind::Fifo,
        0x2 => FileKind::CharDevice,
        0x4 => FileKind::Directory,
        0x6 => FileKind::BlockDevice,
        0x8 => FileKind::Regular,
        0xa => FileKind::Symlink,
        0xc => FileKind::Socket,
        _ => return None,
    })
}

fn flags(
    nr: InodeNr,
    parts: &Parts<'_>,
    kind: FileKind,
    geometry: &Geometry,
) -> Result<InodeFlags> {
    let bits = parts.fixed.flags.get();
    let flags = InodeFlags::new(bits);
    let features = &geometry.features;
    let refuse = |why| Err(corrupt(nr, CorruptKind::InodeFlags { flags: bits, why }));
    if flags.has(InodeFlags::INLINE_DATA) && flags.has(InodeFlags::EXTENTS) {
        return Err(corrupt(nr, CorruptKind::InlineMixed {}));
    }
    if flags.has(InodeFlags::CASEFOLD) && !features.incompat.contains(Incompat::CASEFOLD) {
        return refuse("casefold without the casefold feature");
    }
    let unindexed = !features.compat.contains(Compat::DIR_INDEX) && features.metadata_csum();
    if flags.has(InodeFlags::INDEX) && unindexed {
        return refuse("an indexed directory without the dir_index feature");
    }
    let locked = flags.has(InodeFlags::IMMUTABLE | InodeFlags::APPEND);
    if kind == FileKind::Symlink && locked {
        return refuse("a symbolic link that is immutable or append-only");
    }
    Ok(flags)
}

/// The low half alone for owners of 16 bits.
fn owner(low: U16, high: U16, geometry: &Geometry) -> u32 {
    let high = if geometry.short_ids { 0 } else { u32::from(high.get()) };
    u32::from(low.get()) | high << 16
}

/// `ext4_isize`: other files than regular ones have a high half with large_dir only.
fn size(
    nr: InodeNr,
    parts: &Parts<'_>,
    (kind, flags): (FileKind, InodeFlags),
    geometry: &Geometry,
) -> Result<u64> {
    let low = u64::from(parts.fixed.size_lo.get());
    let wide = kind == FileKind::Regular || geometry.features.incompat.contains(Incompat::LARGEDIR);
    let size = if wide { low | u64::from(parts.fixed.size_high.get()) << 32 } else { low };
    if size > max_size(flags, geometry.block_size) {
        return Err(corrupt(nr, CorruptKind::InodeSize { size }));
    }
    Ok(size)
}

/// The most bytes that a file's map can reach (`ext4_get_maxbytes`). That the blocks of a mapped
/// file without huge_file must be countable, too, makes the kernel's limit a little lower.
fn max_size(flags: InodeFlags, block_size: u32) -> u64 {
    let extents = u64::from(map::LIMIT);
    let pointers = u64::from(block_size / 4);
    let mut blocks = extents;
    if !flags.has(InodeFlags::EXTENTS) {
        let squared = pointers.saturating_mul(pointers);
        let indirect = [pointers, squared, squared.saturating_mul(pointers)];
        blocks = indirect.into_iter().fold(12, u64::saturating_add).min(extents);
    }
    blocks.saturating_mul(block_size.into())
}

/// `ext4_inode_blocks`.
fn blocks512(parts: &Parts<'_>, flags: InodeFlags, geometry: &Geometry) -> u64 {
    let low = u64::from(parts.fixed.blocks_lo.get());
    if !geometry.features.ro_compat.contains(RoCompat::HUGE_FILE) {
        return low;
    }
    let blocks = low | u64::from(parts.fixed.blocks_high.get()) << 32;
    if !flags.has(InodeFlags::HUGE_FILE) {
        return blocks;
    }
    blocks.saturating_mul(u64::from(geometry.block_size / 512))
}

fn project(parts: &Parts<'_>, geometry: &Geometry) -> u32 {
    let kept = geometry.features.ro_compat.contains(RoCompat::PROJECT) && parts.extra_isize > 0;
    // Absent fields of the record read as zero.
    if kept { parts.extra.projid.get() } else { 0 }
}

fn xattr_block(nr: InodeNr, parts: &Parts<'_>, geometry: &Geometry) -> Result<Option<BlockNr>> {
    let mut block = u64::from(parts.fixed.file_acl_lo.get());
    if geometry.features.incompat.contains(Incompat::BIT64) {
        block |= u64::from(parts.fixed.file_acl_high.get()) << 32;
    }
    if block == 0 {
        return Ok(None);
    }
    if !geometry.contains(BlockNr::new(block), 1) {
        return Err(corrupt(nr, CorruptKind::InodeXattrBlock { block }));
    }
    Ok(Some(BlockNr::new(block)))
}

/// `ext4_decode_extra_time`: 32 signed bits of seconds, two more above them, 30 of nanoseconds.
fn timestamp(base: u32, extra: u32) -> Timestamp {
    let seconds = i64::from(base.cast_signed());
    let epoch = i64::from(extra & 3) << 32;
    Timestamp { seconds: seconds.saturating_add(epoch), nanoseconds: (extra >> 2).min(999_999_999) }
}

/// Device numbers are in i_block: the old 8:8 form in its first word, else the 12:20 form in the
/// second.
fn rdev(kind: FileKind, block: &[u8; 60]) -> (u32, u32) {
    if !matches!(kind, FileKind::CharDevice | FileKind::BlockDevice) {
        return (0, 0);
    }
    let [a, b, c, d, e, f, g, h, ..] = *block;
    let (old, new) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]));
    if old != 0 {
        return (old >> 8 & 0xff, old & 0xff);
    }
    ((new & 0x000f_ff00) >> 8, (new & 0xff) | (new >> 12 & 0x000f_ff00))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::{FromBytes, IntoBytes};

    use super::*;
    use crate::disk::inode::RawInode;
    use crate::testing::{Image, code};

    const NR: InodeNr = InodeNr::new(12);

    /// A record of 256 bytes with 32 bytes of extra fields, after `edit`.
    fn record(edit: impl FnOnce(&mut RawInode)) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        let (raw, extra) = RawInode::mut_from_prefix(&mut bytes).unwrap();
        raw.mode.set(0o100_644);
        raw.links_count.set(1);
        edit(raw);
        extra[0] = 32;
        bytes
    }

    fn decoded(bytes: &[u8]) -> Result<Inode> {
        decode(NR, bytes, &Image::new(64).volume().geometry)
    }

    fn stale(result: &Result<Inode>) -> bool {
        matches!(result, Err(Error::Refused(Refusal::Stale)))
    }

    #[test]
    fn free_inodes_and_orphans_are_stale() {
        assert!(stale(&decoded(&[0; 256])));
        assert!(stale(&decoded(&record(|raw| raw.links_count.set(0)))));
    }

    #[test]
    fn fields_that_cannot_be_are_named() {
        let refused = |edit: fn(&mut RawInode)| code(decoded(&record(edit)));
        assert_eq!(refused(|raw| raw.mode.set(0o644)), "inode-mode");
        assert_eq!(refused(|raw| raw.mode.set(0xf1ff)), "inode-mode");
        assert_eq!(refused(|raw| raw.size_high.set(1 << 31)), "inode-size");
        assert_eq!(refused(|raw| raw.size_high.set(0x1000)), "inode-size");
        assert_eq!(refused(|raw| raw.file_acl_lo.set(64)), "inode-xattr-block");
        assert_eq!(refused(|raw| raw.flags.set(InodeFlags::CASEFOLD)), "inode-flags");
        let both =
            |raw: &mut RawInode| raw.flags.set(InodeFlags::INLINE_DATA | InodeFlags::EXTENTS);
        assert_eq!(refused(both), "inline-mixed");
        let locked = |raw: &mut RawInode| {
            raw.mode.set(0o120_777);
            raw.flags.set(InodeFlags::IMMUTABLE);
        };
        assert_eq!(refused(locked), "inode-flags");
        for extra in [3, 132, 255] {
            let mut bytes = record(|_| {});
            bytes[128] = extra;
            assert_eq!(code(decoded(&bytes)), "inode-extra-size");
        }
    }

    #[test]
    fn a_checksum_must_match_unless_another_system_made_the_inode() {
        let mut geometry = Image::new(64).with_checksums().volume().geometry;
        assert_eq!(code(decode(NR, &record(|_| {}), &geometry)), "inode-checksum");
        geometry.made_by_linux = false;
        assert!(decode(NR, &record(|_| {}), &geometry).is_ok());
    }

    #[test]
    fn owners_have_two_halves_unless_the_file_system_says_one() {
        let mut geometry = Image::new(64).volume().geometry;
        let bytes = record(|raw| {
            raw.uid.set(1);
            raw.uid_high.set(1);
        });
        assert_eq!(decode(NR, &bytes, &geometry).unwrap().uid, 0x1_0001);
        geometry.short_ids = true;
        assert_eq!(decode(NR, &bytes, &geometry).unwrap().uid, 1);
    }

    #[test]
    fn an_inode_that_gives_no_extra_size_has_times_and_room_for_attributes() {
        let mut bytes = record(|_| {});
        bytes[128] = 0;
        bytes[0x88] = 2; // i_mtime_extra: epoch 2
        let inode = decoded(&bytes).unwrap();
        assert_eq!(inode.mtime.seconds, 2 << 32);
        assert!(inode.crtime.is_some() && *inode.tail == [0; 96]);
    }

    proptest! {
        #[test]
        fn no_record_is_too_odd(
            edits in prop::collection::vec((0_usize..256, any::<u8>()), 0..32),
            features in any::<u32>(),
        ) {
            let mut bytes = record(|_| {});
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            let mut geometry = Image::new(64).volume().geometry;
            geometry.features.incompat = Incompat::new(features);
            if let Ok(inode) = decode(NR, bytes.as_mut_bytes(), &geometry) {
                prop_assert!(inode.mtime.nanoseconds < 1_000_000_000);
                prop_assert!(i64::try_from(inode.size).is_ok());
            }
        }
    }

    #[test]
    fn times_reach_from_1901_to_2446() {
        let at = |base, extra| timestamp(base, extra).seconds;
        assert_eq!(at(0x8000_0000, 0), -(1 << 31));
        assert_eq!(at(0x7fff_ffff, 3), (3 << 32) + 0x7fff_ffff);
        assert_eq!(at(0x8000_0000, 1), (1 << 32) - (1 << 31));
        assert_eq!(timestamp(0, 123_456_789 << 2).nanoseconds, 123_456_789);
    }

    #[test]
    fn device_numbers_come_in_two_forms() {
        let mut block = [0; 60];
        block[..2].copy_from_slice(&[3, 1]);
        assert_eq!(rdev(FileKind::CharDevice, &block), (1, 3));
        block[..2].copy_from_slice(&[0, 0]);
        let new: u32 = (70000 & 0xff) | (300 << 8) | ((70000 & !0xff) << 12);
        block[4..8].copy_from_slice(&new.to_le_bytes());
        assert_eq!(rdev(FileKind::CharDevice, &block), (300, 70000));
        assert_eq!(rdev(FileKind::Regular, &block), (0, 0));
    }
}
