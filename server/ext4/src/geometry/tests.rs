#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use proptest::prelude::*;
use zerocopy::{FromZeros, IntoBytes};

use super::*;

const PLACE: u64 = disk::OFFSET;
const DEVICE: u64 = 64 << 20;

/// 64 MiB in 1 KiB blocks, as mke2fs would make them, without checksums.
fn raw() -> RawSuperblock {
    let mut raw = RawSuperblock::new_zeroed();
    raw.magic.set(disk::MAGIC);
    raw.rev_level.set(1);
    raw.blocks_count_lo.set(65536);
    raw.first_data_block.set(1);
    raw.blocks_per_group.set(8192);
    raw.clusters_per_group.set(8192);
    raw.inodes_per_group.set(2048);
    raw.inodes_count.set(8 * 2048);
    raw.first_ino.set(11);
    raw.inode_size.set(256);
    raw.feature_ro_compat.set((RoCompat::SPARSE_SUPER.union(RoCompat::EXTRA_ISIZE)).bits());
    raw
}

fn parse(raw: &RawSuperblock) -> Result<Geometry> {
    Geometry::new(raw, PLACE, DEVICE)
}

/// The field that is blamed after `edit`.
fn blamed(edit: impl FnOnce(&mut RawSuperblock)) -> &'static str {
    let mut raw = raw();
    edit(&mut raw);
    match parse(&raw) {
        Err(Error::Corrupt { kind: CorruptKind::SuperblockField { field, .. }, .. }) => field,
        other => panic!("expected a field, got {other:?}"),
    }
}

fn with_incompat(bits: Incompat) -> RawSuperblock {
    let mut raw = raw();
    raw.feature_incompat.set(bits.bits());
    raw
}

#[test]
fn a_sound_superblock_gives_the_layout() {
    let geometry = parse(&raw()).unwrap();
    assert_eq!((geometry.block_size, geometry.group_count), (1024, 8));
    assert_eq!(geometry.inode_table_blocks(), 512);
    assert_eq!(geometry.descriptor_block(0), BlockNr::new(2));
    let with_super: Vec<_> = (0..60).filter(|&nr| geometry.has_super(GroupNr::new(nr))).collect();
    assert_eq!(with_super, [0, 1, 3, 5, 7, 9, 25, 27, 49]);
}

#[test]
fn each_field_that_cannot_be_is_named() {
    assert_eq!(blamed(|raw| raw.log_block_size.set(7)), "s_log_block_size");
    assert_eq!(blamed(|raw| raw.log_cluster_size.set(1)), "s_log_cluster_size");
    assert_eq!(blamed(|raw| raw.log_cluster_size.set(u32::MAX)), "s_log_cluster_size");
    assert_eq!(blamed(|raw| raw.inode_size.set(127)), "s_inode_size");
    assert_eq!(blamed(|raw| raw.inode_size.set(2048)), "s_inode_size");
    assert_eq!(blamed(|raw| raw.first_ino.set(10)), "s_first_ino");
    assert_eq!(blamed(|raw| raw.want_extra_isize.set(129)), "s_want_extra_isize");
    assert_eq!(blamed(|raw| raw.min_extra_isize.set(u16::MAX)), "s_min_extra_isize");
    assert_eq!(blamed(|raw| raw.blocks_per_group.set(0)), "s_blocks_per_group");
    assert_eq!(blamed(|raw| raw.blocks_per_group.set(8193)), "s_blocks_per_group");
    assert_eq!(blamed(|raw| raw.inodes_per_group.set(3)), "s_inodes_per_group");
    assert_eq!(blamed(|raw| raw.inodes_per_group.set(8193)), "s_inodes_per_group");
    assert_eq!(blamed(|raw| raw.inodes_count.set(1)), "s_inodes_count");
    assert_eq!(blamed(|raw| raw.first_data_block.set(0)), "s_first_data_block");
    assert_eq!(blamed(|raw| raw.first_data_block.set(65536)), "s_first_data_block");
    assert_eq!(blamed(|raw| raw.reserved_gdt_blocks.set(257)), "s_reserved_gdt_blocks");
    assert_eq!(blamed(|raw| raw.def_hash_version = 6), "s_def_hash_version");
    let bits = |raw: &mut RawSuperblock, bits: Incompat| raw.feature_incompat.set(bits.bits());
    assert_eq!(blamed(|raw| bits(raw, Incompat::BIT64)), "s_desc_size");
    assert_eq!(blamed(|raw| bits(raw, Incompat::CASEFOLD)), "s_encoding");
    let meta_bg = |raw: &mut RawSuperblock| {
        bits(raw, Incompat::META_BG);
        raw.first_meta_bg.set(2);
    };
    assert_eq!(blamed(meta_bg), "s_first_meta_bg");
    let hurd = |raw: &mut RawSuperblock| {
        bits(raw, Incompat::EA_INODE);
        raw.creator_os.set(1);
    };
    assert_eq!(blamed(hurd), "s_creator_os");
    let level = |raw: &mut RawSuperblock| {
        bits(raw, Incompat::ENCRYPT);
        raw.encryption_level = 1;
    };
    assert_eq!(blamed(level), "s_encryption_level");
}

