//! Attributes against a model, judged by e2fsck and debugfs.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::caller::Caller;
use crate::device::MemDevice;
use crate::disk::superblock::{OFFSET, RawSuperblock};
use crate::error::Error;
use crate::features::Compat;
use crate::filesystem::Filesystem;
use crate::ids::in_memory;
use crate::inode::Timestamp;
use crate::observer::Unobserved;
use crate::testing::{debugfs, filesystem, fsck, fsck_bytes, mkfs, volume_on, writable};

const FILES: usize = 4;

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    group: None,
    umask: 0,
    now: Timestamp { seconds: 1_700_000_000, nanoseconds: 7 },
};

type Model = Vec<BTreeMap<Vec<u8>, Vec<u8>>>;

/// A file system with [`FILES`] empty files in its root, and their numbers.
fn fresh(options: &[&str]) -> (Arc<MemDevice>, Filesystem, Vec<InodeNr>) {
    let device = mkfs(8192, options);
    let commands: String = (0..FILES).map(|nr| format!("write /dev/null f{nr}\n")).collect();
    debugfs(&device, &commands);
    let fs = filesystem(volume_on(&device));
    let root = fs.inode(InodeNr::ROOT).unwrap();
    let nr = |file| fs.lookup(&root, format!("f{file}").as_bytes()).unwrap().nr;
    let nrs = (0..FILES).map(nr).collect();
    (device, fs, nrs)
}

/// One call: which file, which name, how long a value of which byte (`None`: removal), how.
#[derive(Clone, Debug)]
struct Call {
    file: usize,
    name: Vec<u8>,
    value: Option<Vec<u8>>,
    mode: Mode,
}

fn calls(longest: usize) -> impl Strategy<Value = Vec<Call>> {
    let name = prop_oneof![
        (0..3_u8).prop_map(|nr| format!("user.n{nr}").into_bytes()),
        (0..2_u8).prop_map(|nr| format!("trusted.a-longer-name-{nr}").into_bytes()),
        Just(b"security.selinux".to_vec()),
        Just([&b"user."[..], &[b'x'; 255]].concat()),
    ];
    let len =
        prop_oneof![3 => 0..8_usize, 3 => 8..120_usize, 2 => 120..900_usize, 2 => 900..longest];
    // Few different bytes, so that values and blocks are shared.
    let value = (len, 0..3_u8).prop_map(|(len, byte)| vec![byte; len]);
    let mode = prop_oneof![4 => Just(Mode::Any), 1 => Just(Mode::Create), 1 => Just(Mode::Replace)];
    let call = (0..FILES, name, prop::option::weighted(0.75, value), mode);
    let call = call.prop_map(|(file, name, value, mode)| Call { file, name, value, mode });
    prop::collection::vec(call, 1..60)
}

fn run(fs: &Filesystem, nrs: &[InodeNr], model: &mut Model, call: &Call) {
    let there = model[call.file].contains_key(&call.name);
    let answer = match &call.value {
        Some(value) => fs.set_xattr(&CALLER, nrs[call.file], (&call.name, value), call.mode, false),
        None => fs.remove_xattr(&CALLER, nrs[call.file], &call.name),
    };
    let refused = match answer {
        Ok(_) => None,
        Err(Error::Refused(why)) => Some(why),
        Err(other) => panic!("{call:?}: {other}"),
    };
    match (&call.value, call.mode) {
        (None, _) | (_, Mode::Replace) if !there => assert_eq!(refused, Some(Refusal::NoData)),
        (Some(_), Mode::Create) if there => assert_eq!(refused, Some(Refusal::Exists)),
        (None, _) => {
            assert_eq!(refused, None);
            model[call.file].remove(&call.name);
        }
        (Some(value), _) => match refused {
            None => {
                model[call.file].insert(call.name.clone(), value.clone());
            }
            Some(why) => assert_eq!(why, Refusal::NoSpace),
        },
    }
}

