//! Each verb at a limit: what fits exactly is done, one unit less refuses it and leaves no trace.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier};

use super::*;
use crate::alloc::Privilege;
use crate::caller::Caller;
use crate::device::MemDevice;
use crate::filesystem::Filesystem;
use crate::ids::in_memory;
use crate::inode::FileKind;
use crate::ops::{Fallocate, KeepSize, Named, NewInode, Rename, SetAttr, WriteKind};
use crate::testing::{fsck, mkfs, mounted};
use crate::xattr::Mode;

const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
const USER: u32 = 1000;

fn caller(id: u32) -> Caller {
    Caller { uid: id, gid: id, group: None, umask: 0, now: NOW }
}

/// A mounted file system with quotas, and a directory of [`USER`]'s in it.
struct Limited {
    device: Arc<MemDevice>,
    fs: Filesystem,
    home: InodeNr,
    made: AtomicU32,
}

impl Limited {
    fn new(options: &[&str]) -> Self {
        let device = mkfs(16384, options);
        let fs = mounted(&device);
        let limited = Self { device, fs, home: InodeNr::ROOT, made: AtomicU32::new(0) };
        let home = limited.make(USER, FileKind::Directory, b"").unwrap();
        let limited = Self { home, ..limited };
        limited.write(limited.file(), 0, 4096).unwrap();
        limited
    }

    /// Makes something with a new name in the home of [`USER`].
    fn make(&self, id: u32, kind: FileKind, target: &[u8]) -> Result<InodeNr> {
        let name = format!("{:04}", self.made.fetch_add(1, Ordering::Relaxed));
        let new = NewInode { kind, permissions: 0o755, rdev: (0, 0), target, label: None };
        Ok(self.fs.create(&caller(id), self.home, name.as_bytes(), &new)?.nr)
    }

    fn file(&self) -> InodeNr {
        self.make(USER, FileKind::Regular, b"").unwrap()
    }

    fn last_name(&self) -> String {
        format!("{:04}", self.made.load(Ordering::Relaxed) - 1)
    }

    fn cluster(&self) -> u64 {
        Amount::clusters(&self.fs.volume.geometry, 1).bytes
    }

    fn write(&self, nr: InodeNr, offset: u64, len: u64) -> Result<usize> {
        let (kind, data) = (WriteKind::Direct { kill_set_id: false }, vec![7; in_memory(len)]);
        self.fs.write(&caller(USER), nr, kind, (offset, &data))
    }

    fn entry(&self, kind: Kind, id: u32) -> RawEntry {
        let quotas = self.fs.volume.quotas.get().unwrap();
        let (_, file) = quotas.files.iter().find(|(of, _)| *of == kind).unwrap();
        file.lock().entry(&self.fs.volume, id).unwrap().unwrap()
    }

    fn used(&self, kind: Kind, id: u32) -> Amount {
        self.entry(kind, id).used()
    }

    /// Limits `id` to `most`, as setquota(8) does.
    fn limit(&self, kind: Kind, id: u32, most: Amount) {
        let volume = &self.fs.volume;
        let owners = Charge { uid: id, gid: id, project: id, ..Charge::default() };
        prepare(volume, &owners).unwrap();
        let quotas = volume.quotas.get().unwrap();
        let (_, file) = quotas.files.iter().find(|(of, _)| *of == kind).unwrap();
        let mut handle = volume.begin(CREDITS).unwrap();
        let set = |entry: &mut RawEntry, _| {
            entry.block_hard.set(most.bytes / 1024);
            entry.inode_hard.set(most.inodes);
        };
        file.lock().change(&mut handle, id, set).unwrap();
        handle.stop().unwrap();
    }

    /// Does `verb`, which uses `more` of `id`, where that is just too much by a KiB and by an
    /// inode, and where it is not.
    fn exact<T>(&self, (kind, id): (Kind, u32), more: Amount, verb: impl Fn(&Self) -> Result<T>) {
        self.limit(kind, id, Amount::default());
        let used = self.used(kind, id);
        let most = used.plus(more);
        let fewer = Amount { bytes: most.bytes - more.bytes.min(1024), ..most };
        for short in [fewer, Amount { inodes: most.inodes - more.inodes.min(1), ..most }] {
            // A limit of nothing is none.
            if short == most || short.inodes == 0 || short.bytes == 0 {
                continue;
            }
            self.limit(kind, id, short);
            let refused = verb(self).err().expect("past the limit");
            assert!(matches!(refused, Error::Refused(Refusal::Quota)), "{refused}");
            assert_eq!(self.used(kind, id), used);
        }
        self.limit(kind, id, most);
        verb(self).expect("up to the limit");
        assert_eq!(self.used(kind, id), most);
        self.check_promises();
        self.limit(kind, id, Amount::default());
    }

