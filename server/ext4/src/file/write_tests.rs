//! Files against a model of bytes, on file systems that mke2fs made and e2fsck judges.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::alloc::Privilege;
use crate::device::MemDevice;
use crate::error::{Error, Refusal};
use crate::filesystem::{DataMode, Filesystem};
use crate::ids::InodeNr;
use crate::inode::{self, FileKind};
use crate::observer::Unobserved;
use crate::testing::{fsck_bytes, mkfs, writable};

pub(super) const KIND: Privilege = Privilege::Ordinary;

/// The kinds of file systems, with their size in KiB.
const SYSTEMS: &[(u64, &[&str])] = &[
    (8192, &["-t", "ext4"]),
    (8192, &["-t", "ext4", "-b", "1024"]),
    (8192, &["-t", "ext4", "-b", "2048", "-O", "^metadata_csum,uninit_bg,^64bit"]),
    (65536, &["-t", "ext4", "-b", "65536", "-O", "^has_journal"]),
    (16384, &["-t", "ext4", "-O", "bigalloc", "-C", "16384"]),
    (8192, &["-t", "ext4", "-b", "1024", "-O", "bigalloc,^resize_inode", "-C", "8192"]),
    (8192, &["-t", "ext4", "-O", "inline_data", "-I", "256"]),
    (8192, &["-t", "ext4", "-b", "1024", "-O", "inline_data", "-I", "1024"]),
    (
        8192,
        &["-t", "ext4", "-b", "1024", "-g", "1024", "-O", "meta_bg,^resize_inode,sparse_super2"],
    ),
    (8192, &["-t", "ext4", "-b", "1024", "-O", "^flex_bg,^huge_file,^extra_isize", "-I", "128"]),
    (8192, &["-t", "ext3", "-b", "1024"]),
    (8192, &["-t", "ext2"]),
];

/// A file system with four empty files, 12 to 15.
fn image(kib: u64, options: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c", "d"] {
        std::fs::write(directory.path().join(name), b"").unwrap();
    }
    let path = directory.path().to_str().unwrap();
    mkfs(kib, &[options, &["-d", path]].concat()).contents()
}

fn mount(device: &Arc<MemDevice>, mode: Option<DataMode>) -> Filesystem {
    let mut options = writable();
    options.writing.data = mode;
    Filesystem::mount(device.clone(), &options, &Unobserved).unwrap()
}

/// A mounted image and one of its files.
pub(super) struct Bench {
    pub(super) device: Arc<MemDevice>,
    pub(super) mount: Filesystem,
    pub(super) inode: Inode,
}

impl Bench {
    fn new(image: &[u8]) -> Self {
        Self::with(image, None)
    }

    fn with(image: &[u8], mode: Option<DataMode>) -> Self {
        let device = Arc::new(MemDevice::new(image.to_vec()));
        let mount = mount(&device, mode);
        let inode = (*inode::get(&mount.volume, InodeNr::new(12)).unwrap()).clone();
        assert_eq!((inode.kind, inode.size), (FileKind::Regular, 0));
        Self { device, mount, inode }
    }

    pub(super) fn on(kib: u64, options: &[&str]) -> Self {
        Self::new(&image(kib, options))
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> usize {
        let written = write(&self.mount.volume, &mut self.inode, KIND, (offset, data)).unwrap();
        written.bytes
    }

    fn content(&self) -> Vec<u8> {
        content(&self.mount.volume, &self.inode)
    }

    pub(super) fn mapping(&self, at: u32) -> map::Mapping {
        map::lookup(&self.mount.volume, &self.inode, LogicalBlock::new(at)).unwrap()
    }

    fn free(&self) -> u64 {
        crate::alloc::totals(&self.mount.volume).unwrap().blocks
    }

    /// Unmounts, lets e2fsck judge, and mounts again.
    pub(super) fn remount(&mut self) {
        self.mount.unmount().unwrap();
        fsck_bytes(&self.device.contents());
        self.mount = mount(&self.device, self.mount.writing.data);
        let inode = inode::get(&self.mount.volume, self.inode.nr).unwrap();
        assert_eq!(inode.blocks512, self.inode.blocks512);
        self.inode = (*inode).clone();
    }

    /// What e2fsck found nothing to say about.
    pub(super) fn judged(&mut self) -> Vec<u8> {
        self.remount();
        self.content()
    }

    fn extents(&self) -> usize {
        let (mut at, mut count) = (0, 0);
        let end = self.inode.size.div_ceil(self.mount.volume.block_size().into()) as u32;
        while at < end {
            let mapping = self.mapping(at);
            count += usize::from(!matches!(mapping, map::Mapping::Hole { .. }));
            at += mapping.blocks();
        }
        count
    }
}

fn content(volume: &Volume, inode: &Inode) -> Vec<u8> {
    let mut bytes = vec![0xee; inode.size as usize];
    assert_eq!(read(volume, inode, 0, &mut bytes).unwrap(), bytes.len());
    bytes
}

/// Bytes that tell where they come from.
pub(super) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add((at % 251) as u8) | 1).collect()
}