#[test]
fn the_high_half_of_the_size_counts_with_64bit_only() {
    let mut raw = raw();
    raw.blocks_count_hi.set(1);
    assert_eq!(parse(&raw).unwrap().blocks_count, 65536);
    raw.feature_incompat.set(Incompat::BIT64.bits());
    raw.desc_size.set(64);
    let error = parse(&raw).unwrap_err();
    assert!(matches!(error, Error::Unmountable(Unmountable::Truncated { device: DEVICE, .. })));
}

#[test]
fn the_first_revision_has_fixed_inodes() {
    let mut raw = raw();
    raw.rev_level.set(0);
    raw.inode_size.set(0);
    raw.first_ino.set(0);
    let geometry = parse(&raw).unwrap();
    assert_eq!((geometry.inode_size, geometry.first_inode), (128, 11));
}

#[test]
fn an_external_journal_and_unknown_features_are_no_file_system_to_mount() {
    let refusal = |raw: &RawSuperblock| match parse(raw) {
        Err(Error::Unmountable(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refusal(&with_incompat(Incompat::JOURNAL_DEV)), Unmountable::IsJournalDevice);
    let unknown = with_incompat(Incompat::COMPRESSION.union(Incompat::new(0x80_0000)));
    let names = "compression,0x800000".to_string();
    assert_eq!(refusal(&unknown), Unmountable::UnknownFeatures { names });
}

#[test]
fn the_checksum_is_compared_where_there_is_one() {
    let mut raw = raw();
    raw.feature_ro_compat.set(RoCompat::METADATA_CSUM.bits());
    assert!(matches!(parse(&raw), Err(Error::Corrupt { .. })));
    raw.checksum_type = 1;
    raw.checksum.set(raw.computed_checksum());
    assert!(parse(&raw).is_ok());
    raw.wtime.set(1);
    let kind = match parse(&raw) {
        Err(Error::Corrupt { kind, .. }) => kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind.code(), "sb-checksum");
}

#[test]
fn meta_groups_keep_their_descriptors_with_them() {
    let mut raw = with_incompat(Incompat::META_BG);
    raw.blocks_per_group.set(1024);
    raw.clusters_per_group.set(1024);
    raw.inodes_per_group.set(64);
    raw.inodes_count.set(64 * 64);
    raw.first_meta_bg.set(1);
    let geometry = parse(&raw).unwrap();
    assert_eq!(geometry.descriptor_blocks(), 2);
    assert_eq!(geometry.descriptor_block(0), BlockNr::new(2));
    // Group 32 has no superblock: its first block holds descriptors.
    assert_eq!(geometry.descriptor_block(1), BlockNr::new(1 + 32 * 1024));
}

proptest! {
    #[test]
    fn no_superblock_is_too_odd(
        edits in prop::collection::vec((0_usize..1024, any::<u8>()), 0..24),
        device in prop_oneof![Just(DEVICE), any::<u64>()],
    ) {
        let mut raw = raw();
        for (at, byte) in edits {
            raw.as_mut_bytes()[at] = byte;
        }
        if let Ok(geometry) = Geometry::new(&raw, PLACE, device) {
            let bytes = geometry.blocks_count * u64::from(geometry.block_size);
            prop_assert!(bytes <= device);
            prop_assert!(geometry.group_count > 0);
            let last = InodeNr::new(geometry.inodes_count);
            let (group, _) = geometry.group_of_inode(last).unwrap();
            prop_assert_eq!(group.get() + 1, geometry.group_count);
            for group in [0, geometry.group_count / 2, geometry.group_count - 1] {
                let (index, _) = geometry.descriptor_slot(GroupNr::new(group));
                let _ = geometry.descriptor_block(index);
            }
        }
    }
}
