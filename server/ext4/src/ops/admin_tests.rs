#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::*;
use crate::device::{BlockDevice, MemDevice};
use crate::ids::InodeNr;
use crate::observer::Unobserved;
use crate::ops::WriteKind;
use crate::testing::{ROOT, fsck_bytes, mkfs, mounted, new_file, writable};

/// Overwrites what is discarded, so that nothing that was in use can be among it unseen.
struct Shredding {
    device: Arc<MemDevice>,
    discarded: AtomicU64,
}

impl BlockDevice for Shredding {
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

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let len = range.end - range.start;
        self.discarded.fetch_add(len, Ordering::Relaxed);
        self.device.write_at(range.start, &vec![0xaa; usize::try_from(len).unwrap()])
    }
}

fn shredding(device: &Arc<MemDevice>, discard: bool) -> (Arc<Shredding>, Filesystem) {
    let shredding = Arc::new(Shredding { device: device.clone(), discarded: AtomicU64::new(0) });
    let mut options = writable();
    options.writing.rules.discard = Some(discard);
    let filesystem = Filesystem::mount(shredding.clone(), &options, &Unobserved).unwrap();
    (shredding, filesystem)
}

fn write(filesystem: &Filesystem, name: &[u8], bytes: &[u8]) -> InodeNr {
    let nr = new_file(filesystem, name);
    let kind = WriteKind::Direct { kill_set_id: false };
    assert_eq!(filesystem.write(&ROOT, nr, kind, (0, bytes)).unwrap(), bytes.len());
    filesystem.close(nr).unwrap();
    nr
}

fn unlink(filesystem: &Filesystem, name: &[u8]) {
    let gone = filesystem.unlink(&ROOT, InodeNr::ROOT, name).unwrap();
    filesystem.forget(gone.inode, ROOT.now).unwrap();
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

const ALL: Trim = Trim { start: 0, len: u64::MAX, least: 0 };

#[test]
fn trim_reaches_all_free_blocks_and_nothing_else() {
    for options in [
        &["-t", "ext4", "-b", "1024"][..],
        &["-t", "ext4", "-b", "4096"],
        &["-t", "ext4", "-b", "4096", "-O", "bigalloc", "-C", "16384"],
        &["-t", "ext2", "-b", "1024"],
    ] {
        let device = mkfs(65536, options);
        let (shredding, filesystem) = shredding(&device, false);
        let content = vec![7; 3 << 20];
        let kept = write(&filesystem, b"kept", &content);
        write(&filesystem, b"gone", &content);
        unlink(&filesystem, b"gone");
        let trimmed = filesystem.trim(ALL, soon()).unwrap();
        assert_eq!(trimmed, shredding.discarded.load(Ordering::Relaxed));
        let free = filesystem.statfs(crate::ops::Overhead::Subtract).unwrap().free;
        let free = free * u64::from(filesystem.geometry().block_size);
        assert_eq!(trimmed, free, "{options:?}");
        let mut found = vec![0; content.len()];
        filesystem.read(&filesystem.inode(kept).unwrap(), 0, &mut found).unwrap();
        assert!(found == content);
        // What was held back for the device can be taken again.
        write(&filesystem, b"new", &content);
        filesystem.unmount().unwrap();
        fsck_bytes(&device.contents());
    }
}

#[test]
fn trim_keeps_to_its_range_and_its_time() {
    let device = mkfs(32768, &["-t", "ext4", "-b", "1024"]);
    let (shredding, filesystem) = shredding(&device, false);
    let some = Trim { start: 10 << 20, len: 1 << 20, least: 0 };
    assert!(filesystem.trim(some, soon()).unwrap() <= 1 << 20);
    assert!(shredding.discarded.load(Ordering::Relaxed) > 0);
    assert_eq!(filesystem.trim(ALL, Instant::now()).unwrap(), 0);
    for bad in
        [Trim { start: 1 << 40, ..ALL }, Trim { len: 1023, ..ALL }, Trim { least: 1 << 30, ..ALL }]
    {
        let error = filesystem.trim(bad, soon()).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Invalid)), "{bad:?}: {error}");
    }
}

#[test]
fn a_label_is_set_and_stays() {
    let device = mkfs(16384, &["-t", "ext4", "-L", "old"]);
    let filesystem = mounted(&device);
    assert_eq!(filesystem.label().unwrap(), b"old");
    assert!(filesystem.set_label(b"more than sixteen").is_err());
    filesystem.set_label(b"exactly sixteen!").unwrap();
    assert_eq!(filesystem.label().unwrap(), b"exactly sixteen!");
    filesystem.unmount().unwrap();
    fsck_bytes(&device.contents());
    assert_eq!(mounted(&device).geometry().label, b"exactly sixteen!");
}

#[test]
fn after_a_checkpoint_the_content_is_there_without_the_log() {
    let device = mkfs(16384, &["-t", "ext4"]);
    let filesystem = mounted(&device);
    filesystem.set_label(b"home").unwrap();
    filesystem.checkpoint().unwrap();
    let raw = device.contents();
    assert_eq!(&raw[1024 + 0x78..][..4], b"home");
}

#[test]
fn after_a_shutdown_nothing_is_written_and_the_next_mount_replays() {
    for options in [&["-t", "ext4"][..], &["-t", "ext4", "-O", "^has_journal"]] {
        let device = mkfs(16384, options);
        let filesystem = mounted(&device);
        write(&filesystem, b"before", b"content");
        filesystem.shut_down().unwrap();
        let down = device.contents();
        let error = filesystem.set_label(b"after").unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::Aborted)), "{error}");
        filesystem.unmount().unwrap();
        assert_eq!(device.contents(), down, "{options:?}: not even the end is written down");
        let again = mounted(&device);
        let root = again.inode(InodeNr::ROOT).unwrap();
        let mut found = [0; 7];
        again.read(&again.lookup(&root, b"before").unwrap(), 0, &mut found).unwrap();
        assert_eq!(&found, b"content");
        again.unmount().unwrap();
    }
}

#[test]
fn with_discard_the_device_hears_of_what_was_freed_once_that_is_committed() {
    let device = mkfs(32768, &["-t", "ext4", "-b", "1024"]);
    let (shredding, filesystem) = shredding(&device, true);
    let content = vec![7; 3 << 20];
    write(&filesystem, b"gone", &content);
    unlink(&filesystem, b"gone");
    filesystem.discard_freed().unwrap();
    assert_eq!(shredding.discarded.load(Ordering::Relaxed), 0, "a crash would bring it back");
    filesystem.sync().unwrap();
    filesystem.discard_freed().unwrap();
    assert_eq!(shredding.discarded.load(Ordering::Relaxed), 3 << 20);
    write(&filesystem, b"new", &content);
    unlink(&filesystem, b"new");
    filesystem.unmount().unwrap();
    assert_eq!(shredding.discarded.load(Ordering::Relaxed), 6 << 20, "at the end, too");
    fsck_bytes(&device.contents());
}
