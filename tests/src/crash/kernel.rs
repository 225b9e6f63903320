//! Crash images recovered by the kernel's ext4.

use std::ffi::CString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::attached::Attached;
use crate::tree::Tree;
use crate::{host, mount_walk};

/// A file system that is mounted again and again.
#[derive(Debug)]
pub(super) struct Kernel {
    image: Attached,
    journal: Option<Attached>,
    place: PathBuf,
    flags: MountFlags,
}

impl Kernel {
    /// One with files in `directory` for file systems like the one in `image`, whose external journal
    /// is in `journal` unless that is empty. `None` for who may not mount. What this kernel cannot
    /// write (quotas, without CONFIG_QFMT_V2) it mounts read-only: it replays the log all the same.
    ///
    /// # Errors
    /// What losetup(8) says.
    pub(super) fn new(directory: &Path, (image, journal): (&[u8], &[u8])) -> Result<Option<Self>> {
        if host::need_root().is_err() {
            return Ok(None);
        }
        let place = directory.join("mounted");
        fs::create_dir(&place)?;
        let journal_device = match journal {
            [] => None,
            journal => Some(attach(directory.join("kernel-journal"), journal.len())?),
        };
        let mut kernel = Self {
            image: attach(directory.join("kernel"), image.len())?,
            journal: journal_device,
            place,
            flags: MountFlags::NOATIME,
        };
        kernel.write((image, journal))?;
        match kernel.mount() {
            Err(Errno::INVAL) => kernel.flags |= MountFlags::RDONLY,
            Err(error) => return Err(error.into()),
            Ok(()) => umount(&kernel.place)?,
        }
        Ok(Some(kernel))
    }

    fn write(&self, (image, journal): (&[u8], &[u8])) -> Result<()> {
        self.image.write(image)?;
        self.journal.as_ref().map_or(Ok(()), |device| device.write(journal))
    }

    fn mount(&self) -> rustix::io::Result<()> {
        let journal = self.journal.as_ref();
        let options = journal.map(|device| format!("journal_path={}", device.path.display()));
        let options = options.map(CString::new).transpose().map_err(|_| Errno::INVAL)?;
        mount(&self.image.path, &self.place, "ext4", self.flags, options.as_deref())
    }

    /// Mounts devices that hold these bytes and ends the mount: the tree that was seen, and all bytes
    /// that are left, if the kernel finished with all.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn recover(&self, bytes: (&[u8], &[u8])) -> Result<(Tree, Option<Vec<u8>>)> {
        self.write(bytes)?;
        self.mount()?;
        let tree = mount_walk::walk(&self.place);
        umount(&self.place)?;
        if self.flags.contains(MountFlags::RDONLY) {
            return Ok((tree?, None));
        }
        let mut left = fs::read(&self.image.backing)?;
        if let Some(journal) = &self.journal {
            left.extend(fs::read(&journal.backing)?);
        }
        Ok((tree?, Some(left)))
    }
}

fn attach(backing: PathBuf, size: usize) -> Result<Attached> {
    File::create(&backing)?.set_len(size as u64)?;
    Attached::new(backing)
}

/// A program that another thread starts holds descriptors of this one from its fork to its exec.
fn umount(place: &Path) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(5);
    loop {
        match unmount(place, UnmountFlags::empty()) {
            Err(Errno::BUSY) if Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(error) => {
                let _ = unmount(place, UnmountFlags::DETACH);
                return Err(error.into());
            }
            Ok(()) => return Ok(()),
        }
    }
}
