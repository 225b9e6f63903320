#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::WriteKind;
use crate::device::{BlockDevice, MemDevice};
use crate::error::{CorruptKind, Unmountable};
use crate::filesystem::{DataMode, ErrorPolicy, Filesystem, MountOptions, WriteOptions};
use crate::handle::Credits;
use crate::ids::InodeNr;
use crate::inode;
use crate::observer::{Notice, Observer, Unobserved};
use crate::rules::Rules;
use crate::testing::{
    Hurried, ROOT, fsck_bytes, mkfs, mounted, new_file, preened, volume_on, writable,
};

#[path = "external_tests.rs"]
mod external;

fn set_root_uid(filesystem: &Filesystem, uid: u32) -> Tid {
    let volume = &filesystem.volume;
    let mut root = (*inode::get(volume, InodeNr::ROOT).unwrap()).clone();
    root.uid = uid;
    let mut handle = volume.begin(Credits(1)).unwrap();
    inode::store(&mut handle, &root).unwrap();
    let tid = handle.tid();
    handle.stop().unwrap();
    tid
}

fn root_uid(bytes: Vec<u8>) -> u32 {
    let volume = volume_on(&Arc::new(MemDevice::new(bytes)));
    inode::get(&volume, InodeNr::ROOT).unwrap().uid
}

fn again(bytes: Vec<u8>) -> (Arc<MemDevice>, Filesystem) {
    let device = Arc::new(MemDevice::new(bytes));
    let filesystem = mounted(&device);
    (device, filesystem)
}

/// A commit that fails half-way stops the journal, so who may not wait must not begin one.
#[test]
fn who_may_not_wait_does_not_commit_and_the_journal_goes_on() {
    for options in [&["-t", "ext4"][..], &["-t", "ext2"]] {
        let device = mkfs(8192, options);
        let hurried = Arc::new(Hurried::new(Arc::clone(&device)));
        hurried.patient.store(true, Ordering::Relaxed);
        let filesystem = Filesystem::mount(hurried.clone(), &writable(), &Unobserved).unwrap();
        let tid = set_root_uid(&filesystem, 7);
        hurried.patient.store(false, Ordering::Relaxed);
        let refused = |result: Result<()>| {
            let Err(Error::Io { source, .. }) = result else { panic!("{options:?}: {result:?}") };
            assert_eq!(source.kind(), std::io::ErrorKind::WouldBlock);
        };
        refused(filesystem.volume.commit(tid).map(drop));
        refused(filesystem.volume.write_home());
        assert!(filesystem.is_writable(), "{options:?}");
        hurried.patient.store(true, Ordering::Relaxed);
        set_root_uid(&filesystem, 8);
        filesystem.unmount().unwrap();
        assert_eq!(root_uid(device.contents()), 8);
    }
}

/// Does what is due for `seconds`, in no time.
fn idle(filesystem: &Filesystem, seconds: u64) {
    let mut now = Instant::now();
    let end = now + Duration::from_secs(seconds);
    while now < end {
        now = filesystem.commit_if_due(now).unwrap().max(now + Duration::from_millis(1));
    }
}

/// Counts transactions that were replayed.
#[derive(Debug, Default)]
struct Replayed(AtomicU32);

impl Observer for Replayed {
    fn notice(&self, notice: Notice) {
        if let Notice::Replayed { transactions } = notice {
            self.0.fetch_add(transactions, Ordering::Relaxed);
        }
    }
}

