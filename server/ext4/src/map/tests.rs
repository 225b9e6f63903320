#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use super::*;
use crate::testing::{Image, SEED, block, code, inode, inode_with, words};

const MAGIC: u16 = 0xf30a;

fn at(nr: u32) -> LogicalBlock {
    LogicalBlock::new(nr)
}

fn header(magic: u16, entries: u16, max: u16, depth: u16) -> Vec<u8> {
    [magic, entries, max, depth, 0, 0].into_iter().flat_map(u16::to_le_bytes).collect()
}

/// ee_block, ee_len, first block.
fn extent((at, len, first): (u32, u16, u32)) -> Vec<u8> {
    [&at.to_le_bytes()[..], &len.to_le_bytes(), &[0, 0], &first.to_le_bytes()].concat()
}

/// ei_block, child.
fn index((at, child): (u32, u32)) -> Vec<u8> {
    words([at, child, 0])
}

fn leaf(max: u16, extents: &[(u32, u16, u32)]) -> Vec<u8> {
    let mut node = header(MAGIC, extents.len() as u16, max, 0);
    node.extend(extents.iter().copied().flat_map(extent));
    node
}

fn tree(max: u16, depth: u16, indexes: &[(u32, u32)]) -> Vec<u8> {
    let mut node = header(MAGIC, indexes.len() as u16, max, depth);
    node.extend(indexes.iter().copied().flat_map(index));
    node
}

fn file(root: &[u8]) -> Inode {
    inode_with(InodeFlags::EXTENTS, root)
}

/// Looks block 0 up in a tree of one root.
fn root_fails(root: &[u8]) -> &'static str {
    code(lookup(&Image::new(100).volume(), &file(root), at(0)))
}

/// Looks block 0 up in a tree whose root's only child is `node`.
fn node_fails(node: &[u8]) -> &'static str {
    let volume = Image::new(100).put(50, node).volume();
    code(lookup(&volume, &file(&tree(4, 1, &[(0, 50)])), at(0)))
}

#[test]
fn an_extent_answers_for_its_rest_and_a_hole_reaches_the_next_extent() {
    let volume = Image::new(100).volume();
    let file = file(&leaf(4, &[(2, 3, 20), (7, 32768 + 2, 30)]));
    let lookup = |nr| lookup(&volume, &file, at(nr)).unwrap();
    assert_eq!(lookup(0), Mapping::Hole { len: 2 });
    assert_eq!(lookup(2), Mapping::Written { first: block(20), len: 3 });
    assert_eq!(lookup(4), Mapping::Written { first: block(22), len: 1 });
    assert_eq!(lookup(5), Mapping::Hole { len: 2 });
    assert_eq!(lookup(8), Mapping::Unwritten { first: block(31), len: 1 });
    assert_eq!(lookup(9), Mapping::Hole { len: LIMIT - 9 });
    assert_eq!(lookup(LIMIT), Mapping::Hole { len: 1 });
}

#[test]
fn the_longest_written_extent_has_32768_blocks() {
    let volume = Image::new(40000).volume();
    let file = file(&leaf(4, &[(0, 32768, 20)]));
    let mapping = lookup(&volume, &file, at(1)).unwrap();
    assert_eq!(mapping, Mapping::Written { first: block(21), len: 32767 });
}

#[test]
fn an_index_leads_to_the_leaf_and_bounds_its_holes() {
    let volume = Image::new(100)
        .put(50, &leaf(84, &[(4, 1, 20)]))
        .put(51, &leaf(84, &[(10, 1, 21)]))
        .volume();
    let file = file(&tree(4, 1, &[(4, 50), (10, 51)]));
    let lookup = |nr| lookup(&volume, &file, at(nr)).unwrap();
    assert_eq!(lookup(0), Mapping::Hole { len: 4 });
    assert_eq!(lookup(4), Mapping::Written { first: block(20), len: 1 });
    assert_eq!(lookup(5), Mapping::Hole { len: 5 });
    assert_eq!(lookup(10), Mapping::Written { first: block(21), len: 1 });
}

#[test]
fn five_levels_of_index_are_followed_and_six_are_refused() {
    let mut image = Image::new(100).put(50, &leaf(84, &[(0, 1, 20)]));
    for depth in 1..=4_u16 {
        image = image.put(50 + usize::from(depth), &tree(84, depth, &[(0, 49 + u32::from(depth))]));
    }
    let volume = image.volume();
    let found = lookup(&volume, &file(&tree(4, 5, &[(0, 54)])), at(0)).unwrap();
    assert_eq!(found, Mapping::Written { first: block(20), len: 1 });
    assert_eq!(root_fails(&tree(4, 6, &[(0, 54)])), "extent-too-deep");
}

