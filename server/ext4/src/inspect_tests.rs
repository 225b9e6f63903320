//! What is said of file systems that mke2fs made, and that nothing is written to them.

use zerocopy::FromBytes;

use super::*;
use crate::device::MemDevice;
use crate::disk::superblock::SIZE;
use crate::features::{Compat, Incompat, RoCompat};
use crate::ids::InodeNr;
use crate::observer::Unobserved;
use crate::testing::{ROOT, debugfs, mkfs, mounted, new_file, writable};

const EXT4: &[&str] = &["-t", "ext4", "-b", "1024", "-L", "a label"];

fn look(device: &Arc<MemDevice>) -> Inspection {
    look_with(device, &writable())
}

fn look_with(device: &Arc<MemDevice>, options: &MountOptions) -> Inspection {
    let before = device.contents();
    let shared: Arc<dyn BlockDevice> = Arc::<MemDevice>::clone(device);
    let inspection = inspect(&shared, options, &Unobserved);
    assert!(device.contents() == before, "it was written");
    inspection
}

/// Changes the superblock and makes its checksum right.
fn change(device: &MemDevice, change: impl FnOnce(&mut RawSuperblock)) {
    let mut bytes: [u8; SIZE] = device.contents()[1024..2048].try_into().unwrap();
    let raw = RawSuperblock::mut_from_bytes(&mut bytes).unwrap();
    change(raw);
    raw.checksum = raw.computed_checksum().into();
    device.write_at(1024, &bytes).unwrap();
}

fn read_only(inspection: &Inspection) -> &Error {
    match &inspection.verdict {
        Verdict::ReadOnly(why) => why,
        other => panic!("{other:?}"),
    }
}