#[test]
fn an_idle_file_system_is_all_home_within_ten_seconds() {
    for options in KINDS.iter().copied().chain([&["-t", "ext2"][..]]) {
        let device = mkfs(32768, options);
        let rules = Rules { lazytime: true, ..Rules::default() };
        let writing = WriteOptions { rules, ..WriteOptions::default() };
        let options = MountOptions { writing, ..writable() };
        let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
        let replays = |bytes| {
            let options = MountOptions { read_only: true, ..writable() };
            let replayed = Replayed::default();
            let found = Filesystem::mount(Arc::new(MemDevice::new(bytes)), &options, &replayed);
            (found.unwrap(), replayed.0.load(Ordering::Relaxed))
        };
        let nr = new_file(&filesystem, b"file");
        let direct = WriteKind::Direct { kill_set_id: false };
        let write = |byte| filesystem.write(&ROOT, nr, direct, (0, &[byte; 4096])).unwrap();
        write(1);
        if filesystem.volume.journal().has_log() {
            filesystem.volume.sync().unwrap();
            assert_eq!(replays(device.contents()).1, 1, "a crash before it is idle");
        }
        idle(&filesystem, 10);
        assert!(
            !filesystem.volume.superblock.is_unflushed() && filesystem.volume.blocks().are_home()
        );
        // Another content changes no metadata but times.
        write(2);
        idle(&filesystem, 10);
        assert!(
            !filesystem.volume.superblock.is_unflushed() && filesystem.volume.blocks().are_home()
        );
        let (found, transactions) = replays(device.contents());
        assert_eq!(transactions, 0, "{options:?}");
        let mut bytes = [0; 4096];
        found.read(&found.inode(nr).unwrap(), 0, &mut bytes).unwrap();
        assert_eq!(bytes, [2; 4096]);
    }
}

const KINDS: &[&[&str]] = &[
    &["-t", "ext4"],
    &["-t", "ext4", "-O", "^metadata_csum"],
    &["-t", "ext4", "-O", "^metadata_csum,^64bit"],
    &["-t", "ext4", "-b", "1024", "-J", "size=4"],
    &["-t", "ext4", "-b", "4096", "-O", "fast_commit,orphan_file"],
    &["-t", "ext3"],
    &["-t", "ext3", "-b", "1024"],
];

#[test]
fn what_was_synced_survives_a_crash_and_what_was_not_is_gone() {
    for options in KINDS {
        let device = mkfs(32768, options);
        let filesystem = mounted(&device);
        set_root_uid(&filesystem, 7);
        filesystem.sync().unwrap();
        set_root_uid(&filesystem, 8);
        let crashed = device.contents();
        assert_eq!(root_uid(crashed.clone()), 0, "{options:?}: nothing is home yet");
        let preened = preened(&crashed);
        fsck_bytes(&preened);
        assert_eq!(root_uid(preened), 7, "{options:?}");
        let (device, filesystem) = again(crashed);
        assert_eq!(inode::get(&filesystem.volume, InodeNr::ROOT).unwrap().uid, 7);
        filesystem.unmount().unwrap();
        fsck_bytes(&device.contents());
    }
}

#[test]
fn an_unmount_leaves_everything_home_and_the_log_empty() {
    for options in KINDS {
        let device = mkfs(32768, options);
        let filesystem = mounted(&device);
        set_root_uid(&filesystem, 7);
        filesystem.sync().unwrap();
        set_root_uid(&filesystem, 8);
        filesystem.unmount().unwrap();
        fsck_bytes(&device.contents());
        assert_eq!(root_uid(device.contents()), 8);
        let again = crate::superblock::Superblock::read(&*device, None).unwrap();
        assert!(!again.geometry.features.incompat.contains(crate::features::Incompat::RECOVER));
        assert_eq!((again.facts.state, again.facts.mount_count), (1, 1));
    }
}

/// Blocks of 1 KiB that no file has.
const FREE: u64 = 20000;

fn small(options: &[&str]) -> Arc<MemDevice> {
    mkfs(32768, &[&["-t", "ext4", "-b", "1024", "-J", "size=1"], options].concat())
}

fn set(filesystem: &Filesystem, nr: u64, value: u8) -> Tid {
    let mut handle = filesystem.volume.begin(Credits(1)).unwrap();
    handle.create(BlockNr::new(nr), |bytes| filled(bytes, value)).unwrap();
    let tid = handle.tid();
    handle.stop().unwrap();
    tid
}

fn filled(bytes: &mut [u8], value: u8) -> Result<()> {
    bytes.fill(value);
    Ok(())
}

fn value(volume: &Volume, nr: u64) -> u8 {
    volume.metadata(BlockNr::new(nr)).unwrap().bytes()[5]
}