    fn check_promises(&self) {
        for (_, file) in &self.fs.volume.quotas.get().unwrap().files {
            assert!(file.lock().has_no_promise());
        }
    }

    fn clusters(&self, clusters: u64, inodes: u64) -> Amount {
        Amount { inodes, ..Amount::clusters(&self.fs.volume.geometry, clusters) }
    }
}

const SETS: &[&[&str]] = &[
    &["-t", "ext4", "-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"],
    &["-t", "ext4", "-b", "1024", "-O", "quota,ea_inode", "-N", "2048"],
    &["-t", "ext4", "-b", "1024", "-O", "quota,bigalloc,^resize_inode", "-C", "4096"],
    &["-t", "ext3", "-b", "1024", "-O", "quota"],
];

const OWNER: (Kind, u32) = (Kind::User, USER);

#[test]
fn new_inodes_fit_exactly_or_not_at_all() {
    for options in SETS {
        let on = Limited::new(options);
        for who in [OWNER, (Kind::Group, USER)] {
            on.exact(who, on.clusters(0, 1), |on| on.make(USER, FileKind::Regular, b""));
            on.exact(who, on.clusters(1, 1), |on| on.make(USER, FileKind::Directory, b""));
            on.exact(who, on.clusters(1, 1), |on| on.make(USER, FileKind::Symlink, &[b'x'; 99]));
            on.exact(who, on.clusters(0, 1), |on| {
                let kind = FileKind::Regular;
                let new = NewInode { kind, permissions: 0, rdev: (0, 0), target: b"", label: None };
                on.fs.tmpfile(&caller(USER), on.home, &new)
            });
        }
        on.file();
        let name = on.last_name();
        on.exact(OWNER, on.clusters(0, 1), |on| {
            let of = |name| Named { parent: on.home, name };
            let (from, to) = (of(name.as_bytes()), of(b"moved"));
            on.fs.rename(&caller(USER), from, to, Rename::Whiteout)
        });
        fsck_after(on);
    }
}

/// What was unlinked but is open would be an orphan in the image.
fn fsck_after(on: Limited) {
    let Limited { device, fs, .. } = on;
    fs.unmount().unwrap();
    crate::testing::preened(&device.contents());
    let again = mounted(&device);
    again.unmount().unwrap();
    crate::testing::fsck_bytes(&device.contents());
}

#[test]
fn content_fits_exactly_or_not_at_all() {
    for options in SETS {
        let on = Limited::new(options);
        let (cluster, file) = (on.cluster(), on.file());
        on.exact(OWNER, on.clusters(1, 0), |on| on.write(file, 0, cluster));
        on.exact(OWNER, on.clusters(1, 0), |on| {
            let (from, to) = ((file, 0), (file, cluster));
            on.fs.copy_file_range(&caller(USER), from, to, cluster)
        });
        if !options.contains(&"ext3") {
            let what = Fallocate::Allocate(KeepSize::No);
            on.exact(OWNER, on.clusters(3, 0), |on| {
                on.fs.fallocate(&caller(USER), file, what, (2 * cluster, 3 * cluster))
            });
        }
        // As much as fits of a longer write, and then nothing.
        let file = on.file();
        on.limit(Kind::User, USER, on.used(Kind::User, USER).plus(on.clusters(5, 0)));
        let mut written = 0;
        let refused = loop {
            match on.write(file, written, 9 * cluster - written) {
                Ok(bytes) => written += on_disk(bytes),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, Error::Refused(Refusal::Quota)));
        assert_eq!(written, 5 * cluster);
        fsck(&on.fs.volume, &on.device);
    }
}

#[test]
fn nodes_of_a_map_count() {
    for (options, runs, nodes) in [(SETS[0], 4, 1), (SETS[3], 12, 1)] {
        let on = Limited::new(options);
        let (block, file) = (u64::from(on.fs.volume.block_size()), on.file());
        // With holes between them, so that each is a run; pointers need no holes.
        let apart = if nodes == 1 && runs == 4 { 2 * block } else { block };
        for run in 0..runs {
            on.write(file, run * apart, block).unwrap();
        }
        on.exact(OWNER, on.clusters(1 + nodes, 0), |on| on.write(file, runs * apart, block));
        fsck(&on.fs.volume, &on.device);
    }
}

