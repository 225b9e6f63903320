//! Mount options that change what verbs do.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;

use crate::caller::Caller;
use crate::device::MemDevice;
use crate::error::{Error, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{FileKind, Inode, Timestamp};
use crate::observer::Unobserved;
use crate::ops::{NewInode, WriteKind};
use crate::rules::Rules;
use crate::testing::{fsck_bytes, mkfs, writable};
use crate::xattr::Mode;

const USER: Caller = Caller {
    uid: 1000,
    gid: 1000,
    group: None,
    umask: 0o027,
    now: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
};

fn with(options: &[&str], rules: Rules) -> (Arc<MemDevice>, Filesystem) {
    let device = mkfs(16384, options);
    let mut mount = writable();
    mount.writing.rules = rules;
    let filesystem = Filesystem::mount(device.clone(), &mount, &Unobserved).unwrap();
    (device, filesystem)
}

fn make(filesystem: &Filesystem, dir: InodeNr, name: &str, kind: FileKind) -> Result<Arc<Inode>> {
    let new = NewInode { kind, permissions: 0o777, rdev: (0, 0), target: b"", label: None };
    filesystem.create(&USER, dir, name.as_bytes(), &new)
}

fn end(filesystem: &Filesystem, device: &MemDevice) {
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

fn is_refused<T>(result: Result<T>, refusal: Refusal) -> bool {
    matches!(result, Err(Error::Refused(found)) if found == refusal)
}

#[test]
fn grpid_hands_the_directorys_group_on() {
    for (tuned, grpid, want) in
        [(false, None, 1000), (false, Some(true), 0), (true, None, 0), (true, Some(false), 1000)]
    {
        let device = mkfs(16384, &["-t", "ext4"]);
        if tuned {
            crate::testing::debugfs(&device, "ssv default_mount_opts 0xe\n");
        }
        let mut mount = writable();
        mount.writing.rules.grpid = grpid;
        let filesystem = Filesystem::mount(device.clone(), &mount, &Unobserved).unwrap();
        let made = make(&filesystem, InodeNr::ROOT, "file", FileKind::Regular).unwrap();
        assert_eq!(made.gid, want, "{tuned:?} {grpid:?}");
        end(&filesystem, &device);
    }
}

#[test]
fn without_acls_there_are_none_and_the_umask_counts() {
    let acl = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x02\0\x07\0\x01\0\0\0\x04\0\x05\0\xff\xff\xff\xff\x10\0\x07\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let name = b"system.posix_acl_default";
    let (device, filesystem) = with(&["-t", "ext4"], Rules::default());
    filesystem.set_xattr(&USER, InodeNr::ROOT, (name, acl), Mode::Any, false).unwrap();
    filesystem.unmount().unwrap();
    let mut mount = writable();
    mount.writing.rules.acl = false;
    let filesystem = Filesystem::mount(device.clone(), &mount, &Unobserved).unwrap();
    let root = filesystem.inode(InodeNr::ROOT).unwrap();
    assert!(is_refused(filesystem.xattr(&root, name), Refusal::NotSupported));
    let set = filesystem.set_xattr(&USER, InodeNr::ROOT, (name, acl), Mode::Any, false);
    assert!(is_refused(set, Refusal::NotSupported));
    assert_eq!(filesystem.xattr_names(&root).unwrap(), b"");
    let made = make(&filesystem, InodeNr::ROOT, "file", FileKind::Regular).unwrap();
    assert_eq!(made.permissions, 0o750, "the default list does not decide");
    end(&filesystem, &device);
}

#[test]
fn without_user_attributes_the_others_are_still_there() {
    let rules = Rules { user_xattr: false, ..Rules::default() };
    let (device, filesystem) = with(&["-t", "ext4"], rules);
    let set = |name: &[u8]| {
        filesystem.set_xattr(&USER, InodeNr::ROOT, (name, b"value"), Mode::Any, false)
    };
    assert!(is_refused(set(b"user.color"), Refusal::NotSupported));
    set(b"trusted.color").unwrap();
    let root = filesystem.inode(InodeNr::ROOT).unwrap();
    assert_eq!(filesystem.xattr_names(&root).unwrap(), b"trusted.color\0");
    end(&filesystem, &device);
}

#[test]
fn a_directory_does_not_grow_past_its_limit() {
    let rules = Rules { max_dir_size_kb: 8, ..Rules::default() };
    let (device, filesystem) = with(&["-t", "ext4", "-b", "1024"], rules);
    let dir = make(&filesystem, InodeNr::ROOT, "dir", FileKind::Directory).unwrap().nr;
    let mut made = 0;
    let refused = loop {
        match make(&filesystem, dir, &format!("a name of some length {made}"), FileKind::Regular) {
            Ok(_) => made += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::Refused(Refusal::NoSpace)), "{refused}");
    assert!(made > 50, "{made}");
    assert_eq!(filesystem.inode(dir).unwrap().size, 8192);
    make(&filesystem, InodeNr::ROOT, "elsewhere", FileKind::Regular).unwrap();
    end(&filesystem, &device);
}

#[test]
fn resuid_and_resgid_open_the_reserve() {
    for (rules, reaches) in [
        (Rules::default(), false),
        (Rules { reserve_uid: Some(1000), ..Rules::default() }, true),
        (Rules { reserve_gid: Some(1000), ..Rules::default() }, true),
        (Rules { reserve_uid: Some(1001), ..Rules::default() }, false),
    ] {
        let (device, filesystem) = with(&["-t", "ext4", "-m", "20"], rules);
        let nr = make(&filesystem, InodeNr::ROOT, "file", FileKind::Regular).unwrap().nr;
        let kind = WriteKind::Direct { kill_set_id: false };
        let bytes = vec![7; 1 << 20];
        let mut end_of_file = 0;
        while let Ok(len) = filesystem.write(&USER, nr, kind, (end_of_file, &bytes)) {
            end_of_file += u64::try_from(len).unwrap();
        }
        let free = filesystem.statfs(crate::ops::Overhead::Subtract).unwrap().free;
        assert_eq!(free < 100, reaches, "{free} blocks are left");
        filesystem.close(nr).unwrap();
        end(&filesystem, &device);
    }
}

#[test]
fn with_dirsync_a_new_name_is_durable_at_once() {
    let (device, filesystem) = with(&["-t", "ext4"], Rules { dirsync: true, ..Rules::default() });
    make(&filesystem, InodeNr::ROOT, "file", FileKind::Regular).unwrap();
    let again = Arc::new(MemDevice::new(device.contents()));
    let replayed = crate::testing::mounted(&again);
    let root = replayed.inode(InodeNr::ROOT).unwrap();
    assert!(replayed.lookup(&root, b"file").is_ok());
}

/// No directory can name the log, but who speaks for the kernel may name any number.
#[test]
fn no_verb_changes_the_inode_of_the_journal() {
    use crate::ops::{Fallocate, KeepSize, SetAttr};
    let (device, filesystem) = with(&["-t", "ext3"], Rules::default());
    let journal = InodeNr::new(8);
    let other = make(&filesystem, InodeNr::ROOT, "file", FileKind::Regular).unwrap().nr;
    let stale = |result: Result<()>| assert!(is_refused(result, Refusal::Stale));
    for kind in [WriteKind::Direct { kill_set_id: true }, WriteKind::Cached] {
        stale(filesystem.write(&USER, journal, kind, (0, b"bytes")).map(drop));
    }
    stale(filesystem.truncate(&USER, journal, 0).map(drop));
    for what in [Fallocate::PunchHole, Fallocate::Allocate(KeepSize::No)] {
        stale(filesystem.fallocate(&USER, journal, what, (0, 4096)));
    }
    stale(filesystem.copy_file_range(&USER, (journal, 0), (other, 0), 4096).map(drop));
    stale(filesystem.copy_file_range(&USER, (other, 0), (journal, 0), 4096).map(drop));
    stale(filesystem.link(&USER, journal, InodeNr::ROOT, b"name").map(drop));
    stale(filesystem.setattr(&USER, journal, &SetAttr::default()).map(drop));
    let attribute = (&b"user.a"[..], &b"value"[..]);
    stale(filesystem.set_xattr(&USER, journal, attribute, Mode::Any, false).map(drop));
    stale(filesystem.set_generation(&USER, journal, 1).map(drop));
    stale(make(&filesystem, journal, "name", FileKind::Regular).map(drop));
    stale(filesystem.unlink(&USER, journal, b"name").map(drop));
    end(&filesystem, &device);
}
