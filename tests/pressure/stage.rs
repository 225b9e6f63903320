//! Mounts whose servers are in control groups.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use fuse4fs_tests::connection::{self, Connection, Holdings};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::uring::Parameter;
use fuse4fs_tests::{command, watchdog};

use crate::groups::Groups;

/// A directory for images, and what there was before.
pub(crate) struct Stage {
    pub(crate) product: &'static Product,
    directory: tempfile::TempDir,
    before: Traces,
    ring: String,
}

/// A mount, and the kernel's end of it.
pub(crate) struct Shown {
    mounted: Mounted,
    pub(crate) connection: Connection,
}

impl Stage {
    /// For mounts over rings ("on") or /dev/fuse ("off").
    ///
    /// # Errors
    /// [`fuse4fs_tests::trial::Skip`] where that cannot be.
    pub(crate) fn new(ring: &str) -> Result<Self> {
        let product = Product::get()?;
        host::need_program("debugfs")?;
        connection::show()?;
        // On a disk: in memory its pages would be the groups'.
        let directory = tempfile::tempdir_in("/var/tmp")?;
        std::fs::create_dir(directory.path().join("mnt"))?;
        let before = Traces::now(product, directory.path())?;
        Ok(Self { product, directory, before, ring: ring.to_owned() })
    }

    /// Where everything is.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts `image` by a helper, and so a server, in `groups`.
    ///
    /// # Errors
    /// What the helper says.
    pub(crate) fn mount(&self, groups: &Groups, image: &Path, options: &str) -> Result<Shown> {
        self.mount_by(groups.inside(&self.product.helper()), image, options)
    }

    /// Mounts `image` by a server that is in other groups than those who use it, as a unit is.
    ///
    /// # Errors
    /// What the helper says.
    pub(crate) fn mount_outside(&self, image: &Path, options: &str) -> Result<Shown> {
        self.mount_by(Command::new(self.product.helper()), image, options)
    }

    fn mount_by(&self, mut helper: Command, image: &Path, options: &str) -> Result<Shown> {
        let enabled = if self.ring == "on" { "Y" } else { "N" };
        let _parameter = Parameter::set(enabled)?;
        let target = self.path().join("mnt");
        let log = self.path().join("log");
        let options =
            format!("rw,server=spawn,io_uring={},log={},{options}", self.ring, log.display(),);
        command::succeed(helper.arg(image).arg(&target).args(["-o", &options]))?;
        let mounted = Mounted::adopt(&target);
        mounted.path().metadata()?;
        Ok(Shown { connection: Connection::of(&target)?, mounted })
    }

    /// What the servers have said.
    ///
    /// # Errors
    /// When there is no log.
    pub(crate) fn said(&self) -> Result<String> {
        std::fs::read_to_string(self.path().join("log")).context("the server's log")
    }

    /// Fails if something was left behind.
    ///
    /// # Errors
    /// That.
    pub(crate) fn end(self) -> Result<()> {
        self.before.expect_unchanged(self.product, self.directory.path())
    }
}

impl Shown {
    pub(crate) fn path(&self) -> &Path {
        self.mounted.path()
    }

    /// KiB of memory that its server has.
    ///
    /// # Errors
    /// When there is none, or another as well.
    pub(crate) fn resident(&self, stage: &Stage) -> Result<u64> {
        Ok(Holdings::of(stage.product.server_running()?)?.resident_kib)
    }

    /// Unmounts, and waits until the kernel has forgotten it.
    ///
    /// # Errors
    /// What umount(8) says; that it hangs.
    pub(crate) fn unmount(self) -> Result<()> {
        let Self { mounted, connection } = self;
        watchdog::step("unmounting", Some(&connection), || mounted.unmount())?;
        connection.expect_gone(Duration::from_secs(5))
    }
}
