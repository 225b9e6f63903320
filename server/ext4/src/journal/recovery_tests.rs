#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use parking_lot::Mutex;

use super::*;
use crate::error::CorruptKind;
use crate::journal::overlay::Overlay;
use crate::journal::testing::{BLOCK, Found, HOME, LogImage, Sums, first_byte};

const FLAVOURS: [(Sums, bool); 8] = [
    (Sums::None, false),
    (Sums::None, true),
    (Sums::V1, false),
    (Sums::V1, true),
    (Sums::V2, false),
    (Sums::V2, true),
    (Sums::V3, false),
    (Sums::V3, true),
];
const ASYNC: u32 = 4;

fn found(transactions: u32, why: LogEnd) -> Found {
    Found { transactions, why }
}

#[test]
fn the_newest_committed_copy_is_seen_in_every_flavour() {
    for (sums, wide) in FLAVOURS {
        let mut log = LogImage::new(sums, wide);
        log.transaction(&[(3, 1), (5, 1)]);
        log.transaction(&[(5, 2), (9, 2)]);
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(2, LogEnd::Clean), "{sums:?} {wide}");
        assert_eq!((seen[3], seen[5], seen[9], seen[4]), (1, 2, 2, 0xee), "{sums:?} {wide}");
    }
}

#[test]
fn an_empty_log_shows_the_device() {
    let mut log = LogImage::new(Sums::V3, true);
    log.superblock.start = 0.into();
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(0, LogEnd::Clean));
    assert_eq!(seen, [0xee; HOME]);
}

#[test]
fn a_transaction_may_have_several_descriptors() {
    for (sums, wide) in FLAVOURS {
        let mut log = LogImage::new(sums, wide);
        log.write(&[(1, 1), (2, 1), (3, 1)]);
        log.write(&[(2, 2)]);
        log.commit();
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(1, LogEnd::Clean));
        assert_eq!(seen[1..4], [1, 2, 1]);
    }
}

#[test]
fn the_log_wraps_in_the_middle_of_anything() {
    for start in 1015..1024 {
        for (sums, wide) in FLAVOURS {
            let mut log = LogImage::new(sums, wide).starting(start, 7);
            log.transaction(&[(1, 1), (2, 1), (3, 1)]);
            log.write(&[(2, 2)]);
            log.revoke(&[3]);
            log.commit();
            let (outcome, seen) = log.seen();
            assert_eq!(outcome, found(2, LogEnd::Clean), "{sums:?} {wide} {start}");
            assert_eq!(seen[1..4], [1, 2, 0xee]);
        }
    }
}

#[test]
fn transaction_numbers_wrap() {
    let mut log = LogImage::new(Sums::V3, true).starting(5, u32::MAX);
    log.transaction(&[(1, 1)]);
    log.transaction(&[(1, 2)]);
    log.transaction(&[(2, 3)]);
    assert_eq!(log.tid, 2);
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(3, LogEnd::Clean));
    assert_eq!(seen[1..3], [2, 3]);
}

#[test]
fn stale_blocks_of_the_last_lap_end_the_log() {
    let mut log = LogImage::new(Sums::None, false).starting(1, 3);
    log.transaction(&[(1, 1)]);
    log.transaction(&[(2, 1)]);
    log = log.starting(1, 900);
    log.transaction(&[(1, 2)]);
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(1, LogEnd::Clean));
    assert_eq!(seen[1..3], [2, 0xee]);
}

#[test]
fn a_revoke_hides_copies_of_its_own_and_older_transactions_only() {
    for (sums, wide) in FLAVOURS {
        let mut log = LogImage::new(sums, wide);
        log.transaction(&[(1, 1), (2, 1), (3, 1), (4, 1)]);
        log.revoke(&[1, 2]);
        log.write(&[(2, 2), (4, 2)]);
        log.commit();
        log.transaction(&[(1, 3)]);
        log.revoke(&[4, 40, 41]);
        log.commit();
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(4, LogEnd::Clean), "{sums:?} {wide}");
        assert_eq!(seen[1..5], [3, 0xee, 1, 0xee], "{sums:?} {wide}");
    }
}

#[test]
fn a_revoke_that_was_never_committed_hides_nothing() {
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1)]);
    log.revoke(&[1]);
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(1, LogEnd::Unfinished));
    assert_eq!(seen[1], 1);
}

