//! The devices of a file system: itself and, behind it in the same bytes, its external journal.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Result, ensure};
use fuse4fs_ext4::device::{BlockDevice, MemDevice, Part, Recording};
use fuse4fs_ext4::{Filesystem, MountOptions, Unobserved};

use super::{Kind, STALE};
use crate::attached::Attached;
use crate::command::succeed;
use crate::image;

const UUID: &str = "6f8a1c5e-0f43-4f0e-9d77-0a5f3c1b2e4d";
const JOURNAL_UUID: &str = "0b9d3f6e-5a1c-4c52-8b1e-7d6c2a4f9e10";

/// How the bytes are divided, and files for programs that look at them.
#[derive(Debug)]
pub(super) struct Disks {
    /// Bytes of the file system.
    size: usize,
    image: PathBuf,
    /// If it has one.
    journal: Option<PathBuf>,
}

impl Disks {
    /// The same file system each time, but for the times in it: `kib` KiB, in files of `directory`.
    ///
    /// # Errors
    /// What mke2fs and losetup say.
    pub(super) fn make(directory: &Path, kind: &Kind, kib: u64) -> Result<Self> {
        let size = usize::try_from(kib)? * 1024;
        let image = directory.join("image");
        fs::write(&image, vec![STALE; size])?;
        let extended = format!("nodiscard,hash_seed={UUID}{}", kind.extended);
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-U", UUID, "-E", &extended]).args(kind.format);
        let Some(journal_kib) = kind.journal_kib else {
            succeed(mke2fs.arg(&image))?;
            return Self::new(size, image, None);
        };
        let journal = directory.join("journal");
        fs::write(&journal, vec![STALE; usize::try_from(journal_kib)? * 1024])?;
        let mut make_journal = Command::new("mke2fs");
        make_journal.args(["-q", "-F", "-b", "1024", "-O", "journal_dev", "-U", JOURNAL_UUID]);
        succeed(make_journal.arg(&journal))?;
        // mke2fs takes block devices only.
        crate::host::need_root()?;
        let attached = Attached::new(journal.clone())?;
        let device = format!("device={}", attached.path.display());
        succeed(mke2fs.arg("-J").arg(device).arg(&image))?;
        // Closing it writes what it holds only if nobody else looks at it at this moment.
        attached.bytes()?;
        Self::new(size, image, Some(journal))
    }

    fn new(size: usize, image: PathBuf, journal: Option<PathBuf>) -> Result<Self> {
        ensure!(fs::metadata(&image)?.len() == size as u64, "mke2fs changed the size");
        Ok(Self { size, image, journal })
    }

    /// What is in the files.
    pub(super) fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = fs::read(&self.image)?;
        if let Some(journal) = &self.journal {
            bytes.extend(fs::read(journal)?);
        }
        Ok(bytes)
    }

    /// Puts `bytes` into the files.
    fn write(&self, bytes: &[u8]) -> Result<()> {
        let (image, journal) = self.split(bytes);
        fs::write(&self.image, image)?;
        if let Some(path) = &self.journal {
            fs::write(path, journal)?;
        }
        Ok(())
    }

    /// The file system's bytes and the journal's.
    pub(super) fn split<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        bytes.split_at(self.size.min(bytes.len()))
    }

    /// Mounts what is recorded.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn mount_recorded(
        &self,
        recording: &Arc<Recording>,
        options: &MountOptions,
    ) -> Result<Filesystem> {
        let part = |range| -> Arc<Part> { Arc::new(recording.part(range)) };
        let (size, end) = (self.size as u64, recording.size());
        let journal = self.journal.as_ref().map(|_| part(size..end));
        mount(part(0..size), journal.map(|part| -> Arc<dyn BlockDevice> { part }), options)
    }

    /// Mounts `bytes`; the devices hold what becomes of them.
    ///
    /// # Errors
    /// The engine's.
    pub(super) fn mount_bytes(
        &self,
        bytes: &[u8],
        options: &MountOptions,
    ) -> Result<(Filesystem, InMemory)> {
        let (image, journal) = self.split(bytes);
        let device = |bytes: &[u8]| Arc::new(MemDevice::new(bytes.to_vec()));
        let memory = InMemory { image: device(image), journal: device(journal) };
        let journal = self.journal.as_ref().map(|_| memory.journal.clone());
        let journal = journal.map(|device| -> Arc<dyn BlockDevice> { device });
        Ok((mount(memory.image.clone(), journal, options)?, memory))
    }

    /// Nothing to repair in `bytes`.
    ///
    /// # Errors
    /// What e2fsck says.
    pub(super) fn must_be_clean(&self, bytes: &[u8]) -> Result<()> {
        self.write(bytes)?;
        let (code, said) = self.e2fsck("-fn")?;
        ensure!(code == Some(0), "e2fsck -fn: {said}");
        Ok(())
    }

    /// What e2fsck makes of `bytes`, which leave it nothing to do but to replay.
    ///
    /// # Errors
    /// What e2fsck says.
    pub(super) fn by_e2fsck(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        self.write(bytes)?;
        let (code, said) = self.e2fsck("-fp")?;
        ensure!(matches!(code, Some(0 | 1)), "e2fsck -fp: {said}");
        let recovered = self.read()?;
        self.must_be_clean(&recovered)?;
        Ok(recovered)
    }

    fn e2fsck(&self, how: &str) -> Result<(Option<i32>, String)> {
        let journal = self.journal.iter().flat_map(|path| ["-j".as_ref(), path.as_os_str()]);
        let how: Vec<&OsStr> = journal.chain([how.as_ref()]).collect();
        image::e2fsck(&how, &self.image)
    }
}

fn mount(
    image: Arc<dyn BlockDevice>,
    journal: Option<Arc<dyn BlockDevice>>,
    options: &MountOptions,
) -> Result<Filesystem> {
    let options = MountOptions { journal, ..options.clone() };
    Ok(Filesystem::mount(image, &options, &Unobserved)?)
}

/// Devices in memory.
#[derive(Debug)]
pub(super) struct InMemory {
    image: Arc<MemDevice>,
    journal: Arc<MemDevice>,
}

impl InMemory {
    /// All bytes as they are now.
    pub(super) fn contents(&self) -> Vec<u8> {
        [self.image.contents(), self.journal.contents()].concat()
    }
}
