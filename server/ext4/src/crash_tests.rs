//! Every crash of small workloads on the journal itself, and that faults planted in it are noticed.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use core::ops::ControlFlow;
use std::collections::HashSet;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::device::{MemDevice, Recording, Sampling};
use crate::disk::jbd2::MAGIC;
use crate::error::Result;
use crate::features::Compat;
use crate::filesystem::{Filesystem, MountOptions};
use crate::handle::Credits;
use crate::ids::{BlockNr, InodeNr, in_memory};
use crate::journal::Fault;
use crate::observer::Unobserved;
use crate::ops::{DirEntry, Overhead, WriteKind};
use crate::testing::{ROOT, fsck_bytes, mkfs, new_file, preened, writable};
use crate::volume::Volume;

/// Blocks of 1 KiB that no file has: nothing but the workloads' own checks judges their content.
const FREE: u64 = 3500;

type Work = fn(&Filesystem, &Recording);
type Check = fn(&Filesystem, u64) -> core::result::Result<(), String>;

fn word(volume: &Volume, nr: u64) -> u64 {
    let block = volume.metadata(BlockNr::new(nr)).unwrap();
    u64::from_le_bytes(*block.bytes()[8..].first_chunk().unwrap())
}

fn fill(bytes: &mut [u8], value: u64) -> Result<()> {
    bytes.fill(0x11);
    bytes[8..16].copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// Each step gives the same number to many blocks.
fn many_blocks(filesystem: &Filesystem, device: &Recording) {
    for step in 1..=36 {
        let mut handle = filesystem.volume.begin(Credits(40)).unwrap();
        for nr in FREE..FREE + 40 {
            let fill = |bytes: &mut [u8]| {
                fill(bytes, step)?;
                // Some look like blocks of the log.
                if nr % 7 == 0 {
                    bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
                }
                Ok(())
            };
            if step % 2 == 0 {
                handle.create(BlockNr::new(nr), fill).unwrap();
            } else {
                handle.edit(BlockNr::new(nr), fill).unwrap();
            }
        }
        handle.stop().unwrap();
        if step % 3 == 0 {
            filesystem.sync().unwrap();
            device.mark(step);
        }
    }
}

fn all_of_one_step(filesystem: &Filesystem, step: u64) -> core::result::Result<(), String> {
    let volume = &filesystem.volume;
    let found: Vec<u64> = (FREE..FREE + 40).map(|nr| word(volume, nr)).collect();
    let whole = found.iter().all(|&word| word == found[0]);
    let escaped = (FREE..FREE + 40).filter(|nr| nr % 7 == 0).all(|nr| {
        let block = volume.metadata(BlockNr::new(nr)).unwrap();
        found[0] == 0 || block.bytes().starts_with(&MAGIC.to_be_bytes())
    });
    let there = found[0] >= step;
    if whole && there && escaped { Ok(()) } else { Err(format!("at {step}: {found:?}")) }
}

/// Each step makes a block of metadata, frees it, and gives it to data.
fn freed_blocks(filesystem: &Filesystem, device: &Recording) {
    let volume = &filesystem.volume;
    for step in 1..=12 {
        let nr = BlockNr::new(FREE + step % 4);
        let mut handle = volume.begin(Credits(2)).unwrap();
        handle.create(nr, |bytes| fill(bytes, 1000 + step)).unwrap();
        handle.stop().unwrap();
        filesystem.sync().unwrap();
        let mut handle = volume.begin(Credits(2)).unwrap();
        handle.forget(nr, 1).unwrap();
        handle.edit(BlockNr::new(FREE + 10), |bytes| fill(bytes, step)).unwrap();
        let tid = handle.tid();
        handle.stop().unwrap();
        volume.commit(tid).unwrap();
        assert!(volume.committed_tid().reached(tid));
        let mut data = vec![0; 1024];
        fill(&mut data, step).unwrap();
        volume.source().device().write_at(nr.get() * 1024, &data).unwrap();
        volume.fsync(tid).unwrap();
        device.mark(step);
    }
}

fn data_stays(filesystem: &Filesystem, step: u64) -> core::result::Result<(), String> {
    let volume = &filesystem.volume;
    let newest = word(volume, FREE + 10);
    // Later steps have other blocks, up to the fourth.
    for old in step.saturating_sub(2).max(1)..=step {
        let found = word(volume, FREE + old % 4);
        // Its next user may have it already.
        if found != old && found != old + 4 && found != 1000 + old + 4 {
            return Err(format!("at {step}, newest {newest}: block of {old} holds {found}"));
        }
    }
    if newest >= step { Ok(()) } else { Err(format!("at {step}: newest {newest}")) }
}

/// Each step writes data and then the metadata that leads to it.
fn ordered_data(filesystem: &Filesystem, device: &Recording) {
    let volume = &filesystem.volume;
    for step in 1..=20 {
        let mut data = vec![0; 1024];
        fill(&mut data, step).unwrap();
        let byte = (FREE + 100 + step) * 1024;
        volume.source().device().write_at(byte, &data).unwrap();
        let mut handle = volume.begin(Credits(1)).unwrap();
        handle.edit(BlockNr::new(FREE), |bytes| fill(bytes, step)).unwrap();
        handle.stop().unwrap();
        if step % 2 == 0 {
            filesystem.sync().unwrap();
            device.mark(step);
        }
    }
}

fn data_is_there(filesystem: &Filesystem, step: u64) -> core::result::Result<(), String> {
    let volume = &filesystem.volume;
    let newest = word(volume, FREE);
    let newest = if newest > 100 { 0 } else { newest };
    for old in 1..=newest {
        let found = word(volume, FREE + 100 + old);
        if found != old {
            return Err(format!("at {step}: {newest} leads to {old}, which holds {found}"));
        }
    }
    if newest >= step { Ok(()) } else { Err(format!("at {step}: newest {newest}")) }
}

/// Each step adds to the end of a file.
fn appended(filesystem: &Filesystem, device: &Recording) {
    let nr = new_file(filesystem, b"log");
    for step in 1..=20 {
        let direct = WriteKind::Direct { kill_set_id: false };
        let place = ((step - 1) * 3000, &[APPENDED; 3000][..]);
        filesystem.write(&ROOT, nr, direct, place).unwrap();
        filesystem.sync().unwrap();
        filesystem.volume.write_late().unwrap();
        device.mark(step);
    }
}

const APPENDED: u8 = 0x5a;

fn nothing_else_in_it(filesystem: &Filesystem, step: u64) -> core::result::Result<(), String> {
    let root = filesystem.inode(InodeNr::ROOT).unwrap();
    let inode = match filesystem.lookup(&root, b"log") {
        Ok(inode) => inode,
        Err(_) if step == 0 => return Ok(()),
        Err(error) => return Err(format!("at {step}: {error}")),
    };
    let mut bytes = vec![0; in_memory(inode.size)];
    filesystem.read(&inode, 0, &mut bytes).map_err(|error| error.to_string())?;
    if inode.size < step * 3000 {
        return Err(format!("at {step}: {} bytes", inode.size));
    }
    match bytes.iter().position(|&byte| byte != APPENDED) {
        None => Ok(()),
        Some(wrong) => Err(format!("at {step}: byte {wrong} of {}", bytes.len())),
    }
}

/// Each step takes the name of a file that stays open for two more.
fn open_files(filesystem: &Filesystem, device: &Recording) {
    let mut open = Vec::new();
    for step in 1..=16_u64 {
        let name = step.to_string();
        open.push(new_file(filesystem, name.as_bytes()));
        filesystem.sync().unwrap();
        filesystem.unlink(&ROOT, InodeNr::ROOT, name.as_bytes()).unwrap();
        filesystem.sync().unwrap();
        device.mark(step);
        if step % 3 == 0 {
            filesystem.forget(open.remove(0), ROOT.now).unwrap();
        }
    }
    filesystem.forget_all(ROOT.now).unwrap();
}

/// Once the orphans are freed, what is in use has a name; ten inodes have none by design, and the
/// orphan file.
fn all_have_names(filesystem: &Filesystem, step: u64) -> core::result::Result<(), String> {
    if !filesystem.is_writable() {
        return Ok(());
    }
    let root = filesystem.inode(InodeNr::ROOT).unwrap();
    let mut names = 0;
    let count = &mut |entry: DirEntry<'_>| {
        names += u64::from(!entry.name.starts_with(b"."));
        ControlFlow::Continue(())
    };
    filesystem.readdir(&root, 0, count).map_err(|error| error.to_string())?;
    let stat = filesystem.statfs(Overhead::Subtract).unwrap();
    let used = stat.inodes - stat.inodes_free;
    let by_design =
        10 + u64::from(filesystem.volume.geometry.features.compat.contains(Compat::ORPHAN_FILE));
    if used == by_design + names {
        Ok(())
    } else {
        Err(format!("at {step}: {used} used, {names} names"))
    }
}

