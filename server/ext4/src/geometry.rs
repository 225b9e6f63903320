//! The facts of the superblock that layout depends on, checked once at mount.
//!
//! # Invariants
//! Every field here is consistent with the others and with the device's size: block_size is a power
//! of two in 1024..=65536, group_count covers blocks_count, inodes_per_group ≤ 8 × block_size, and so
//! on. Code above relies on it without re-checking. Immutable.
//! Kernel: fs/ext4/super.c `ext4_fill_super` · Documentation/filesystems/ext4/super.rst, group_descr.rst

use zerocopy::FromBytes;

use crate::disk::checksum::ChecksumSeed;
use crate::disk::superblock::{self as disk, RawSuperblock};
use crate::error::{CorruptKind, Error, Place, Result, Unmountable};
use crate::features::{Compat, Features, Incompat, RoCompat};
use crate::ids::{BlockNr, GroupNr, InodeNr};

/// Checked facts about the layout.
#[derive(Clone, Debug)]
pub struct Geometry {
    /// Bytes of a block, a power of two in 1024..=65536.
    pub block_size: u32,
    /// Blocks of a cluster, a power of two; 1 without bigalloc.
    pub cluster_blocks: u32,
    /// Blocks of the file system.
    pub blocks_count: u64,
    /// Where group 0 starts: 1 for 1 KiB blocks (0 with bigalloc), else 0.
    pub first_data_block: u32,
    /// The block that holds the superblock that was read; the descriptors follow it.
    pub superblock_block: BlockNr,
    /// Blocks of a full group.
    pub blocks_per_group: u32,
    /// Inodes of a group.
    pub inodes_per_group: u32,
    /// Inodes of the file system.
    pub inodes_count: u32,
    /// The first inode that is not reserved.
    pub first_inode: u32,
    /// The quota and orphan files, which no directory may name (0: none).
    pub special_inodes: [u32; 4],
    /// Bytes of an inode on disk, a power of two in 128..=block_size.
    pub inode_size: u16,
    /// i_extra_isize of new inodes: 0 in 128-byte ones, else a multiple of 4 that fits.
    pub extra_isize: u16,
    /// Bytes of a group descriptor: 32, or 64..=1024 (a power of two) with 64bit.
    pub desc_size: u16,
    /// Block groups.
    pub group_count: u32,
    /// First meta block group, in descriptor blocks (meta_bg).
    pub first_meta_bg: u32,
    /// Descriptor blocks kept free behind the descriptors for growth (resize_inode).
    pub reserved_gdt_blocks: u16,
    /// The two groups that hold backups under sparse_super2.
    pub backup_groups: [u32; 2],
    /// The feature sets.
    pub features: Features,
    /// The seed of metadata checksums.
    pub checksum_seed: ChecksumSeed,
    /// s_creator_os is Linux; other systems' inodes carry no checksum.
    pub made_by_linux: bool,
    /// s_creator_os is the Hurd: what Linux uses for i_version is a block of the inode's (h_i_translator).
    pub made_by_hurd: bool,
    /// Owners are 16 bits wide (EXT4_DEFM_UID16).
    pub short_ids: bool,
    /// s_hash_seed of directory indexes.
    pub hash_seed: [u32; 4],
    /// Whether directory hashes treat bytes as unsigned (EXT2_FLAGS_UNSIGNED_HASH).
    pub hash_unsigned: bool,
    /// s_def_hash_version, used for directories without an index of their own.
    pub default_hash_version: u8,
    /// s_uuid.
    pub uuid: [u8; 16],
    /// s_volume_name up to its first NUL.
    pub label: Vec<u8>,
    /// s_encoding and s_encoding_flags with casefold.
    pub encoding: Option<(u16, u16)>,
}

/// s_encoding of Unicode 12.1, the only one defined.
const ENCODING_UTF8_12_1: u16 = 1;
/// EXT2_FLAGS_UNSIGNED_HASH in s_flags.
const FLAG_UNSIGNED_HASH: u32 = 0x2;
/// s_checksum_type of crc32c, the only one defined.
const CHECKSUM_CRC32C: u8 = 1;
/// EXT4_GOOD_OLD_FIRST_INO and the least s_first_ino.
const FIRST_INODE: u32 = 11;
/// EXT4_MAX_SUPP_REV.
const LAST_REVISION: u32 = 1;
/// DX_HASH_TEA_UNSIGNED, the last that may be a default.
const LAST_HASH_VERSION: u8 = 5;
/// EXT4_OS_LINUX and EXT4_OS_HURD.
const OS_LINUX: u32 = 0;
const OS_HURD: u32 = 1;
/// EXT4_DEFM_UID16 in s_default_mount_opts.
const DEFM_UID16: u32 = 0x10;
/// Bytes of all extra fields of an inode that are known.
pub(crate) const EXTRA_ISIZE: u16 = 32;
/// EXT4_GOOD_OLD_INODE_SIZE.
const OLD_INODE_SIZE: u16 = 128;