#[test]
fn content_that_leaves_its_inode_counts() {
    let on = Limited::new(&["-t", "ext4", "-O", "quota,inline_data", "-I", "256"]);
    on.exact(OWNER, on.clusters(0, 1), |on| on.make(USER, FileKind::Directory, b""));
    let file = on.file();
    on.fs.truncate(&caller(USER), file, 20).unwrap();
    let needed = on.clusters(1, 0);
    on.exact(OWNER, needed, |on| on.write(file, 0, on.cluster()));
    fsck(&on.fs.volume, &on.device);
}

#[test]
fn attributes_fit_exactly_or_not_at_all() {
    for options in SETS {
        let on = Limited::new(options);
        let set = |on: &Limited, file, len| {
            let value = vec![b'v'; len];
            on.fs.set_xattr(&caller(USER), file, (b"user.a", &value), Mode::Any, false)
        };
        let (first, second) = (on.file(), on.file());
        let len = 500;
        on.exact(OWNER, on.clusters(1, 0), |on| set(on, first, len));
        // The same block has one user more, who is charged as well.
        on.exact(OWNER, on.clusters(1, 0), |on| set(on, second, len));
        if options.contains(&"quota,ea_inode") {
            for file in [on.file(), on.file()] {
                on.exact(OWNER, on.clusters(9, 1), |on| set(on, file, 9000));
            }
        }
        fsck(&on.fs.volume, &on.device);
    }
}

#[test]
fn new_owners_need_room_for_all_there_is() {
    for options in SETS {
        let on = Limited::new(options);
        for large in [100, 9000] {
            let file = on.file();
            on.write(file, 0, 3 * on.cluster()).unwrap();
            if options.contains(&"quota,ea_inode") {
                let value = (b"user.v".as_slice(), vec![3; large]);
                on.fs
                    .set_xattr(&caller(USER), file, (value.0, &value.1), Mode::Any, false)
                    .unwrap();
            }
            let inode = on.fs.inode(file).unwrap();
            let bytes = inode.blocks512 * 512;
            let values = value_inodes(&on.fs.volume, &inode).unwrap();
            let all = Amount { bytes, inodes: 1 + values };
            on.limit(Kind::User, 2000, Amount { bytes: 0, inodes: 1 });
            let set = SetAttr { uid: Some(2000), ..SetAttr::default() };
            on.exact((Kind::User, 2000), all, |on| on.fs.setattr(&caller(USER), file, &set));
            let set = SetAttr { gid: Some(3000), ..SetAttr::default() };
            on.limit(Kind::Group, 3000, Amount::default());
            on.exact((Kind::Group, 3000), all, |on| on.fs.setattr(&caller(2000), file, &set));
        }
        if *options == SETS[0] {
            let file = on.file();
            on.write(file, 0, on.cluster()).unwrap();
            on.limit(Kind::Project, 9, Amount::default());
            let visible = InodeFlags::USER_MODIFIABLE & on.fs.inode(file).unwrap().flags.bits();
            on.exact((Kind::Project, 9), on.clusters(1, 1), |on| {
                on.fs.set_fileattr(&caller(USER), file, InodeFlags::new(visible), Some(9))
            });
        }
        fsck(&on.fs.volume, &on.device);
    }
}

#[test]
fn a_directory_grows_at_its_owners_cost() {
    let on = Limited::new(SETS[1]);
    on.limit(Kind::User, USER, on.used(Kind::User, USER));
    let maker = 2000;
    let refused = (0..200).find_map(|_| on.make(maker, FileKind::Regular, b"").err());
    assert!(matches!(refused, Some(Error::Refused(Refusal::Quota))));
    let file = on.fs.lookup(&on.fs.inode(on.home).unwrap(), b"0001").unwrap().nr;
    let before = on.used(Kind::User, USER);
    let refused = (0..200).find_map(|nr| {
        let name = format!("link {nr}");
        on.fs.link(&caller(maker), file, on.home, name.as_bytes()).err()
    });
    assert!(matches!(refused, Some(Error::Refused(Refusal::Quota))));
    assert_eq!(on.used(Kind::User, USER), before);
    on.check_promises();
    fsck(&on.fs.volume, &on.device);
}

#[test]
fn the_superuser_passes_limits_and_the_owner_of_the_reserve_does_not() {
    let on = Limited::new(SETS[0]);
    let file = on.file();
    on.limit(Kind::User, USER, on.used(Kind::User, USER));
    assert!(on.write(file, 0, 4096).is_err());
    assert!(quota_of(&on, file, Privilege::Reserve).is_err());
    assert!(quota_of(&on, file, Privilege::Root).is_ok());
    let kind = WriteKind::Direct { kill_set_id: false };
    let before = on.used(Kind::User, USER).bytes;
    on.fs.write(&caller(0), file, kind, (0, &[1; 4096])).unwrap();
    let set = SetAttr { uid: Some(USER), ..SetAttr::default() };
    let other = on.make(2000, FileKind::Regular, b"").unwrap();
    assert!(on.fs.setattr(&caller(2000), other, &set).is_err());
    on.fs.setattr(&caller(0), other, &set).unwrap();
    assert_eq!(on.used(Kind::User, USER).bytes, before + 4096);
    fsck(&on.fs.volume, &on.device);
}

