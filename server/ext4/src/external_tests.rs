//! Mounts whose journal is on a device of its own.

use super::*;

/// A file system of 8 MiB with blocks of `size` bytes, and the device of its journal.
fn with_external_journal(size: &str, options: &[&str]) -> (Arc<MemDevice>, Arc<MemDevice>) {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["journal", "image"].map(|name| directory.path().join(name));
    let run = |arguments: &[&str]| {
        let made = std::process::Command::new("mke2fs").args(["-q", "-F"]).args(arguments).output();
        let made = made.expect("mke2fs of e2fsprogs is needed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    let [journal, image] = paths.each_ref().map(|path| path.to_str().unwrap());
    run(&["-O", "journal_dev", "-b", size, journal, "8M"]);
    // mke2fs takes block devices only for journals.
    run(&[&["-b", size, "-O", "^has_journal"], options, &[image, "8M"]].concat());
    let [journal, image] = paths.map(|path| Arc::new(MemDevice::new(std::fs::read(path).unwrap())));
    join(&image, &journal, size);
    (image, journal)
}

/// Tells both of each other, as tune2fs would.
fn join(image: &Arc<MemDevice>, journal: &Arc<MemDevice>, size: &str) {
    let uuid = |device: &MemDevice| -> [u8; 16] {
        device.contents()[1024 + 0x68..1024 + 0x78].try_into().unwrap()
    };
    let mut bytes: [u8; 1024] = image.contents()[1024..2048].try_into().unwrap();
    let raw: &mut RawSuperblock = zerocopy::FromBytes::mut_from_bytes(&mut bytes).unwrap();
    raw.feature_compat = (raw.feature_compat.get() | 4).into();
    raw.journal_uuid = uuid(journal);
    raw.journal_dev = 0x700.into();
    if raw.features().metadata_csum() {
        raw.checksum = raw.computed_checksum().into();
    }
    image.write_at(1024, &bytes).unwrap();
    // s_users of the log's superblock, which is in the block after the one at byte 1024.
    let at = if size == "1024" { 2048 } else { 4096 };
    journal.write_at(at + 0x40, &1_u32.to_be_bytes()).unwrap();
    journal.write_at(at + 0x100, &uuid(image)).unwrap();
}

#[test]
fn an_external_journal_is_written_and_replayed() {
    for (size, options) in
        [("1024", &["-t", "ext4"][..]), ("4096", &["-t", "ext4"]), ("1024", &["-t", "ext3"])]
    {
        for data in [DataMode::Ordered, DataMode::Writeback, DataMode::Journal] {
            let (image, journal) = with_external_journal(size, options);
            let mount = |image: &Arc<MemDevice>, journal: &Arc<MemDevice>| {
                let mut options = writable();
                options.journal = Some(journal.clone());
                options.writing.data = Some(data);
                Filesystem::mount(image.clone(), &options, &Unobserved).unwrap()
            };
            let filesystem = mount(&image, &journal);
            set_root_uid(&filesystem, 7);
            filesystem.sync().unwrap();
            set_root_uid(&filesystem, 8);
            assert_eq!(root_uid(image.contents()), 0, "nothing is home yet");
            let copy = |device: &MemDevice| Arc::new(MemDevice::new(device.contents()));
            let (image2, journal2) = (copy(&image), copy(&journal));
            let again = mount(&image2, &journal2);
            assert_eq!(inode::get(&again.volume, InodeNr::ROOT).unwrap().uid, 7);
            again.unmount().unwrap();
            assert_eq!(root_uid(image2.contents()), 7);
            fsck_without_journal(&image2);
            filesystem.unmount().unwrap();
            assert_eq!(root_uid(image.contents()), 8);
            fsck_without_journal(&image);
        }
    }
}

/// e2fsck looks for the journal's device on this machine: it judges the rest.
fn fsck_without_journal(image: &Arc<MemDevice>) {
    let mut bytes: [u8; 1024] = image.contents()[1024..2048].try_into().unwrap();
    let raw: &mut RawSuperblock = zerocopy::FromBytes::mut_from_bytes(&mut bytes).unwrap();
    assert_eq!(raw.feature_incompat.get() & 4, 0, "it needs a replay");
    raw.feature_compat = (raw.feature_compat.get() & !4).into();
    (raw.journal_uuid, raw.journal_dev) = ([0; 16], 0.into());
    if raw.features().metadata_csum() {
        raw.checksum = raw.computed_checksum().into();
    }
    image.write_at(1024, &bytes).unwrap();
    fsck_bytes(&image.contents());
}
