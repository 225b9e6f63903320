//! Crash images recovered by the kernel's ext4.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::command::sh;
use crate::tree::Tree;
use crate::{host, mount_walk};

/// A loop device that is mounted again and again.
#[derive(Debug)]
pub(super) struct Kernel {
    device: File,
    path: PathBuf,
    backing: PathBuf,
    place: PathBuf,
    flags: MountFlags,
}

impl Kernel {
    /// One on a file in `directory` for file systems like the one in `bytes`. `None` for who may not
    /// mount. What this kernel cannot write (quotas, without CONFIG_QFMT_V2) it mounts read-only: it
    /// replays the log all the same.
    ///
    /// # Errors
    /// What losetup(8) says.
    pub(super) fn new(directory: &Path, bytes: &[u8]) -> Result<Option<Self>> {
        if host::need_root().is_err() {
            return Ok(None);
        }
        let (backing, place) = (directory.join("kernel"), directory.join("mounted"));
        File::create(&backing)?.set_len(bytes.len() as u64)?;
        fs::create_dir(&place)?;
        let path = sh("losetup", ["--find".as_ref(), "--show".as_ref(), backing.as_os_str()])?;
        let path = PathBuf::from(path.trim_end());
        let device = OpenOptions::new().read(true).write(true).open(&path);
        // It stays for as long as it is open or mounted, however this process ends.
        sh("losetup", ["--detach".as_ref(), path.as_os_str()])?;
        let flags = MountFlags::NOATIME;
        let mut kernel = Self { device: device?, path, backing, place, flags };
        kernel.write(bytes)?;
        match kernel.mount() {
            Err(Errno::INVAL) => kernel.flags |= MountFlags::RDONLY,
            Err(error) => return Err(error.into()),
            Ok(()) => umount(&kernel.place)?,
        }
        Ok(Some(kernel))
    }

    fn write(&self, bytes: &[u8]) -> Result<()> {
        // By the device, so that its pages are what is written, and then past them, as data are read.
        self.device.write_all_at(bytes, 0)?;
        Ok(self.device.sync_all()?)
    }

    fn mount(&self) -> rustix::io::Result<()> {
        mount(&self.path, &self.place, "ext4", self.flags, None)
    }

    /// Mounts a device that holds `bytes` and ends the mount: the tree that was seen, and the file
    /// that holds what is left, if the kernel finished with all.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn recover(&self, bytes: &[u8]) -> Result<(Tree, Option<&Path>)> {
        self.write(bytes)?;
        self.mount()?;
        let tree = mount_walk::walk(&self.place);
        umount(&self.place)?;
        let left = (!self.flags.contains(MountFlags::RDONLY)).then_some(&*self.backing);
        Ok((tree?, left))
    }
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