#[test]
fn threads_fill_the_log_many_times_over_and_nothing_is_lost() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let filesystem = &filesystem;
            scope.spawn(move || {
                for round in 1..=120_u64 {
                    let mut handle = filesystem.volume.begin(Credits(21)).unwrap();
                    for nr in 0..20 {
                        let nr = BlockNr::new(FREE + thread * 20 + nr);
                        let fill = |bytes: &mut [u8]| filled(bytes, round.to_le_bytes()[0]);
                        handle.edit(nr, fill).unwrap();
                    }
                    // All threads count in the same block.
                    let count = |bytes: &mut [u8]| {
                        let count = u32::from_le_bytes(*bytes.first_chunk().unwrap()) + 1;
                        bytes[..4].copy_from_slice(&count.to_le_bytes());
                        Ok(())
                    };
                    handle.edit(BlockNr::new(FREE + 200), count).unwrap();
                    let tid = handle.tid();
                    handle.stop().unwrap();
                    if round % 7 == thread {
                        filesystem.volume.fsync(tid).unwrap();
                    }
                }
            });
        }
    });
    filesystem.sync().unwrap();
    let crashed = device.contents();
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
    let (device, filesystem) = again(crashed);
    for volume in [&volume_on(&device), &filesystem.volume] {
        assert!((FREE..FREE + 80).all(|nr| value(volume, nr) == 120));
        let counter = volume.metadata(BlockNr::new(FREE + 200)).unwrap();
        assert_eq!(counter.bytes()[..4], 480_u32.to_le_bytes());
    }
}

#[test]
fn many_fsyncs_share_few_commits() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    let before = filesystem.volume.committed_tid();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let filesystem = &filesystem;
            scope.spawn(move || {
                for round in 0..10 {
                    let tid = set(filesystem, FREE + thread, round);
                    filesystem.volume.fsync(tid).unwrap();
                    assert!(filesystem.volume.committed_tid().reached(tid));
                }
            });
        }
    });
    let commits = filesystem.volume.committed_tid().get().wrapping_sub(before.get());
    assert!((10..=80).contains(&commits), "{commits}");
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn a_handle_that_is_dropped_half_way_stops_the_journal_for_good() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    set(&filesystem, FREE, 1);
    filesystem.sync().unwrap();
    let mut handle = filesystem.volume.begin(Credits(2)).unwrap();
    handle.create(BlockNr::new(FREE), |bytes| filled(bytes, 2)).unwrap();
    drop(handle);
    let refused = filesystem.volume.begin(Credits(1)).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::Aborted)), "{refused}");
    let refused = filesystem.sync().unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::Aborted)), "{refused}");
    filesystem.unmount().unwrap();
    let superblock = crate::superblock::Superblock::read(&*device, None).unwrap();
    assert_eq!(superblock.facts.state & 2, 2);
    assert_eq!(superblock.facts.error_count, 1);
    let (device, filesystem) = again(device.contents());
    assert_eq!(value(&filesystem.volume, FREE), 1);
    filesystem.unmount().unwrap();
    let superblock = crate::superblock::Superblock::read(&*device, None).unwrap();
    assert_eq!(superblock.facts.state & 2, 2, "only e2fsck takes it back");
}

#[test]
fn a_handle_that_changed_nothing_may_be_dropped() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    drop(filesystem.volume.begin(Credits(2)).unwrap());
    let mut handle = filesystem.volume.begin(Credits(2)).unwrap();
    let refused = handle.edit(BlockNr::new(FREE), |_| Err::<(), _>(Refusal::Busy.into()));
    assert!(refused.is_err());
    drop(handle);
    set(&filesystem, FREE, 1);
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn an_error_is_recorded_in_the_superblock_as_the_policy_says() {
    for policy in [ErrorPolicy::Continue, ErrorPolicy::ReadOnly] {
        let device = small(&[]);
        let mut options = writable();
        options.writing.errors = Some(policy);
        let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
        let error =
            Error::corrupt(Place::block(BlockNr::new(77)), CorruptKind::DirHole { block: 1 });
        let error = error.at_inode(InodeNr::new(12));
        assert_eq!(filesystem.record_error(&error), policy);
        let stopped = filesystem.volume.begin(Credits(1)).is_err();
        assert_eq!(stopped, policy == ErrorPolicy::ReadOnly);
        filesystem.unmount().unwrap();
        let facts = crate::superblock::Superblock::read(&*device, None).unwrap().facts;
        let last = facts.last_error.unwrap();
        assert_eq!((facts.error_count, last.inode, last.block, last.code), (1, 12, 77, 5));
        assert_eq!((last.function, facts.state & 2), (b"dir-hole".to_vec(), 2));
    }
}

