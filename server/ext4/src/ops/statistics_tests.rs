#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use super::*;
use crate::error::{CorruptKind, Error, IoOp, Place};
use crate::filesystem::ErrorPolicy;
use crate::ids::{BlockNr, InodeNr};
use crate::observer::Unobserved;
use crate::testing::{mkfs, mounted, new_file, writable};

fn damage(block: u64) -> Error {
    Error::corrupt(Place::block(BlockNr::new(block)), CorruptKind::DirHole { block: 1 })
}

#[test]
fn what_changes_is_dirty_until_it_is_home() {
    let filesystem = mounted(&mkfs(8192, &["-t", "ext4", "-b", "1024"]));
    let fresh = filesystem.statistics();
    let log = fresh.journal.unwrap();
    assert!(log.blocks > 0 && log.free_blocks <= log.blocks && log.running == log.committed + 1);
    new_file(&filesystem, b"file");
    let changed = filesystem.statistics();
    assert!(changed.dirty_blocks > fresh.dirty_blocks, "{changed:?}");
    filesystem.sync().unwrap();
    let synced = filesystem.statistics();
    let now = synced.journal.unwrap();
    assert_eq!((now.commits, now.committed), (log.commits + 1, log.running));
    assert!(now.logged_blocks > log.logged_blocks && now.free_blocks < log.free_blocks);
    assert!(now.head != log.head && now.unwritten > 0 && now.since_commit.is_some());
    filesystem.volume.write_home().unwrap();
    let home = filesystem.statistics();
    assert_eq!((home.dirty_blocks, home.journal.unwrap().unwritten), (0, 0));
}

#[test]
fn a_second_look_is_a_hit() {
    let device = mkfs(8192, &["-t", "ext4", "-b", "1024"]);
    let options = crate::filesystem::MountOptions { read_only: true, ..writable() };
    let filesystem = crate::filesystem::Filesystem::mount(device, &options, &Unobserved).unwrap();
    let found = |name: &[u8]| {
        let root = filesystem.inode(InodeNr::ROOT).unwrap();
        filesystem.lookup(&root, name).is_ok()
    };
    assert!(found(b"lost+found"));
    let first = filesystem.statistics();
    assert!(first.cache.misses > 0 && first.cache.entries > 1 && first.journal.is_none());
    assert!(first.cache.bytes > 0 && first.cache.bytes <= first.cache.budget);
    assert!(found(b"lost+found"));
    let second = filesystem.statistics();
    assert_eq!(second.cache.misses, first.cache.misses);
    assert!(second.cache.hits > first.cache.hits);
    // A table that is replaced takes no count along.
    filesystem.set_cache_budget(0);
    let third = filesystem.statistics().cache;
    assert_eq!((third.bytes, third.hits), (0, second.cache.hits));
}

#[test]
fn errors_are_counted_before_and_after_writing_has_stopped() {
    let device = mkfs(8192, &["-t", "ext4", "-b", "1024", "-e", "remount-ro"]);
    let filesystem = mounted(&device);
    assert_eq!(filesystem.statistics().errors, Errors::default());
    assert_eq!(filesystem.record_error(&damage(77)), ErrorPolicy::ReadOnly);
    filesystem.record_error(&damage(78));
    let source = std::io::Error::other("");
    let content = Error::Io { op: IoOp::ReadData, place: Place::default(), source };
    filesystem.record_error(&content);
    let Errors { count, first, last } = filesystem.statistics().errors;
    assert_eq!((count, first.unwrap().block, last.unwrap().block), (2, 77, 78));
    assert!(filesystem.statistics().journal.unwrap().aborted);
    drop(filesystem);
    // The superblock knows the first one, which the next mount adds its own to.
    let filesystem = mounted(&device);
    let known = filesystem.statistics().errors;
    assert_eq!((known.count, known.first.unwrap().block), (1, 77));
    filesystem.record_error(&damage(79));
    let Errors { count, first, last } = filesystem.statistics().errors;
    assert_eq!((count, first.unwrap().block, last.unwrap().block), (2, 77, 79));
}
