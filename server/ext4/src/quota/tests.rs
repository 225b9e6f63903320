#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;

use super::*;
use crate::alloc::Privilege;
use crate::device::MemDevice;
use crate::evict;
use crate::filesystem::Filesystem;
use crate::inode;
use crate::ops::SetAttr;
use crate::testing::{ROOT, debugfs, filesystem, fsck, mkfs, volume_on};
use crate::xattr::Mode;

fn fresh(options: &[&str]) -> (Arc<MemDevice>, Filesystem, Vec<InodeNr>) {
    let device = mkfs(16384, options);
    let content = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(content.path(), [7; 50_000]).unwrap();
    let commands = format!("write {0} a\nwrite {0} b\n", content.path().display());
    debugfs(&device, &commands);
    crate::testing::repair(&device);
    let fs = filesystem(volume_on(&device));
    open(&fs.volume).unwrap();
    let root = fs.inode(InodeNr::ROOT).unwrap();
    let nrs = ["a", "b"].map(|name| fs.lookup(&root, name.as_bytes()).unwrap().nr).to_vec();
    (device, fs, nrs)
}

const SETS: &[&[&str]] = &[
    &["-t", "ext4", "-O", "quota,project", "-E", "quotatype=usrquota:grpquota:prjquota"],
    &["-t", "ext4", "-b", "1024", "-O", "quota,ea_inode", "-N", "2048"],
    &["-t", "ext4", "-b", "1024", "-O", "quota,bigalloc", "-C", "4096"],
];

#[test]
fn usage_follows_owners_attributes_and_ends() {
    for options in SETS {
        let (device, fs, nrs) = fresh(options);
        // More owners than a block has entries, and ids that share no level of the tree.
        for id in (1..40).chain([256, 65536, 1 << 24, u32::MAX - 1, 0, 7]) {
            let set = SetAttr { uid: Some(id), gid: Some(id ^ 5), ..SetAttr::default() };
            fs.setattr(&ROOT, nrs[0], &set).unwrap();
        }
        fsck(&fs.volume, &device);
        let large = if options.contains(&"quota,ea_inode") { 9000 } else { 700 };
        for nr in &nrs {
            fs.set_xattr(&ROOT, *nr, (b"user.v", &vec![3; large]), Mode::Any, false).unwrap();
        }
        fsck(&fs.volume, &device);
        let set = SetAttr { uid: Some(77), ..SetAttr::default() };
        fs.setattr(&ROOT, nrs[1], &set).unwrap();
        fsck(&fs.volume, &device);
        fs.remove_xattr(&ROOT, nrs[0], b"user.v").unwrap();
        fsck(&fs.volume, &device);
    }
}

#[test]
fn projects_are_accounted_where_there_are_projects() {
    let (device, fs, nrs) = fresh(SETS[0]);
    let flags = fs.inode(nrs[0]).unwrap().flags;
    let visible = InodeFlags::new(flags.bits() & InodeFlags::USER_MODIFIABLE);
    fs.set_fileattr(&ROOT, nrs[0], visible, Some(1234)).unwrap();
    assert_eq!(fs.inode(nrs[0]).unwrap().project, 1234);
    fsck(&fs.volume, &device);
    let dir = Inode { project: 9, ..crate::testing::inode(InodeFlags::PROJINHERIT) };
    let answer = check_project(&dir, &crate::testing::inode(0));
    assert!(matches!(answer, Err(Error::Refused(Refusal::CrossDevice))));
}

#[test]
fn an_inode_that_ends_is_given_back() {
    for options in SETS {
        let (device, fs, nrs) = fresh(options);
        drop(fs);
        debugfs(&device, "unlink a\n");
        let volume = volume_on(&device);
        open(&volume).unwrap();
        let mut inode = (*inode::get(&volume, nrs[0]).unwrap()).clone();
        inode.links = 0;
        let mut handle = volume.begin(Credits(20)).unwrap();
        crate::orphan::add(&mut handle, nrs[0]).unwrap();
        inode::store(&mut handle, &inode).unwrap();
        handle.stop().unwrap();
        evict::free(&volume, &inode::get(&volume, nrs[0]).unwrap(), ROOT.now).unwrap();
        fsck(&volume, &device);
    }
}

#[test]
fn limits_hold_at_once_or_after_their_grace() {
    let (device, fs, _) = fresh(SETS[0]);
    let owners = Charge { uid: 1000, gid: 1000, project: 0, blocks512: 0, inodes: 0 };
    prepare(&fs.volume, &owners).unwrap();
    let quotas = fs.volume.quotas.get().unwrap();
    let limit = |set: &dyn Fn(&mut RawEntry)| {
        let mut handle = fs.volume.begin(CREDITS).unwrap();
        let (_, file) = &quotas.files[0];
        file.lock().change(&mut handle, 1000, |entry, _| set(entry)).unwrap();
        handle.stop().unwrap();
    };
    let refused = |bytes, inodes| {
        let mut claim = Claim::new(&fs.volume, Privilege::Reserve);
        let claimed = claim.add(&owners, Amount { bytes, inodes });
        matches!(claimed, Err(Error::Refused(Refusal::Quota)))
    };
    assert!(!refused(u64::MAX, u64::MAX));
    limit(&|entry| {
        entry.block_hard.set(100);
        entry.inode_hard.set(3);
    });
    assert!(!refused(100 << 10, 3));
    assert!(refused((100 << 10) + 1, 0));
    assert!(refused(0, 4));
    limit(&|entry| entry.block_soft.set(50));
    assert!(!refused(60 << 10, 0));
    let mut handle = fs.volume.begin(CREDITS).unwrap();
    charge(&mut handle, &owners, &Charge { blocks512: 120, ..owners }).unwrap();
    handle.stop().unwrap();
    // Over the soft limit, but for a week.
    assert!(!refused(1024, 0));
    let mut time = 0;
    limit(&|entry| assert!(entry.block_time.get() > now() + 600_000));
    limit(&|entry| entry.block_time.set(now() - 1));
    assert!(refused(1024, 0));
    assert!(!refused(0, 1));
    let mut handle = fs.volume.begin(CREDITS).unwrap();
    charge(&mut handle, &Charge { blocks512: 120, ..owners }, &owners).unwrap();
    handle.stop().unwrap();
    quotas.files[0]
        .1
        .lock()
        .entry(&fs.volume, 1000)
        .unwrap()
        .inspect(|entry| time = entry.block_time.get());
    assert_eq!(time, 0);
    assert!(!refused(1024, 0));
    fsck(&fs.volume, &device);
}

#[test]
fn a_damaged_quota_file_is_told() {
    let (device, fs, _) = fresh(SETS[0]);
    let [user, ..] = fs.volume.geometry.special_inodes;
    let file = File::open(&fs.volume, InodeNr::new(user), 0).unwrap();
    let mut handle = fs.volume.begin(CREDITS).unwrap();
    file.edit(&mut handle, 1, |node: &mut crate::disk::quota::Node| {
        node[9].set(1 << 20);
        Ok(())
    })
    .unwrap();
    file.edit(&mut handle, 0, |info: &mut crate::disk::quota::RawInfo| {
        info.version.set(7);
        Ok(())
    })
    .unwrap();
    handle.stop().unwrap();
    drop(device);
    assert_eq!(crate::testing::code(open(&fs.volume)), "quota-file");
    let mut file = file;
    assert_eq!(crate::testing::code(file.find(&fs.volume, 9 << 24)), "quota-file");
}
