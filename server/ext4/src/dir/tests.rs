//! Directories made of bytes, sound and hostile ones, through [`super::find`] and [`super::iterate`].
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use super::hash::{HashVersion, Hasher};
use super::*;
use crate::disk::dirent::DirLayout;
use crate::disk::dirent::tests::{entry, with_tail};
use crate::disk::dx::tests::{node, root};
use crate::features::{Compat, Incompat};
use crate::testing::{Image, inode_with, kind, words};

/// The last data block that a directory of these tests uses.
const BLOCKS: u64 = 64;

fn image() -> Image {
    Image::new(BLOCKS).with_checksums().with(|geometry| {
        geometry.features.compat = Compat::DIR_INDEX;
        geometry.features.incompat = Incompat::FILETYPE;
    })
}

/// A directory (inode 12) of these device blocks; 0 is a hole.
fn directory(flags: u32, blocks: &[u32]) -> Inode {
    let mut inode = inode_with(flags, &words(blocks.iter().copied()));
    inode.kind = FileKind::Directory;
    inode.size = blocks.len() as u64 * 1024;
    inode
}

/// A block of these names, which have the inodes from 20 on.
fn leaf(names: &[&[u8]]) -> Vec<u8> {
    let mut block = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let rec_len = DirLayout::min_rec_len(name.len() as u8, false) as u16;
        block.extend(entry(20 + index as u32, rec_len, name));
    }
    let room = 1012 - block.len();
    block.extend(entry(0, room as u16, b""));
    with_tail(block)
}

fn first_leaf(names: &[&[u8]]) -> Vec<u8> {
    leaf(&[&[&b"."[..], b".."], names].concat())
}

