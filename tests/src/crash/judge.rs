//! One crash image, recovered by the engine, by e2fsck and by the kernel.

use std::path::Path;

use anyhow::{Context, Result};
use fuse4fs_ext4::MountOptions;

use super::disks::Disks;
use super::kernel::Kernel;
use super::states::{Content, State, States};
use super::writable;
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
    pub(super) disks: Disks,
    pub(super) kernel: Option<Kernel>,
}

impl Judge {
    /// Works with files in `directory`, on images like the one in `bytes`.
    pub(super) fn new(directory: &Path, disks: Disks, bytes: &[u8]) -> Result<Self> {
        let kernel = Kernel::new(directory, disks.split(bytes))?;
        Ok(Self { disks, kernel })
    }

    /// Recovers `bytes`, which a crash after the mark `mark` has left.
    pub(super) fn judge(
        &self,
        bytes: &[u8],
        (states, mark): (&States, u64),
        content: Content,
        by: By,
    ) -> Result<()> {
        let (filesystem, memory) = self.disks.mount_bytes(bytes, &writable())?;
        let ours = State::of(&filesystem)?;
        states.check(mark, &ours, content)?;
        if !by.anybody {
            return Ok(());
        }
        filesystem.unmount()?;
        self.disks.must_be_clean(&memory.contents()).context("recovered by the engine")?;
        if by.e2fsck {
            let theirs = self.by_e2fsck(bytes).context("recovered by e2fsck")?;
            expect_equal(&ours.tree.differences(&theirs)).context("ours and e2fsck's")?;
        }
        if let Some(kernel) = self.kernel.as_ref().filter(|_| by.kernel) {
            let recovered = kernel.recover(self.disks.split(bytes));
            let (theirs, left) = recovered.context("recovered by the kernel")?;
            left.map_or(Ok(()), |bytes| self.disks.must_be_clean(&bytes))
                .context("recovered by the kernel")?;
            expect_equal(&ours.tree.differences(&theirs)).context("ours and the kernel's")?;
        }
        Ok(())
    }

    fn by_e2fsck(&self, bytes: &[u8]) -> Result<Tree> {
        let recovered = self.disks.by_e2fsck(bytes)?;
        let options = MountOptions { read_only: true, ..writable() };
        let (filesystem, _) = self.disks.mount_bytes(&recovered, &options)?;
        Ok(State::of(&filesystem)?.tree)
    }
}
