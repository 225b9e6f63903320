#![expect(clippy::arithmetic_side_effects, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::Arc;

use super::space::settle;
use super::*;
use crate::device::MemDevice;
use crate::disk::bitmap;
use crate::error::{Error, Refusal};
use crate::group;
use crate::handle::Credits;
use crate::ids::{BlockNr, GroupNr, InodeNr, on_disk};
use crate::inode::{self, FileKind, Inode};
use crate::testing::{fsck, fsck_bytes, mkfs, mounted, volume_on};
use crate::volume::Volume;

const MANY: Credits = Credits(64);

/// File systems of many kinds: name, KiB, options of mke2fs.
pub(super) const KINDS: &[(&str, u64, &[&str])] = &[
    ("4 KiB blocks", 64 << 10, &["-t", "ext4", "-b", "4096"]),
    ("1 KiB blocks", 20 << 10, &["-t", "ext4", "-b", "1024"]),
    (
        "2 KiB blocks, lazy tables",
        40 << 10,
        &["-t", "ext4", "-b", "2048", "-E", "lazy_itable_init=1"],
    ),
    ("64 KiB blocks", 128 << 10, &["-t", "ext4", "-b", "65536"]),
    ("bigalloc", 96 << 10, &["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "65536"]),
    ("bigalloc, 1 KiB", 48 << 10, &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "4096"]),
    ("no flex_bg", 20 << 10, &["-t", "ext4", "-b", "1024", "-O", "^flex_bg"]),
    (
        "meta_bg",
        16 << 10,
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode", "-g", "1024"],
    ),
    ("uninit_bg", 20 << 10, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,^64bit"]),
    (
        "uninit_bg, 64bit",
        20 << 10,
        &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg,64bit"],
    ),
    ("no checksums", 20 << 10, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg"]),
    ("32-byte descriptors", 20 << 10, &["-t", "ext4", "-b", "1024", "-O", "metadata_csum,^64bit"]),
    ("sparse_super2", 20 << 10, &["-t", "ext4", "-b", "1024", "-O", "sparse_super2", "-g", "2048"]),
    (
        "no sparse_super",
        24 << 10,
        &["-t", "ext4", "-b", "1024", "-O", "^sparse_super,^resize_inode", "-g", "1024"],
    ),
    ("mmp, small groups", 24 << 10, &["-t", "ext4", "-b", "1024", "-O", "mmp", "-g", "512"]),
    ("ext3", 20 << 10, &["-t", "ext3", "-b", "1024"]),
    ("ext2", 20 << 10, &["-t", "ext2", "-b", "1024"]),
];

/// A stream of numbers that look random.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn below32(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(limit.into())).unwrap()
    }
}

/// Lets everything that was freed be used again.
fn commit(volume: &Volume) {
    volume.commit(volume.running_tid()).unwrap();
    settle(volume).unwrap();
}

/// A file that does not exist, for goals.
fn file(nr: u32, blocks512: u64) -> Inode {
    let mut inode = crate::testing::inode(0);
    (inode.nr, inode.blocks512) = (InodeNr::new(nr), blocks512);
    inode
}

/// Runs that were taken, by first block. Panics when two overlap.
#[derive(Default)]
struct Taken(BTreeMap<u64, u32>);

impl Taken {
    fn add(&mut self, run: Run) {
        let (first, end) = (run.first.get(), run.first.get() + u64::from(run.len));
        if let Some((&start, &len)) = self.0.range(..end).next_back() {
            assert!(start + u64::from(len) <= first, "{run:?} overlaps {start}+{len}");
        }
        self.0.insert(first, run.len);
    }

    fn blocks(&self) -> u64 {
        self.0.values().map(|&len| u64::from(len)).sum()
    }

    /// Takes out one of the runs.
    fn pick(&mut self, random: &mut Random) -> Option<(BlockNr, u32)> {
        let from = random.below(1 << 20);
        let (&first, &len) = self.0.range(from..).next().or_else(|| self.0.iter().next())?;
        self.0.remove(&first);
        Some((BlockNr::new(first), len))
    }
}

/// One allocation of up to `want` blocks; `None` when the file system is full.
fn take(volume: &Volume, who: &Inode, wanted: Option<BlockNr>, want: u32) -> Option<Run> {
    let count = clusters(&volume.geometry, want.into());
    let mut reservation = match reserve(volume, count, Privilege::Reserve) {
        Err(Error::Refused(Refusal::NoSpace)) => return None,
        reservation => reservation.unwrap(),
    };
    let mut handle = volume.begin(MANY).unwrap();
    let goal = Goal::data(volume, who, wanted);
    let run = allocate(&mut handle, &mut reservation, goal, want).unwrap();
    handle.stop().unwrap();
    assert!(
        run.len >= 1 && u64::from(run.len) <= count * u64::from(volume.geometry.cluster_blocks)
    );
    assert!(check_blocks(volume, who.nr, run.first, run.len.into()).is_ok());
    Some(run)
}

fn give(volume: &Volume, (first, len): (BlockNr, u32)) {
    let mut handle = volume.begin(free_credits(volume, len)).unwrap();
    free(&mut handle, first, len).unwrap();
    handle.stop().unwrap();
}

/// Every bit of every block bitmap is set, and so are the counts.
fn assert_full(volume: &Volume) {
    for nr in (0..volume.geometry.group_count).map(GroupNr::new) {
        let desc = group::descriptor(volume, nr).unwrap();
        let bitmap = bitmaps::blocks(volume, nr, &desc).unwrap();
        let bits = volume.geometry.clusters_in_group(nr);
        assert_eq!(bitmap::next(bitmap.bytes(), 0..bits, false), bits, "group {nr}");
        assert_eq!(desc.free_clusters, 0);
    }
}

/// Keeps everybody else from `volume` until `clusters` are left.
fn leave(volume: &Volume, clusters: u64) -> Reservation<'_> {
    let free = totals(volume).unwrap().blocks / u64::from(volume.geometry.cluster_blocks);
    reserve(volume, free - clusters, Privilege::Reserve).unwrap()
}