#[test]
fn a_node_that_is_its_own_child_is_refused() {
    assert_eq!(node_fails(&tree(84, 1, &[(0, 50)])), "extent-depth");
}

#[test]
fn headers_that_cannot_be_are_refused() {
    assert_eq!(root_fails(&header(0xf30b, 0, 4, 0)), "extent-magic");
    assert_eq!(root_fails(&header(MAGIC, 0, 0, 0)), "extent-max");
    assert_eq!(root_fails(&header(MAGIC, 0, 5, 0)), "extent-max");
    assert_eq!(root_fails(&header(MAGIC, 4, 3, 0)), "extent-entries");
    assert_eq!(root_fails(&header(MAGIC, 0, 4, 1)), "extent-empty");
    assert_eq!(node_fails(&header(MAGIC, 0, 85, 0)), "extent-max");
    assert_eq!(node_fails(&header(MAGIC, 0, 84, 1)), "extent-depth");
}

#[test]
fn an_empty_root_is_one_hole() {
    let found = lookup(&Image::new(100).volume(), &file(&leaf(4, &[])), at(0)).unwrap();
    assert_eq!(found, Mapping::Hole { len: LIMIT });
}

#[test]
fn extents_that_overlap_or_descend_are_refused() {
    assert_eq!(root_fails(&leaf(4, &[(0, 3, 20), (2, 1, 30)])), "extent-order");
    assert_eq!(node_fails(&leaf(84, &[(0, 1, 20), (9, 1, 30), (5, 1, 40)])), "extent-order");
    assert_eq!(root_fails(&tree(4, 1, &[(0, 50), (0, 51)])), "extent-order");
}

#[test]
fn extents_without_length_or_past_the_last_block_are_refused() {
    assert_eq!(root_fails(&leaf(4, &[(0, 0, 20)])), "extent-length");
    assert_eq!(root_fails(&leaf(4, &[(u32::MAX, 1, 20)])), "extent-length");
}

#[test]
fn extents_and_nodes_outside_the_file_system_are_refused() {
    assert_eq!(root_fails(&leaf(4, &[(0, 1, 100)])), "block-range");
    assert_eq!(root_fails(&leaf(4, &[(0, 2, 99)])), "block-range");
    assert_eq!(root_fails(&leaf(4, &[(0, 1, 0)])), "block-range");
    assert_eq!(root_fails(&leaf(4, &[(0, 32768 + 2, 99)])), "block-range");
    assert_eq!(root_fails(&tree(4, 1, &[(0, 100)])), "block-range");
    assert_eq!(node_fails(&leaf(84, &[(0, 1, 100)])), "block-range");
}

#[test]
fn a_leaf_must_begin_where_its_parent_says_and_end_before_its_sibling() {
    assert_eq!(node_fails(&leaf(84, &[(1, 1, 20)])), "extent-key");
    let volume = Image::new(100).put(50, &leaf(84, &[(0, 5, 20)])).volume();
    let file = file(&tree(4, 1, &[(0, 50), (4, 51)]));
    assert_eq!(code(lookup(&volume, &file, at(0))), "extent-bounds");
}

#[test]
fn a_node_needs_its_checksum_where_there_are_checksums() {
    let mut node = leaf(84, &[(0, 1, 20)]);
    node.resize(12 + 84 * 12, 0);
    let sum = SEED.of(&node);
    let root = tree(4, 1, &[(0, 50)]);
    let volume = |sum: u32| {
        let node = [&node[..], &sum.to_le_bytes()].concat();
        Image::new(100).with_checksums().put(50, &node).volume()
    };
    assert!(lookup(&volume(sum), &file(&root), at(0)).is_ok());
    assert_eq!(code(lookup(&volume(!sum), &file(&root), at(0))), "extent-checksum");
}

#[test]
fn an_error_names_the_inode_and_the_node() {
    let volume = Image::new(100).put(50, &leaf(84, &[(0, 1, 100)])).volume();
    let error = lookup(&volume, &file(&tree(4, 1, &[(0, 50)])), at(0)).unwrap_err();
    let text = "inode #12: block 50: blocks 100+1 are outside the file system [block-range]";
    assert_eq!(error.to_string(), text);
}

#[test]
fn direct_pointers_to_neighbours_are_one_run() {
    let volume = Image::new(100).volume();
    let file = inode_with(0, &words([20, 21, 22, 30, 0, 0, 31]));
    let lookup = |nr| lookup(&volume, &file, at(nr)).unwrap();
    assert_eq!(lookup(0), Mapping::Written { first: block(20), len: 3 });
    assert_eq!(lookup(3), Mapping::Written { first: block(30), len: 1 });
    assert_eq!(lookup(4), Mapping::Hole { len: 2 });
    assert_eq!(lookup(6), Mapping::Written { first: block(31), len: 1 });
    assert_eq!(lookup(7), Mapping::Hole { len: 5 });
}

