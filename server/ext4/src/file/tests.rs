#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use super::*;
use crate::error::{Error, Refusal};
use crate::testing::{Image, code, inode_with, words};

/// Blocks: data at 20 and 21, a hole, data at 22.
fn sparse(size: u64) -> (Volume, Inode) {
    let volume = Image::new(100)
        .put(20, &[b'a'; 1024])
        .put(21, &[b'b'; 1024])
        .put(22, &[b'c'; 1024])
        .volume();
    let mut file = inode_with(0, &words([20, 21, 0, 22]));
    file.size = size;
    (volume, file)
}

fn past_end(result: crate::Result<u64>) -> bool {
    matches!(result, Err(Error::Refused(Refusal::PastEnd)))
}

#[test]
fn reads_cross_runs_and_fill_holes_with_zeros() {
    let (volume, file) = sparse(4096);
    let mut bytes = [0xff; 2050];
    assert_eq!(read(&volume, &file, 1023, &mut bytes).unwrap(), 2050);
    assert_eq!(bytes[0], b'a');
    assert_eq!(bytes[1..1025], [b'b'; 1024]);
    assert_eq!(bytes[1025..2049], [0; 1024]);
    assert_eq!(bytes[2049], b'c');
}

#[test]
fn reads_end_at_the_size_not_at_the_block() {
    let (volume, file) = sparse(1030);
    let mut bytes = [0xff; 100];
    assert_eq!(read(&volume, &file, 1020, &mut bytes).unwrap(), 10);
    assert_eq!(&bytes[..10], b"aaaabbbbbb");
    assert_eq!(read(&volume, &file, 1030, &mut bytes).unwrap(), 0);
    assert_eq!(read(&volume, &file, u64::MAX, &mut bytes).unwrap(), 0);
}

#[test]
fn a_size_past_the_last_block_number_is_cut_there() {
    let (volume, file) = sparse(u64::MAX);
    let end = u64::from(u32::MAX) * 1024;
    let mut bytes = [0xff; 100];
    assert_eq!(read(&volume, &file, end - 10, &mut bytes).unwrap(), 10);
    assert_eq!(bytes[..10], [0; 10]);
    assert_eq!(read(&volume, &file, end, &mut bytes).unwrap(), 0);
    assert_eq!(seek(&volume, &file, 4096, Seek::Hole).unwrap(), 4096);
    assert!(past_end(seek(&volume, &file, 4096, Seek::Data)));
    assert!(past_end(seek(&volume, &file, end, Seek::Hole)));
}

#[test]
fn seeking_finds_data_and_holes_by_blocks() {
    let (volume, file) = sparse(4000);
    let seek = |offset, what| seek(&volume, &file, offset, what);
    assert_eq!(seek(5, Seek::Data).unwrap(), 5);
    assert_eq!(seek(5, Seek::Hole).unwrap(), 2048);
    assert_eq!(seek(2050, Seek::Hole).unwrap(), 2050);
    assert_eq!(seek(2050, Seek::Data).unwrap(), 3072);
    assert_eq!(seek(3999, Seek::Hole).unwrap(), 4000);
    assert!(past_end(seek(4000, Seek::Hole)));
    assert!(past_end(seek(4000, Seek::Data)));
}

#[test]
fn no_data_before_the_end_is_past_the_end() {
    let (volume, file) = sparse(3000);
    assert!(past_end(seek(&volume, &file, 2048, Seek::Data)));
    assert_eq!(seek(&volume, &file, 2048, Seek::Hole).unwrap(), 2048);
}

#[test]
fn a_corrupt_map_fails_the_read_and_names_the_inode() {
    let (volume, mut file) = sparse(4096);
    file.block[..4].copy_from_slice(&[0xff; 4]);
    let mut bytes = [0; 10];
    assert_eq!(code(read(&volume, &file, 0, &mut bytes)), "block-range");
    assert_eq!(code(seek(&volume, &file, 0, Seek::Hole)), "block-range");
}

#[test]
fn a_plan_names_the_bytes_that_a_read_would_return() {
    let (volume, file) = sparse(4096);
    let mut runs = Vec::new();
    assert!(plan(&volume, &file, (1023, 2050), &mut runs).unwrap());
    let expected = [
        Run::Device { offset: 20 * 1024 + 1023, len: 1025 },
        Run::Zeros { len: 1024 },
        Run::Device { offset: 22 * 1024, len: 1 },
    ];
    assert_eq!(runs, expected);
}

#[test]
fn a_plan_ends_at_the_size() {
    let (volume, file) = sparse(1030);
    let mut runs = Vec::new();
    assert!(plan(&volume, &file, (1020, 100), &mut runs).unwrap());
    assert_eq!(runs, [Run::Device { offset: 20 * 1024 + 1020, len: 10 }]);
    assert!(plan(&volume, &file, (u64::MAX, 100), &mut runs).unwrap());
    assert_eq!(runs, []);
}

#[test]
fn a_file_in_too_many_pieces_has_no_plan() {
    // Every other block.
    let blocks: Vec<u32> = (0..12).map(|n| 20 + 2 * n).collect();
    let second: Vec<u32> = (0..12).map(|n| 50 + 2 * n).collect();
    let volume = Image::new(200).put(10, &words(second)).volume();
    let mut file = inode_with(0, &words(blocks.into_iter().chain([10])));
    file.size = 24 * 1024;
    let mut runs = Vec::new();
    assert!(plan(&volume, &file, (0, 12 * 1024), &mut runs).unwrap());
    assert_eq!(runs.len(), 12);
    assert!(!plan(&volume, &file, (0, 24 * 1024), &mut runs).unwrap());
}

#[test]
fn a_corrupt_map_has_no_plan_and_names_the_inode() {
    let (volume, mut file) = sparse(4096);
    file.block[..4].copy_from_slice(&[0xff; 4]);
    assert_eq!(code(plan(&volume, &file, (0, 10), &mut Vec::new())), "block-range");
}
