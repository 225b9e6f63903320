//! Every crash of a workload: the images it could have left are recovered by the engine, by e2fsck and
//! by the kernel. All must see the same tree, one that the workload went through, not older than what
//! it synced, and leave nothing to repair.

mod disks;
mod judge;
mod kernel;
mod recorder;
mod states;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use fuse4fs_ext4::device::{Recording, Sampling};
use fuse4fs_ext4::{DataMode, Filesystem, MountOptions, WriteOptions};
use sha2::{Digest, Sha256};

use crate::host;
use disks::Disks;
use judge::{By, Judge};
pub use recorder::Recorder;
pub use states::Synced;
use states::{Content, States};

/// What free space holds before a workload, so that it shows where nothing was written.
pub const STALE: u8 = 0xee;

/// A deterministic piece of work.
#[derive(Clone, Copy)]
pub struct Workload {
    /// A sentence.
    pub name: &'static str,
    /// What is there before the first crash.
    pub prepare: fn(&Filesystem) -> Result<()>,
    /// Works.
    pub work: fn(&Recorder<'_>) -> Result<()>,
    /// Each verb is one transaction: with data=journal a crash leaves all of it or nothing.
    pub whole: bool,
}

/// How thoroughly.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Crashes with some writes lost, at each write.
    pub subsets: u32,
    /// Crashes with a last write of which only some sectors got there, at each write.
    pub torn: u32,
    /// One in so many of all images is looked at.
    pub stride: usize,
    /// One in so many of those is also recovered by e2fsck.
    pub e2fsck: usize,
    /// One in so many of those is also recovered by the kernel.
    pub kernel: usize,
}

/// A kind of file system.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// For the reader.
    pub name: &'static str,
    /// How mke2fs makes it.
    pub format: &'static [&'static str],
    /// Further extended options (-E), each after a comma.
    pub extended: &'static str,
    /// Of an external journal, KiB.
    pub journal_kib: Option<u64>,
    /// How it is mounted.
    pub data: DataMode,
}

/// Images that were recovered, each counted once whatever left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// By the engine, and judged by e2fsck then.
    pub engine: usize,
    /// By e2fsck, too.
    pub e2fsck: usize,
    /// By the kernel, too.
    pub kernel: usize,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.engine += other.engine;
        self.e2fsck += other.e2fsck;
        self.kernel += other.kernel;
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { engine, e2fsck, kernel } = self;
        write!(
            f,
            "{engine} distinct crash images, {e2fsck} recovered by e2fsck, {kernel} by the kernel"
        )
    }
}

type Hash = [u8; 32];

/// The images of all workloads.
#[derive(Debug, Default)]
pub struct Seen(Mutex<HashSet<Hash>>);

impl Seen {
    fn is_new(&self, hash: Hash) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(hash)
    }
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

/// Runs `workload` on a file system of `kib` KiB, and judges its crashes. Counts those images that are
/// not in `seen`.
///
/// # Errors
/// The first crash that does harm.
pub fn enumerate(
    workload: &Workload,
    kind: &Kind,
    (kib, effort): (u64, Effort),
    seen: &Seen,
) -> Result<Counts> {
    let directory = host::scratch()?;
    let disks = Disks::make(directory.path(), kind, kib)?;
    let mut options = writable();
    options.writing.data = Some(kind.data);
    let (filesystem, memory) = disks.mount_bytes(&disks.read()?, &options)?;
    (workload.prepare)(&filesystem)?;
    filesystem.unmount()?;
    let device = Arc::new(Recording::new(memory.contents()));
    let filesystem = disks.mount_recorded(&device, &options)?;
    let judge = Judge::new(directory.path(), disks, &memory.contents())?;
    let recorder = Recorder::new(&filesystem, &device)?;
    (workload.work)(&recorder)?;
    let states = recorder.states();
    if filesystem.is_writable() {
        filesystem.unmount()?;
        judge.disks.must_be_clean(&device.contents()).context("without a crash")?;
    }
    let content = match kind.data {
        DataMode::Journal if workload.whole => Content::Whole,
        DataMode::Journal | DataMode::Ordered => Content::Pieces,
        DataMode::Writeback => Content::Any,
    };
    judge_all(&device, (&states, content), (&judge, effort), seen)
}

fn judge_all(
    device: &Recording,
    (states, content): (&States, Content),
    (judge, effort): (&Judge, Effort),
    seen: &Seen,
) -> Result<Counts> {
    let (mut counts, mut index, mut result) = (Counts::default(), 0, Ok(()));
    // How much was promised of each image when it was judged.
    let mut judged: HashMap<Hash, usize> = HashMap::new();
    // Superblocks have no second copy that a reader could know to be newer: the kernel, too, needs
    // their 1024 bytes to be written whole.
    let sampling = Sampling { subsets: effort.subsets, torn: effort.torn, sector: 1024, seed: 1 };
    device.history().crashes(sampling, |crash| {
        index += 1;
        if index % effort.stride != 0 {
            return true;
        }
        let (hash, promised) = (Sha256::digest(&crash.bytes).into(), states.promised(crash.step));
        let before = judged.insert(hash, promised);
        if before == Some(promised) {
            return true;
        }
        let fresh = before.is_none() && seen.is_new(hash);
        let by = By {
            anybody: fresh,
            e2fsck: fresh && counts.engine % effort.e2fsck == 0,
            kernel: fresh && counts.engine % effort.kernel == 0 && judge.kernel.is_some(),
        };
        let place = format!("after {} writes, {}", crash.writes, crash.how);
        result = judge.judge(&crash.bytes, (states, crash.step), content, by).context(place);
        counts +=
            Counts { engine: fresh.into(), e2fsck: by.e2fsck.into(), kernel: by.kernel.into() };
        result.is_ok()
    });
    result.map(|()| counts)
}
