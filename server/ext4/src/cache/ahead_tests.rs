//! What the device is told to read ahead.

#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use core::ops::{ControlFlow, Range};
use std::io;

use super::*;
use crate::device::{BlockDevice, MemDevice};
use crate::filesystem::{Filesystem, MountOptions};
use crate::group;
use crate::ids::{GroupNr, InodeNr};
use crate::observer::Unobserved;
use crate::testing::{mkfs, mounted, new_file, writable};

const BLOCK: u64 = 1024;

/// Remembers what it is to read ahead.
struct Told {
    device: Arc<MemDevice>,
    ranges: Mutex<Vec<Range<u64>>>,
}

impl BlockDevice for Told {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.device.write_at(offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        self.device.flush()
    }

    fn prefetch(&self, range: Range<u64>) {
        self.ranges.lock().push(range);
    }
}

fn mount(device: &Arc<MemDevice>, read_only: bool) -> (Arc<Told>, Filesystem) {
    let told = Arc::new(Told { device: Arc::clone(device), ranges: Mutex::default() });
    let options = MountOptions { read_only, ..writable() };
    let filesystem = Filesystem::mount(told.clone(), &options, &Unobserved).unwrap();
    (told, filesystem)
}

impl Told {
    /// The blocks of which it was told since the last time.
    fn take(&self) -> Vec<Range<u64>> {
        let ranges = core::mem::take(&mut *self.ranges.lock());
        ranges.into_iter().map(|range| range.start / BLOCK..range.end / BLOCK).collect()
    }
}

#[test]
fn bitmaps_that_were_written_are_prefetched_by_a_mount_that_writes() {
    let device = mkfs(65536, &["-t", "ext4", "-b", "1024", "-G", "4"]);
    let (told, filesystem) = mount(&device, false);
    let ranges = told.take();
    let desc = group::descriptor(&filesystem.volume, GroupNr::new(0)).unwrap();
    for bitmap in [desc.block_bitmap, desc.inode_bitmap] {
        assert!(ranges.iter().any(|range| range.contains(&bitmap.get())), "{ranges:?}");
    }
    assert!(ranges.iter().all(|range| range.end <= 65536));
    let (told, _filesystem) = mount(&device, true);
    assert!(!told.take().iter().any(|range| range.contains(&desc.block_bitmap.get())));
}

#[test]
fn an_inode_comes_with_those_around_it() {
    let device = mkfs(16384, &["-t", "ext4", "-b", "1024", "-N", "1024"]);
    let filesystem = mounted(&device);
    let nr = (0..300).map(|n| new_file(&filesystem, format!("{n}").as_bytes())).last().unwrap();
    filesystem.unmount().unwrap();
    let (told, filesystem) = mount(&device, true);
    let desc = group::descriptor(&filesystem.volume, GroupNr::new(0)).unwrap();
    told.take();
    filesystem.inode(nr).unwrap();
    let table = desc.inode_table.get();
    let block = table + u64::from(nr.get() - 1) * 256 / BLOCK;
    let ranges = told.take();
    let [range] = &ranges[..] else { panic!("{ranges:?}") };
    assert_eq!(range.end - range.start, 32);
    assert!(
        range.contains(&block) && range.start >= table && (range.start - table).is_multiple_of(32)
    );
    // It is in memory now.
    filesystem.inode(nr).unwrap();
    assert!(told.take().is_empty());
    // The last ones have a smaller part.
    let last = InodeNr::new(filesystem.geometry().inodes_per_group);
    drop(filesystem.inode(last));
    let ranges = told.take();
    assert!(ranges.iter().all(|range| range.end <= table + 1024 * 256 / BLOCK), "{ranges:?}");
}

#[test]
fn a_directory_is_read_in_pieces() {
    let device = mkfs(16384, &["-t", "ext4", "-b", "1024", "-N", "2048", "-O", "^dir_index"]);
    let filesystem = mounted(&device);
    for n in 0..1000 {
        new_file(&filesystem, format!("a name that takes some room {n}").as_bytes());
    }
    filesystem.unmount().unwrap();
    let (told, filesystem) = mount(&device, true);
    let root = filesystem.inode(InodeNr::ROOT).unwrap();
    told.take();
    filesystem.readdir(&root, 0, &mut |_| ControlFlow::Continue(())).unwrap();
    let ranges = told.take();
    let blocks = root.size / BLOCK;
    assert!(ranges.iter().all(|range| range.end - range.start <= 8), "{ranges:?}");
    let pieces = u64::try_from(ranges.len()).unwrap();
    assert!(pieces >= blocks / 8 && pieces <= blocks / 4, "{pieces} pieces of {blocks} blocks");
}
