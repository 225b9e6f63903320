//! Every crash of a workload: the images it could have left are recovered by the engine and by
//! e2fsck, and what the workload was promised must be in them.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::{CrashImage, MemDevice, Recording, Sampling};
use fuse4fs_ext4::{DataMode, Filesystem, MountOptions, Unobserved, WriteOptions};
use sha2::{Digest, Sha256};

use crate::command::{run, succeed};

/// What free space holds before a workload, so that it shows where nothing was written.
pub const STALE: u8 = 0xee;

/// A deterministic piece of work and what must be left of it.
#[derive(Clone, Copy)]
pub struct Workload {
    /// A sentence.
    pub name: &'static str,
    /// Works, and calls the function with a number after each step that must survive from then on.
    pub work: fn(&Filesystem, &dyn Fn(u64)) -> Result<()>,
    /// Whether what step needs is there, and nothing that cannot be.
    pub check: fn(&Filesystem, u64) -> Result<()>,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Crashes with some writes lost, at each write.
    pub subsets: u32,
    /// One image in so many is also judged by e2fsck, and recovered by it.
    pub judged: usize,
    /// Crash images that are enough.
    pub most: usize,
}

/// A kind of file system.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// For the reader.
    pub name: &'static str,
    /// How mke2fs makes it.
    pub format: &'static [&'static str],
    /// How it is mounted.
    pub data: DataMode,
}

/// The options of a plain writable mount.
#[must_use]
pub fn writable() -> MountOptions {
    MountOptions {
        read_only: false,
        noload: false,
        superblock: None,
        journal: None,
        cache_bytes: 4 << 20,
        writing: WriteOptions::default(),
    }
}

/// Runs `workload` on a file system of `kib` KiB, and judges its crashes. The number of distinct images.
///
/// # Errors
/// The first crash that does harm.
pub fn enumerate(workload: &Workload, kind: &Kind, kib: u64, effort: Effort) -> Result<usize> {
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("image");
    fs::write(&image, vec![STALE; usize::try_from(kib)? * 1024])?;
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-E", "nodiscard"]).args(kind.format).arg(&image);
    succeed(&mut mke2fs)?;
    let device = Arc::new(Recording::new(fs::read(&image)?));
    let mut options = writable();
    options.writing.data = Some(kind.data);
    let filesystem = Filesystem::mount(device.clone(), &options, &Unobserved)?;
    (workload.work)(&filesystem, &|step| device.mark(step))?;
    filesystem.unmount()?;
    fs::write(&image, device.contents())?;
    must_be_clean(&image).context("without a crash")?;
    judge_all(workload, &device, &image, effort)
}

fn judge_all(
    workload: &Workload,
    device: &Recording,
    image: &Path,
    effort: Effort,
) -> Result<usize> {
    let (mut seen, mut result) = (HashSet::new(), Ok(()));
    let sampling = Sampling { subsets: effort.subsets, torn: 0, sector: 512, seed: 1 };
    device.history().crashes(sampling, |crash| {
        if seen.insert(Sha256::digest(&crash.bytes)) {
            let judged = seen.len() % effort.judged == 0;
            let place = format!("after {} writes, {}", crash.writes, crash.how);
            result = judge(workload, crash, image, judged).context(place);
        }
        result.is_ok() && seen.len() < effort.most
    });
    result.map(|()| seen.len())
}

fn judge(workload: &Workload, crash: CrashImage, image: &Path, by_e2fsck: bool) -> Result<()> {
    if by_e2fsck {
        fs::write(image, &crash.bytes)?;
        let output = run(Command::new("e2fsck").args(["-f", "-p"]).arg(image))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(matches!(output.status.code(), Some(0 | 1)), "e2fsck -fp: {said}");
        must_be_clean(image).context("recovered by e2fsck")?;
        let device = Arc::new(MemDevice::new(fs::read(image)?));
        let options = MountOptions { read_only: true, ..writable() };
        let filesystem = Filesystem::mount(device, &options, &Unobserved)?;
        (workload.check)(&filesystem, crash.step).context("recovered by e2fsck")?;
    }
    let device = Arc::new(MemDevice::new(crash.bytes));
    let filesystem = Filesystem::mount(device.clone(), &writable(), &Unobserved)?;
    (workload.check)(&filesystem, crash.step)?;
    filesystem.unmount()?;
    if by_e2fsck {
        fs::write(image, device.contents())?;
        must_be_clean(image)?;
    }
    Ok(())
}

fn must_be_clean(image: &Path) -> Result<()> {
    let output = run(Command::new("e2fsck").args(["-f", "-n"]).arg(image))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "e2fsck -fn: {said}");
    Ok(())
}
