//! Block group descriptors: 32 bytes, or s_desc_size with 64bit.
//!
//! Source: Documentation/filesystems/ext4/group_descr.rst, checksums.rst.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::crc16;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::{Incompat, RoCompat};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, GroupNr};

/// The low half, `struct ext4_group_desc` up to bg_checksum.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct RawLow {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_blocks_count: U16,
    free_inodes_count: U16,
    used_dirs_count: U16,
    flags: U16,
    exclude_bitmap: U32,
    block_bitmap_csum: U16,
    inode_bitmap_csum: U16,
    itable_unused: U16,
    checksum: U16,
}

/// The high half, present with 64bit.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct RawHigh {
    block_bitmap: U32,
    inode_bitmap: U32,
    inode_table: U32,
    free_blocks_count: U16,
    free_inodes_count: U16,
    used_dirs_count: U16,
    itable_unused: U16,
    exclude_bitmap: U32,
    block_bitmap_csum: U16,
    inode_bitmap_csum: U16,
    reserved: U32,
}

const LOW: usize = size_of::<RawLow>();
const HIGH: usize = size_of::<RawHigh>();
const _: () = assert!(LOW == 32 && HIGH == 32);
/// Offset of bg_checksum.
const CHECKSUM: usize = 30;

/// EXT4_BG_INODE_UNINIT in bg_flags: the inode bitmap was never written, no inode is in use.
pub(crate) const INODE_UNINIT: u16 = 1;
/// EXT4_BG_BLOCK_UNINIT: the block bitmap was never written, only metadata is in use.
pub(crate) const BLOCK_UNINIT: u16 = 2;
/// EXT4_BG_INODE_ZEROED: the unused end of the inode table holds zeros.
pub(crate) const INODE_ZEROED: u16 = 4;

/// One block group's descriptor. The places are checked where they are used: the inode table's by
/// [`GroupDesc::inode_table_in`], the bitmaps' by [`GroupDesc::check_bitmaps`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupDesc {
    /// The block of the block bitmap.
    pub block_bitmap: BlockNr,
    /// The block of the inode bitmap.
    pub inode_bitmap: BlockNr,
    /// The first block of the inode table.
    pub inode_table: BlockNr,
    /// Free clusters.
    pub free_clusters: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Inodes that are directories.
    pub used_dirs: u32,
    /// bg_flags: EXT4_BG_INODE_UNINIT, BLOCK_UNINIT, INODE_ZEROED.
    pub flags: u16,
    /// Inodes at the table's end that were never used.
    pub unused_inodes: u32,
    /// The block bitmap's checksum; its upper half is 0 where descriptors are short.
    pub block_bitmap_checksum: u32,
    /// The inode bitmap's checksum, likewise.
    pub inode_bitmap_checksum: u32,
}

impl GroupDesc {
    /// Decodes the descriptor of `group`; `bytes` are s_desc_size long.
    ///
    /// # Errors
    /// [`CorruptKind::Truncated`] for less than 32 bytes.
    pub fn parse(group: GroupNr, bytes: &[u8]) -> Result<Self> {
        let place = Place::group(group);
        let low: &RawLow = super::prefix(place, bytes)?;
        let high = match bytes.get(LOW..) {
            Some(rest) if rest.len() >= HIGH => *super::prefix::<RawHigh>(place, rest)?,
            _ => RawHigh::new_zeroed(),
        };
        Ok(Self {
            block_bitmap: block(low.block_bitmap, high.block_bitmap),
            inode_bitmap: block(low.inode_bitmap, high.inode_bitmap),
            inode_table: block(low.inode_table, high.inode_table),
            free_clusters: count(low.free_blocks_count, high.free_blocks_count),
            free_inodes: count(low.free_inodes_count, high.free_inodes_count),
            used_dirs: count(low.used_dirs_count, high.used_dirs_count),
            flags: low.flags.get(),
            unused_inodes: count(low.itable_unused, high.itable_unused),
            block_bitmap_checksum: count(low.block_bitmap_csum, high.block_bitmap_csum),
            inode_bitmap_checksum: count(low.inode_bitmap_csum, high.inode_bitmap_csum),
        })
    }