#[test]
fn without_a_log_a_sync_writes_everything_home() {
    for options in [&["-t", "ext2"][..], &["-t", "ext4", "-O", "^has_journal"]] {
        let device = mkfs(32768, options);
        let filesystem = mounted(&device);
        let state = || crate::superblock::Superblock::read(&*device, None).unwrap().facts.state;
        assert_eq!(state() & 1, 0, "a crash needs e2fsck");
        set_root_uid(&filesystem, 7);
        assert_eq!(root_uid(device.contents()), 0);
        filesystem.sync().unwrap();
        assert_eq!(root_uid(device.contents()), 7);
        set_root_uid(&filesystem, 8);
        filesystem.unmount().unwrap();
        assert_eq!((root_uid(device.contents()), state()), (8, 1));
        fsck_bytes(&device.contents());
    }
}

#[test]
fn a_read_only_mount_refuses_handles_and_writes_nothing() {
    let device = small(&[]);
    let before = device.contents();
    let options = MountOptions { read_only: true, ..writable() };
    let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
    let refused = filesystem.volume.begin(Credits(1)).map(drop).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::ReadOnly)));
    filesystem.sync().unwrap();
    filesystem.unmount().unwrap();
    assert!(before == device.contents());
}

#[test]
fn transactions_are_committed_when_they_are_old_or_wanted() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    let tid = set(&filesystem, FREE, 1);
    let now = Instant::now();
    let next = filesystem.commit_if_due(now).unwrap();
    assert!(!filesystem.volume.committed_tid().reached(tid));
    assert!(next > now && next <= now + Duration::from_secs(5));
    filesystem.commit_if_due(next).unwrap();
    assert!(filesystem.volume.committed_tid().reached(tid));
    let tid = set(&filesystem, FREE, 2);
    std::thread::scope(|scope| {
        let commits = scope.spawn(|| filesystem.run_commits());
        filesystem.volume.journal().want_commit();
        while !filesystem.volume.committed_tid().reached(tid) {
            std::thread::yield_now();
        }
        filesystem.unmount().unwrap();
        commits.join().unwrap().unwrap();
    });
    fsck_bytes(&device.contents());
}

#[test]
fn counters_and_the_superblock_go_with_a_transaction() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    let facts = filesystem.facts.clone();
    let volume = &filesystem.volume;
    let mut space = crate::alloc::reserve(volume, 5, crate::alloc::Privilege::Reserve).unwrap();
    let root = crate::inode::get(volume, crate::ids::InodeNr::ROOT).unwrap();
    let mut handle = volume.begin(Credits(8)).unwrap();
    let goal = crate::alloc::Goal::metadata(volume, &root, None);
    let run = crate::alloc::allocate(&mut handle, &mut space, goal, 5).unwrap();
    assert_eq!(run.len, 5);
    handle.edit_superblock(|raw| raw.volume_name = *b"with its handle!").unwrap();
    handle.stop().unwrap();
    filesystem.sync().unwrap();
    let (device, again) = again(device.contents());
    assert_eq!(again.facts.free_blocks, facts.free_blocks - 5);
    assert_eq!(again.facts.free_inodes, facts.free_inodes);
    assert_eq!(&device.contents()[1024 + 0x78..1024 + 0x88], b"with its handle!");
}

#[test]
fn journalled_data_is_read_from_where_it_is_newest() {
    let device = small(&[]);
    let filesystem = mounted(&device);
    let read = |into: &mut [u8], skip| {
        filesystem.volume.logged_data(BlockNr::new(FREE), skip, into).unwrap();
    };
    for _ in 0..2 {
        set(&filesystem, FREE + 1, 7);
        let mut bytes = vec![0; 3 * 1024];
        read(&mut bytes, 512);
        assert_eq!((bytes[511], bytes[512], bytes[1535], bytes[1536]), (0, 7, 7, 0));
        let mut bytes = vec![0; 1024];
        read(&mut bytes, 1023);
        assert_eq!((bytes[0], bytes[1], bytes[1023]), (0, 7, 7));
        // And the same from the device, once it is home.
        filesystem.volume.write_home().unwrap();
    }
}

