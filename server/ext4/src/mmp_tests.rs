//! Nodes that want the same file system, on a device in memory, with a clock that does not wait.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use core::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::device::MemDevice;
use crate::filesystem::Filesystem;
use crate::testing::{code, fsck_bytes, mkfs, writable};

const FORMATS: &[&[&str]] = &[
    &["-t", "ext4", "-O", "mmp", "-b", "1024"],
    &["-t", "ext4", "-O", "mmp", "-b", "4096"],
    &["-t", "ext4", "-O", "mmp,^metadata_csum", "-b", "1024", "-E", "mmp_update_interval=20"],
];

/// Counts seconds instead of waiting, and does what another node does meanwhile.
struct Clock<'a> {
    seconds: AtomicU64,
    other: &'a (dyn Fn(u64) + Sync),
}

impl<'a> Clock<'a> {
    fn new(other: &'a (dyn Fn(u64) + Sync)) -> Self {
        Self { seconds: AtomicU64::new(0), other }
    }
}

impl Observer for Clock<'_> {
    fn await_other_node(&self, done: u64, total: u64) {
        assert!(done < total);
        (self.other)(self.seconds.fetch_add(1, Ordering::Relaxed));
    }
}

fn mount(device: &Arc<MemDevice>, clock: &Clock<'_>) -> Result<Filesystem> {
    let mut options = writable();
    options.writing.name = NodeName { node: b"here\x1b".into(), device: b"sdz1".into() };
    Filesystem::mount(device.clone(), &options, clock)
}

/// Where the block is.
fn place(device: &MemDevice) -> usize {
    let found = crate::superblock::Superblock::read(device, None).unwrap();
    usize::try_from(found.facts.mmp_block).unwrap()
        * usize::try_from(found.geometry.block_size).unwrap()
}

fn block(device: &MemDevice) -> RawMmp {
    let found = crate::superblock::Superblock::read(device, None).unwrap();
    let seed = found.geometry.features.metadata_csum().then_some(found.geometry.checksum_seed);
    let start = place(device);
    let bytes = device.contents()[start..start + SIZE].try_into().unwrap();
    RawMmp::parse(&bytes, seed, Place::default()).unwrap()
}

fn change(device: &MemDevice, change: impl FnOnce(&mut RawMmp)) {
    let found = crate::superblock::Superblock::read(device, None).unwrap();
    let mut raw = block(device);
    change(&mut raw);
    if found.geometry.features.metadata_csum() {
        raw.seal(found.geometry.checksum_seed);
    }
    device.write_at(place(device).try_into().unwrap(), raw.as_bytes()).unwrap();
}

fn refusal<T: core::fmt::Debug>(result: Result<T>) -> String {
    match result.unwrap_err() {
        Error::Unmountable(why) => why.to_string(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_mount_claims_the_file_system_and_an_unmount_gives_it_up() {
    for (format, seconds) in FORMATS.iter().zip([11, 11, 41]) {
        let device = mkfs(8192, format);
        let idle = |_| ();
        let clock = Clock::new(&idle);
        let mounted = mount(&device, &clock).unwrap();
        assert_eq!(clock.seconds.load(Ordering::Relaxed), seconds, "{format:?}");
        let found = block(&device);
        assert!((1..=MAX_SEQ).contains(&found.seq.get()));
        assert_eq!(
            (text(&found.nodename), text(&found.bdevname)),
            (b"here\x1b".into(), b"sdz1".into())
        );
        mounted.unmount().unwrap();
        assert_eq!(block(&device).seq.get(), CLEAN);
        fsck_bytes(&device.contents());
    }
}

#[test]
fn a_file_system_that_another_node_writes_is_refused_with_its_name() {
    for format in FORMATS {
        let device = mkfs(8192, format);
        let idle = |_| ();
        let holder = mount(&device, &Clock::new(&idle)).unwrap();
        let before = device.contents();
        let count = |_| change(&device, |raw| raw.seq = (raw.seq.get() % 1000 + 1).into());
        let said = refusal(mount(&device, &Clock::new(&count)));
        assert!(said.contains("in use by node here\\x1b as sdz1"), "{said}");
        device.write_at(0, &before).unwrap();
        drop(holder);
        assert_eq!(block(&device).seq.get(), CLEAN);
    }
}

#[test]
fn a_node_that_is_gone_is_waited_for_and_then_followed() {
    let device = mkfs(8192, FORMATS[0]);
    change(&device, |raw| raw.seq = 7.into());
    let idle = |_| ();
    let clock = Clock::new(&idle);
    let mounted = mount(&device, &clock).unwrap();
    assert_eq!(clock.seconds.load(Ordering::Relaxed), 22);
    mounted.unmount().unwrap();
    fsck_bytes(&device.contents());
}

#[test]
fn of_two_nodes_that_come_at_once_the_one_that_wrote_last_has_it() {
    let device = mkfs(8192, FORMATS[0]);
    let late = |second| {
        if second == 3 {
            change(&device, |raw| raw.seq = 99.into());
        }
    };
    let said = refusal(mount(&device, &Clock::new(&late)));
    assert!(said.contains("in use by node"), "{said}");
    assert_eq!(block(&device).seq.get(), 99, "it is the other's");
}

#[test]
fn what_e2fsck_has_or_what_would_take_too_long_is_refused_at_once() {
    let never = |_| panic!("waits");
    let device = mkfs(8192, FORMATS[0]);
    change(&device, |raw| raw.seq = FSCK.into());
    assert!(refusal(mount(&device, &Clock::new(&never))).contains("e2fsck"));
    change(&device, |raw| (raw.seq, raw.check_interval) = (CLEAN.into(), 301.into()));
    assert!(refusal(mount(&device, &Clock::new(&never))).contains("301"));
}

#[test]
fn a_damaged_block_is_named() {
    let never = |_| panic!("waits");
    let spoilt = |at: usize, byte: u8| {
        let device = mkfs(8192, FORMATS[0]);
        let start = u64::try_from(place(&device) + at).unwrap();
        device.write_at(start, &[byte]).unwrap();
        code(mount(&device, &Clock::new(&never)))
    };
    assert_eq!(spoilt(0, 0), "mmp-magic");
    assert_eq!(spoilt(4, 1), "mmp-checksum");
    assert_eq!(spoilt(1023, 0), "mmp-checksum");
}

#[test]
fn a_mount_that_lost_the_file_system_writes_nothing_more() {
    let device = mkfs(8192, FORMATS[0]);
    let idle = |_| ();
    let mounted = mount(&device, &Clock::new(&idle)).unwrap();
    let guard = &mounted.claim.as_ref().unwrap().0;
    let due =
        || guard.state.lock().tried = Instant::now().checked_sub(Duration::from_secs(60)).unwrap();
    let before = block(&device).seq.get();
    guard.refresh(&mut guard.state.lock()).unwrap();
    assert_eq!(block(&device).seq.get(), before % MAX_SEQ + 1);
    mounted.sync().unwrap();
    change(&device, |raw| raw.seq = 5.into());
    due();
    assert_eq!(code(guard.run()), "mmp-taken");
    assert_eq!(code(mounted.sync()), "mmp-taken");
    assert!(!mounted.is_writable());
    mounted.unmount().unwrap();
    assert_eq!(block(&device).seq.get(), 5);
}
