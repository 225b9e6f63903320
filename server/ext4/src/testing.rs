//! Small volumes and inodes made of bytes, for unit tests.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use zerocopy::FromZeros;

use crate::caller::Caller;
use crate::device::{BlockDevice, MemDevice};
use crate::disk::checksum::ChecksumSeed;
use crate::disk::superblock::{self, RawSuperblock};
use crate::error::{CorruptKind, Error, Result};
use crate::features::{Incompat, RoCompat};
use crate::filesystem::{Filesystem, MountOptions, WriteOptions};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, InodeNr, in_memory};
use crate::inode::{FileKind, Inode, InodeFlags, Timestamp};
use crate::ops::NewInode;
use crate::source::Source;
use crate::superblock::Facts;
use crate::volume::Volume;

/// The seed of the volume and of its inodes.
pub(crate) const SEED: ChecksumSeed = ChecksumSeed::new(0x1234_5678);

/// A device under construction: 1 KiB blocks, ea_inode, and metadata_csum if asked for.
pub(crate) struct Image {
    bytes: Vec<u8>,
    geometry: Geometry,
}

impl Image {
    pub(crate) fn new(blocks: u64) -> Self {
        let mut raw = RawSuperblock::new_zeroed();
        raw.magic.set(superblock::MAGIC);
        raw.rev_level.set(1);
        raw.blocks_count_lo.set(u32::try_from(blocks).unwrap());
        raw.first_data_block.set(1);
        raw.blocks_per_group.set(8192);
        raw.clusters_per_group.set(8192);
        raw.inodes_per_group.set(1024);
        raw.inodes_count.set(1024 * u32::try_from(blocks.div_ceil(8192)).unwrap());
        raw.first_ino.set(11);
        raw.inode_size.set(256);
        let size = blocks * 1024;
        let mut geometry = Geometry::new(&raw, superblock::OFFSET, size).unwrap();
        geometry.features.incompat = Incompat::EA_INODE;
        geometry.checksum_seed = SEED;
        Self { bytes: vec![0; in_memory(size)], geometry }
    }

    pub(crate) fn with_checksums(mut self) -> Self {
        self.geometry.features.ro_compat = RoCompat::METADATA_CSUM;
        self
    }

    /// Changes facts of the superblock.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Geometry)) -> Self {
        change(&mut self.geometry);
        self
    }

    /// Writes `bytes` at the start of `block`.
    pub(crate) fn put(mut self, block: usize, bytes: &[u8]) -> Self {
        let start = block * 1024;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub(crate) fn volume(self) -> Volume {
        let source = Source::new(Arc::new(MemDevice::new(self.bytes)), self.geometry.block_size);
        Volume::new(self.geometry, source, 1 << 20)
    }
}

/// A device on which nobody may wait, unless it is told otherwise.
pub(crate) struct Hurried {
    device: Arc<MemDevice>,
    pub(crate) patient: AtomicBool,
}

impl Hurried {
    pub(crate) fn new(device: Arc<MemDevice>) -> Self {
        Self { device, patient: AtomicBool::default() }
    }
}

impl BlockDevice for Hurried {
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
    fn may_wait(&self) -> bool {
        self.patient.load(Ordering::Relaxed)
    }
    fn decide(&self) -> bool {
        self.may_wait()
    }
}

/// The superuser, at a time that e2fsck does not take for a link of the orphan list.
pub(crate) const ROOT: Caller = Caller {
    uid: 0,
    gid: 0,
    group: None,
    umask: 0,
    now: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
};

/// Makes an empty file in the root directory.
pub(crate) fn new_file(filesystem: &Filesystem, name: &[u8]) -> InodeNr {
    let kind = FileKind::Regular;
    let new = NewInode { kind, permissions: 0o644, rdev: (0, 0), target: b"", label: None };
    filesystem.create(&ROOT, InodeNr::ROOT, name, &new).unwrap().nr
}

/// A mounted file system on `volume`.
pub(crate) fn filesystem(volume: Volume) -> Filesystem {
    let facts = Facts::new(&RawSuperblock::new_zeroed());
    Filesystem {
        volume,
        facts,
        usage: OnceLock::new(),
        writing: WriteOptions::default(),
        closed: false.into(),
        claim: None,
    }
}

/// A regular file with number 12, empty and without blocks.
pub(crate) fn inode(flags: u32) -> Inode {
    Inode {
        nr: InodeNr::new(12),
        generation: 0,
        kind: FileKind::Regular,
        permissions: 0o644,
        uid: 0,
        gid: 0,
        project: 0,
        links: 1,
        size: 0,
        blocks512: 0,
        flags: InodeFlags::new(flags),
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
        ctime: Timestamp::default(),
        crtime: None,
        version: 1,
        rdev: (0, 0),
        xattr_block: None,
        block: [0; 60],
        tail: Box::default(),
        checksum_seed: SEED,
    }
}