impl Geometry {
    /// Checks the superblock `raw` that was read from byte `place` of a device of `device_bytes`.
    ///
    /// # Errors
    /// Unmountable for foreign, too new or cut file systems; Corrupt, naming the field, for others.
    pub(crate) fn new(raw: &RawSuperblock, place: u64, device_bytes: u64) -> Result<Self> {
        let features = raw.features();
        check_format(raw, features)?;
        check_others(raw, features)?;
        let block_size = block_size(raw)?;
        let cluster_blocks = cluster_blocks(raw, features, block_size)?;
        let (inode_size, first_inode) = inode_rules(raw, features, block_size)?;
        let geometry = Self {
            block_size,
            cluster_blocks,
            blocks_count: raw.wide(raw.blocks_count_lo, raw.blocks_count_hi),
            first_data_block: raw.first_data_block.get(),
            superblock_block: BlockNr::new(place.checked_div(block_size.into()).unwrap_or(0)),
            blocks_per_group: raw.blocks_per_group.get(),
            inodes_per_group: raw.inodes_per_group.get(),
            inodes_count: raw.inodes_count.get(),
            first_inode,
            special_inodes: special_inodes(raw),
            inode_size,
            extra_isize: extra_isize(raw, features, inode_size),
            desc_size: desc_size(raw, features)?,
            group_count: 0,
            first_meta_bg: raw.first_meta_bg.get(),
            reserved_gdt_blocks: raw.reserved_gdt_blocks.get(),
            backup_groups: raw.backup_bgs.map(|group| group.get()),
            features,
            checksum_seed: checksum_seed(raw, features),
            made_by_linux: raw.creator_os.get() == OS_LINUX,
            made_by_hurd: raw.creator_os.get() == OS_HURD,
            short_ids: raw.default_mount_opts.get() & DEFM_UID16 != 0,
            hash_seed: raw.hash_seed.map(|word| word.get()),
            hash_unsigned: raw.flags.get() & FLAG_UNSIGNED_HASH != 0,
            default_hash_version: raw.def_hash_version,
            uuid: raw.uuid,
            label: disk::text(&raw.volume_name),
            encoding: encoding(raw, features)?,
        };
        geometry.check_groups(device_bytes)
    }

    /// Checks the fields that hang together and fills in the number of groups.
    fn check_groups(mut self, device_bytes: u64) -> Result<Self> {
        let bits = self.block_size.saturating_mul(8);
        let clusters_per_group = self.blocks_per_group.checked_div(self.cluster_blocks);
        let whole = self.blocks_per_group.checked_rem(self.cluster_blocks) == Some(0);
        if !whole || !clusters_per_group.is_some_and(|count| count > 0 && count <= bits) {
            return Err(field("s_blocks_per_group", self.blocks_per_group.into()));
        }
        let inodes_per_block = self.block_size.checked_div(self.inode_size.into()).unwrap_or(0);
        if self.inodes_per_group < inodes_per_block || self.inodes_per_group > bits {
            return Err(field("s_inodes_per_group", self.inodes_per_group.into()));
        }
        let first = u64::from(self.first_data_block);
        let blocks = self
            .blocks_count
            .checked_sub(first)
            .filter(|&blocks| blocks > 0)
            .ok_or_else(|| field("s_first_data_block", first))?;
        if first == 0 && self.block_size == 1024 && self.cluster_blocks == 1 {
            return Err(field("s_first_data_block", 0));
        }
        if u64::from(self.reserved_gdt_blocks) > u64::from(self.block_size) / 4 {
            return Err(field("s_reserved_gdt_blocks", self.reserved_gdt_blocks.into()));
        }
        let needed = self.blocks_count.checked_mul(self.block_size.into());
        match needed {
            Some(needed) if needed <= device_bytes => {}
            Some(needed) => {
                return Err(Unmountable::Truncated { needed, device: device_bytes }.into());
            }
            None => return Err(field("s_blocks_count", self.blocks_count)),
        }
        let groups = blocks.div_ceil(self.blocks_per_group.into());
        // So that the groups rounded up to full descriptor blocks still have numbers.
        let most = (1_u64 << 32).saturating_sub(self.descriptors_per_block().into());
        self.group_count = u32::try_from(groups)
            .ok()
            .filter(|_| groups <= most)
            .ok_or_else(|| field("s_blocks_count", self.blocks_count))?;
        let inodes = groups.checked_mul(self.inodes_per_group.into());
        if inodes != Some(self.inodes_count.into()) {
            return Err(field("s_inodes_count", self.inodes_count.into()));
        }
        let meta_bg = self.features.incompat.contains(Incompat::META_BG);
        if meta_bg && self.first_meta_bg > self.descriptor_blocks() {
            return Err(field("s_first_meta_bg", self.first_meta_bg.into()));
        }
        Ok(self)
    }