fn quota_of(on: &Limited, file: InodeNr, who: Privilege) -> Result<()> {
    reserve(&on.fs.volume, &*on.fs.inode(file)?, 1, who).map(drop)
}

#[test]
fn what_is_claimed_is_nobody_elses_until_it_is_given_back() {
    let on = Limited::new(SETS[0]);
    let (owners, volume) = (Charge { uid: USER, ..Charge::default() }, &on.fs.volume);
    on.limit(Kind::User, USER, on.used(Kind::User, USER).plus(on.clusters(5, 2)));
    let add = |claim: &mut Claim<'_>, more| claim.add(&owners, more).is_ok();
    let new = || Claim::new(volume, Privilege::Ordinary);
    let (mut one, mut other) = (new(), new());
    assert!(add(&mut one, on.clusters(3, 1)));
    assert!(!add(&mut other, on.clusters(3, 0)));
    assert!(!add(&mut other, on.clusters(0, 2)));
    assert!(add(&mut other, on.clusters(2, 1)));
    assert!(!add(&mut one, on.clusters(0, 1)));
    drop(one);
    assert!(add(&mut other, on.clusters(3, 1)));
    drop(other);
    on.check_promises();
}

#[test]
fn of_all_who_want_the_last_cluster_one_gets_it() {
    const THREADS: u32 = 6;
    let on = Limited::new(SETS[0]);
    let files: Vec<_> = (0..THREADS).map(|_| on.file()).collect();
    let blocks = 64_u64;
    let len = blocks * on.cluster();
    for _ in 0..40 {
        let most = on.used(Kind::User, USER).plus(on.clusters(blocks, 0));
        on.limit(Kind::User, USER, most);
        let start = Barrier::new(files.len());
        let try_one = |file: InodeNr| {
            start.wait();
            on.write(file, 0, len).map_or(0, on_disk)
        };
        let sum: u64 = std::thread::scope(|scope| {
            let threads: Vec<_> = files.iter().map(|file| scope.spawn(|| try_one(*file))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((sum, on.used(Kind::User, USER).bytes), (len, most.bytes));
        for file in &files {
            on.fs.truncate(&caller(USER), *file, 0).unwrap();
        }
    }
    on.check_promises();
    fsck(&on.fs.volume, &on.device);
}

#[test]
fn threads_together_reach_a_limit_and_never_pass_it() {
    const THREADS: u32 = 6;
    let on = Limited::new(SETS[1]);
    let files: Vec<_> = (0..THREADS).map(|_| on.file()).collect();
    let most = on.used(Kind::User, USER).plus(on.clusters(200, 40));
    on.limit(Kind::User, USER, most);
    let within = |on: &Limited| {
        let used = on.used(Kind::User, USER);
        assert!(used.bytes <= most.bytes && used.inodes <= most.inodes, "{used:?} of {most:?}");
    };
    std::thread::scope(|scope| {
        for file in &files {
            scope.spawn(|| {
                for round in 0_u64.. {
                    // Direct blocks only: nodes would not fit into the last cluster.
                    let (block, cut) = (round % 48, round % 31 == 30 && round < 200);
                    if cut {
                        on.fs.truncate(&caller(USER), *file, 0).unwrap();
                    }
                    let made = on.make(USER, FileKind::Regular, b"");
                    let written = on.write(*file, block * 1024, 1024);
                    within(&on);
                    if let (Ok(nr), true) = (&made, round % 5 == 0) {
                        let set = SetAttr { uid: Some(2000), ..SetAttr::default() };
                        on.fs.setattr(&caller(0), *nr, &set).unwrap();
                    }
                    if made.is_err() && (written.is_err() || round > 300) {
                        break;
                    }
                }
            });
        }
    });
    // Whoever comes last takes what is left, to the last of both.
    let (rest, mut at) = (files[0], 1000);
    while on.write(rest, at * 1024, 1024).is_ok() {
        at += 1;
        within(&on);
    }
    while on.make(USER, FileKind::Regular, b"").is_ok() {}
    within(&on);
    let used = on.used(Kind::User, USER);
    assert_eq!(used.inodes, most.inodes);
    assert!(most.bytes - used.bytes < 2 * 1024, "{used:?} of {most:?}");
    on.check_promises();
    fsck(&on.fs.volume, &on.device);
}
