//! Directories on images of mke2fs are changed beside a model, read again, and judged by e2fsck.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::alloc::{self, Privilege};
use crate::device::MemDevice;
use crate::handle::Credits;
use crate::inode::{self, InodeFlags};
use crate::testing::{fsck, mkfs, volume_on};

/// Files that the names are links of: each may have 65000.
const TARGETS: usize = 8;
/// More than any operation of these tests needs.
const CREDITS: Credits = Credits(200);

/// A directory under test.
struct Fixture {
    device: Arc<MemDevice>,
    volume: Volume,
    dir: Inode,
    targets: Vec<InodeNr>,
    model: BTreeMap<Vec<u8>, InodeNr>,
    next: usize,
}

/// A file system with the directory `sub` and the files that names can be given to, changed by the
/// `tools` with their arguments.
fn populated(kib: u64, options: &[&str], tools: &[&[&str]]) -> Arc<MemDevice> {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("sub")).unwrap();
    for number in 0..TARGETS {
        std::fs::write(tree.path().join(format!("target{number}")), b"").unwrap();
    }
    let tree = tree.path().to_str().unwrap();
    let device = mkfs(kib, &[&["-d", tree], options].concat());
    let image = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(image.path(), device.contents()).unwrap();
    for tool in tools {
        let mut command = std::process::Command::new(tool[0]);
        let output = command.args(&tool[1..]).arg(image.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    Arc::new(MemDevice::new(std::fs::read(image.path()).unwrap()))
}

impl Fixture {
    fn new(kib: u64, options: &[&str]) -> Self {
        Self::tuned(kib, options, &[])
    }

    fn tuned(kib: u64, options: &[&str], tools: &[&[&str]]) -> Self {
        let device = populated(kib, options, tools);
        let volume = volume_on(&device);
        let root = inode::get(&volume, InodeNr::ROOT).unwrap();
        let named = |name: &[u8]| find(&volume, &root, name).unwrap().unwrap();
        let targets = (0..TARGETS).map(|nr| named(format!("target{nr}").as_bytes())).collect();
        let dir = (*inode::get(&volume, named(b"sub")).unwrap()).clone();
        Self { device, volume, dir, targets, model: BTreeMap::new(), next: 0 }
    }

    fn target(&mut self) -> InodeNr {
        self.next += 1;
        self.targets[self.next % TARGETS]
    }

    fn insert(&mut self, name: &[u8]) -> Result<()> {
        let target = self.target();
        let Needs { clusters, credits } = needs(&self.volume, &self.dir, name)?;
        let used = self.dir.blocks512;
        let mut reservation = alloc::reserve(&self.volume, clusters, Privilege::Reserve)?;
        let mut handle = self.volume.begin(credits)?;
        let file = (target, FileKind::Regular);
        insert(&mut handle, &mut self.dir, name, file, &mut reservation)?;
        inode::store(&mut handle, &self.dir)?;
        handle.stop()?;
        let grown = (self.dir.blocks512 - used) * 512;
        let cluster = self.volume.geometry.cluster_blocks * self.volume.block_size();
        assert!(grown <= clusters * u64::from(cluster));
        assert!(grown > 0 || clusters == 0 || cluster > 1024, "needs are exact where it matters");
        self.model.insert(name.to_vec(), target);
        Ok(())
    }

    fn remove(&mut self, name: &[u8]) {
        let mut handle = self.volume.begin(CREDITS).unwrap();
        let old = remove(&mut handle, &mut self.dir, name).unwrap();
        inode::store(&mut handle, &self.dir).unwrap();
        handle.stop().unwrap();
        assert_eq!(self.model.remove(name), Some(old));
    }

    fn replace(&mut self, name: &[u8]) {
        let target = self.target();
        let mut handle = self.volume.begin(CREDITS).unwrap();
        let dir = &mut self.dir;
        let old = replace(&mut handle, dir, name, target, FileKind::Regular).unwrap();
        inode::store(&mut handle, &self.dir).unwrap();
        handle.stop().unwrap();
        assert_eq!(self.model.insert(name.to_vec(), target), Some(old));
    }

    /// All names by listing, without the dots.
    fn listed(volume: &Volume, dir: &Inode) -> BTreeMap<Vec<u8>, InodeNr> {
        let mut all = BTreeMap::new();
        let mut last = 0;
        iterate(volume, dir, 0, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                assert!(all.insert(entry.name.to_vec(), entry.inode).is_none(), "listed twice");
            }
            assert!(entry.cookie > last, "cookies rise");
            last = entry.cookie;
            ControlFlow::Continue(())
        })
        .unwrap();
        all
    }

    fn check(&self, volume: &Volume, dir: &Inode) {
        assert!(Self::listed(volume, dir) == self.model, "the listing is not as the model");
        for (name, target) in &self.model {
            assert_eq!(find(volume, dir, name).unwrap(), Some(*target));
        }
        assert_eq!(find(volume, dir, b"no such name").unwrap(), None);
        assert_eq!(find(volume, dir, b"..").unwrap(), Some(InodeNr::ROOT));
        assert!(volume.notices.take().is_empty());
        assert_eq!(is_empty(volume, dir).unwrap(), self.model.is_empty());
    }

    /// Compares with the model, before and after a new mount, and lets e2fsck judge.
    fn finish(&self) {
        self.check(&self.volume, &self.dir);
        let mut handle = self.volume.begin(CREDITS).unwrap();
        for target in &self.targets {
            let mut inode = (*inode::get(&self.volume, *target).unwrap()).clone();
            inode.links = 1 + self.model.values().filter(|named| *named == target).count() as u16;
            inode::store(&mut handle, &inode).unwrap();
        }
        handle.stop().unwrap();
        fsck(&self.volume, &self.device);
        let again = volume_on(&self.device);
        let dir = inode::get(&again, self.dir.nr).unwrap();
        self.check(&again, &dir);
    }

    /// Levels of the index; 0 without one.
    fn levels(&self) -> usize {
        let dir = Directory::new(&self.volume, &self.dir);
        if !dir.is_indexed() {
            return 0;
        }
        let root = Root::read(&dir).unwrap();
        htree::Path::probe(&dir, &root, 0).unwrap().levels.len()
    }

    /// Changes that `steps` describe, over at most `names` names.
    fn run(&mut self, steps: &[(u8, u16)], names: u16) {
        for (what, number) in steps {
            let name = name(number % names);
            match (self.model.contains_key(&name), what % 8) {
                (false, _) => self.insert(&name).unwrap(),
                (true, 0..3) => self.remove(&name),
                (true, 3) => self.replace(&name),
                (true, _) => {
                    let again = self.insert_again(&name);
                    assert!(matches!(again, None | Some(Refusal::Exists)), "{again:?}");
                }
            }
        }
    }

    /// What inserting a name that is there already meets; `None` if it would not be noticed.
    fn insert_again(&self, name: &[u8]) -> Option<Refusal> {
        match needs(&self.volume, &self.dir, name) {
            Ok(_) => None,
            Err(Error::Refused(refusal)) => Some(refusal),
            Err(other) => panic!("{other}"),
        }
    }
}