struct Run {
    work: Work,
    check: Check,
    fault: Option<Fault>,
    format: &'static [&'static str],
}

/// One image in so many is also judged by e2fsck, and recovered by it.
const JUDGED: usize = 40;

impl Run {
    /// The number of distinct images, or what the first bad one shows.
    fn go(&self) -> core::result::Result<usize, String> {
        let made = mkfs(4096, &[&["-b", "1024", "-J", "size=1", "-N", "64"], self.format].concat());
        let mut bytes = made.contents();
        bytes[in_memory(FREE * 1024)..].fill(0);
        let device = Arc::new(Recording::new(bytes));
        let mut options = writable();
        options.writing.fault = self.fault;
        let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved).unwrap();
        if let Some(fault) = self.fault {
            filesystem.volume.fault.set(fault).unwrap();
        }
        (self.work)(&filesystem, &device);
        filesystem.unmount().unwrap();
        if self.fault.is_none() {
            fsck_bytes(&device.contents());
        }
        // The superblock has no second copy that a reader could know to be newer: the kernel, too, needs
        // its 1024 bytes to be written whole.
        let sampling = Sampling { subsets: 2, torn: 1, sector: 1024, seed: 42 };
        let (mut seen, mut result) = (HashSet::new(), Ok(()));
        device.history().crashes(sampling, |image| {
            if seen.insert(Sha256::digest(&image.bytes)) {
                let judged = self.fault.is_none() && seen.len() % JUDGED == 0;
                result = self.judge(image.bytes, image.step, judged).map_err(|found| {
                    format!("{found}, after {} writes, {}", image.writes, image.how)
                });
            }
            result.is_ok()
        });
        result.map(|()| seen.len())
    }

    fn judge(
        &self,
        bytes: Vec<u8>,
        step: u64,
        by_e2fsck: bool,
    ) -> core::result::Result<(), String> {
        if by_e2fsck {
            let preened = preened(&bytes);
            fsck_bytes(&preened);
            let device = Arc::new(MemDevice::new(preened));
            let preened = Filesystem::mount(device, &writable(), &Unobserved);
            let preened = preened.map_err(|error| error.to_string())?;
            (self.check)(&preened, step).map_err(|found| format!("e2fsck: {found}"))?;
        }
        let device = Arc::new(MemDevice::new(bytes));
        let options = MountOptions { read_only: true, ..writable() };
        let shown = Filesystem::mount(device.clone(), &options, &Unobserved);
        let shown = shown.map_err(|error| error.to_string())?;
        (self.check)(&shown, step).map_err(|found| format!("read-only: {found}"))?;
        let mounted = Filesystem::mount(device.clone(), &writable(), &Unobserved);
        let mounted = mounted.map_err(|error| error.to_string())?;
        (self.check)(&mounted, step).map_err(|found| format!("replayed: {found}"))?;
        mounted.unmount().unwrap();
        if by_e2fsck {
            fsck_bytes(&device.contents());
        }
        Ok(())
    }
}