fn refusal<T>(result: crate::Result<T>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal, got an answer"),
    }
}

fn each_kind(test: impl Fn(&str, &Arc<MemDevice>, &Volume)) {
    for (name, kib, options) in KINDS {
        let device = mkfs(*kib, options);
        let volume = volume_on(&device);
        test(name, &device, &volume);
        assert!(volume.notices.take().is_empty(), "{name}");
    }
}

#[test]
fn on_every_kind_of_file_system_the_last_block_can_be_had_and_given_back() {
    each_kind(|name, device, volume| {
        let before = totals(volume).unwrap();
        let (mut random, mut taken) = (Random(before.blocks | 1), Taken::default());
        for round in 0..2 {
            while let Some(run) = {
                let who = file(12 + random.below32(20), random.below(4096));
                let wanted = BlockNr::new(random.below(volume.geometry.blocks_count));
                let wanted = Some(wanted).filter(|_| random.below(3) == 0);
                // Runs of every length while there is room, then one by one to the last.
                let free = totals(volume).unwrap().blocks;
                let most = if free * 40 < before.blocks { 1 } else { 400 };
                let want = 1 + random.below(most).min(free.saturating_sub(1));
                take(volume, &who, wanted, u32::try_from(want).unwrap())
            } {
                taken.add(run);
                assert_eq!(totals(volume).unwrap().blocks + taken.blocks(), before.blocks);
                if random.below(4) == 0 && round == 0 {
                    give(volume, taken.pick(&mut random).unwrap());
                }
                if random.below(50) == 0 {
                    commit(volume);
                }
            }
            assert_eq!(totals(volume).unwrap().blocks, 0, "{name}");
            assert_full(volume);
            let keep = taken.0.len() / 4 * (1 - round);
            while taken.0.len() > keep {
                give(volume, taken.pick(&mut random).unwrap());
            }
            commit(volume);
        }
        assert_eq!(totals(volume).unwrap(), before, "{name}");
        fsck(volume, device);
    });
}

#[test]
fn on_every_kind_of_file_system_the_last_inode_can_be_had_and_given_back() {
    each_kind(|name, device, volume| {
        let before = totals(volume).unwrap();
        let mut random = Random(77);
        let mut taken = BTreeMap::new();
        let mut dirs = vec![(*inode::get(volume, InodeNr::ROOT).unwrap()).clone()];
        loop {
            let is_dir = random.below(8) == 0;
            let kind = if is_dir { FileKind::Directory } else { FileKind::Regular };
            let parent = &dirs[usize::try_from(random.below(on_disk(dirs.len()))).unwrap()];
            let mut handle = volume.begin(ALLOCATE_INODE).unwrap();
            let id = random.below(u64::MAX).to_le_bytes();
            let new = match allocate_inode(&mut handle, parent, kind, &id) {
                Err(Error::Refused(Refusal::NoSpace)) => break,
                new => new.unwrap(),
            };
            handle.stop().unwrap();
            assert!(!volume.geometry.is_special(new.nr) && new.nr != InodeNr::ROOT);
            let mut inode = file(new.nr.get(), 0);
            inode.kind = kind;
            assert!(taken.insert(new.nr, inode.clone()).is_none(), "{} given out twice", new.nr);
            if is_dir && dirs.len() < 50 {
                dirs.push(inode);
            }
        }
        assert_eq!(totals(volume).unwrap().inodes, 0, "{name}");
        assert_eq!(on_disk(taken.len()), before.inodes, "{name}");
        for inode in taken.values() {
            let mut handle = volume.begin(FREE_INODE).unwrap();
            free_inode(&mut handle, inode).unwrap();
            handle.stop().unwrap();
        }
        assert_eq!(totals(volume).unwrap(), before, "{name}");
        fsck(volume, device);
    });
}