/// A name of 1 to 255 bytes: mostly short ones, with a long one here and there.
fn name(number: u16) -> Vec<u8> {
    let mut name = format!("{number:x}").into_bytes();
    match number % 16 {
        0 => name.resize(255, b'L'),
        1..6 => name.resize(60, b'\xe4'),
        _ => {}
    }
    name
}

const EXT2: &[&str] = &["-t", "ext2", "-I", "128", "-O", "^dir_index,^resize_inode"];

/// Feature sets; the numbers are KiB of the device.
const CASES: &[(&str, u64, &[&str])] = &[
    ("ext4 4k", 16384, &["-t", "ext4", "-b", "4096"]),
    ("ext4 1k", 16384, &["-t", "ext4", "-b", "1024"]),
    ("ext4 64k", 131072, &["-t", "ext4", "-b", "65536"]),
    ("no checksums", 16384, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"]),
    ("uninit_bg", 16384, &["-t", "ext4", "-b", "1024", "-O", "^metadata_csum,uninit_bg"]),
    ("no index", 16384, &["-t", "ext4", "-b", "1024", "-O", "^dir_index"]),
    ("no filetype", 16384, &["-t", "ext4", "-b", "2048", "-O", "^filetype"]),
    ("ext2", 16384, EXT2),
    ("ext3", 16384, &["-t", "ext3", "-b", "1024"]),
    ("large_dir", 16384, &["-t", "ext4", "-b", "1024", "-O", "large_dir"]),
    ("bigalloc", 65536, &["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "16384"]),
];

fn steps(len: usize) -> impl Strategy<Value = Vec<(u8, u16)>> {
    prop::collection::vec((any::<u8>(), any::<u16>()), len)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 1 } else { 8 }))]

    #[test]
    fn any_changes_leave_the_directory_as_the_model_says(steps in steps(1500)) {
        for (case, kib, options) in CASES {
            println!("{case}");
            let mut fixture = Fixture::new(*kib, options);
            fixture.run(&steps, 700);
            fixture.finish();
        }
    }

    #[test]
    fn every_hash_orders_a_directory(steps in steps(1500)) {
        for hash in ["legacy", "half_md4", "tea"] {
            for unsigned in ["1", "2"] {
                let alg = format!("hash_alg={hash}");
                let flags = format!("ssv flags {unsigned}");
                let mut fixture = Fixture::tuned(
                    16384,
                    &["-t", "ext4", "-b", "1024", "-O", "^has_journal"],
                    &[&["tune2fs", "-E", &alg], &["debugfs", "-w", "-R", &flags]],
                );
                prop_assert_eq!(fixture.volume.geometry.hash_unsigned, unsigned == "2");
                fixture.run(&steps, 700);
                prop_assert_eq!(fixture.levels(), 1);
                fixture.finish();
            }
        }
    }

    #[test]
    fn a_directory_in_its_inode_grows_out_of_it(steps in steps(60)) {
        for (inode_size, block_size) in [("256", "1024"), ("1024", "1024"), ("1024", "4096")] {
            for index in ["dir_index", "^dir_index"] {
                let features = format!("inline_data,{index}");
                let options = ["-t", "ext4", "-I", inode_size, "-b", block_size, "-O", &features];
                let mut fixture = Fixture::new(16384, &options);
                prop_assert!(fixture.dir.flags.has(InodeFlags::INLINE_DATA));
                fixture.run(&steps[..20], 12);
                fixture.finish();
                fixture.run(&steps[20..], 200);
                fixture.finish();
                for number in 0..40 {
                    let name = format!("a name that is long enough to fill a block soon {number}");
                    fixture.insert(name.as_bytes()).unwrap();
                }
                prop_assert!(!fixture.dir.flags.has(InodeFlags::INLINE_DATA));
                fixture.finish();
            }
        }
    }
}