#[test]
fn indirect_trees_start_where_the_smaller_ones_end() {
    // 256 pointers a block: single from 12, double from 268, triple from 65804.
    let mut roots = vec![0; 12];
    roots.extend([50, 60, 70]);
    let volume = Image::new(100)
        .put(50, &words([20, 21]))
        .put(60, &words([0, 61]))
        .put(61, &words([30, 31]))
        .put(70, &words([71]))
        .put(71, &words([0, 0, 72]))
        .put(72, &words([0, 0, 0, 40]))
        .volume();
    let file = inode_with(0, &words(roots));
    let lookup = |nr| lookup(&volume, &file, at(nr)).unwrap();
    assert_eq!(lookup(12), Mapping::Written { first: block(20), len: 2 });
    assert_eq!(lookup(14), Mapping::Hole { len: 254 });
    assert_eq!(lookup(268), Mapping::Hole { len: 256 });
    assert_eq!(lookup(268 + 256), Mapping::Written { first: block(30), len: 2 });
    assert_eq!(lookup(65804), Mapping::Hole { len: 256 });
    let deep = 65804 + 2 * 256;
    assert_eq!(lookup(deep), Mapping::Hole { len: 3 });
    assert_eq!(lookup(deep + 3), Mapping::Written { first: block(40), len: 1 });
    assert_eq!(lookup(65804 + 65536), Mapping::Hole { len: 65536 });
    assert_eq!(lookup(65804 + 16_777_216), Mapping::Hole { len: LIMIT - 65804 - 16_777_216 });
}

#[test]
fn pointers_outside_the_file_system_are_refused_wherever_they_are() {
    let volume = Image::new(100).put(50, &words([20, 100])).volume();
    let direct = inode_with(0, &words([100]));
    assert_eq!(code(lookup(&volume, &direct, at(0))), "block-range");
    let mut roots = vec![0; 12];
    roots.push(50);
    let single = inode_with(0, &words(roots.clone()));
    assert_eq!(code(lookup(&volume, &single, at(12))), "block-range");
    roots[12] = 100;
    assert_eq!(code(lookup(&volume, &inode_with(0, &words(roots)), at(12))), "block-range");
    let text = lookup(&volume, &single, at(12)).unwrap_err().to_string();
    assert!(text.starts_with("inode #12: block 50: "), "{text}");
}

#[test]
fn a_run_of_pointers_ends_with_the_largest_block_number() {
    let volume = Image::new(100).volume();
    let file = inode_with(0, &words([u32::MAX, 0]));
    assert_eq!(code(lookup(&volume, &file, at(0))), "block-range");
}

/// An in-inode attribute list of one entry of system.data with `value_offs`, `inum` and `size`.
fn data_entry(value_offs: u16, inum: u32, size: u32, value: &[u8]) -> Box<[u8]> {
    let mut tail = words([0xea02_0000]);
    tail.extend([4, 7]);
    tail.extend(value_offs.to_le_bytes());
    tail.extend(words([inum, size, 0]));
    tail.extend(b"data\0\0\0\0");
    tail.extend(value);
    tail.into()
}

#[test]
fn inline_data_is_i_block_and_then_system_data() {
    let geometry = Image::new(100).volume().geometry;
    let mut inode = inode_with(InodeFlags::INLINE_DATA, &[b'a'; 60]);
    inode.tail = data_entry(24, 0, 3, b"bcd\0");
    let inline = inline::of(&geometry, &inode).unwrap().unwrap();
    assert_eq!((inline.head, inline.tail), (&[b'a'; 60], &b"bcd"[..]));
    let mut bytes = [0xff; 8];
    inline.read(57, &mut bytes);
    assert_eq!(&bytes, b"aaabcd\0\0");
    inline.read(62, &mut bytes);
    assert_eq!(&bytes, b"d\0\0\0\0\0\0\0");
    inline.read(u64::MAX, &mut bytes);
    assert_eq!(bytes, [0; 8]);
}

#[test]
fn inline_data_without_its_attribute_is_refused() {
    let geometry = Image::new(100).volume().geometry;
    let of = |inode: &Inode| inline::of(&geometry, inode).map(|inline| inline.is_some());
    assert!(!of(&inode(0)).unwrap());
    assert_eq!(code(of(&inode(InodeFlags::INLINE_DATA))), "inline-missing");
    let mixed = inode(InodeFlags::INLINE_DATA | InodeFlags::EXTENTS);
    assert_eq!(code(of(&mixed)), "inline-mixed");
    let mut external = inode(InodeFlags::INLINE_DATA);
    external.tail = data_entry(0, 20, 3, &[]);
    assert_eq!(code(of(&external)), "inline-external");
}
