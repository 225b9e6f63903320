//! One crash image, recovered by the engine, by e2fsck and by the kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::MemDevice;
use fuse4fs_ext4::{Filesystem, MountOptions, Unobserved};

use super::kernel::Kernel;
use super::states::{Content, State, States};
use super::writable;
use crate::command::run;
use crate::image;
use crate::tree::{Tree, expect_equal};

/// By whom an image is recovered, besides the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct By {
    /// If not, the image was judged before, and only what the engine shows counts.
    pub(super) anybody: bool,
    pub(super) e2fsck: bool,
    pub(super) kernel: bool,
}

/// What judges images of one workload.
#[derive(Debug)]
pub(super) struct Judge {
    image: PathBuf,
    pub(super) kernel: Option<Kernel>,
}

impl Judge {
    /// Works with files in `directory`, on images like the one in `bytes`.
    pub(super) fn new(directory: &Path, bytes: &[u8]) -> Result<Self> {
        Ok(Self { image: directory.join("image"), kernel: Kernel::new(directory, bytes)? })
    }

    /// Nothing to repair on a device that holds `bytes`.
    pub(super) fn must_be_clean(&self, bytes: &[u8]) -> Result<()> {
        fs::write(&self.image, bytes)?;
        image::check(&self.image)
    }

    /// Recovers `bytes`, which a crash after the mark `mark` has left.
    pub(super) fn judge(
        &self,
        bytes: Vec<u8>,
        (states, mark): (&States, u64),
        content: Content,
        by: By,
    ) -> Result<()> {
        let device = Arc::new(MemDevice::new(bytes.clone()));
        let filesystem = Filesystem::mount(device.clone(), &writable(), &Unobserved)?;
        let ours = State::of(&filesystem)?;
        states.check(mark, &ours, content)?;
        if !by.anybody {
            return Ok(());
        }
        filesystem.unmount()?;
        self.must_be_clean(&device.contents()).context("recovered by the engine")?;
        if by.e2fsck {
            let theirs = self.by_e2fsck(&bytes).context("recovered by e2fsck")?;
            expect_equal(&ours.tree.differences(&theirs)).context("ours and e2fsck's")?;
        }
        if let Some(kernel) = self.kernel.as_ref().filter(|_| by.kernel) {
            let (theirs, left) = kernel.recover(&bytes).context("recovered by the kernel")?;
            left.map_or(Ok(()), image::check).context("recovered by the kernel")?;
            expect_equal(&ours.tree.differences(&theirs)).context("ours and the kernel's")?;
        }
        Ok(())
    }

    fn by_e2fsck(&self, bytes: &[u8]) -> Result<Tree> {
        fs::write(&self.image, bytes)?;
        let output = run(Command::new("e2fsck").args(["-f", "-p"]).arg(&self.image))?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(matches!(output.status.code(), Some(0 | 1)), "e2fsck -fp: {said}");
        image::check(&self.image)?;
        let device = Arc::new(MemDevice::new(fs::read(&self.image)?));
        let options = MountOptions { read_only: true, ..writable() };
        let filesystem = Filesystem::mount(device, &options, &Unobserved)?;
        Ok(State::of(&filesystem)?.tree)
    }
}