fn compare(fs: &Filesystem, nrs: &[InodeNr], model: &Model) {
    for (nr, expected) in nrs.iter().zip(model) {
        let inode = fs.inode(*nr).unwrap();
        let list = fs.xattr_names(&inode).unwrap();
        let mut names: Vec<_> =
            list.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        assert_eq!(names, expected.keys().collect::<Vec<_>>());
        for (name, value) in expected {
            assert_eq!(&fs.xattr(&inode, name).unwrap(), value);
        }
    }
}

/// What debugfs lists has the same names and lengths.
fn compare_debugfs(device: &Arc<MemDevice>, model: &Model) {
    for (file, expected) in model.iter().enumerate() {
        let said = debugfs(device, &format!("ea_list f{file}\n"));
        for (name, value) in expected {
            let line = format!("{} ({})", String::from_utf8_lossy(name), value.len());
            assert!(said.contains(&line), "{line} is not in {said}");
        }
        let is_shown = |line: &&str| line.starts_with("  ") && !line.starts_with("  system.data");
        assert_eq!(said.lines().filter(is_shown).count(), expected.len(), "{said}");
    }
}

fn model_test(options: &[&str], longest: usize) {
    let mut runner = TestRunner::new(Config {
        cases: 8,
        failure_persistence: None,
        max_shrink_iters: 100,
        ..Config::default()
    });
    let test = |calls: Vec<Call>| {
        let (device, fs, nrs) = fresh(options);
        let mut model = vec![BTreeMap::new(); FILES];
        for call in &calls {
            run(&fs, &nrs, &mut model, call);
        }
        compare(&fs, &nrs, &model);
        fsck(&fs.volume, &device);
        compare(&filesystem(volume_on(&device)), &nrs, &model);
        compare_debugfs(&device, &model);
        Ok(())
    };
    runner.run(&calls(longest), test).unwrap();
}

#[test]
fn inodes_of_128_bytes_have_attributes_in_blocks() {
    model_test(&["-t", "ext2", "-b", "1024", "-I", "128"], 1100);
}

#[test]
fn inodes_of_256_bytes_have_attributes_in_both_places() {
    model_test(&["-t", "ext4", "-b", "1024", "-I", "256"], 1100);
    model_test(&["-t", "ext4", "-b", "4096", "-O", "^metadata_csum,uninit_bg"], 4200);
}

#[test]
fn inodes_of_1024_bytes_have_room() {
    model_test(&["-t", "ext4", "-b", "4096", "-I", "1024", "-O", "inline_data"], 4200);
}

#[test]
fn clusters_hold_one_attribute_block_each() {
    model_test(&["-t", "ext4", "-b", "1024", "-O", "bigalloc", "-C", "4096"], 1100);
}

#[test]
fn large_values_get_inodes() {
    model_test(&["-t", "ext4", "-b", "1024", "-O", "ea_inode", "-N", "1024"], 9000);
    model_test(&["-t", "ext4", "-b", "4096", "-O", "ea_inode", "-I", "128", "-N", "1024"], 66000);
}

#[test]
fn large_values_get_inodes_with_pointers_and_with_clusters() {
    model_test(&["-t", "ext3", "-b", "1024", "-O", "ea_inode", "-N", "1024"], 20000);
    let clusters =
        ["-t", "ext4", "-b", "1024", "-O", "ea_inode,bigalloc", "-C", "4096", "-N", "1024"];
    model_test(&clusters, 20000);
}