#[test]
fn unused_parts_of_inode_tables_are_zeroed_before_they_are_used() {
    for features in ["metadata_csum", "^metadata_csum,uninit_bg"] {
        let lazy = ["-t", "ext4", "-b", "1024", "-E", "lazy_itable_init=1", "-O", features];
        let device = mkfs(20 << 10, &lazy);
        let fresh = volume_on(&device);
        let geometry = &fresh.geometry;
        for nr in (0..geometry.group_count).map(GroupNr::new) {
            let desc = group::descriptor(&fresh, nr).unwrap();
            assert_eq!(desc.flags & crate::disk::group_desc::INODE_ZEROED, 0);
            let per_block = geometry.block_size / u32::from(geometry.inode_size);
            let used = (geometry.inodes_per_group - desc.unused_inodes).div_ceil(per_block);
            for block in used..geometry.inode_table_blocks() {
                let at = (desc.inode_table.get() + u64::from(block)) * 1024;
                crate::device::BlockDevice::write_at(&*device, at, &[0xa5; 1024]).unwrap();
            }
        }
        let volume = volume_on(&device);
        let root = inode::get(&volume, InodeNr::ROOT).unwrap();
        let mut inodes = Vec::new();
        for i in 0..3000_u32 {
            let mut handle = volume.begin(ALLOCATE_INODE).unwrap();
            let kind = if i % 100 == 0 { FileKind::Directory } else { FileKind::Regular };
            let new = allocate_inode(&mut handle, &root, kind, &i.to_le_bytes()).unwrap();
            handle.stop().unwrap();
            let mut inode = file(new.nr.get(), 0);
            inode.kind = kind;
            inodes.push(inode);
        }
        for inode in &inodes {
            let mut handle = volume.begin(FREE_INODE).unwrap();
            free_inode(&mut handle, inode).unwrap();
            handle.stop().unwrap();
        }
        fsck(&volume, &device);
    }
}

#[test]
fn the_reserve_is_for_root_and_its_owners_only() {
    let device = mkfs(16 << 10, &["-t", "ext4", "-b", "1024", "-m", "10", "-E", "root_owner=7:8"]);
    let volume = volume_on(&device);
    let kept = 1638;
    let _rest = leave(&volume, kept + 5);
    assert_eq!(refusal(reserve(&volume, 6, Privilege::Ordinary)), Refusal::NoSpace);
    assert!(reserve(&volume, 5, Privilege::Ordinary).is_ok());
    assert!(reserve(&volume, kept + 5, Privilege::Reserve).is_ok());
    assert_eq!(refusal(reserve(&volume, kept + 6, Privilege::Reserve)), Refusal::NoSpace);
    assert_eq!(Privilege::of(&volume, 0, &[]), Privilege::Root);
    assert_eq!(Privilege::of(&volume, 1000, &[1000]), Privilege::Ordinary);
}

#[test]
fn freed_blocks_are_used_again_after_the_commit_and_awaited_when_they_would_do() {
    let device = mkfs(16 << 10, &["-t", "ext4", "-b", "1024"]);
    let filesystem = mounted(&device);
    let volume = &filesystem.volume;
    let run = take(volume, &file(12, 0), None, 64).unwrap();
    let rest = leave(volume, 0);
    let mut handle = volume.begin(MANY).unwrap();
    free(&mut handle, run.first, run.len).unwrap();
    let tid = handle.tid();
    handle.stop().unwrap();
    assert_eq!(totals(volume).unwrap().blocks, rest.left() + 64);
    assert!(!volume.committed_tid().reached(tid));
    // Had it not been awaited, this would be refused.
    assert_eq!(take(volume, &file(12, 0), Some(run.first), 64), Some(run));
    assert!(volume.committed_tid().reached(tid));
}