    /// Writes what can change into the descriptor `bytes` of `group`, its checksum included. The
    /// places stay as they are.
    ///
    /// # Errors
    /// [`CorruptKind::Truncated`] for less than 32 bytes.
    pub(crate) fn put(&self, group: GroupNr, bytes: &mut [u8], geometry: &Geometry) -> Result<()> {
        let (low, rest) = super::split_mut::<RawLow>(Place::group(group), bytes)?;
        let mut none = RawHigh::new_zeroed();
        let high = RawHigh::mut_from_prefix(rest).map_or(&mut none, |(high, _)| high);
        split(self.free_clusters, &mut low.free_blocks_count, &mut high.free_blocks_count);
        split(self.free_inodes, &mut low.free_inodes_count, &mut high.free_inodes_count);
        split(self.used_dirs, &mut low.used_dirs_count, &mut high.used_dirs_count);
        split(self.unused_inodes, &mut low.itable_unused, &mut high.itable_unused);
        split(self.block_bitmap_checksum, &mut low.block_bitmap_csum, &mut high.block_bitmap_csum);
        split(self.inode_bitmap_checksum, &mut low.inode_bitmap_csum, &mut high.inode_bitmap_csum);
        low.flags.set(self.flags);
        if let Some(computed) = computed_checksum(group, bytes, geometry) {
            let stored = bytes.get_mut(CHECKSUM..).and_then(<[u8]>::first_chunk_mut::<2>);
            stored.into_iter().for_each(|stored| *stored = computed.to_le_bytes());
        }
        Ok(())
    }

    /// Checks the places of both bitmaps as [`GroupDesc::inode_table_in`] does the table's.
    ///
    /// # Errors
    /// [`CorruptKind::GroupPlace`].
    pub(crate) fn check_bitmaps(&self, group: GroupNr, geometry: &Geometry) -> Result<()> {
        let first = geometry.first_block(group);
        let flexible = geometry.features.incompat.contains(Incompat::FLEX_BG);
        let end = first.get().saturating_add(geometry.blocks_per_group.into());
        for (what, at) in [("block bitmap", self.block_bitmap), ("inode bitmap", self.inode_bitmap)]
        {
            let inside = at >= first && at.get() < end;
            if !geometry.contains(at, 1) || !(flexible || inside) {
                let kind = CorruptKind::GroupPlace { what, block: at.get() };
                return Err(Error::corrupt(Place::group(group), kind));
            }
        }
        Ok(())
    }

    /// The first block of the inode table.
    ///
    /// # Errors
    /// [`CorruptKind::GroupPlace`] if the table is not inside the file system or, without flex_bg,
    /// inside `group`.
    pub fn inode_table_in(&self, group: GroupNr, geometry: &Geometry) -> Result<BlockNr> {
        let blocks = u64::from(geometry.inode_table_blocks());
        let first = geometry.first_block(group);
        let flexible = geometry.features.incompat.contains(Incompat::FLEX_BG);
        let end = first.get().saturating_add(geometry.blocks_per_group.into());
        let start = self.inode_table;
        let inside = start >= first && start.get().saturating_add(blocks) <= end;
        if !geometry.contains(start, blocks) || !(flexible || inside) {
            let kind = CorruptKind::GroupPlace { what: "inode table", block: start.get() };
            return Err(Error::corrupt(Place::group(group), kind));
        }
        Ok(start)
    }

    /// Compares the checksum of the descriptor `bytes` of `group`, if there is one.
    ///
    /// # Errors
    /// [`CorruptKind::GroupChecksum`].
    pub fn check_checksum(group: GroupNr, bytes: &[u8], geometry: &Geometry) -> Result<()> {
        let stored = super::prefix::<RawLow>(Place::group(group), bytes)?.checksum.get();
        match computed_checksum(group, bytes, geometry) {
            Some(computed) if computed != stored => {
                let kind = CorruptKind::GroupChecksum { stored, computed };
                Err(Error::corrupt(Place::group(group), kind))
            }
            _ => Ok(()),
        }
    }
}