/// A file system of 4 MiB whose superblock asks for `data`, mounted, with the file 12.
fn with_file(data: &str) -> (Arc<MemDevice>, Filesystem, InodeNr) {
    let device = small(&[]);
    crate::testing::debugfs(&device, &format!("set_super_value default_mount_opts {data}\n"));
    let filesystem = mounted(&device);
    let nr = new_file(&filesystem, b"file");
    (device, filesystem, nr)
}

fn put(filesystem: &Filesystem, nr: InodeNr, byte: u8) {
    let kind = crate::ops::WriteKind::Direct { kill_set_id: false };
    filesystem.write(&ROOT, nr, kind, (0, &[byte; 5000])).unwrap();
}

/// Whether the device has so many bytes of `byte` in a row, outside the log or not.
fn holds(device: &MemDevice, byte: u8) -> bool {
    device.contents().windows(1024).any(|part| part.iter().all(|&found| found == byte))
}

#[test]
fn the_superblock_and_the_options_say_where_data_goes() {
    for (data, mode) in [
        ("0x0c", DataMode::Ordered),
        ("0x2c", DataMode::Journal),
        ("0x4c", DataMode::Ordered),
        ("0x6c", DataMode::Writeback),
    ] {
        let (device, filesystem, nr) = with_file(data);
        assert_eq!(filesystem.data_mode(), mode, "{data}");
        put(&filesystem, nr, 0xd7);
        assert_eq!(holds(&device, 0xd7), mode != DataMode::Journal, "{data}: before its commit");
        filesystem.unmount().unwrap();
        assert!(holds(&device, 0xd7));
        fsck_bytes(&device.contents());
        let mut options = writable();
        options.writing.data = Some(DataMode::Journal);
        let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
        assert_eq!(filesystem.data_mode(), DataMode::Journal);
        put(&filesystem, nr, 0xd8);
        assert!(!holds(&device, 0xd8), "{data}");
    }
}

#[test]
fn data_modes_are_refused_without_a_journal() {
    let device = mkfs(4096, &["-t", "ext2"]);
    let mut options = writable();
    options.writing.data = Some(DataMode::Ordered);
    let refused = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap_err();
    assert!(matches!(refused, Error::Unmountable(Unmountable::DataWithoutJournal)), "{refused}");
    mounted(&device).unmount().unwrap();
}

#[test]
fn a_file_that_is_not_journalled_any_more_is_not_overwritten_by_a_replay() {
    let (device, filesystem, nr) = with_file("0x0c");
    let flags = |set: u32| {
        let old = filesystem.inode(nr).unwrap().flags.without(inode::InodeFlags::JOURNAL_DATA);
        let visible = old.bits() & inode::InodeFlags::USER_VISIBLE;
        filesystem.set_flags(&ROOT, nr, inode::InodeFlags::new(visible | set)).unwrap();
    };
    flags(inode::InodeFlags::JOURNAL_DATA);
    put(&filesystem, nr, 0xd7);
    filesystem.sync().unwrap();
    flags(0);
    put(&filesystem, nr, 0xd8);
    filesystem.sync().unwrap();
    let (_, after) = again(device.contents());
    let mut bytes = [0; 5000];
    after.read(&after.inode(nr).unwrap(), 0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0xd8));
}

#[test]
fn features_that_can_only_be_read_are_refused_with_their_names() {
    let device = small(&[]);
    let mut bytes = device.contents();
    bytes[1024 + 0x64..1024 + 0x68].copy_from_slice(&0x8_0001_u32.to_le_bytes());
    let device = Arc::new(MemDevice::new(bytes));
    let refused = Filesystem::mount(device, &writable(), &Unobserved).unwrap_err();
    let Error::Unmountable(why) = refused else { panic!("{refused}") };
    assert!(why.is_readable() && why.to_string().contains("0x80000"), "{why}");
}

/// A device whose writes can be made to fail.
struct Failing {
    device: Arc<MemDevice>,
    fails: core::sync::atomic::AtomicBool,
}