#[test]
fn a_revoke_count_past_the_block_ends_the_log() {
    let mut log = LogImage::new(Sums::None, false);
    log.transaction(&[(1, 1)]);
    let revoke = log.revoke(&[1]);
    log.block_mut(revoke)[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    log.commit();
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(1, LogEnd::BlockChecksum));
    assert_eq!(seen[1], 1);
}

#[test]
fn a_revoke_count_below_its_header_names_nothing() {
    let mut log = LogImage::new(Sums::None, false);
    log.transaction(&[(1, 1)]);
    let revoke = log.revoke(&[1]);
    log.block_mut(revoke)[12..16].fill(0);
    log.commit();
    let (outcome, seen) = log.seen();
    assert_eq!(outcome, found(2, LogEnd::Clean));
    assert_eq!(seen[1], 1);
}

#[test]
fn escaped_blocks_come_back_whole() {
    for (sums, wide) in FLAVOURS {
        let mut content = vec![0x55; BLOCK];
        content[..4].copy_from_slice(&jbd2::MAGIC.to_be_bytes());
        let mut log = LogImage::new(sums, wide);
        log.write_blocks(&[(8, vec![7; BLOCK]), (9, content.clone())]);
        log.commit();
        let (device, recovered, area) = log.recover();
        let mut bytes = vec![0; BLOCK];
        let overlay = Overlay::new(recovered.copies, area.into());
        overlay.read(&*device, 9 * BLOCK as u64, &mut bytes).unwrap();
        assert_eq!(bytes, content, "{sums:?} {wide}");
    }
}

#[test]
fn a_log_torn_at_any_block_shows_a_prefix() {
    for (sums, wide) in FLAVOURS {
        let mut log = LogImage::new(sums, wide);
        log.transaction(&[(1, 1), (2, 1)]); // blocks 1 to 4
        log.write(&[(1, 2), (2, 2)]); // 5 to 7
        log.revoke(&[3]); // 8
        log.commit(); // 9
        let whole = log.bytes.clone();
        for torn in 1..10 {
            log.bytes.clone_from(&whole);
            for at in torn..10 {
                log.block_mut(at).fill(0);
            }
            let (outcome, seen) = log.seen();
            let expect = if torn < 5 { (0, 0xee) } else { (1, 1) };
            assert_eq!((outcome.transactions, seen[1]), expect, "{sums:?} {wide} {torn}");
            assert_eq!(seen[1], seen[2]);
            let why = if matches!(torn, 1 | 5) { LogEnd::Clean } else { LogEnd::Unfinished };
            assert_eq!(outcome.why, why, "{sums:?} {wide} {torn}");
        }
    }
}

#[test]
fn a_commit_block_with_a_wrong_checksum_ends_the_log() {
    for sums in [Sums::V1, Sums::V2, Sums::V3] {
        let mut log = LogImage::new(sums, true);
        log.transaction(&[(1, 1)]);
        log.write(&[(1, 2)]);
        let commit = log.commit();
        log.transaction(&[(1, 3)]);
        log.block_mut(commit)[17] ^= 1;
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(1, LogEnd::CommitChecksum), "{sums:?}");
        assert_eq!(seen[1], 1);
    }
}

#[test]
fn a_v1_checksum_covers_descriptor_and_copies() {
    for victim in [4, 5] {
        let mut log = LogImage::new(Sums::V1, false);
        log.transaction(&[(1, 1)]); // 1 to 3
        log.transaction(&[(1, 2)]); // 4 to 6
        log.block_mut(victim)[100] ^= 1;
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(1, LogEnd::CommitChecksum));
        assert_eq!(seen[1], 1);
    }
}

#[test]
fn a_v1_commit_block_may_have_no_checksum() {
    let mut log = LogImage::new(Sums::V1, false);
    log.write(&[(1, 1)]);
    let commit = log.commit();
    log.block_mut(commit)[12..20].fill(0);
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
}

#[test]
fn with_async_commit_a_bad_last_transaction_is_a_crash_and_a_bad_earlier_one_damage() {
    let mut log = LogImage::new(Sums::V1, false).incompat(ASYNC);
    log.transaction(&[(1, 1)]);
    log.transaction(&[(1, 2)]);
    log.block_mut(5)[100] ^= 1;
    let (outcome, seen) = log.seen();
    assert_eq!((outcome, seen[1]), (found(1, LogEnd::Unfinished), 1));
    log.transaction(&[(1, 3)]);
    let (outcome, seen) = log.seen();
    assert_eq!((outcome, seen[1]), (found(1, LogEnd::CommitChecksum), 1));
}