    /// The group an inode lives in and its index there, or `None` for 0 and numbers past the last.
    #[must_use]
    pub fn group_of_inode(&self, inode: InodeNr) -> Option<(GroupNr, u32)> {
        let index = inode.get().checked_sub(1)?;
        if inode.get() > self.inodes_count {
            return None;
        }
        let group = index.checked_div(self.inodes_per_group)?;
        Some((GroupNr::new(group), index.checked_rem(self.inodes_per_group)?))
    }

    /// Whether `inode` is for the file system itself: reserved, or a quota or orphan file. The root
    /// is not.
    #[must_use]
    pub fn is_special(&self, inode: InodeNr) -> bool {
        let nr = inode.get();
        inode != InodeNr::ROOT && (nr < self.first_inode || self.special_inodes.contains(&nr))
    }

    /// f_fsid as the kernel makes it of the UUID (`uuid_to_fsid`).
    #[must_use]
    pub fn fsid(&self) -> u64 {
        let both = u128::from_le_bytes(self.uuid);
        let [a, b, c, d, e, f, g, h, ..] = (both ^ (both >> 64)).to_le_bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }

    /// Whether `count` blocks from `first` lie inside the file system and past its first block,
    /// which no pointer may name (`ext4_inode_block_valid`).
    #[must_use]
    pub fn contains(&self, first: BlockNr, count: u64) -> bool {
        first.get() > u64::from(self.first_data_block)
            && first.get().checked_add(count).is_some_and(|end| end <= self.blocks_count)
    }

    /// Group descriptors in one block.
    #[must_use]
    pub fn descriptors_per_block(&self) -> u32 {
        self.block_size.checked_div(self.desc_size.into()).unwrap_or(1)
    }

    /// Blocks that all group descriptors fill.
    #[must_use]
    pub fn descriptor_blocks(&self) -> u32 {
        self.group_count.div_ceil(self.descriptors_per_block())
    }

    /// Blocks of a group's inode table.
    #[must_use]
    pub fn inode_table_blocks(&self) -> u32 {
        let per_block = self.block_size.checked_div(self.inode_size.into()).unwrap_or(1);
        self.inodes_per_group.div_ceil(per_block)
    }

    /// The first block of `group`.
    #[must_use]
    pub fn first_block(&self, group: GroupNr) -> BlockNr {
        let offset = u64::from(group.get()).saturating_mul(self.blocks_per_group.into());
        BlockNr::new(offset.saturating_add(self.first_data_block.into()))
    }

    /// Clusters of a full group.
    #[must_use]
    pub fn clusters_per_group(&self) -> u32 {
        self.blocks_per_group.checked_div(self.cluster_blocks).unwrap_or(0)
    }

    /// Clusters of `group`; the last group may be shorter, its last cluster too.
    #[must_use]
    pub fn clusters_in_group(&self, group: GroupNr) -> u32 {
        let left = self.blocks_count.saturating_sub(self.first_block(group).get());
        let blocks = u32::try_from(left).unwrap_or(u32::MAX).min(self.blocks_per_group);
        blocks.div_ceil(self.cluster_blocks.max(1))
    }

    /// The group that `block` is in, and the cluster there; `None` before the first group and past
    /// the last.
    #[must_use]
    pub fn group_of_block(&self, block: BlockNr) -> Option<(GroupNr, u32)> {
        let offset = block.get().checked_sub(self.first_data_block.into())?;
        let group = offset.checked_div(self.blocks_per_group.into())?;
        let group = u32::try_from(group).ok().filter(|&group| group < self.group_count)?;
        let inside = u32::try_from(offset.checked_rem(self.blocks_per_group.into())?).ok()?;
        Some((GroupNr::new(group), inside.checked_div(self.cluster_blocks)?))
    }

