//! How files come to lie on the disk, and what several threads at once make of it.
#![expect(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::reserve::Totals;
use super::*;
use crate::device::FileDevice;
use crate::error::{Error, Refusal};
use crate::handle::Credits;
use crate::ids::{BlockNr, InodeNr};
use crate::inode::{self, FileKind, Inode};
use crate::source::Source;
use crate::superblock::Superblock;
use crate::testing::{fsck, mkfs, volume_on};
use crate::volume::Volume;

const MANY: Credits = Credits(64);
/// EXT_INIT_MAX_LEN.
const EXTENT: u64 = 32768;

/// A fresh file system of `gib` GiB on a sparse file.
fn large(gib: u64) -> Volume {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(gib << 30).unwrap();
    let mut mke2fs = std::process::Command::new("mke2fs");
    let status = mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096"]).arg(file.path()).status();
    assert!(status.unwrap().success());
    let device = Arc::new(FileDevice::new(file.reopen().unwrap()).unwrap());
    let superblock = Superblock::read(&*device, None).unwrap();
    let source = Source::new(device, superblock.geometry.block_size);
    let volume = Volume::new(superblock.geometry, source, 16 << 20);
    open(&volume, &superblock.facts).unwrap();
    volume
}

pub(super) fn numbered(nr: InodeNr) -> Inode {
    let mut inode = crate::testing::inode(0);
    inode.nr = nr;
    inode
}

/// A growing file: its extents as a map would have them.
struct Growing {
    inode: Inode,
    extents: Vec<(u64, u64)>,
}

impl Growing {
    fn new(volume: &Volume) -> Self {
        let root = inode::get(volume, InodeNr::ROOT).unwrap();
        let mut handle = volume.begin(MANY).unwrap();
        let new = allocate_inode(&mut handle, &root, FileKind::Regular, b"file").unwrap();
        handle.stop().unwrap();
        Self { inode: numbered(new.nr), extents: Vec::new() }
    }

    /// Appends `blocks` as one write does.
    fn append(&mut self, volume: &Volume, blocks: u32) {
        let mut reservation = reserve(volume, blocks.into(), Privilege::Ordinary).unwrap();
        let mut handle = volume.begin(MANY).unwrap();
        while reservation.left() > 0 {
            let left = u32::try_from(reservation.left()).unwrap();
            let behind = self.extents.last().map(|&(first, len)| BlockNr::new(first + len));
            let goal = Goal::data(volume, &self.inode, behind);
            let run = allocate(&mut handle, &mut reservation, goal, left).unwrap();
            self.inode.blocks512 += u64::from(run.len) * 8;
            let (first, mut len) = (run.first.get(), u64::from(run.len));
            if behind == Some(run.first) {
                let last = self.extents.last_mut().unwrap();
                let fits = len.min(EXTENT - last.1);
                last.1 += fits;
                len -= fits;
            }
            if len > 0 {
                self.extents.push((first + u64::from(run.len) - len, len));
            }
        }
        handle.stop().unwrap();
    }
}

#[test]
fn a_gibibyte_written_in_order_lies_in_nine_extents() {
    let volume = large(4);
    let mut file = Growing::new(&volume);
    (0..1024).for_each(|_| file.append(&volume, 256));
    assert!(file.extents.len() <= 9, "{:?}", file.extents);
}

#[test]
fn four_files_that_grow_side_by_side_lie_in_long_runs() {
    let volume = large(8);
    let mut files: Vec<_> = (0..4).map(|_| Growing::new(&volume)).collect();
    for _ in 0..256 {
        files.iter_mut().for_each(|file| file.append(&volume, 256));
    }
    for file in &files {
        // 256 MiB each: doubling windows up to that, and a limit of 128 MiB an extent.
        assert!(file.extents.len() <= 12, "{:?}", file.extents);
    }
}

#[test]
fn small_files_of_one_directory_are_packed() {
    let volume = large(1);
    let mut last = None;
    let mut gaps = 0;
    for _ in 0..200 {
        let mut file = Growing::new(&volume);
        file.append(&volume, 3);
        let (first, len) = file.extents[0];
        gaps += u32::from(last.is_some_and(|last| last != first));
        last = Some(first + len);
        release(&volume, file.inode.nr).unwrap();
    }
    assert_eq!(gaps, 0);
}