#[test]
fn equal_attributes_share_a_block_until_they_differ() {
    let (device, fs, nrs) = fresh(&["-t", "ext4", "-b", "1024", "-I", "128"]);
    for nr in &nrs {
        fs.set_xattr(&CALLER, *nr, (b"user.a", b"same"), Mode::Any, false).unwrap();
    }
    let block = |nr: InodeNr| fs.inode(nr).unwrap().xattr_block.unwrap();
    assert!(nrs.iter().all(|nr| block(*nr) == block(nrs[0])));
    fsck(&fs.volume, &device);
    fs.set_xattr(&CALLER, nrs[1], (b"user.a", b"other"), Mode::Any, false).unwrap();
    assert_ne!(block(nrs[1]), block(nrs[0]));
    fsck(&fs.volume, &device);
    fs.set_xattr(&CALLER, nrs[1], (b"user.a", b"same"), Mode::Any, false).unwrap();
    assert_eq!(block(nrs[1]), block(nrs[0]));
    for nr in &nrs {
        fs.remove_xattr(&CALLER, *nr, b"user.a").unwrap();
        assert_eq!(fs.inode(*nr).unwrap().xattr_block, None);
    }
    fsck(&fs.volume, &device);
}

#[test]
fn a_full_file_system_refuses_only_what_needs_a_block() {
    let (device, fs, nrs) = fresh(&["-t", "ext4", "-b", "1024"]);
    let all = alloc::totals(&fs.volume).unwrap().blocks;
    let reservation = alloc::reserve(&fs.volume, all, alloc::Privilege::Reserve).unwrap();
    let set =
        |name: &[u8], value: &[u8]| fs.set_xattr(&CALLER, nrs[0], (name, value), Mode::Any, false);
    set(b"user.a", b"small").unwrap();
    assert!(matches!(set(b"user.b", &[1; 500]), Err(Error::Refused(Refusal::NoSpace))));
    drop(reservation);
    set(b"user.b", &[1; 500]).unwrap();
    let all = alloc::totals(&fs.volume).unwrap().blocks;
    let reservation = alloc::reserve(&fs.volume, all, alloc::Privilege::Reserve).unwrap();
    // The block is this file's alone.
    set(b"user.b", &[2; 600]).unwrap();
    fs.remove_xattr(&CALLER, nrs[0], b"user.b").unwrap();
    drop(reservation);
    fsck(&fs.volume, &device);
}

#[test]
fn an_old_inode_gets_room_for_attributes() {
    let (device, fs, nrs) = fresh(&["-t", "ext4", "-b", "1024"]);
    drop(fs);
    debugfs(&device, "set_inode_field f0 extra_isize 0\n");
    let fs = filesystem(volume_on(&device));
    fs.set_xattr(&CALLER, nrs[0], (b"user.a", b"small"), Mode::Any, false).unwrap();
    assert_eq!(fs.inode(nrs[0]).unwrap().xattr_block, None);
    fsck(&fs.volume, &device);
    let again = filesystem(volume_on(&device));
    assert_eq!(again.xattr(&again.inode(nrs[0]).unwrap(), b"user.a").unwrap(), b"small");
}

/// Mounts what [`fresh`] makes, and sets `value` as an attribute of each file; what is left then.
fn after_set(options: &[&str], value: &[u8]) -> Vec<u8> {
    let (device, fs, nrs) = fresh(options);
    drop(fs);
    let fs = Filesystem::mount(device.clone(), &writable(), &Unobserved).unwrap();
    for nr in nrs {
        fs.set_xattr(&CALLER, nr, (b"user.name", value), Mode::Any, false).unwrap();
    }
    fs.unmount().unwrap();
    device.contents()
}

#[test]
fn the_first_attribute_makes_the_superblock_say_that_there_are_some() {
    for options in [&["-t", "ext4", "-O", "^ext_attr"][..], &["-t", "ext2", "-r", "0"]] {
        let bytes = after_set(options, &[b'v'; 700]);
        let superblock = in_memory(OFFSET);
        let raw = RawSuperblock::parse(bytes[superblock..].first_chunk().unwrap()).unwrap();
        assert!(raw.features().compat.contains(Compat::EXT_ATTR), "{options:?}");
        fsck_bytes(&bytes);
    }
}

#[test]
fn inodes_of_the_hurd_have_no_version() {
    // It is where the Hurd has a block of the inode's.
    fsck_bytes(&after_set(&["-t", "ext2", "-I", "128", "-o", "hurd"], b"value"));
}