impl BlockDevice for Failing {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> std::io::Result<()> {
        self.device.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> std::io::Result<()> {
        if self.fails.load(core::sync::atomic::Ordering::Relaxed) {
            return Err(std::io::ErrorKind::Other.into());
        }
        self.device.write_at(offset, from)
    }

    fn flush(&self) -> std::io::Result<()> {
        self.device.flush()
    }
}

#[test]
fn a_commit_that_fails_stops_writing_and_keeps_what_was_committed() {
    let device = small(&[]);
    let failing = Arc::new(Failing { device: device.clone(), fails: false.into() });
    let filesystem = Filesystem::mount(failing.clone(), &writable(), &Unobserved).unwrap();
    set(&filesystem, FREE, 1);
    filesystem.sync().unwrap();
    set(&filesystem, FREE, 2);
    failing.fails.store(true, core::sync::atomic::Ordering::Relaxed);
    let error = filesystem.sync().unwrap_err();
    assert!(matches!(error, Error::Io { op: IoOp::Write, .. }), "{error}");
    failing.fails.store(false, core::sync::atomic::Ordering::Relaxed);
    assert!(filesystem.volume.begin(Credits(1)).is_err());
    assert_eq!(value(&filesystem.volume, FREE), 2, "readers see what was done");
    filesystem.unmount().unwrap();
    let (_, filesystem) = again(device.contents());
    assert_eq!(value(&filesystem.volume, FREE), 1);
}

#[test]
fn fsync_commits_only_what_its_inode_is_part_of() {
    use crate::caller::Caller;
    use crate::inode::Timestamp;
    use crate::ops::WriteKind;
    let device = mkfs(32768, &["-t", "ext4", "-b", "4096"]);
    let filesystem = mounted(&device);
    let caller = |seconds: i64| {
        let now = Timestamp { seconds: 1_700_000_000 + seconds, nanoseconds: 0 };
        Caller { uid: 0, gid: 0, group: None, umask: 0, now }
    };
    let kind = WriteKind::Direct { kill_set_id: false };
    let make = |name: &[u8]| {
        let nr = new_file(&filesystem, name);
        filesystem.write(&caller(0), nr, kind, (0, &[7; 8192])).unwrap();
        nr
    };
    let committed = || filesystem.volume.committed_tid();
    let (one, other) = (make(b"one"), make(b"other"));
    let start = committed();
    filesystem.fsync(one, false).unwrap();
    let first = committed();
    assert_ne!(first, start);
    filesystem.fsync(other, false).unwrap();
    filesystem.fsync(InodeNr::ROOT, false).unwrap();
    assert_eq!(committed(), first, "that transaction had them all");
    filesystem.write(&caller(1), other, kind, (8192, &[8; 4096])).unwrap();
    filesystem.fsync(one, false).unwrap();
    assert_eq!(committed(), first, "nothing of it has changed");
    filesystem.fsync(other, true).unwrap();
    assert_ne!(committed(), first, "a new size is no time");
    let second = committed();
    filesystem.write(&caller(2), other, kind, (0, &[9; 4096])).unwrap();
    filesystem.fsync(other, true).unwrap();
    assert_eq!(committed(), second, "blocks that were there are written, and times can wait");
    filesystem.fsync(other, false).unwrap();
    assert_ne!(committed(), second, "and times are not to wait");
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn what_was_lost_by_an_error_is_told_by_every_later_sync() {
    let device = mkfs(32768, &["-t", "ext4"]);
    let filesystem = mounted(&device);
    set_root_uid(&filesystem, 7);
    let kind = CorruptKind::RootInode {};
    filesystem.volume.abort(&Error::corrupt(Place::inode(InodeNr::ROOT), kind));
    for _ in 0..2 {
        let results = [filesystem.sync(), filesystem.fsync(InodeNr::ROOT, true)];
        for result in results {
            assert!(matches!(result, Err(Error::Refused(Refusal::Aborted))), "{result:?}");
        }
    }
    let device = mkfs(32768, &["-t", "ext4"]);
    let filesystem = mounted(&device);
    set_root_uid(&filesystem, 7);
    filesystem.unmount().unwrap();
    filesystem.sync().unwrap();
}
