//! A file as a loop device, for programs and the kernel, which want block devices.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;

use crate::command::sh;

/// It stays for as long as it is open or mounted, however this process ends.
#[derive(Debug)]
pub(super) struct Attached {
    device: File,
    /// Of the device.
    pub(super) path: PathBuf,
    pub(super) backing: PathBuf,
}

impl Attached {
    /// Attaches `backing`.
    ///
    /// # Errors
    /// What losetup(8) says.
    pub(super) fn new(backing: PathBuf) -> Result<Self> {
        let path = sh("losetup", ["--find".as_ref(), "--show".as_ref(), backing.as_os_str()])?;
        let path = PathBuf::from(path.trim_end());
        let device = OpenOptions::new().read(true).write(true).open(&path);
        sh("losetup", ["--detach".as_ref(), path.as_os_str()])?;
        Ok(Self { device: device?, path, backing })
    }

    /// Makes the first bytes `bytes`.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<()> {
        // By the device, so that its pages are what is written, and then past them, as data are read.
        self.device.write_all_at(bytes, 0)?;
        Ok(self.device.sync_all()?)
    }
}