#[derive(Clone, Debug)]
enum Step {
    Write(u64, usize, u8),
    Append(usize, u8),
    Truncate(u64),
    Punch(u64, u64),
    Zero(u64, u64, bool),
    Allocate(u64, u64, bool),
    Copy(u64, u64, u64),
    Remount,
}

/// Most of it near block borders of some size.
fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..3000_u64,
        0..600_000_u64,
        (0..150_u64, 0..3_u64).prop_map(|(block, off)| (block * 4096 + off).saturating_sub(1)),
        (0..600_u64).prop_map(|block| block * 1024),
    ]
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1..200_u64, 1..20_000_u64, (1..40_u64).prop_map(|n| n * 4096), 1..200_000_u64]
}

fn step() -> impl Strategy<Value = Step> {
    let len = || length().prop_map(|len| len as usize);
    prop_oneof![
        5 => (offset(), len(), any::<u8>()).prop_map(|(at, len, seed)| Step::Write(at, len, seed)),
        2 => (len(), any::<u8>()).prop_map(|(len, seed)| Step::Append(len, seed)),
        2 => offset().prop_map(Step::Truncate),
        2 => (offset(), length()).prop_map(|(at, len)| Step::Punch(at, len)),
        2 => (offset(), length(), any::<bool>()).prop_map(|(at, len, keep)| Step::Zero(at, len, keep)),
        3 => (offset(), length(), any::<bool>())
            .prop_map(|(at, len, keep)| Step::Allocate(at, len, keep)),
        1 => (offset(), offset(), length()).prop_map(|(from, to, len)| Step::Copy(from, to, len)),
        1 => Just(Step::Remount),
    ]
}

/// What the file should hold.
#[derive(Default)]
struct Model(Vec<u8>);

impl Model {
    fn write(&mut self, at: u64, data: &[u8]) {
        let (start, end) = (at as usize, at as usize + data.len());
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[start..end].copy_from_slice(data);
    }

    fn zero(&mut self, at: u64, len: u64, grow: bool) {
        let end = (at + len) as usize;
        if grow && self.0.len() < end {
            self.0.resize(end, 0);
        }
        let end = end.min(self.0.len());
        if (at as usize) < end {
            self.0[at as usize..end].fill(0);
        }
    }
}

fn keep(keep: bool) -> KeepSize {
    if keep { KeepSize::Yes } else { KeepSize::No }
}

/// Whether it was done; block maps refuse what needs extents.
fn done(result: crate::Result<()>) -> bool {
    match result {
        Ok(()) => true,
        Err(Error::Refused(Refusal::NotSupported)) => false,
        Err(error) => panic!("{error}"),
    }
}

fn run(bench: &mut Bench, model: &mut Model, step: &Step) {
    let Bench { mount: Filesystem { volume, .. }, inode, .. } = &mut *bench;
    match *step {
        Step::Write(at, len, seed) => {
            let data = pattern(seed, len);
            assert_eq!(bench.write(at, &data), len);
            model.write(at, &data);
        }
        Step::Append(len, seed) => {
            let (at, data) = (bench.inode.size, pattern(seed, len));
            assert_eq!(bench.write(at, &data), len);
            model.write(at, &data);
        }
        Step::Truncate(size) => {
            truncate(volume, inode, KIND, size).unwrap();
            model.0.resize(size as usize, 0);
        }
        Step::Punch(at, len) => {
            punch(volume, inode, KIND, at..at + len).unwrap();
            model.zero(at, len, false);
        }
        Step::Zero(at, len, no_grow) => {
            if done(zero_range(volume, inode, KIND, at..at + len, keep(no_grow))) {
                model.zero(at, len, !no_grow);
            }
        }
        Step::Allocate(at, len, no_grow) => {
            if done(allocate(volume, inode, KIND, at..at + len, keep(no_grow))) && !no_grow {
                model.zero(at + len, 0, true);
            }
        }
        Step::Copy(from, to, len) => {
            let source = inode.clone();
            if from.abs_diff(to) >= len {
                let copied = copy(volume, (&source, from), (inode, to), len, KIND).unwrap();
                let end = (from + copied) as usize;
                assert_eq!(copied, len.min((model.0.len() as u64).saturating_sub(from)));
                if copied > 0 {
                    let bytes = model.0[from as usize..end].to_vec();
                    model.write(to, &bytes);
                }
            }
        }
        Step::Remount => bench.remount(),
    }
}