#[test]
fn a_run_that_is_being_discarded_is_nobodys() {
    let device = mkfs(16 << 10, &["-t", "ext4", "-b", "1024"]);
    let filesystem = mounted(&device);
    let volume = &filesystem.volume;
    let before = totals(volume).unwrap();
    set_discard(volume, true).unwrap();
    let run = take(volume, &file(12, 0), None, 64).unwrap();
    give(volume, (run.first, run.len));
    assert_eq!(take_discards(volume).unwrap().runs().count(), 0);
    commit(volume);
    let batch = take_discards(volume).unwrap();
    assert!(batch.runs().eq([run]));
    let other = take(volume, &file(12, 0), Some(run.first), 64).unwrap();
    assert_ne!(other, run);
    drop(batch);
    assert_eq!(take(volume, &file(12, 0), Some(run.first), 64), Some(run));
    let _ = [run, other].map(|run| give(volume, (run.first, run.len)));
    commit(volume);
    // What waits for its discard is had all the same when nothing else is left.
    drop(reserve(volume, before.blocks, Privilege::Reserve).unwrap());
    let all: u64 = (0..volume.geometry.group_count)
        .map(|nr| trim(volume, GroupNr::new(nr), 0..u32::MAX, 1).unwrap())
        .map(|batch| batch.runs().map(|run| u64::from(run.len)).sum::<u64>())
        .sum();
    assert_eq!(all, before.blocks);
    let promised = leave(volume, 10);
    assert_eq!(trim(volume, GroupNr::new(1), 0..u32::MAX, 11).unwrap().runs().count(), 0);
    drop(promised);
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn blocks_and_inodes_that_are_not_in_use_or_not_a_files_cannot_be_freed() {
    let device = mkfs(16 << 10, &["-t", "ext4", "-b", "1024"]);
    let volume = volume_on(&device);
    let mut handle = volume.begin(MANY).unwrap();
    let code = |result| crate::testing::code(result);
    let desc = group::descriptor(&volume, GroupNr::new(0)).unwrap();
    for nr in [2, 3, 20, desc.block_bitmap.get(), desc.inode_bitmap.get(), desc.inode_table.get()] {
        assert_eq!(code(free(&mut handle, BlockNr::new(nr), 1)), "metadata-block");
    }
    let journal = inode::get(&volume, InodeNr::JOURNAL).unwrap();
    let at = crate::ids::LogicalBlock::new(9);
    let crate::map::Mapping::Written { first, .. } =
        crate::map::lookup(&volume, &journal, at).unwrap()
    else {
        panic!("the journal has a hole");
    };
    assert_eq!(code(free(&mut handle, first, 1)), "metadata-block");
    assert_eq!(code(check_blocks(&volume, InodeNr::new(12), first, 1)), "metadata-block");
    assert!(check_blocks(&volume, journal.nr, first, 1).is_ok());
    assert_eq!(code(free(&mut handle, BlockNr::new(1), 1)), "block-range");
    assert_eq!(code(free(&mut handle, BlockNr::new(16000), 1000)), "block-range");
    assert_eq!(code(free(&mut handle, BlockNr::new(16000), 1)), "bitmap-free");
    assert_eq!(code(free_inode(&mut handle, &file(500, 0))), "bitmap-free");
    for reserved in [0, 1, 2, 8, 10, 1 << 30] {
        assert_eq!(code(free_inode(&mut handle, &file(reserved, 0))), "inode-number");
    }
    handle.stop().unwrap();
    fsck(&volume, &device);
}

#[test]
fn groups_with_damaged_bitmaps_are_left_alone_and_told() {
    let device = mkfs(24 << 10, &["-t", "ext4", "-b", "1024", "-O", "^flex_bg"]);
    let before = volume_on(&device);
    let desc = group::descriptor(&before, GroupNr::new(0)).unwrap();
    for block in [desc.block_bitmap, desc.inode_bitmap] {
        let at = block.get() * 1024 + 40;
        crate::device::BlockDevice::write_at(&*device, at, &[1]).unwrap();
    }
    let volume = volume_on(&device);
    let root = inode::get(&volume, InodeNr::ROOT).unwrap();
    let mut handle = volume.begin(MANY).unwrap();
    let new = allocate_inode(&mut handle, &root, FileKind::Regular, b"").unwrap();
    assert!(new.nr.get() > volume.geometry.inodes_per_group);
    handle.stop().unwrap();
    let run = take(&volume, &root, None, 8).unwrap();
    let (group, _) = volume.geometry.group_of_block(run.first).unwrap();
    assert_ne!(group, GroupNr::new(0));
    let codes: Vec<_> = volume.notices.take().iter().map(ToString::to_string).collect();
    assert_eq!(codes.len(), 2, "{codes:?}");
    assert!(codes.iter().all(|code| code.contains("group 0: ") && code.contains("-checksum]")));
    let lost = totals(&before).unwrap().blocks - totals(&volume).unwrap().blocks;
    assert_eq!(lost, u64::from(desc.free_clusters) + 8);
}