    /// The first block of `cluster` of `group`.
    pub(crate) fn cluster_block(&self, group: GroupNr, cluster: u32) -> BlockNr {
        let inside = u64::from(cluster).saturating_mul(self.cluster_blocks.into());
        BlockNr::new(self.first_block(group).get().saturating_add(inside))
    }

    /// Whether `group` starts with a superblock: all, those of sparse_super (0, 1 and powers of 3, 5
    /// and 7), or those that sparse_super2 names.
    #[must_use]
    pub fn has_super(&self, group: GroupNr) -> bool {
        let group = group.get();
        if group == 0 {
            return true;
        }
        if self.features.compat.contains(Compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.features.ro_compat.contains(RoCompat::SPARSE_SUPER) {
            return true;
        }
        [3, 5, 7].into_iter().any(|base| is_power(group, base))
    }

    /// The block of descriptors that `group`'s is in, and its place there.
    pub(crate) fn descriptor_slot(&self, group: GroupNr) -> (u32, u32) {
        let per_block = self.descriptors_per_block();
        let index = group.get().checked_div(per_block).unwrap_or(0);
        (index, group.get().checked_rem(per_block).unwrap_or(0))
    }

    /// Whole clusters in `blocks` blocks.
    pub(crate) fn whole_clusters(&self, blocks: u64) -> u64 {
        blocks.checked_div(self.cluster_blocks.into()).unwrap_or(0)
    }

    /// Where block `index` of the group descriptors lies (`descriptor_loc`).
    pub(crate) fn descriptor_block(&self, index: u32) -> BlockNr {
        let meta_bg = self.features.incompat.contains(Incompat::META_BG);
        if !meta_bg || index < self.first_meta_bg {
            let past = u64::from(index).saturating_add(1);
            return BlockNr::new(self.superblock_block.get().saturating_add(past));
        }
        let group = GroupNr::new(index.saturating_mul(self.descriptors_per_block()));
        let mut skip = u64::from(self.has_super(group));
        // With 1 KiB blocks and bigalloc group 0 starts at block 0, its superblock at block 1.
        if self.block_size == 1024 && index == 0 && self.first_data_block == 0 {
            skip = skip.saturating_add(1);
        }
        BlockNr::new(self.first_block(group).get().saturating_add(skip))
    }
}

fn is_power(mut value: u32, base: u32) -> bool {
    while value > 1 && value.is_multiple_of(base) {
        value = value.checked_div(base).unwrap_or(0);
    }
    value == 1
}

fn field(field: &'static str, value: u64) -> Error {
    Error::corrupt(Place::default(), CorruptKind::SuperblockField { field, value })
}

/// Block size and blocks of a group in `bytes`, which may be a damaged superblock or none at all.
pub(crate) fn group_size_of(bytes: &[u8; disk::SIZE]) -> Option<(u32, u32)> {
    let raw = RawSuperblock::ref_from_bytes(bytes).ok()?;
    Some((block_size(raw).ok()?, raw.blocks_per_group.get()))
}

/// Whether this is a format that is known, and its bytes are as they were written.
fn check_format(raw: &RawSuperblock, features: Features) -> Result<()> {
    // The kernel goes on read-only here; what a newer revision means by a field nobody knows.
    if raw.rev_level.get() > LAST_REVISION {
        return Err(Unmountable::UnknownRevision { revision: raw.rev_level.get() }.into());
    }
    if features.incompat.contains(Incompat::JOURNAL_DEV) {
        return Err(Unmountable::IsJournalDevice.into());
    }
    if features.metadata_csum() {
        check_checksum(raw)?;
    }
    let unknown = features.incompat.without(Incompat::KNOWN);
    if !unknown.is_empty() {
        return Err(Unmountable::UnknownFeatures { names: unknown.to_string() }.into());
    }
    Ok(())
}

fn check_checksum(raw: &RawSuperblock) -> Result<()> {
    if raw.checksum_type != CHECKSUM_CRC32C {
        return Err(field("s_checksum_type", raw.checksum_type.into()));
    }
    let (stored, computed) = (raw.checksum.get(), raw.computed_checksum());
    if stored != computed {
        let kind = CorruptKind::SuperblockChecksum { stored, computed };
        return Err(Error::corrupt(Place::default(), kind));
    }
    Ok(())
}

/// Fields that stand alone.
fn check_others(raw: &RawSuperblock, features: Features) -> Result<()> {
    let wide = Incompat::BIT64.bits() | Incompat::EA_INODE.bits();
    if raw.creator_os.get() == OS_HURD && features.incompat.bits() & wide != 0 {
        return Err(field("s_creator_os", OS_HURD.into()));
    }
    if features.incompat.contains(Incompat::ENCRYPT) && raw.encryption_level != 0 {
        return Err(field("s_encryption_level", raw.encryption_level.into()));
    }
    if raw.def_hash_version > LAST_HASH_VERSION {
        return Err(field("s_def_hash_version", raw.def_hash_version.into()));
    }
    Ok(())
}

/// What the superblock wants and at least all the fields that are known, if that fits.
fn extra_isize(raw: &RawSuperblock, features: Features, inode_size: u16) -> u16 {
    let Some(room) = inode_size.checked_sub(OLD_INODE_SIZE).filter(|&room| room > 0) else {
        return 0;
    };
    if !features.ro_compat.contains(RoCompat::EXTRA_ISIZE) {
        return EXTRA_ISIZE;
    }
    let asked = raw.want_extra_isize.get().max(raw.min_extra_isize.get()).max(EXTRA_ISIZE);
    if asked > room || !asked.is_multiple_of(4) { EXTRA_ISIZE } else { asked }
}

fn special_inodes(raw: &RawSuperblock) -> [u32; 4] {
    [raw.usr_quota_inum, raw.grp_quota_inum, raw.prj_quota_inum, raw.orphan_file_inum]
        .map(|nr| nr.get())
}

fn checksum_seed(raw: &RawSuperblock, features: Features) -> ChecksumSeed {
    if features.incompat.contains(Incompat::CSUM_SEED) {
        return ChecksumSeed::new(raw.checksum_seed.get());
    }
    ChecksumSeed::new(!0).chain(&raw.uuid)
}

fn block_size(raw: &RawSuperblock) -> Result<u32> {
    match raw.log_block_size.get() {
        log @ 0..=6 => Ok(1024 << log),
        log => Err(field("s_log_block_size", log.into())),
    }
}

fn cluster_blocks(raw: &RawSuperblock, features: Features, block_size: u32) -> Result<u32> {
    let log = raw.log_cluster_size.get();
    let refuse = || field("s_log_cluster_size", log.into());
    let bytes = if log > 20 { return Err(refuse()) } else { 1024_u32 << log };
    let ratio = bytes.checked_div(block_size).filter(|&ratio| ratio > 0).ok_or_else(refuse)?;
    let bigalloc = features.ro_compat.contains(RoCompat::BIGALLOC);
    if !bigalloc && ratio != 1 {
        return Err(refuse());
    }
    let per_group = raw.clusters_per_group.get().checked_mul(ratio);
    if bigalloc && per_group != Some(raw.blocks_per_group.get()) {
        return Err(field("s_clusters_per_group", raw.clusters_per_group.get().into()));
    }
    Ok(ratio)
}

fn inode_rules(raw: &RawSuperblock, features: Features, block_size: u32) -> Result<(u16, u32)> {
    if raw.rev_level.get() == 0 {
        return Ok((OLD_INODE_SIZE, FIRST_INODE));
    }
    let size = raw.inode_size.get();
    if size < OLD_INODE_SIZE || !size.is_power_of_two() || u32::from(size) > block_size {
        return Err(field("s_inode_size", size.into()));
    }
    let first = raw.first_ino.get();
    if first < FIRST_INODE {
        return Err(field("s_first_ino", first.into()));
    }
    let room = size.saturating_sub(OLD_INODE_SIZE);
    if room > 0 && features.ro_compat.contains(RoCompat::EXTRA_ISIZE) {
        for (name, extra) in [
            ("s_want_extra_isize", raw.want_extra_isize.get()),
            ("s_min_extra_isize", raw.min_extra_isize.get()),
        ] {
            if extra > room {
                return Err(field(name, extra.into()));
            }
        }
    }
    Ok((size, first))
}

fn desc_size(raw: &RawSuperblock, features: Features) -> Result<u16> {
    if !features.incompat.contains(Incompat::BIT64) {
        return Ok(32);
    }
    match raw.desc_size.get() {
        size @ 64..=1024 if size.is_power_of_two() => Ok(size),
        size => Err(field("s_desc_size", size.into())),
    }
}

fn encoding(raw: &RawSuperblock, features: Features) -> Result<Option<(u16, u16)>> {
    if !features.incompat.contains(Incompat::CASEFOLD) {
        return Ok(None);
    }
    if raw.encoding.get() != ENCODING_UTF8_12_1 {
        return Err(field("s_encoding", raw.encoding.get().into()));
    }
    Ok(Some((raw.encoding.get(), raw.encoding_flags.get())))
}

#[cfg(test)]
mod tests;