fn random_files(system: usize, cases: u32, flags: u32) {
    random_files_with(system, cases, flags, None);
}

fn random_files_with(system: usize, cases: u32, flags: u32, mode: Option<DataMode>) {
    let (kib, options) = SYSTEMS[system];
    let image = image(kib, options);
    let mut runner =
        TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let steps = proptest::collection::vec(step(), 1..40);
    let outcome = runner.run(&steps, |steps| {
        let (mut bench, mut model) = (Bench::with(&image, mode), Model::default());
        bench.inode.flags = bench.inode.flags.with(flags);
        for step in &steps {
            run(&mut bench, &mut model, step);
            prop_assert_eq!(bench.inode.size, model.0.len() as u64, "{:?}", step);
            prop_assert!(bench.content() == model.0, "content differs after {:?}", step);
        }
        prop_assert!(bench.judged() == model.0, "content differs on the disk");
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
}

macro_rules! systems {
    ($($name:ident $index:literal),* $(,)?) => {
        $(#[test]
        fn $name() {
            random_files($index, 12, 0);
        })*
    };
}

systems! {
    a_file_is_its_model_on_ext4 0,
    a_file_is_its_model_with_small_blocks 1,
    a_file_is_its_model_without_checksums 2,
    a_file_is_its_model_with_large_blocks 3,
    a_file_is_its_model_with_clusters 4,
    a_file_is_its_model_with_clusters_of_small_blocks 5,
    a_file_is_its_model_with_inline_data 6,
    a_file_is_its_model_with_much_inline_data 7,
    a_file_is_its_model_in_tiny_groups 8,
    a_file_is_its_model_in_small_inodes 9,
    a_file_is_its_model_on_ext3 10,
    a_file_is_its_model_on_ext2 11,
}

#[test]
fn a_file_whose_data_is_journalled_is_its_model() {
    random_files(1, 12, InodeFlags::JOURNAL_DATA);
    random_files(10, 12, InodeFlags::JOURNAL_DATA);
}

#[test]
fn a_file_is_its_model_with_all_data_in_the_journal() {
    for system in [1, 4, 6, 10] {
        random_files_with(system, 8, 0, Some(DataMode::Journal));
    }
}

#[test]
fn every_other_block_makes_a_deep_tree_that_can_be_filled_and_emptied() {
    let mut bench = Bench::on(131_072, &["-t", "ext4", "-b", "1024"]);
    let blocks = 30_000_u64;
    for block in 0..blocks {
        // First from the end to the middle, then from the start on.
        let block = if block < blocks / 2 { blocks - 1 - block } else { block - blocks / 2 };
        bench.write(block * 2048, &pattern(block as u8, 1024));
    }
    let depth = u16::from_le_bytes([bench.inode.block[6], bench.inode.block[7]]);
    assert_eq!(depth, 3);
    assert_eq!(bench.extents(), 30_000);
    bench.judged();
    for block in 0..blocks - 1 {
        bench.write(block * 2048 + 1024, &pattern(7, 1024));
    }
    let before = bench.judged();
    punch(&bench.mount.volume, &mut bench.inode, KIND, 3_000_000..50_000_000).unwrap();
    let after = bench.judged();
    assert!(after[3_000_000..50_000_000].iter().all(|byte| *byte == 0));
    assert!(
        after[..3_000_000] == before[..3_000_000] && after[50_000_000..] == before[50_000_000..]
    );
    truncate(&bench.mount.volume, &mut bench.inode, KIND, 0).unwrap();
    assert_eq!(bench.inode.blocks512, 0);
    assert!(bench.judged().is_empty());
}

#[test]
fn pointers_reach_through_three_levels_and_go_with_their_blocks() {
    let mut bench = Bench::on(8192, &["-t", "ext3", "-b", "1024"]);
    let places = [0, 11, 12, 267, 268, 65_803, 65_804, 65_804 + 70_000, 16_843_019_u64];
    for place in places {
        bench.write(place * 1024, &pattern(place as u8, 1024));
    }
    assert_eq!(largest(&bench.mount.volume, &bench.inode), 16_843_020 * 1024);
    bench.remount();
    for place in places {
        let mut bytes = [0; 1024];
        read(&bench.mount.volume, &bench.inode, place * 1024, &mut bytes).unwrap();
        assert_eq!(bytes[..], pattern(place as u8, 1024)[..]);
    }
    let beyond = write(&bench.mount.volume, &mut bench.inode, KIND, (16_843_020 * 1024, b"x"));
    assert!(matches!(beyond, Err(Error::Refused(Refusal::TooBig))));
    punch(&bench.mount.volume, &mut bench.inode, KIND, 13 * 1024..16_843_019 * 1024).unwrap();
    // Four blocks of data, one indirect block, three blocks of the third tree.
    assert_eq!(bench.inode.blocks512, (4 + 1 + 3) * 2);
    bench.remount();
    truncate(&bench.mount.volume, &mut bench.inode, KIND, 0).unwrap();
    assert_eq!(bench.inode.blocks512, 0);
    bench.judged();
}

#[test]
fn a_file_takes_the_last_block_and_gives_all_back() {
    for (kib, options) in
        [(2048, &["-t", "ext4", "-b", "1024", "-m", "0"][..]), (2048, &["-t", "ext2", "-m", "0"])]
    {
        let mut bench = Bench::on(kib, options);
        let free = bench.free();
        let data = pattern(3, 1 << 20);
        let mut size = 0;
        while let Ok(written) = write(&bench.mount.volume, &mut bench.inode, KIND, (size, &data)) {
            size += written.bytes as u64;
        }
        let left = bench.free();
        assert!(left <= 1, "{left} of {free} blocks are left");
        assert_eq!(bench.judged().len() as u64, size);
        truncate(&bench.mount.volume, &mut bench.inode, KIND, 0).unwrap();
        assert_eq!(bench.free(), free);
        bench.judged();
    }
}

#[test]
fn preallocation_asks_for_all_before_it_takes_any() {
    let mut bench = Bench::on(2048, &["-t", "ext4", "-b", "1024"]);
    let range = 0..100 << 20;
    let refused = allocate(&bench.mount.volume, &mut bench.inode, KIND, range, KeepSize::No);
    assert!(matches!(refused, Err(Error::Refused(Refusal::NoSpace))));
    assert_eq!((bench.inode.blocks512, bench.inode.size), (0, 0));
    bench.judged();
}

#[test]
fn appends_make_few_extents() {
    let mut bench = Bench::on(65_536, &["-t", "ext4"]);
    for chunk in 0..400 {
        bench.write(chunk * 50_000, &pattern(chunk as u8, 50_000));
    }
    assert!(bench.extents() <= 4, "{}", bench.extents());
    bench.judged();
}

#[test]
fn what_lies_behind_the_end_is_never_shown() {
    let mut bench = Bench::on(8192, &["-t", "ext4"]);
    bench.write(0, &pattern(1, 4096));
    // As if another system had left something there.
    let map::Mapping::Written { first, .. } = bench.mapping(0) else {
        panic!("not written");
    };
    truncate(&bench.mount.volume, &mut bench.inode, KIND, 100).unwrap();
    bench.mount.volume.write_data(first, &[0xff; 4096]).unwrap();
    bench.write(3000, b"x");
    let bytes = bench.content();
    assert!(bytes[100..3000].iter().all(|byte| *byte == 0));
    bench.mount.volume.write_data(first, &[0xff; 4096]).unwrap();
    bench.write(9000, b"x");
    assert!(bench.content()[3001..9000].iter().all(|byte| *byte == 0));
    bench.mount.volume.write_data(first, &[0xff; 4096]).unwrap();
    truncate(&bench.mount.volume, &mut bench.inode, KIND, 3000).unwrap();
    bench.mount.volume.write_data(first, &[0xff; 4096]).unwrap();
    truncate(&bench.mount.volume, &mut bench.inode, KIND, 5000).unwrap();
    assert!(bench.content()[3000..].iter().all(|byte| *byte == 0));
    bench.judged();
}

#[test]
fn only_whole_written_blocks_may_be_overwritten_beside_others() {
    let mut bench = Bench::on(8192, &["-t", "ext4"]);
    bench.write(0, &pattern(1, 12_288));
    allocate(&bench.mount.volume, &mut bench.inode, KIND, 16_384..20_480, KeepSize::No).unwrap();
    let can = |offset, len| can_overwrite(&bench.mount.volume, &bench.inode, offset, len).unwrap();
    assert!(can(0, 12_288) && can(4096, 4096));
    assert!(!can(0, 100) && !can(100, 4096) && !can(8192, 8192) && !can(16_384, 4096));
    assert!(!can(20_480, 4096));
    overwrite(&bench.mount.volume, &bench.inode, 4096, &pattern(9, 4096)).unwrap();
    assert_eq!(bench.judged()[4096..8192], pattern(9, 4096));
}

#[test]
fn preallocated_blocks_can_be_written_on_a_full_disk() {
    let mut bench = Bench::on(4096, &["-t", "ext4", "-b", "1024", "-m", "0"]);
    let (volume, inode) = (&bench.mount.volume, &mut bench.inode);
    allocate(volume, inode, KIND, 0..1 << 20, KeepSize::No).unwrap();
    let mut other = (*inode::get(volume, InodeNr::new(13)).unwrap()).clone();
    fill(volume, &mut other);
    assert_eq!(bench.free(), 0);
    let mut model = Model(vec![0; 1 << 20]);
    for place in (0..1024).step_by(100) {
        let data = pattern(place as u8, 1500);
        assert_eq!(bench.write(place * 1024 + 100, &data), 1500);
        model.write(place * 1024 + 100, &data);
    }
    assert!(bench.judged() == model.0);
}

/// All of the device's free blocks hold this; patterns never do.
const STALE: u8 = 0xee;

/// Appends [`STALE`] bytes until nothing is free.
fn fill(volume: &Volume, inode: &mut Inode) {
    let data = vec![STALE; 1 << 20];
    loop {
        let size = inode.size;
        if write(volume, inode, Privilege::Reserve, (size, &data)).is_err() {
            break;
        }
    }
}

/// Fills the free blocks of a file system with [`STALE`].
fn soiled(image: &[u8]) -> Vec<u8> {
    let mut bench = Bench::new(image);
    let (volume, inode) = (&bench.mount.volume, &mut bench.inode);
    fill(volume, inode);
    truncate(volume, inode, KIND, 0).unwrap();
    bench.remount();
    bench.device.contents()
}

#[test]
fn a_crash_at_any_moment_shows_nothing_that_was_not_written() {
    for system in [0, 1, 4, 7, 10] {
        let (kib, options) = SYSTEMS[system];
        let image = soiled(&image(kib, options));
        let config = Config { cases: 4, failure_persistence: None, ..Config::default() };
        let steps = proptest::collection::vec((step(), any::<bool>()), 1..20);
        let outcome = TestRunner::new(config).run(&steps, |steps| {
            let (mut bench, mut model) = (Bench::new(&image), Model::default());
            for (step, commits) in &steps {
                run(&mut bench, &mut model, step);
                if *commits {
                    bench.mount.sync().unwrap();
                }
                let crashed = Arc::new(MemDevice::new(bench.device.contents()));
                let again = mount(&crashed, None);
                let inode = inode::get(&again.volume, bench.inode.nr).unwrap();
                let bytes = content(&again.volume, &inode);
                prop_assert!(!bytes.contains(&STALE), "stale bytes after {:?}", step);
                prop_assert!(!commits || bytes == model.0, "lost bytes after {:?}", step);
                again.unmount().unwrap();
                fsck_bytes(&crashed.contents());
            }
            Ok(())
        });
        outcome.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
    }
}

#[test]
fn blocks_behind_the_end_stay_unwritten() {
    let mut bench = Bench::on(8192, &["-t", "ext4", "-b", "1024"]);
    let (volume, inode) = (&bench.mount.volume, &mut bench.inode);
    allocate(volume, inode, KIND, 466_944..479_364, KeepSize::Yes).unwrap();
    assert_eq!(bench.write(477_142, &pattern(47, 95)), 95);
    assert!(matches!(bench.mapping(465), map::Mapping::Written { len: 2, .. }));
    assert!(matches!(bench.mapping(467), map::Mapping::Unwritten { .. }));
    assert_eq!(bench.judged().len(), 477_237);
}