#[test]
fn a_directory_gets_an_index_with_its_second_block_and_more_levels_as_it_needs_them() {
    let mut fixture = Fixture::new(65536, &["-t", "ext4", "-b", "1024", "-O", "large_dir"]);
    let long = |number: u32| format!("{number:0>255}").into_bytes();
    let mut grown = Vec::new();
    for number in 0..50_000 {
        let levels = if number % 50 == 0 { fixture.levels() } else { 0 };
        if grown.last().is_none_or(|last| *last < levels) {
            grown.push(levels);
        }
        if levels == 3 && number % 1000 == 0 {
            break;
        }
        fixture.insert(&long(number)).unwrap();
    }
    assert_eq!(grown, [0, 1, 2, 3]);
    fixture.finish();
    for number in (0..40_000).step_by(2) {
        let name = long(number);
        if fixture.model.contains_key(&name) {
            fixture.remove(&name);
        }
    }
    fixture.finish();
}

#[test]
fn an_index_of_two_full_levels_takes_no_more_without_large_dir() {
    // Where it ends depends on the hashes: when the first path is full, and siblings may be half full.
    let seed = "hash_seed=00112233-4455-6677-8899-aabbccddeeff";
    let mut fixture = Fixture::new(65536, &["-t", "ext4", "-b", "1024", "-E", seed]);
    let refused = (0..60_000).find_map(|number| {
        fixture.insert(format!("{number:0>255}").as_bytes()).err().map(|error| (number, error))
    });
    let (number, error) = refused.unwrap();
    assert!(matches!(error, Error::Refused(Refusal::NoSpace)), "{error}");
    // 123 nodes below the root, half of 126 leaves in each, half of 3 names in each leaf.
    assert!(number > 123 * 63 * 3 / 2, "{number} names were in");
    assert_eq!(fixture.levels(), 2);
    fixture.finish();
}