/// An inode whose i_block begins with `bytes`.
pub(crate) fn inode_with(flags: u32, bytes: &[u8]) -> Inode {
    let mut inode = inode(flags);
    inode.block[..bytes.len()].copy_from_slice(bytes);
    inode
}

/// The code of the corruption that `result` must be.
pub(crate) fn code<T>(result: Result<T>) -> &'static str {
    kind(result).code()
}

/// The corruption that `result` must be.
pub(crate) fn kind<T>(result: Result<T>) -> CorruptKind {
    match result {
        Err(Error::Corrupt { kind, .. }) => kind,
        Err(other) => panic!("expected corruption, got {other}"),
        Ok(_) => panic!("expected corruption, got an answer"),
    }
}

/// Bytes of little-endian 32-bit words.
pub(crate) fn words(words: impl IntoIterator<Item = u32>) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Block `nr` as callers name it.
pub(crate) fn block(nr: u64) -> BlockNr {
    BlockNr::new(nr)
}

/// A device with a fresh file system of `kib` KiB that mke2fs made with `options`.
pub(crate) fn mkfs(kib: u64, options: &[&str]) -> Arc<MemDevice> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let mut command = std::process::Command::new("mke2fs");
    command.args(["-q", "-F"]).args(options).arg(file.path()).arg(format!("{kib}k"));
    let output = command.output().expect("mke2fs of e2fsprogs is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Arc::new(MemDevice::new(std::fs::read(file.path()).unwrap()))
}

/// Runs debugfs on the device with commands from `input`, and returns what it says. Changes that it
/// makes are on the device afterwards.
pub(crate) fn debugfs(device: &Arc<MemDevice>, input: &str) -> String {
    use crate::device::BlockDevice;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), device.contents()).unwrap();
    let commands = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(commands.path(), input).unwrap();
    let mut command = std::process::Command::new("debugfs");
    command.args(["-w", "-f"]).arg(commands.path()).arg(file.path());
    let output = command.output().expect("debugfs of e2fsprogs is needed");
    device.write_at(0, &std::fs::read(file.path()).unwrap()).unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lets e2fsck repair what the commands of debugfs left undone.
pub(crate) fn repair(device: &Arc<MemDevice>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), device.contents()).unwrap();
    let mut command = std::process::Command::new("e2fsck");
    let output = command.args(["-f", "-y"]).arg(file.path()).output().expect("e2fsck is needed");
    assert!(output.status.code().is_some_and(|code| code <= 1));
    device.write_at(0, &std::fs::read(file.path()).unwrap()).unwrap();
}

/// The volume on a device that [`mkfs`] made, for writing.
pub(crate) fn volume_on(device: &Arc<MemDevice>) -> Volume {
    let superblock = crate::superblock::Superblock::read(&**device, None).unwrap();
    let source = Source::new(Arc::<MemDevice>::clone(device), superblock.geometry.block_size);
    let volume = Volume::new(superblock.geometry, source, 1 << 20);
    crate::alloc::open(&volume, &superblock.facts).unwrap();
    volume
}

/// Writes everything home and lets e2fsck judge; what it says if it complains.
pub(crate) fn fsck(volume: &Volume, device: &MemDevice) {
    volume.write_home().unwrap();
    fsck_bytes(&device.contents());
}

/// Lets e2fsck judge the image `bytes`.
pub(crate) fn fsck_bytes(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut command = std::process::Command::new("e2fsck");
    let output = command.args(["-f", "-n"]).arg(file.path()).output().expect("e2fsck is needed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
}

/// What e2fsck -fp makes of the image `bytes`: it replays the log and mends what needs no question.
pub(crate) fn preened(bytes: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut command = std::process::Command::new("e2fsck");
    let output = command.args(["-f", "-p"]).arg(file.path()).output().expect("e2fsck is needed");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    std::fs::read(file.path()).unwrap()
}

/// Mounts what [`mkfs`] made for writing, through its journal.
pub(crate) fn mounted(device: &Arc<MemDevice>) -> Filesystem {
    Filesystem::mount(device.clone(), &writable(), &crate::observer::Unobserved).unwrap()
}

/// The usual options of a writable mount.
pub(crate) fn writable() -> MountOptions {
    MountOptions {
        read_only: false,
        noload: false,
        superblock: None,
        journal: None,
        cache_bytes: 1 << 20,
        writing: WriteOptions::default(),
    }
}