#[test]
fn a_commit_block_of_which_one_sector_was_written_counts() {
    let mut log = LogImage::new(Sums::V3, true);
    log.write(&[(1, 1)]);
    let commit = log.commit();
    log.block_mut(commit)[512..].fill(0x77);
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
}

#[test]
fn a_damaged_descriptor_in_a_committed_transaction_ends_the_log() {
    for sums in [Sums::V2, Sums::V3] {
        let mut log = LogImage::new(sums, true);
        log.transaction(&[(1, 1)]);
        let descriptor = log.write(&[(1, 2)]);
        log.commit();
        log.block_mut(descriptor)[900] ^= 1;
        let (outcome, seen) = log.seen();
        assert_eq!((outcome, seen[1]), (found(1, LogEnd::BlockChecksum), 1), "{sums:?}");
    }
}

#[test]
fn a_damaged_revoke_block_in_a_committed_transaction_ends_the_log() {
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1)]);
    let revoke = log.revoke(&[1]);
    log.commit();
    log.block_mut(revoke)[900] ^= 1;
    let (outcome, seen) = log.seen();
    assert_eq!((outcome, seen[1]), (found(1, LogEnd::BlockChecksum), 1));
}

#[test]
fn a_bad_checksum_with_an_older_time_is_left_over_from_an_older_log() {
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1)]);
    log.seconds = 10;
    let descriptor = log.write(&[(1, 2)]);
    log.commit();
    log.block_mut(descriptor)[900] ^= 1;
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1)]);
    log.seconds = 10;
    log.write(&[(1, 2)]);
    let commit = log.commit();
    log.block_mut(commit)[17] ^= 1;
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
}

#[test]
fn a_damaged_copy_makes_its_block_unreadable_unless_a_newer_one_replaces_it() {
    for sums in [Sums::V2, Sums::V3] {
        let mut log = LogImage::new(sums, true);
        let descriptor = log.write(&[(1, 1), (2, 1), (3, 1)]);
        log.commit();
        for copy in descriptor + 1..descriptor + 4 {
            log.block_mut(copy)[100] ^= 1;
        }
        log.transaction(&[(2, 2)]);
        log.revoke(&[3]);
        log.commit();
        let (device, recovered, area) = log.recover();
        assert_eq!((recovered.transactions, recovered.bad), (3, 1), "{sums:?}");
        let overlay = Overlay::new(recovered.copies, area.into());
        let seen: Vec<u8> = (1..4).map(|block| first_byte(&device, &overlay, block)).collect();
        assert_eq!(seen, [0xff, 2, 0xee]);
    }
}

#[test]
fn copies_of_blocks_past_the_device_are_counted_and_left_out() {
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1), (HOME as u64, 2), (1 << 40, 3), (u64::MAX, 4)]);
    let (_, recovered, _) = log.recover();
    assert_eq!((recovered.copies.len(), recovered.outside), (1, 3));
}

#[test]
fn a_log_of_nothing_but_descriptors_ends() {
    for tags in [0, 1, 3, 40] {
        let mut log = LogImage::new(Sums::None, false);
        log.write(&vec![(1, 1); tags]);
        if tags == 0 {
            // Tags to the end of the block, none marked as the last.
            log.block_mut(1)[12..].fill(0);
        }
        let descriptor = log.block_mut(1).to_vec();
        for at in 1..1024 {
            log.block_mut(at).copy_from_slice(&descriptor);
        }
        let (outcome, seen) = log.seen();
        assert_eq!(outcome, found(0, LogEnd::Unfinished));
        assert_eq!(seen[1], 0xee);
    }
}

#[test]
fn a_log_full_to_the_last_block_is_read_whole() {
    let mut log = LogImage::new(Sums::V3, true).starting(500, 7);
    for _ in 0..341 {
        log.transaction(&[(1, 1)]);
    }
    assert_eq!(log.at, 500);
    assert_eq!(log.seen().0, found(341, LogEnd::Clean));
}