/// Five names of 255 bytes with one half_md4 hash under the seed of the test below.
fn colliding() -> Vec<Vec<u8>> {
    let ends = ["00259eec", "008bacbb", "0153496e", "02528afe", "04d87e06"];
    ends.iter().map(|end| [&[b'n'; 247][..], end.as_bytes()].concat()).collect()
}

#[test]
fn names_of_one_hash_continue_in_the_next_leaf() {
    let seed = "hash_seed=00112233-4455-6677-8899-aabbccddeeff";
    let mut fixture = Fixture::new(16384, &["-t", "ext4", "-b", "1024", "-E", seed]);
    let hasher = Hasher::new(&fixture.volume.geometry, HashVersion::HalfMd4);
    let names = colliding();
    assert!(names.iter().all(|name| hasher.hash(name).major == hasher.hash(&names[0]).major));
    for number in 0..40 {
        fixture.insert(format!("filler{number}").as_bytes()).unwrap();
    }
    for name in &names {
        fixture.insert(name).unwrap();
        fixture.check(&fixture.volume, &fixture.dir);
    }
    for number in 40..200 {
        fixture.insert(format!("filler{number}").as_bytes()).unwrap();
    }
    fixture.finish();
    fixture.remove(&names[0]);
    fixture.remove(&names[4]);
    fixture.finish();
    fixture.insert(&names[4]).unwrap();
    fixture.finish();
}

#[test]
fn a_casefolded_directory_orders_names_by_what_they_fold_to() {
    for flags in ["", ",encoding_flags=strict"] {
        let encoding = format!("encoding=utf8{flags}");
        let options = ["-t", "ext4", "-b", "1024", "-O", "casefold", "-E", &encoding];
        let mut fixture = Fixture::new(16384, &options);
        fixture.dir.flags = fixture.dir.flags.with(InodeFlags::CASEFOLD);
        for number in 0..300 {
            fixture.insert(format!("GRÖSSE-{number}-Ångström").as_bytes()).unwrap();
        }
        assert_eq!(fixture.levels(), 1);
        let other = "größe-77-a\u{30a}NGSTRÖM".as_bytes();
        assert!(find(&fixture.volume, &fixture.dir, other).unwrap().is_some());
        assert!(matches!(fixture.insert_again(other), None | Some(Refusal::Exists)));
        let raw = fixture.insert(b"\xff not UTF-8");
        match flags {
            "" => raw.unwrap(),
            _ => assert!(matches!(raw, Err(Error::Refused(Refusal::Invalid)))),
        }
        fixture.finish();
        let mut handle = fixture.volume.begin(CREDITS).unwrap();
        remove(&mut handle, &mut fixture.dir, other).unwrap();
        handle.stop().unwrap();
        fixture.model.remove("GRÖSSE-77-Ångström".as_bytes()).unwrap();
        fixture.finish();
    }
}

#[test]
fn names_that_cannot_be_are_refused_before_any_change() {
    let mut fixture = Fixture::new(16384, &["-t", "ext4"]);
    let refused = |fixture: &mut Fixture, name: &[u8]| match fixture.insert(name) {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut fixture, b""), Refusal::Invalid);
    assert_eq!(refused(&mut fixture, b"."), Refusal::Invalid);
    assert_eq!(refused(&mut fixture, b".."), Refusal::Invalid);
    assert_eq!(refused(&mut fixture, &[b'x'; 256]), Refusal::NameTooLong);
    fixture.insert(b"once").unwrap();
    assert_eq!(refused(&mut fixture, b"once"), Refusal::Exists);
    let mut handle = fixture.volume.begin(CREDITS).unwrap();
    let gone = remove(&mut handle, &mut fixture.dir, b"absent");
    assert!(matches!(gone, Err(Error::Refused(Refusal::NotFound))));
    let dots = remove(&mut handle, &mut fixture.dir, b"..");
    assert!(matches!(dots, Err(Error::Refused(Refusal::Invalid))));
    handle.stop().unwrap();
    fixture.finish();
    fixture.dir.flags = fixture.dir.flags.with(InodeFlags::ENCRYPT);
    assert_eq!(refused(&mut fixture, b"plain"), Refusal::NoKey);
}