/// All names with their cookies, read `step` at a time; the error that ended it.
fn list(volume: &Volume, dir: &Inode, step: usize) -> (Vec<(Vec<u8>, u64)>, Option<Error>) {
    let mut all: Vec<(Vec<u8>, u64)> = Vec::new();
    loop {
        let cookie = all.last().map_or(0, |(_, cookie)| *cookie);
        let mut left = step;
        let before = all.len();
        let result = iterate(volume, dir, cookie, &mut |entry| {
            all.push((entry.name.to_vec(), entry.cookie));
            left -= 1;
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(all.len() < 100_000, "a listing without an end");
        if result.is_err() || all.len() == before {
            return (all, result.err());
        }
    }
}

fn listed(volume: &Volume, dir: &Inode, step: usize) -> Vec<Vec<u8>> {
    let (names, error) = list(volume, dir, step);
    assert!(error.is_none(), "{error:?}");
    names.into_iter().map(|(name, _)| name).collect()
}

fn codes(volume: &Volume) -> Vec<&'static str> {
    let code = |error| match error {
        Error::Corrupt { kind, .. } => kind.code(),
        other => panic!("{other}"),
    };
    volume.notices.take().into_iter().map(code).collect()
}

fn found(volume: &Volume, dir: &Inode, name: &[u8]) -> Option<u32> {
    find(volume, dir, name).unwrap().map(InodeNr::get)
}

const INDEX: u32 = crate::inode::InodeFlags::INDEX;

/// Names sorted by hash, and the hashes.
fn sorted(count: usize) -> Vec<(u32, Vec<u8>)> {
    let hasher = Hasher::with_seed(HashVersion::HalfMd4, true, [0; 4]);
    let names = (0..count).map(|number| format!("name-{number:03}").into_bytes());
    let mut names: Vec<_> = names.map(|name| (hasher.hash(&name).major, name)).collect();
    names.sort();
    names
}

/// A directory with an index over two leaves, in blocks 40 to 42.
fn indexed() -> (Image, Inode, Vec<Vec<u8>>) {
    let names = sorted(40);
    let (low, high) = names.split_at(20);
    let slices = |part: &[(u32, Vec<u8>)]| part.iter().map(|(_, n)| n.clone()).collect::<Vec<_>>();
    let block =
        |part: &[(u32, Vec<u8>)]| leaf(&slices(part).iter().map(Vec::as_slice).collect::<Vec<_>>());
    let image = image()
        .put(40, &root(1, 0, &[(0, 1), (high[0].0, 2)]))
        .put(41, &block(low))
        .put(42, &block(high));
    (image, directory(INDEX, &[40, 41, 42]), slices(&names))
}

#[test]
fn a_directory_without_an_index_is_read_across_holes() {
    let volume =
        image().put(40, &first_leaf(&[b"one"])).put(41, &leaf(&[b"two", b"three"])).volume();
    let dir = directory(0, &[40, 0, 41]);
    for step in [1, 2, 100] {
        let expected = [&b"."[..], b"..", b"one", b"two", b"three"];
        assert_eq!(listed(&volume, &dir, step), expected);
    }
    assert_eq!(found(&volume, &dir, b"three"), Some(21));
    assert_eq!(found(&volume, &dir, b"four"), None);
    assert!(codes(&volume).is_empty());
}

#[test]
fn a_corrupt_block_hides_its_names_only_and_never_makes_not_found() {
    let mut bad = leaf(&[b"two"]);
    bad[100] ^= 1;
    let volume =
        image().put(40, &first_leaf(&[b"one"])).put(41, &bad).put(42, &leaf(&[b"three"])).volume();
    let dir = directory(0, &[40, 41, 42]);
    assert_eq!(listed(&volume, &dir, 1), [&b"."[..], b"..", b"one", b"three"]);
    assert_eq!(codes(&volume), ["dir-checksum"]);
    assert_eq!(found(&volume, &dir, b"three"), Some(20));
    assert!(kind(find(&volume, &dir, b"absent")).is_checksum());
}

#[test]
fn a_name_that_no_path_can_hold_is_left_out() {
    let volume = image().put(40, &first_leaf(&[b"a/b", b"good"])).volume();
    let dir = directory(0, &[40]);
    assert_eq!(listed(&volume, &dir, 9), [&b"."[..], b"..", b"good"]);
    assert_eq!(codes(&volume), ["dir-name"]);
}

#[test]
fn a_map_with_more_blocks_than_the_file_system_is_corrupt() {
    let indirect = words(core::iter::repeat_n(40, 256));
    let volume = image().put(40, &first_leaf(&[b"one"])).put(41, &indirect).volume();
    let mut dir = directory(0, &[40; 12]);
    dir.block[48..52].copy_from_slice(&41_u32.to_le_bytes());
    dir.size = 268 * 1024;
    let expected = CorruptKind::DirTooManyBlocks { blocks: 268 };
    assert_eq!(kind(find(&volume, &dir, b"absent")), expected);
}

#[test]
fn a_directory_of_one_block_with_a_hole_is_corrupt() {
    let volume = image().volume();
    let (_, error) = list(&volume, &directory(0, &[0]), 1);
    assert_eq!(kind(Err::<(), _>(error.unwrap())), CorruptKind::DirHole { block: 0 });
}

#[test]
fn an_index_is_listed_in_hash_order_and_finds_each_name() {
    let (image, dir, names) = indexed();
    let volume = image.volume();
    for step in [1, 7, 100] {
        assert_eq!(listed(&volume, &dir, step)[2..], names);
    }
    for name in &names {
        assert!(found(&volume, &dir, name).is_some());
    }
    assert_eq!(found(&volume, &dir, b"absent"), None);
    assert_eq!(found(&volume, &dir, b".."), Some(2));
    assert!(codes(&volume).is_empty());
}

#[test]
fn names_of_one_hash_are_found_and_listed_across_leaves() {
    let hash = sorted(1)[0].0;
    let names: Vec<Vec<u8>> = (0..30).map(|_| sorted(1)[0].1.clone()).collect();
    let slices: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
    let mut last = slices.clone();
    last[29] = b"other";
    let volume = image()
        .put(40, &root(1, 0, &[(0, 1), (hash | 1, 2), (hash | 1, 3)]))
        .put(41, &leaf(&slices))
        .put(42, &leaf(&slices))
        .put(43, &leaf(&last))
        .volume();
    let dir = directory(INDEX, &[40, 41, 42, 43]);
    for step in [1, 50, 1000] {
        let (listed, error) = list(&volume, &dir, step);
        assert!(error.is_none());
        assert_eq!(listed.len(), 92, "{step} at a time");
        assert!(listed.is_sorted_by(|(_, a), (_, b)| a < b), "cookies rise");
        assert!(listed.iter().any(|(name, _)| name == b"other"), "although its hash is lower");
    }
    let only_last = image()
        .put(40, &root(1, 0, &[(0, 1), (hash | 1, 2)]))
        .put(41, &leaf(&[b"else"]))
        .put(42, &leaf(&[names[0].as_slice()]))
        .volume();
    assert_eq!(found(&only_last, &directory(INDEX, &[40, 41, 42]), &names[0]), Some(20));
}

/// Replaces a block of the indexed directory; every name is still found, and one code noticed.
fn still_finds(block: usize, bytes: &[u8], code: &str) {
    let (image, dir, names) = indexed();
    let volume = image.put(block, bytes).volume();
    for name in &names {
        assert!(found(&volume, &dir, name).is_some(), "{code}");
    }
    assert_eq!(found(&volume, &dir, b"absent"), None, "{code}");
    assert_eq!(codes(&volume), [code]);
}

#[test]
fn a_broken_root_is_bypassed_and_noticed_once() {
    let high = sorted(40)[20].0;
    let entries = [(0, 1), (high, 2)];
    still_finds(40, &root(3, 0, &entries), "dx-hash-version");
    still_finds(40, &root(6, 0, &entries), "dx-hash-version");
    still_finds(40, &root(1, 2, &entries), "dx-root");
    let mut flipped = root(1, 0, &entries);
    flipped[45] ^= 1;
    still_finds(40, &flipped, "dx-checksum");
    still_finds(40, &root(1, 0, &[(0, 1), (high, 2), (high - 2, 1)]), "dx-order");
    let (image, dir, names) = indexed();
    let volume = image.put(40, &root(3, 0, &entries)).volume();
    for step in [1, 100] {
        let mut listed = listed(&volume, &dir, step).split_off(2);
        listed.sort();
        let mut names = names.clone();
        names.sort();
        assert_eq!(listed, names);
    }
}

#[test]
fn an_index_that_leads_to_its_root_is_a_cycle() {
    let volume = image().put(40, &root(1, 0, &[(0, 0)])).put(41, &leaf(&[b"one"])).volume();
    let dir = directory(INDEX, &[40, 41]);
    let (_, error) = list(&volume, &dir, 1);
    assert_eq!(kind(Err::<(), _>(error.unwrap())), CorruptKind::DxCycle { block: 0 });
    assert_eq!(found(&volume, &dir, b"one"), Some(20));
    assert_eq!(codes(&volume), ["dx-cycle"]);
}

#[test]
fn an_index_with_more_leaves_than_blocks_ends() {
    let entries: Vec<_> = (0..100).map(|number| (number * 4 + 4, 1)).collect();
    let volume = image().put(40, &root(1, 0, &entries)).put(41, &leaf(&[])).volume();
    let (listed, error) = list(&volume, &directory(INDEX, &[40, 41]), 100);
    assert_eq!(listed.len(), 2);
    assert_eq!(kind(Err::<(), _>(error.unwrap())).code(), "dx-cycle");
}

#[test]
fn a_node_below_the_root_is_gone_through() {
    let (image, _, names) = indexed();
    let high = sorted(40)[20].0;
    let volume =
        image.put(40, &root(1, 1, &[(0, 3)])).put(43, &node(&[(0, 1), (high, 2)])).volume();
    let dir = directory(INDEX, &[40, 41, 42, 43]);
    assert_eq!(listed(&volume, &dir, 3)[2..], names);
    assert!(found(&volume, &dir, &names[39]).is_some());
    assert!(codes(&volume).is_empty());
    let outside = directory(INDEX, &[40, 41, 42]);
    let (_, error) = list(&volume, &outside, 3);
    assert_eq!(kind(Err::<(), _>(error.unwrap())), CorruptKind::DirHole { block: 3 });
}

#[test]
fn a_short_encrypted_name_is_left_out() {
    let volume = image().put(40, &first_leaf(&[b"too short", b"long enough cipher"])).volume();
    let dir = directory(crate::inode::InodeFlags::ENCRYPT, &[40]);
    let names = listed(&volume, &dir, 9);
    assert_eq!(names.len(), 3);
    assert_eq!(codes(&volume), ["dir-crypt-name"]);
    assert_eq!(found(&volume, &dir, &names[2]), Some(23));
    let plain = find(&volume, &dir, b"too short");
    assert!(matches!(plain, Err(Error::Refused(Refusal::NotFound))));
}

#[test]
fn a_strictly_encoded_directory_refuses_names_that_are_not_utf8() {
    let flags = crate::inode::InodeFlags::CASEFOLD;
    let encoded = |flags| {
        image()
            .with(|geometry| geometry.encoding = Some((1, flags)))
            .put(40, &first_leaf(&["Größe".as_bytes(), b"\xffraw"]))
            .volume()
    };
    let dir = directory(flags, &[40]);
    assert_eq!(found(&encoded(0), &dir, "GRÖSSE".as_bytes()), Some(22));
    assert_eq!(found(&encoded(0), &dir, b"\xffraw"), Some(23));
    assert_eq!(found(&encoded(0), &dir, b"\xffRAW"), None);
    let strict = find(&encoded(1), &dir, b"\xffraw");
    assert!(matches!(strict, Err(Error::Refused(Refusal::Invalid))));
    let names = listed(&encoded(0), &dir, 1);
    assert!(names.contains(&"Größe".as_bytes().to_vec()), "case is kept");
}