#[test]
fn a_log_full_of_revoke_records_takes_no_memory_for_them() {
    let mut log = LogImage::new(Sums::None, false);
    log.transaction(&[(1, 1), (2, 1)]);
    let many: Vec<u64> = (100..340).collect();
    for _ in 0..1000 {
        log.revoke(&many);
    }
    log.revoke(&[2]);
    log.commit();
    let (_, recovered, _) = log.recover();
    assert_eq!(recovered.transactions, 2);
    assert_eq!((recovered.copies.len(), recovered.copies.capacity()), (1, 1));
}

#[test]
fn an_unknown_kind_of_block_ends_the_log() {
    let mut log = LogImage::new(Sums::None, false);
    log.transaction(&[(1, 1)]);
    let commit = log.commit();
    log.block_mut(commit)[7] = 9;
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
}

#[test]
fn progress_is_reported_from_start_to_end() {
    struct Heard(Mutex<Vec<(u64, u64)>>);
    impl Observer for Heard {
        fn replay(&self, done: u64, total: u64) {
            self.0.lock().push((done, total));
        }
    }
    let mut log = LogImage::new(Sums::V3, true);
    for _ in 0..200 {
        log.transaction(&[(1, 1), (2, 1)]);
    }
    let device = log.device();
    let (area, superblock) = log.open(&device).unwrap();
    let heard = Heard(Mutex::default());
    recover(&area, &superblock, HOME as u64, &heard).unwrap();
    let heard = heard.0.into_inner();
    let total = 3 * 1023;
    assert_eq!((heard.first(), heard.last()), (Some(&(0, total)), Some(&(total, total))));
    assert!(heard.len() > 6);
    assert!(heard.windows(2).all(|pair| pair[0].0 <= pair[1].0));
}

/// A log of one gibibyte, made up as it is read: descriptors of 120 tags, each for a block of its
/// own, and a commit block after every eighth.
struct FullLog;

impl FullLog {
    const BLOCKS: u32 = 1 << 20;
    const TAGS: u64 = 120;
    const CYCLE: u64 = 8 * (1 + Self::TAGS) + 1;

    fn block(at: u64) -> Vec<u8> {
        let (cycle, place) = ((at - 1) / Self::CYCLE, (at - 1) % Self::CYCLE);
        let (descriptor, copy) = (place / (1 + Self::TAGS), place % (1 + Self::TAGS));
        let mut block = vec![0; BLOCK];
        let blocktype: u32 = match (descriptor, copy) {
            (8, _) => 2,
            (_, 0) => 1,
            _ => return block,
        };
        block[..4].copy_from_slice(&jbd2::MAGIC.to_be_bytes());
        block[4..8].copy_from_slice(&blocktype.to_be_bytes());
        block[8..12].copy_from_slice(&(7 + cycle as u32).to_be_bytes());
        if blocktype == 1 {
            for tag in 0..Self::TAGS {
                let home = (at * 7919 + tag) as u32;
                let flags: u16 = if tag + 1 == Self::TAGS { 10 } else { 2 };
                let start = 12 + 8 * tag as usize;
                block[start..start + 4].copy_from_slice(&home.to_be_bytes());
                block[start + 6..start + 8].copy_from_slice(&flags.to_be_bytes());
            }
        }
        block
    }
}

impl crate::device::BlockDevice for FullLog {
    fn size(&self) -> u64 {
        u64::from(Self::BLOCKS) * BLOCK as u64
    }
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        for (index, chunk) in into.chunks_mut(BLOCK).enumerate() {
            let at = offset / BLOCK as u64 + index as u64;
            chunk.copy_from_slice(&Self::block(at.max(1)));
        }
        Ok(())
    }
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_gibibyte_takes_sixteen_bytes_a_block() {
    let mut log = LogImage::new(Sums::None, false);
    let device = log.device();
    let (_, mut superblock) = log.open(&device).unwrap();
    (superblock.last, superblock.end) = (FullLog::BLOCKS, FullLog::BLOCKS);
    let mut runs = crate::journal::Runs::default();
    runs.push(crate::ids::BlockNr::new(0), FullLog::BLOCKS).unwrap();
    let device = std::sync::Arc::new(FullLog);
    let area = Area::new(device, BLOCK as u32, runs).unwrap();
    let recovered = recover(&area, &superblock, u64::MAX, &Unwatched).unwrap();
    assert!(recovered.transactions > 1000);
    assert!(recovered.copies.len() > 1_000_000, "{}", recovered.copies.len());
    assert_eq!(recovered.copies.capacity(), recovered.copies.len());
    assert!(size_of_val(&*recovered.copies) <= 16 << 20);
}