#[test]
fn directories_of_the_root_are_spread_and_others_stay_near_their_parent() {
    let volume = large(16);
    let root = inode::get(&volume, InodeNr::ROOT).unwrap();
    let flex = |nr: InodeNr| volume.geometry.group_of_inode(nr).unwrap().0.get() / 16;
    let mut handle = volume.begin(MANY).unwrap();
    let mut make = |parent: &Inode, name: &str| {
        let dir = FileKind::Directory;
        allocate_inode(&mut handle, parent, dir, name.as_bytes()).unwrap().nr
    };
    let tops: Vec<_> = (0..32).map(|i| make(&root, &format!("top{i}"))).collect();
    let mut used: Vec<_> = tops.iter().map(|&nr| flex(nr)).collect();
    used.sort_unstable();
    used.dedup();
    // Of eight flexible groups, those that hold less metadata than the average.
    assert!(used.len() >= 5, "{used:?}");
    let parent = numbered(tops[5]);
    for i in 0..100 {
        assert_eq!(flex(make(&parent, &format!("sub{i}"))), flex(parent.nr));
    }
}

#[test]
fn threads_share_the_last_blocks_and_inodes_and_none_is_lost() {
    let device = mkfs(20 << 10, &["-t", "ext4", "-b", "1024", "-g", "1024", "-N", "2048"]);
    let volume = volume_on(&device);
    let before = totals(&volume).unwrap();
    let blocks = AtomicU64::new(0);
    let all = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| fill(&volume, &blocks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(blocks.load(Ordering::Relaxed), before.blocks);
    assert_eq!(totals(&volume).unwrap(), Totals { blocks: 0, inodes: 0 });
    let mut handle = volume.begin(MANY).unwrap();
    for (runs, inodes) in all {
        runs.iter().for_each(|run| free(&mut handle, run.first, run.len).unwrap());
        inodes.iter().for_each(|inode| free_inode(&mut handle, inode).unwrap());
    }
    handle.stop().unwrap();
    assert_eq!(totals(&volume).unwrap(), before);
    fsck(&volume, &device);
}

fn new_inode(volume: &Volume, root: &Inode) -> Option<Inode> {
    let mut handle = volume.begin(MANY).unwrap();
    let new = match allocate_inode(&mut handle, root, FileKind::Regular, b"") {
        Err(Error::Refused(Refusal::NoSpace)) => None,
        new => Some(numbered(new.unwrap().nr)),
    };
    handle.stop().unwrap();
    new
}

/// Takes blocks and inodes until there are none.
fn fill(volume: &Volume, blocks: &AtomicU64) -> (Vec<Run>, Vec<Inode>) {
    let (mut runs, mut inodes) = (Vec::new(), Vec::new());
    let root = inode::get(volume, InodeNr::ROOT).unwrap();
    let mut want = 40;
    loop {
        inodes.extend(new_inode(volume, &root));
        let mut reservation = match reserve(volume, want, Privilege::Reserve) {
            Err(Error::Refused(Refusal::NoSpace)) if want == 1 => {
                assert!(totals(volume).unwrap().blocks < 40 * 6);
                inodes.extend(core::iter::from_fn(|| new_inode(volume, &root)));
                return (runs, inodes);
            }
            Err(Error::Refused(Refusal::NoSpace)) => {
                want = 1;
                continue;
            }
            reservation => reservation.unwrap(),
        };
        let mut handle = volume.begin(MANY).unwrap();
        let mut owner = numbered(InodeNr::new(12 + u32::try_from(runs.len() % 9).unwrap()));
        owner.blocks512 = 1024;
        while reservation.left() > 0 {
            let goal = Goal::data(volume, &owner, None);
            let run = allocate(&mut handle, &mut reservation, goal, 17).unwrap();
            blocks.fetch_add(run.len.into(), Ordering::Relaxed);
            runs.push(run);
        }
        handle.stop().unwrap();
    }
}