fn unmountable(inspection: &Inspection) -> &Error {
    match &inspection.verdict {
        Verdict::Unmountable(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_clean_one_can_be_written() {
    let inspection = look(&mkfs(8192, EXT4));
    assert!(matches!(inspection.verdict, Verdict::Writable), "{inspection:?}");
    assert_eq!(inspection.notices, []);
    let found = inspection.found.unwrap();
    assert_eq!(
        (found.label.as_slice(), found.block_size, found.blocks),
        (&b"a label"[..], 1024, 8192)
    );
    assert!(found.features.compat.contains(Compat::HAS_JOURNAL) && found.holder.is_none());
}

#[test]
fn a_journal_that_a_crash_left_is_counted() {
    let device = mkfs(8192, EXT4);
    let filesystem = mounted(&device);
    for name in ["one", "two", "three"] {
        new_file(&filesystem, name.as_bytes());
        filesystem.sync().unwrap();
    }
    let copy = Arc::new(MemDevice::new(device.contents()));
    let inspection = look(&copy);
    assert!(matches!(inspection.verdict, Verdict::Writable), "{inspection:?}");
    assert_eq!(inspection.notices, [Notice::Replayed { transactions: 3 }]);
    assert!(inspection.found.unwrap().features.incompat.contains(Incompat::RECOVER));
    let mut without = writable();
    without.noload = true;
    let inspection = look_with(&copy, &without);
    let needed = Error::from(Unmountable::NeedsReplay).to_string();
    assert_eq!(read_only(&inspection).to_string(), needed);
}

#[test]
fn what_a_crash_left_half_deleted_is_counted() {
    let device = mkfs(8192, EXT4);
    let filesystem = mounted(&device);
    new_file(&filesystem, b"gone");
    filesystem.unlink(&ROOT, InodeNr::ROOT, b"gone").unwrap();
    filesystem.sync().unwrap();
    let inspection = look(&Arc::new(MemDevice::new(device.contents())));
    let orphans = Notice::Orphans { freed: 1, cut: 0 };
    assert!(inspection.notices.contains(&orphans), "{inspection:?}");
}

#[test]
fn a_damaged_log_can_be_looked_at() {
    let device = mkfs(8192, EXT4);
    let filesystem = mounted(&device);
    new_file(&filesystem, b"one");
    filesystem.sync().unwrap();
    let copy = Arc::new(MemDevice::new(device.contents()));
    // The commit block: its checksum is its last field that counts.
    let head = [0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 2];
    let bytes = copy.contents();
    let at = bytes.chunks(1024).position(|block| block.starts_with(&head)).unwrap();
    copy.write_at(crate::ids::on_disk(at * 1024 + 0x10), &[0xa5; 4]).unwrap();
    let inspection = look(&copy);
    let why = read_only(&inspection).to_string();
    assert!(why.contains("journal cannot be replayed"), "{why}");
    assert!(inspection.notices.iter().any(|it| matches!(it, Notice::LogEnded { .. })));
}

#[test]
fn errors_on_record_are_told_and_in_nobodys_way() {
    let device = mkfs(8192, EXT4);
    debugfs(
        &device,
        "ssv error_count 3\nssv first_error_time 1700000000\nssv first_error_ino 12\n",
    );
    change(&device, |raw| raw.state.set(superblock::STATE_ERROR));
    let inspection = look(&device);
    assert!(matches!(inspection.verdict, Verdict::Writable), "{inspection:?}");
    let facts = inspection.found.unwrap().facts;
    assert_eq!((facts.error_count, facts.first_error.unwrap().inode), (3, 12));
}

#[test]
fn unknown_features_forbid_writing_or_everything() {
    let device = mkfs(8192, EXT4);
    change(&device, |raw| {
        raw.feature_ro_compat.set(raw.feature_ro_compat.get() | RoCompat::REPLICA.bits());
    });
    assert!(read_only(&look(&device)).to_string().contains("replica"));
    change(&device, |raw| {
        raw.feature_incompat.set(raw.feature_incompat.get() | Incompat::DIRDATA.bits());
    });
    let inspection = look(&device);
    assert!(unmountable(&inspection).to_string().contains("dirdata"));
    assert_eq!(inspection.found.unwrap().label, b"a label");
}

#[test]
fn a_journal_elsewhere_is_asked_for() {
    let device = mkfs(8192, &["-t", "ext4", "-b", "1024", "-O", "^has_journal"]);
    change(&device, |raw| {
        raw.feature_compat.set(raw.feature_compat.get() | Compat::HAS_JOURNAL.bits());
        raw.journal_dev.set(0x700);
        raw.journal_uuid = [7; 16];
    });
    let inspection = look(&device);
    assert!(read_only(&inspection).to_string().contains("journal_path="));
    assert_eq!(inspection.found.unwrap().facts.journal_uuid, [7; 16]);
}

#[test]
fn what_is_no_file_system_is_none() {
    for len in [0, 1500, 1 << 20] {
        let inspection = look(&Arc::new(MemDevice::new(vec![0; len])));
        assert!(inspection.found.is_none());
        assert!(matches!(unmountable(&inspection), Error::Unmountable(_)));
    }
}

#[test]
fn a_node_that_has_it_is_named() {
    let device = mkfs(8192, &["-t", "ext4", "-b", "1024", "-O", "mmp"]);
    let holder = |inspection: Inspection| inspection.found.unwrap().holder.unwrap().unwrap();
    let inspection = look(&device);
    assert!(matches!(inspection.verdict, Verdict::Writable), "{inspection:?}");
    assert_eq!(holder(inspection), Holder::Nobody);
    let mut options = writable();
    options.writing.name.node = b"other\x1bnode".into();
    options.writing.name.device = b"sdz1".into();
    let patient = Listener::new(&Unobserved);
    let filesystem = Filesystem::mount(device.clone(), &options, &patient).unwrap();
    let inspection = look(&Arc::new(MemDevice::new(device.contents())));
    assert!(read_only(&inspection).to_string().contains("other\\x1bnode"));
    assert!(matches!(
        holder(inspection),
        Holder::Node { node, device, time } if node == "other\\x1bnode" && device == "sdz1" && time > 0
    ));
    filesystem.unmount().unwrap();
}
