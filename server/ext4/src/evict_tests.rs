//! Orphans, made by hand and by the kernel's own format of them, and finished with.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;

use super::*;
use crate::device::MemDevice;
use crate::observer::Unobserved;
use crate::ops::NewInode;
use crate::testing::{debugfs, filesystem, fsck, mkfs, volume_on};

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };

/// What was told of orphans.
#[derive(Default)]
struct Heard(parking_lot::Mutex<Vec<(u64, u64)>>);

impl Observer for Heard {
    fn orphans(&self, done: u64, total: u64) {
        self.0.lock().push((done, total));
    }
}

/// Feature sets: lists and orphan files, extents, pointers, clusters, value inodes, inline data.
const OPTIONS: &[&[&str]] = &[
    &["-t", "ext4", "-O", "^orphan_file"],
    &["-t", "ext4", "-O", "orphan_file"],
    &["-t", "ext3", "-b", "1024"],
    &["-t", "ext4", "-b", "1024", "-O", "bigalloc,orphan_file", "-C", "4096"],
    &["-t", "ext4", "-b", "1024", "-O", "ea_inode,inline_data,^orphan_file", "-N", "1024"],
];

/// A file system with a file of 600000 bytes, a directory, a short and a long symbolic link, a
/// device and a pipe, all without a name but with their links.
fn nameless(options: &[&str]) -> (Arc<MemDevice>, Vec<InodeNr>) {
    let device = mkfs(16384, options);
    let content = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(content.path(), [7; 600_000]).unwrap();
    let long = "t".repeat(150);
    let names = ["file", "dir", "short", "long", "device", "pipe"];
    let make = format!(
        "write {} file\nmkdir dir\nsymlink short target\nsymlink long {long}\nmknod device c 1 3\n\
         mknod pipe p\nea_set file user.a value\n",
        content.path().display()
    );
    debugfs(&device, &make);
    let fs = filesystem(volume_on(&device));
    let root = fs.inode(InodeNr::ROOT).unwrap();
    let nrs = names.iter().map(|name| fs.lookup(&root, name.as_bytes()).unwrap().nr).collect();
    let unlink: String = names.iter().map(|name| format!("unlink {name}\n")).collect();
    debugfs(&device, &unlink);
    (device, nrs)
}

fn orphan_all(volume: &Volume, nrs: &[InodeNr]) {
    for nr in nrs {
        let mut inode = (*inode::get(volume, *nr).unwrap()).clone();
        let is_dir = inode.is_directory();
        inode.links = 0;
        let mut handle = volume.begin(Credits(8)).unwrap();
        orphan::add(&mut handle, *nr).unwrap();
        inode::store(&mut handle, &inode).unwrap();
        if is_dir {
            let mut root = (*inode::get(volume, InodeNr::ROOT).unwrap()).clone();
            root.links -= 1;
            inode::store(&mut handle, &root).unwrap();
        }
        handle.stop().unwrap();
    }
}

#[test]
fn unlinked_inodes_are_there_until_they_are_freed_with_all_they_have() {
    for options in OPTIONS {
        let (device, nrs) = nameless(options);
        let volume = volume_on(&device);
        orphan_all(&volume, &nrs);
        for nr in &nrs {
            let inode = inode::get(&volume, *nr).unwrap();
            free(&volume, &inode, NOW).unwrap();
            let gone = inode::get(&volume, *nr);
            assert!(matches!(gone, Err(Error::Refused(crate::Refusal::Stale))));
        }
        fsck(&volume, &device);
    }
}

#[test]
fn what_a_crash_left_is_freed_by_the_next_mount() {
    for options in OPTIONS {
        let (device, nrs) = nameless(options);
        let before = volume_on(&device);
        orphan_all(&before, &nrs);
        before.write_home().unwrap();
        let volume = volume_on(&device);
        let stale = inode::get(&volume, nrs[0]);
        assert!(matches!(stale, Err(Error::Refused(crate::Refusal::Stale))));
        let count = u32::try_from(nrs.len()).unwrap();
        let heard = Heard::default();
        assert_eq!(recover(&volume, NOW, &heard).unwrap(), Orphaned { freed: count, cut: 0 });
        let heard = heard.0.into_inner();
        assert!((0..u64::from(count)).eq(heard.iter().map(|(done, _)| *done)), "{heard:?}");
        assert!(heard.iter().all(|(done, total)| done < total), "{heard:?}");
        assert!(volume.notices.take().is_empty());
        fsck(&volume, &device);
        assert_eq!(recover(&volume_on(&device), NOW, &Unobserved).unwrap(), Orphaned::default());
    }
}

#[test]
fn a_file_that_was_being_cut_is_cut_to_its_size() {
    for options in OPTIONS {
        let (device, nrs) = nameless(options);
        let before = volume_on(&device);
        let mut inode = (*inode::get(&before, nrs[0]).unwrap()).clone();
        inode.size = 5000;
        let mut handle = before.begin(Credits(4)).unwrap();
        orphan::add(&mut handle, nrs[0]).unwrap();
        inode::store(&mut handle, &inode).unwrap();
        handle.stop().unwrap();
        orphan_all(&before, &nrs[1..]);
        before.write_home().unwrap();
        let volume = volume_on(&device);
        let done = recover(&volume, NOW, &Unobserved).unwrap();
        assert_eq!((done.cut, done.freed), (1, 5));
        let inode = inode::get(&volume, nrs[0]).unwrap();
        assert!(inode.blocks512 <= 24, "{}", inode.blocks512);
        let mut all = vec![0; 6000];
        assert_eq!(file::read(&volume, &inode, 0, &mut all).unwrap(), 5000);
        assert_eq!(all[..5000], [7; 5000]);
        volume.write_home().unwrap();
        debugfs(
            &device,
            &format!("ln <{}> file\nset_inode_field <{}> links_count 1\n", nrs[0], nrs[0]),
        );
        let volume = volume_on(&device);
        fsck(&volume, &device);
    }
}

#[test]
fn a_list_of_nonsense_is_told_and_dropped() {
    let (device, nrs) = nameless(&["-t", "ext4", "-O", "^orphan_file"]);
    for (first, next) in [(nrs[0].get(), nrs[0].get()), (2, 0), (u32::MAX, 0), (3000, 0)] {
        let volume = volume_on(&device);
        let mut handle = volume.begin(Credits(4)).unwrap();
        if first != u32::MAX && first > 2 {
            inode::set_dtime(&mut handle, InodeNr::new(first), next).unwrap();
        }
        handle.edit_superblock(|raw| raw.last_orphan.set(first)).unwrap();
        handle.stop().unwrap();
        recover(&volume, NOW, &Unobserved).unwrap();
        assert_eq!(volume.notices.take().len(), 1, "{first}");
        assert_eq!(orphan::head(&volume).unwrap(), None);
    }
}

#[test]
fn only_regular_files_begin_without_a_name() {
    let fs = crate::testing::mounted(&mkfs(8192, &[]));
    for kind in [FileKind::Directory, FileKind::Symlink, FileKind::CharDevice, FileKind::Fifo] {
        let rdev = (211, 252);
        let new = NewInode { kind, permissions: 0o600, rdev, target: b"target", label: None };
        let made = fs.tmpfile(&crate::testing::ROOT, InodeNr::ROOT, &new);
        assert!(matches!(made, Err(Error::Refused(crate::Refusal::Invalid))), "{kind:?}: {made:?}");
    }
    fs.forget_all(NOW).unwrap();
    fs.unmount().unwrap();
}