const WORKLOADS: &[(Work, Check)] = &[
    (many_blocks, all_of_one_step),
    (freed_blocks, data_stays),
    (ordered_data, data_is_there),
    (appended, nothing_else_in_it),
    (open_files, all_have_names),
];

fn all(format: &'static [&'static str]) {
    for &(work, check) in WORKLOADS {
        let images = Run { work, check, fault: None, format }.go().unwrap();
        println!("{images} distinct crash images");
        assert!(images > 60, "only {images}");
    }
}

fn caught(fault: Fault, work: Work, check: Check, format: &'static [&'static str]) {
    match (Run { work, check, fault: Some(fault), format }).go() {
        Ok(images) => panic!("{fault:?} was not noticed in {images} images"),
        Err(found) => println!("{fault:?}: {found}"),
    }
}

#[test]
fn no_crash_harms_a_log_with_full_checksums() {
    all(&["-t", "ext4"]);
}

#[test]
fn no_crash_harms_a_log_without_checksums() {
    all(&["-t", "ext4", "-O", "^metadata_csum,^64bit"]);
}

#[test]
fn no_crash_harms_an_ext3_log() {
    all(&["-t", "ext3"]);
}

#[test]
fn a_skipped_flush_is_noticed() {
    caught(Fault::SkippedFlush, ordered_data, data_is_there, &["-t", "ext4"]);
}

#[test]
fn a_skipped_revoke_is_noticed() {
    caught(Fault::SkippedRevoke, freed_blocks, data_stays, &["-t", "ext4"]);
}

#[test]
fn a_commit_block_before_its_transaction_is_noticed() {
    caught(Fault::EarlyCommit, many_blocks, all_of_one_step, &["-t", "ext3"]);
}

#[test]
fn a_log_that_is_given_up_too_early_is_noticed() {
    caught(Fault::EarlyTail, many_blocks, all_of_one_step, &["-t", "ext4"]);
}

#[test]
fn data_that_comes_after_its_commit_is_noticed() {
    caught(Fault::LateData, appended, nothing_else_in_it, &["-t", "ext4"]);
}

#[test]
fn no_crash_harms_an_orphan_file() {
    let format = &["-t", "ext4", "-O", "orphan_file"];
    Run { work: open_files, check: all_have_names, fault: None, format }.go().unwrap();
}

#[test]
fn a_forgotten_orphan_is_noticed() {
    for format in [&["-t", "ext4"][..], &["-t", "ext3"], &["-t", "ext4", "-O", "orphan_file"]] {
        caught(Fault::ForgottenOrphan, open_files, all_have_names, format);
    }
}
