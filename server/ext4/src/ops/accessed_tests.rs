#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;

use super::*;
use crate::caller::Caller;
use crate::device::MemDevice;
use crate::inode::FileKind;
use crate::observer::Unobserved;
use crate::ops::NewInode;
use crate::rules::Rules;
use crate::testing::{fsck_bytes, mkfs, mounted, writable};

fn at(seconds: i64) -> Timestamp {
    Timestamp { seconds: 1_700_000_000 + seconds, nanoseconds: 7 }
}

fn make(filesystem: &Filesystem, name: &[u8], kind: FileKind) -> InodeNr {
    let caller = Caller { uid: 0, gid: 0, group: None, umask: 0, now: at(0) };
    let new = NewInode { kind, permissions: 0o755, rdev: (0, 0), target: b"target", label: None };
    filesystem.create(&caller, InodeNr::ROOT, name, &new).unwrap().nr
}

fn with(rules: Rules) -> (Arc<MemDevice>, Filesystem) {
    let device = mkfs(16384, &["-t", "ext4"]);
    let mut options = writable();
    options.writing.rules = rules;
    let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
    (device, filesystem)
}

/// The access time after a read at `now`.
fn read(filesystem: &Filesystem, nr: InodeNr, now: Timestamp) -> Timestamp {
    filesystem.accessed(&filesystem.inode(nr).unwrap(), now);
    filesystem.inode(nr).unwrap().atime
}

#[test]
fn relatime_follows_changes_and_days() {
    let (device, filesystem) = with(Rules::default());
    for kind in [FileKind::Regular, FileKind::Directory, FileKind::Symlink] {
        let nr = make(&filesystem, format!("{kind:?}").as_bytes(), kind);
        let made = filesystem.inode(nr).unwrap();
        assert_eq!(read(&filesystem, nr, at(10)), at(10), "{kind:?}: as old as the content");
        assert_eq!(read(&filesystem, nr, at(20)), at(10));
        assert_eq!(read(&filesystem, nr, at(DAY + 9)), at(10));
        assert_eq!(read(&filesystem, nr, at(DAY + 10)), at(DAY + 10));
        let after = filesystem.inode(nr).unwrap();
        assert_eq!(
            (after.version, after.ctime),
            (made.version, made.ctime),
            "{kind:?}: nothing else changes"
        );
    }
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn strictatime_noatime_and_nodiratime_are_what_they_say() {
    let (_, strict) = with(Rules { atime: Atime::Always, ..Rules::default() });
    let nr = make(&strict, b"file", FileKind::Regular);
    assert_eq!(read(&strict, nr, at(10)), at(10));
    assert_eq!(read(&strict, nr, at(11)), at(11));
    let (_, never) = with(Rules { atime: Atime::Never, ..Rules::default() });
    let nr = make(&never, b"file", FileKind::Regular);
    assert_eq!(read(&never, nr, at(DAY * 2)), at(0));
    let (_, files) = with(Rules { no_directory_atime: true, ..Rules::default() });
    let (file, dir) =
        (make(&files, b"file", FileKind::Regular), make(&files, b"dir", FileKind::Directory));
    assert_eq!((read(&files, file, at(10)), read(&files, dir, at(10))), (at(10), at(0)));
    let caller = Caller { uid: 0, gid: 0, group: None, umask: 0, now: at(20) };
    let flags = files.inode(file).unwrap().flags.with(InodeFlags::NOATIME);
    files.set_flags(&caller, file, flags).unwrap();
    assert_eq!(read(&files, file, at(30)), at(10), "chattr +A");
}

#[test]
fn with_lazytime_reading_writes_nothing_until_a_sync() {
    let lazy = Rules { atime: Atime::Always, lazytime: true, ..Rules::default() };
    let (device, filesystem) = with(lazy);
    let nr = make(&filesystem, b"file", FileKind::Regular);
    filesystem.sync().unwrap();
    let running = filesystem.volume.running_tid();
    let before = device.contents();
    assert_eq!(read(&filesystem, nr, at(10)), at(10));
    filesystem.volume.sync().unwrap();
    assert_eq!(filesystem.volume.running_tid(), running, "there was something to commit");
    assert!(device.contents() == before);
    // Whatever memory forgets, the time is not lost.
    filesystem.volume.memory().drop_inode(nr);
    assert_eq!(filesystem.inode(nr).unwrap().atime, at(10));
    filesystem.sync().unwrap();
    assert!(filesystem.volume.lazy.all().is_empty());
    read(&filesystem, nr, at(20));
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
    assert_eq!(mounted(&device).inode(nr).unwrap().atime, at(20));
}

#[test]
fn lazy_times_are_bounded_and_none_is_lost() {
    let lazy = Rules { atime: Atime::Always, lazytime: true, ..Rules::default() };
    let device = mkfs(65536, &["-t", "ext4", "-N", "8192"]);
    let mut options = writable();
    options.writing.rules = lazy;
    let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
    let all: Vec<_> = (0..5000)
        .map(|index| make(&filesystem, format!("{index}").as_bytes(), FileKind::Regular))
        .collect();
    for &nr in &all {
        read(&filesystem, nr, at(10));
    }
    assert_eq!(filesystem.volume.lazy.all().len(), 4096);
    assert!(filesystem.volume.lazy.is_due());
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
    let again = mounted(&device);
    assert!(all.iter().all(|&nr| again.inode(nr).unwrap().atime == at(10)));
}

#[test]
fn a_read_only_mount_keeps_all_times() {
    let device = mkfs(16384, &["-t", "ext4"]);
    let mut options = writable();
    options.read_only = true;
    options.writing.rules.atime = Atime::Always;
    let filesystem = Filesystem::mount(device, &options, &Unobserved).unwrap();
    let before = filesystem.inode(InodeNr::ROOT).unwrap().atime;
    assert_eq!(read(&filesystem, InodeNr::ROOT, at(10)), before);
}