fn block(lo: U32, hi: U32) -> BlockNr {
    BlockNr::new(super::superblock::join(lo, hi))
}

fn count(lo: U16, hi: U16) -> u32 {
    u32::from(lo.get()) | u32::from(hi.get()) << 16
}

/// Stores both halves of `value`.
fn split(value: u32, lo: &mut U16, hi: &mut U16) {
    let [a, b, c, d] = value.to_le_bytes();
    (*lo, *hi) = (U16::from_bytes([a, b]), U16::from_bytes([c, d]));
}

fn computed_checksum(group: GroupNr, bytes: &[u8], geometry: &Geometry) -> Option<u16> {
    let ro_compat = geometry.features.ro_compat;
    let (before, after) = bytes.split_at_checked(CHECKSUM)?;
    let after = after.get(2..)?;
    let number = group.get().to_le_bytes();
    if ro_compat.contains(RoCompat::METADATA_CSUM) {
        let seed = geometry.checksum_seed.chain(&number).chain(before).chain(&[0, 0]);
        let [a, b, ..] = seed.of(after).to_le_bytes();
        return Some(u16::from_le_bytes([a, b]));
    }
    if !ro_compat.contains(RoCompat::GDT_CSUM) {
        return None;
    }
    let head = crc16(crc16(crc16(!0, &geometry.uuid), &number), before);
    // The kernel sums the high half only where the file system has 64-bit descriptors.
    let wide = geometry.features.incompat.contains(Incompat::BIT64);
    Some(if wide { crc16(head, after) } else { head })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::{Image, code};

    const GROUP: GroupNr = GroupNr::new(0);

    fn with_table(block: u32) -> GroupDesc {
        let mut bytes = [0; 32];
        bytes[8..12].copy_from_slice(&block.to_le_bytes());
        GroupDesc::parse(GROUP, &bytes).unwrap()
    }

    #[test]
    fn an_inode_table_must_be_in_its_group_or_with_flex_bg_anywhere() {
        let mut geometry = Image::new(16384).volume().geometry;
        assert_eq!(with_table(5).inode_table_in(GROUP, &geometry).unwrap(), BlockNr::new(5));
        for outside in [0, 1, 8190, 8193, 16200, u32::MAX] {
            assert_eq!(code(with_table(outside).inode_table_in(GROUP, &geometry)), "group-place");
        }
        geometry.features.incompat = Incompat::FLEX_BG;
        assert!(with_table(8193).inode_table_in(GROUP, &geometry).is_ok());
        assert_eq!(code(with_table(16200).inode_table_in(GROUP, &geometry)), "group-place");
    }

    #[test]
    fn the_high_half_is_there_with_64_bytes() {
        let mut bytes = [0; 64];
        bytes[12] = 1;
        bytes[0x2c] = 1;
        assert_eq!(GroupDesc::parse(GROUP, &bytes).unwrap().free_clusters, 0x1_0001);
        assert_eq!(GroupDesc::parse(GROUP, &bytes[..32]).unwrap().free_clusters, 1);
        assert_eq!(code(GroupDesc::parse(GROUP, &bytes[..31])), "truncated");
    }

    proptest! {
        #[test]
        fn a_changed_byte_changes_the_checksum(at in 0_usize..32, byte in 1_u8..) {
            let mut geometry = Image::new(64).volume().geometry;
            for kind in [RoCompat::METADATA_CSUM, RoCompat::GDT_CSUM] {
                geometry.features.ro_compat = kind;
                let mut bytes = [0; 32];
                let computed = computed_checksum(GROUP, &bytes, &geometry).unwrap();
                bytes[CHECKSUM..].copy_from_slice(&computed.to_le_bytes());
                prop_assert!(GroupDesc::check_checksum(GROUP, &bytes, &geometry).is_ok());
                bytes[at] ^= byte;
                let result = GroupDesc::check_checksum(GROUP, &bytes, &geometry);
                prop_assert_eq!(code(result), "group-checksum");
            }
        }
    }
}
