#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use super::*;
use crate::disk::checksum::ChecksumSeed;
use crate::disk::xattr::{entry_hashes, value_hash};
use crate::error::Error;
use crate::inode::InodeFlags;
use crate::testing::{Image, SEED, block as nr, code, inode, inode_with, words};

const MAGIC: u32 = 0xea02_0000;

/// One entry: where its value is, by hand.
struct Raw<'a> {
    index: u8,
    name: &'a [u8],
    offset: u16,
    inum: u32,
    size: u32,
    hash: u32,
}

impl Default for Raw<'_> {
    fn default() -> Self {
        Self { index: 1, name: b"n", offset: 0, inum: 0, size: 0, hash: 0 }
    }
}

fn entry(raw: &Raw<'_>) -> Vec<u8> {
    let mut bytes = vec![raw.name.len() as u8, raw.index];
    bytes.extend(raw.offset.to_le_bytes());
    bytes.extend(words([raw.inum, raw.size, raw.hash]));
    bytes.extend(raw.name);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// An inode tail with `entries`, 64 zero bytes and `value` at the end.
fn tail(entries: &[Raw<'_>], value: &[u8]) -> Box<[u8]> {
    let list: Vec<u8> = entries.iter().flat_map(entry).collect();
    [words([MAGIC]), list, vec![0; 64], value.to_vec()].concat().into()
}

fn with_tail(tail: Box<[u8]>) -> Inode {
    Inode { tail, ..inode(0) }
}

fn no_inode(_: InodeNr) -> Result<Arc<Inode>> {
    Err(Refusal::Stale.into())
}

fn read(inode: &Inode, name: &str) -> Result<Vec<u8>> {
    get(&Image::new(100).volume(), inode, name.as_bytes(), no_inode)
}

fn refusal<T>(result: Result<T>) -> Refusal {
    match result {
        Err(Error::Refused(refusal)) => refusal,
        Err(other) => panic!("expected a refusal, got {other}"),
        Ok(_) => panic!("expected a refusal, got an answer"),
    }
}

#[test]
fn values_in_the_inode_are_found_by_prefix_and_name() {
    // Two entries of 20 bytes and 64 zeros: the value is at 104.
    let all = [Raw { size: 3, offset: 104, ..Raw::default() }, Raw { index: 4, ..Raw::default() }];
    let inode = with_tail(tail(&all, b"abc\0"));
    assert_eq!(read(&inode, "user.n").unwrap(), b"abc");
    assert_eq!(read(&inode, "trusted.n").unwrap(), b"");
    assert_eq!(refusal(read(&inode, "security.n")), Refusal::NoData);
    assert_eq!(refusal(read(&inode, "user.m")), Refusal::NoData);
}

#[test]
fn names_resolve_as_the_kernel_resolves_them() {
    let inode = inode(0);
    assert_eq!(refusal(read(&inode, "user.")), Refusal::Invalid);
    assert_eq!(refusal(read(&inode, "other.n")), Refusal::NotSupported);
    assert_eq!(refusal(read(&inode, "system.data")), Refusal::NotSupported);
    assert_eq!(refusal(read(&inode, "system.posix_acl_access2")), Refusal::NotSupported);
    assert_eq!(refusal(read(&inode, "system.posix_acl_default")), Refusal::NoData);
    let long = format!("user.{}", "n".repeat(256));
    assert_eq!(refusal(read(&inode, &long)), Refusal::Range);
    assert_eq!(refusal(read(&inode, &long[..260])), Refusal::NoData);
}

#[test]
fn lists_show_prefixes_and_hide_what_the_file_system_keeps() {
    let hidden = [0, 5, 7, 8, 9, 11, 255].map(|index| Raw { index, ..Raw::default() });
    let mut all = vec![Raw { index: 6, name: b"selinux", ..Raw::default() }];
    all.extend(hidden);
    all.push(Raw { index: 3, name: b"", ..Raw::default() });
    all.push(Raw::default());
    let inode = with_tail(tail(&all, b""));
    let list = names(&Image::new(100).volume(), &inode).unwrap();
    assert_eq!(list, b"security.selinux\0system.posix_acl_default\0user.n\0");
}

#[test]
fn a_tail_without_the_magic_holds_no_attributes() {
    let volume = Image::new(100).volume();
    for tail in [&[][..], &[0xff; 2], &[0xff; 40]] {
        assert_eq!(names(&volume, &with_tail(tail.into())).unwrap(), b"");
    }
}

#[test]
fn names_and_values_that_cannot_be_are_refused() {
    let one = |raw| code(read(&with_tail(tail(&[raw], b"abcd")), "user.n"));
    // 20 bytes of entry, 4 that end the list; the value may be at 24..=84.
    assert_eq!(one(Raw { offset: 20, size: 4, ..Raw::default() }), "xattr-value-range");
    assert_eq!(one(Raw { offset: 85, size: 4, ..Raw::default() }), "xattr-value-range");
    assert_eq!(one(Raw { offset: 0xffff, size: 4, ..Raw::default() }), "xattr-value-range");
    assert_eq!(one(Raw { offset: 87, size: 1, ..Raw::default() }), "xattr-value-range");
    assert_eq!(one(Raw { offset: 84, size: 65537, ..Raw::default() }), "xattr-value-size");
    assert_eq!(one(Raw { offset: 84, size: u32::MAX, ..Raw::default() }), "xattr-value-size");
    assert_eq!(one(Raw { name: b"n\0m", ..Raw::default() }), "xattr-name");
    let fits = with_tail(tail(&[Raw { offset: 84, size: 4, ..Raw::default() }], b"abcd"));
    assert_eq!(read(&fits, "user.n").unwrap(), b"abcd");
    let touches = with_tail(tail(&[Raw { offset: 24, size: 4, ..Raw::default() }], b"abcd"));
    assert_eq!(read(&touches, "user.n").unwrap(), [0; 4]);
}

#[test]
fn a_list_must_end_before_the_inode_does() {
    for tail in
        [words([MAGIC]), words([MAGIC, 1]), [words([MAGIC]), entry(&Raw::default())].concat()]
    {
        assert_eq!(code(read(&with_tail(tail.into()), "user.n")), "xattr-names");
    }
}

fn header(magic: u32, blocks: u32) -> Vec<u8> {
    words([magic, 1, blocks, 0, 0, 0, 0, 0])
}

fn read_block(image: Image) -> Result<Vec<u8>> {
    let inode = Inode { xattr_block: Some(nr(50)), ..inode(0) };
    get(&image.volume(), &inode, b"user.n", no_inode)
}

#[test]
fn values_in_a_block_count_from_its_start() {
    let raw = Raw { offset: 1020, size: 3, ..Raw::default() };
    let mut block = [header(MAGIC, 1), entry(&raw)].concat();
    block.resize(1020, 0);
    block.extend(b"xyz\0");
    assert_eq!(read_block(Image::new(100).put(50, &block)).unwrap(), b"xyz");
    // 32 bytes of header, 20 of entry, 4 that end the list.
    let raw = Raw { offset: 52, size: 3, ..Raw::default() };
    let block = [header(MAGIC, 1), entry(&raw)].concat();
    assert_eq!(code(read_block(Image::new(100).put(50, &block))), "xattr-value-range");
}

#[test]
fn attribute_blocks_that_cannot_be_are_refused() {
    let fails = |block: Vec<u8>| code(read_block(Image::new(100).put(50, &block)));
    assert_eq!(fails(header(0, 1)), "xattr-magic");
    assert_eq!(fails(header(MAGIC, 2)), "xattr-blocks");
    let outside = Inode { xattr_block: Some(nr(100)), ..inode(0) };
    assert_eq!(code(read(&outside, "user.n")), "block-range");
}

#[test]
fn an_attribute_block_needs_its_checksum_where_there_are_checksums() {
    let mut block = [header(MAGIC, 1), entry(&Raw::default())].concat();
    block.resize(1024, 0);
    let sum = SEED.chain(&50_u64.to_le_bytes()).of(&block);
    block[16..20].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(read_block(Image::new(100).with_checksums().put(50, &block)).unwrap(), b"");
    block[1000] = 1;
    let image = Image::new(100).with_checksums().put(50, &block);
    assert_eq!(code(read_block(image)), "xattr-checksum");
}

#[test]
fn the_inode_wins_over_its_block_and_lists_first() {
    let block = [header(MAGIC, 1), entry(&Raw { name: b"b", ..Raw::default() })].concat();
    let mut inode = with_tail(tail(&[Raw { name: b"z", ..Raw::default() }], b""));
    inode.xattr_block = Some(nr(50));
    let list = names(&Image::new(100).put(50, &block).volume(), &inode).unwrap();
    assert_eq!(list, b"user.z\0user.b\0");
}

/// A value inode with number 20 and the bytes "large", and an owner whose entry names it.
fn large() -> (Volume, Inode, Inode) {
    let volume = Image::new(100).put(30, b"large").volume();
    let mut holder = inode_with(InodeFlags::EA_INODE, &words([30]));
    holder.nr = InodeNr::new(20);
    holder.size = 5;
    let hash = value_hash(SEED, b"large");
    holder.atime.seconds = i64::from(hash);
    let [entry_hash, _] = entry_hashes(b"n", hash);
    let owner =
        with_tail(tail(&[Raw { inum: 20, size: 5, hash: entry_hash, ..Raw::default() }], b""));
    (volume, owner, holder)
}

fn read_large(volume: &Volume, owner: &Inode, holder: &Inode) -> Result<Vec<u8>> {
    get(volume, owner, b"user.n", |nr| {
        assert_eq!(nr, InodeNr::new(20));
        Ok(Arc::new(holder.clone()))
    })
}

#[test]
fn a_value_inode_is_read_when_everything_agrees() {
    let (volume, owner, mut holder) = large();
    assert_eq!(read_large(&volume, &owner, &holder).unwrap(), b"large");
    // A hash with the top bit set makes atime negative.
    holder.atime.seconds = i64::from((holder.atime.seconds as u32).cast_signed());
    assert_eq!(read_large(&volume, &owner, &holder).unwrap(), b"large");
}

#[test]
fn value_inodes_that_disagree_are_refused() {
    let fails = |change: fn(&mut Inode, &mut Inode)| {
        let (volume, mut owner, mut holder) = large();
        change(&mut owner, &mut holder);
        code(read_large(&volume, &owner, &holder))
    };
    assert_eq!(fails(|_, holder| holder.flags = InodeFlags::new(0)), "xattr-inode-flag");
    assert_eq!(fails(|_, holder| holder.size = 6), "xattr-inode-size");
    assert_eq!(fails(|_, holder| holder.xattr_block = Some(nr(5))), "xattr-inode-attributes");
    let attributes = |_: &mut Inode, holder: &mut Inode| holder.tail = tail(&[Raw::default()], b"");
    assert_eq!(fails(attributes), "xattr-inode-attributes");
    assert_eq!(fails(|_, holder| holder.atime.seconds ^= 1), "xattr-value-hash");
    assert_eq!(fails(|owner, _| owner.tail[16] ^= 1), "xattr-entry-hash");
    assert_eq!(fails(|owner, _| owner.nr = InodeNr::new(20)), "xattr-inode");
}

#[test]
fn a_value_inode_must_be_possible_and_exist() {
    let fails = |inum, size| {
        let raw = Raw { inum, size, ..Raw::default() };
        code(read(&with_tail(tail(&[raw], b"")), "user.n"))
    };
    assert_eq!(fails(2, 5), "xattr-inode");
    assert_eq!(fails(1025, 5), "xattr-inode");
    assert_eq!(fails(20, 0), "xattr-inode");
    assert_eq!(fails(20, 5), "xattr-inode");
}

#[test]
fn a_value_inode_of_lustre_has_its_owner_instead_of_hashes() {
    let (volume, owner, mut holder) = large();
    holder.atime.seconds = 0;
    holder.mtime.seconds = 12;
    assert_eq!(read_large(&volume, &owner, &holder).unwrap(), b"large");
}

#[test]
fn entry_hashes_differ_by_sign_only_for_high_bytes() {
    let [unsigned, signed] = entry_hashes(b"ascii", 7);
    assert_eq!(unsigned, signed);
    let [unsigned, signed] = entry_hashes(b"\xc3\xa9", 7);
    assert_ne!(unsigned, signed);
    assert_eq!(value_hash(ChecksumSeed::new(!0), b"123456789"), !0xe306_9283);
}

fn acl(bytes: &[u8]) -> Result<Option<Vec<u8>>> {
    acl::to_vfs(&inode(0), bytes)
}

#[test]
fn acls_gain_ids_on_their_way_out() {
    let disk = [
        &words([1])[..],
        &[0x01, 0, 6, 0],
        &[0x02, 0, 4, 0],
        &1000_u32.to_le_bytes(),
        &[0x04, 0, 5, 0],
        &[0x10, 0, 7, 0],
        &[0x20, 0, 0, 0],
    ]
    .concat();
    let none = u32::MAX.to_le_bytes();
    let vfs = [
        &words([2])[..],
        &[0x01, 0, 6, 0],
        &none,
        &[0x02, 0, 4, 0],
        &1000_u32.to_le_bytes(),
        &[0x04, 0, 5, 0],
        &none,
        &[0x10, 0, 7, 0],
        &none,
        &[0x20, 0, 0, 0],
        &none,
    ]
    .concat();
    assert_eq!(acl(&disk).unwrap().unwrap(), vfs);
}

#[test]
fn acls_that_cannot_be_are_refused_and_empty_ones_are_none() {
    assert!(acl(&words([1])).unwrap().is_none());
    assert_eq!(code(acl(&[1, 0, 0])), "acl-size");
    assert_eq!(code(acl(&words([2]))), "acl-version");
    assert_eq!(code(acl(&[1, 0, 0, 0, 1, 0])), "acl-size");
    assert_eq!(code(acl(&[1, 0, 0, 0, 2, 0, 7, 0, 0, 0])), "acl-size");
    assert_eq!(code(acl(&[1, 0, 0, 0, 3, 0, 7, 0])), "acl-tag");
}
