#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use super::*;
use crate::inode;
use crate::testing::{fsck, mkfs, volume_on};

/// `count` files in the root of a fresh file system, made by debugfs.
fn files(options: &[&str], count: u32) -> (std::sync::Arc<crate::device::MemDevice>, Vec<InodeNr>) {
    let device = mkfs(8192, options);
    let commands = (0..count).map(|nr| format!("write /dev/null f{nr}\n")).collect::<String>();
    crate::testing::debugfs(&device, &commands);
    let first = volume_on(&device).geometry.first_inode;
    // Number 11 is lost+found, and the orphan file takes the next.
    let start = first + 1 + u32::from(options.contains(&"orphan_file"));
    (device, (start..start + count).map(InodeNr::new).collect())
}

fn chain(volume: &Volume) -> Vec<u32> {
    let mut chain = Vec::new();
    let mut at = head(volume).unwrap().map_or(0, InodeNr::get);
    while at != 0 {
        chain.push(at);
        at = inode::dtime(volume, InodeNr::new(at)).unwrap();
    }
    chain
}

fn with_handle(volume: &Volume, change: impl FnOnce(&mut Handle<'_>)) {
    let mut handle = volume.begin(CREDITS).unwrap();
    change(&mut handle);
    handle.stop().unwrap();
}

#[test]
fn the_list_on_the_disk_follows_additions_and_removals_anywhere() {
    let (device, nrs) = files(&["-t", "ext4", "-O", "^orphan_file"], 5);
    let volume = volume_on(&device);
    for nr in &nrs {
        with_handle(&volume, |handle| add(handle, *nr).unwrap());
        with_handle(&volume, |handle| add(handle, *nr).unwrap());
    }
    let numbers: Vec<u32> = nrs.iter().rev().map(|nr| nr.get()).collect();
    assert_eq!(chain(&volume), numbers);
    // The middle, the oldest, the newest.
    let mut left = numbers;
    for index in [2, 0, 4] {
        with_handle(&volume, |handle| remove(handle, nrs[index]).unwrap());
        left.retain(|nr| *nr != nrs[index].get());
        assert_eq!(chain(&volume), left);
    }
    for nr in &nrs {
        with_handle(&volume, |handle| remove(handle, *nr).unwrap());
    }
    assert_eq!((chain(&volume), volume.orphans.len()), (vec![], 0));
    fsck(&volume, &device);
}

#[test]
fn slots_of_the_orphan_file_are_taken_first_and_given_back() {
    for csum in ["metadata_csum", "^metadata_csum"] {
        let options = ["-t", "ext4", "-b", "1024", "-O", csum, "-O", "orphan_file"];
        let (device, nrs) = files(&options, 3);
        let volume = volume_on(&device);
        for nr in &nrs {
            with_handle(&volume, |handle| add(handle, *nr).unwrap());
        }
        assert_eq!((chain(&volume), volume.orphans.len()), (vec![], 3));
        volume.write_home().unwrap();
        let again = volume_on(&device);
        assert_eq!(adopt_file(&again).unwrap(), nrs);
        with_handle(&volume, |handle| remove(handle, nrs[1]).unwrap());
        with_handle(&volume, |handle| remove(handle, nrs[0]).unwrap());
        with_handle(&volume, |handle| remove(handle, nrs[2]).unwrap());
        fsck(&volume, &device);
        assert_eq!(adopt_file(&volume_on(&device)).unwrap(), []);
    }
}

#[test]
fn what_the_orphan_file_cannot_take_goes_into_the_list() {
    let options = ["-t", "ext4", "-b", "1024", "-N", "16384", "-O", "orphan_file"];
    let (device, nrs) = files(&options, 1);
    let volume = volume_on(&device);
    // Records that no file system check will see: only the slots matter.
    let slots = u32::try_from(file_slots(&volume)).unwrap();
    for nr in 0..slots {
        with_handle(&volume, |handle| add(handle, InodeNr::new(100 + nr)).unwrap());
    }
    with_handle(&volume, |handle| add(handle, nrs[0]).unwrap());
    assert_eq!(chain(&volume), [nrs[0].get()]);
    with_handle(&volume, |handle| remove(handle, InodeNr::new(200)).unwrap());
    with_handle(&volume, |handle| add(handle, InodeNr::new(99)).unwrap());
    assert_eq!(chain(&volume), [nrs[0].get()]);
}

fn file_slots(volume: &Volume) -> usize {
    let [.., nr] = volume.geometry.special_inodes;
    let size = inode::get(volume, InodeNr::new(nr)).unwrap().size;
    crate::ids::in_memory(size / 1024) * 254
}

#[test]
fn a_list_that_leads_back_or_out_is_told() {
    let (device, nrs) = files(&["-t", "ext4", "-O", "^orphan_file"], 2);
    let volume = volume_on(&device);
    with_handle(&volume, |handle| inode::set_dtime(handle, nrs[0], nrs[0].get()).unwrap());
    with_handle(&volume, |handle| list::set_head(handle, Some(nrs[0])).unwrap());
    assert_eq!(adopt_head(&volume).unwrap(), Some(nrs[0]));
    assert_eq!(crate::testing::code(adopt_head(&volume)), "orphan-list");
    for nr in [1, 8, 10, u32::MAX] {
        with_handle(&volume, |handle| list::set_head(handle, Some(InodeNr::new(nr))).unwrap());
        assert_eq!(crate::testing::code(adopt_head(&volume)), "orphan-list");
    }
    with_handle(&volume, |handle| drop_list(handle).unwrap());
    assert_eq!(adopt_head(&volume).unwrap(), None);
}