#[test]
fn a_corrupt_index_takes_no_names_but_gives_them_up() {
    let mut fixture = Fixture::new(16384, &["-t", "ext4", "-b", "1024"]);
    for number in 0..200 {
        fixture.insert(format!("name{number}").as_bytes()).unwrap();
    }
    let dir = Directory::new(&fixture.volume, &fixture.dir);
    let root = dir.block_or_hole_error(crate::ids::LogicalBlock::new(0)).unwrap();
    let mut handle = fixture.volume.begin(CREDITS).unwrap();
    handle
        .edit(root.nr(), |bytes| {
            bytes[28] = 3;
            Ok(())
        })
        .unwrap();
    handle.stop().unwrap();
    let kind = crate::testing::kind(fixture.insert(b"more"));
    assert_eq!(kind, CorruptKind::DxHashVersion { version: 3 });
    fixture.remove(b"name7");
    assert_eq!(find(&fixture.volume, &fixture.dir, b"name7").unwrap(), None);
    assert!(find(&fixture.volume, &fixture.dir, b"name8").unwrap().is_some());
}

#[test]
fn an_index_without_the_feature_is_not_believed_again_after_a_change() {
    let options = ["-t", "ext4", "-b", "1024", "-O", "^dir_index,^metadata_csum"];
    let mut fixture = Fixture::new(16384, &options);
    fixture.dir.flags = fixture.dir.flags.with(InodeFlags::INDEX);
    fixture.insert(b"name").unwrap();
    assert!(!fixture.dir.flags.has(InodeFlags::INDEX));
    fixture.finish();
}

#[test]
fn links_of_an_indexed_directory_stop_counting_at_65000() {
    let fixture = Fixture::new(16384, &["-t", "ext4"]);
    let mut dir = fixture.dir.clone();
    dir.links = 64_999;
    check_links(&fixture.volume, &dir).unwrap();
    add_link(&fixture.volume, &mut dir);
    assert_eq!(dir.links, 65_000);
    let full = check_links(&fixture.volume, &dir);
    assert!(matches!(full, Err(Error::Refused(Refusal::TooManyLinks))), "no index, no overflow");
    dir.flags = dir.flags.with(InodeFlags::INDEX);
    check_links(&fixture.volume, &dir).unwrap();
    for _ in 0..3 {
        add_link(&fixture.volume, &mut dir);
        assert_eq!(dir.links, 1);
    }
    drop_link(&mut dir);
    assert_eq!(dir.links, 1);
    let counted = Fixture::new(16384, &["-t", "ext4", "-O", "^dir_nlink"]);
    dir.links = 65_000;
    let full = check_links(&counted.volume, &dir);
    assert!(matches!(full, Err(Error::Refused(Refusal::TooManyLinks))));
}

/// As many names as a mail spool may have; cheap enough for every run only when optimized.
#[test]
fn two_hundred_thousand_names_fit_one_directory() {
    let count = if cfg!(debug_assertions) { 20_000 } else { 200_000 };
    let mut fixture = Fixture::new(65536, &["-t", "ext4", "-b", "4096"]);
    let start = std::time::Instant::now();
    for number in 0..count {
        fixture.insert(format!("message-{number}").as_bytes()).unwrap();
    }
    let inserted = start.elapsed();
    fixture.finish();
    let names: Vec<Vec<u8>> = fixture.model.keys().cloned().collect();
    let start = std::time::Instant::now();
    for name in &names {
        fixture.remove(name);
    }
    println!("{count} names: {inserted:?} to insert, {:?} to remove", start.elapsed());
    fixture.finish();
}