struct Unwatched;
impl Observer for Unwatched {}

#[test]
fn superblocks_that_the_kernel_refuses_are_refused() {
    type Spoil = fn(&mut LogImage);
    let cases: [(&str, Spoil); 15] = [
        ("h_magic", |log| log.superblock.header.magic = 1.into()),
        ("h_blocktype", |log| log.superblock.header.blocktype = 9.into()),
        ("s_blocksize", |log| log.superblock.blocksize = 4096.into()),
        ("s_maxlen", |log| log.superblock.maxlen = 0x7fff_ffff.into()),
        ("s_maxlen", |log| log.superblock.maxlen = 1025.into()),
        ("s_maxlen", |log| log.superblock.maxlen = 1023.into()),
        ("s_first", |log| log.superblock.first = 0.into()),
        ("s_first", |log| log.superblock.first = u32::MAX.into()),
        ("s_start", |log| log.superblock.start = u32::MAX.into()),
        ("s_start", |log| log.superblock.start = 1024.into()),
        ("s_feature_incompat", |log| log.superblock.feature_incompat = 0x80.into()),
        ("s_feature_incompat", |log| log.superblock.feature_incompat = 0x18.into()),
        ("s_feature_ro_compat", |log| log.superblock.feature_ro_compat = 1.into()),
        ("s_checksum_type", |log| log.superblock.checksum_type = 1),
        ("s_maxlen", |log| {
            log.superblock.feature_incompat = 0x32.into();
            log.superblock.num_fc_blks = u32::MAX.into();
        }),
    ];
    for (name, spoil) in cases {
        let mut log = LogImage::new(Sums::V3, true);
        spoil(&mut log);
        let device = log.device();
        match log.open(&device).unwrap_err() {
            Error::Corrupt { kind: CorruptKind::JournalField { field, .. }, .. } => {
                assert_eq!(field, name);
            }
            other => panic!("{name}: {other}"),
        }
    }
}

#[test]
fn a_superblock_with_a_wrong_checksum_is_refused() {
    let mut log = LogImage::new(Sums::V3, true);
    log.device();
    log.block_mut(0)[0x100] ^= 1;
    let device: std::sync::Arc<dyn crate::device::BlockDevice> =
        std::sync::Arc::new(crate::device::MemDevice::new(log.bytes.clone()));
    let error = log.open(&device).unwrap_err();
    let Error::Corrupt { kind, .. } = error else { panic!("{error}") };
    assert_eq!(kind.code(), "journal-sb-checksum");
}

#[test]
fn the_first_version_of_the_superblock_has_no_features() {
    let mut log = LogImage::new(Sums::None, false);
    log.superblock.header.blocktype = 3.into();
    log.superblock.feature_incompat = u32::MAX.into();
    log.superblock.feature_ro_compat = u32::MAX.into();
    log.transaction(&[(1, 1)]);
    assert_eq!(log.seen().0, found(1, LogEnd::Clean));
}

#[test]
fn an_unreadable_sector_past_the_end_of_the_log_does_no_harm() {
    struct Hole(std::sync::Arc<dyn crate::device::BlockDevice>);
    impl crate::device::BlockDevice for Hole {
        fn size(&self) -> u64 {
            self.0.size()
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
            let bad = ((HOME + 20) * BLOCK) as u64;
            if (offset..offset + into.len() as u64).contains(&bad) {
                return Err(io::Error::other("bad sector"));
            }
            self.0.read_at(offset, into)
        }
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut log = LogImage::new(Sums::V3, true);
    log.transaction(&[(1, 1)]);
    let device: std::sync::Arc<dyn crate::device::BlockDevice> =
        std::sync::Arc::new(Hole(log.device()));
    let (area, superblock) = log.open(&device).unwrap();
    assert_eq!(recover(&area, &superblock, 64, &Unwatched).unwrap().transactions, 1);
    for _ in 0..10 {
        log.transaction(&[(1, 1)]);
    }
    let device: std::sync::Arc<dyn crate::device::BlockDevice> =
        std::sync::Arc::new(Hole(log.device()));
    assert!(recover(&log.open(&device).unwrap().0, &superblock, 64, &Unwatched).is_err());
}
