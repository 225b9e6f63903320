//! A file as a loop device, for programs and the kernel, which want block devices.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use anyhow::Result;

use crate::command::sh;

/// It stays for as long as it is open or mounted, however this process ends.
#[derive(Debug)]
pub struct Attached {
    device: File,
    /// Of the device.
    pub path: PathBuf,
    /// The file.
    pub backing: PathBuf,
}

impl Attached {
    /// Attaches `backing`.
    ///
    /// # Errors
    /// What losetup(8) says.
    pub fn new(backing: PathBuf) -> Result<Self> {
        let options = ["--find", "--show", "--partscan"].map(AsRef::as_ref);
        let path = sh("losetup", options.into_iter().chain([backing.as_os_str()]))?;
        let path = PathBuf::from(path.trim_end());
        let device = OpenOptions::new().read(true).write(true).open(&path);
        sh("losetup", ["--detach".as_ref(), path.as_os_str()])?;
        Ok(Self { device: device?, path, backing })
    }

    /// Makes partition `number` of it, of so many bytes from `start` on, all multiples of 512.
    ///
    /// # Errors
    /// What addpart(8) says.
    pub fn add_partition(&self, number: u32, start: u64, bytes: u64) -> Result<PathBuf> {
        let words = [number.into(), start / 512, bytes / 512].map(|word| word.to_string());
        let device = self.path.display().to_string();
        sh("addpart", [device].into_iter().chain(words))?;
        Ok(PathBuf::from(format!("{}p{number}", self.path.display())))
    }

    /// All bytes of the file.
    ///
    /// # Errors
    /// The device's and the file's.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        self.device.sync_all()?;
        Ok(std::fs::read(&self.backing)?)
    }

    /// Makes the first bytes `bytes`.
    ///
    /// # Errors
    /// The device's.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        // By the device, so that its pages are what is written, and then past them, as data are read.
        self.device.write_all_at(bytes, 0)?;
        Ok(self.device.sync_all()?)
    }
}
