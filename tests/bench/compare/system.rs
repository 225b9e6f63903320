//! The file systems that are compared, and the loop device that all of them get.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::command;
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::Product;

use crate::Scale;
use crate::read;

/// What serves the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum System {
    /// The kernel's ext4.
    Kernel,
    /// fuse4fs over /dev/fuse.
    Classic,
    /// fuse4fs over io_uring.
    Ring,
    /// fuse2fs of e2fsprogs.
    Fuse2fs,
}

impl System {
    /// All of them, the kernel first.
    pub(crate) const ALL: [Self; 4] = [Self::Kernel, Self::Classic, Self::Ring, Self::Fuse2fs];

    /// The system that the command line calls `name`.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|system| system.title() == name).context("no such system")
    }

    /// Its name in tables.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Classic => "fuse4fs",
            Self::Ring => "fuse4fs-ring",
            Self::Fuse2fs => "fuse2fs",
        }
    }
}

/// Images, a mount point, and the system that is measured at the moment.
#[derive(Debug)]
pub(crate) struct Bench {
    product: &'static Product,
    /// Holds everything; removed at the end.
    directory: tempfile::TempDir,
    system: Cell<System>,
}

/// A mounted system.
#[derive(Debug)]
pub(crate) struct Mount {
    mounted: Option<Mounted>,
    device: PathBuf,
}

impl Bench {
    /// Makes the images.
    pub(crate) fn prepare(directory: &Path, scale: &Scale) -> Result<Self> {
        let product = Product::release()?;
        let directory = tempfile::tempdir_in(directory)?;
        std::fs::create_dir(directory.path().join("mnt"))?;
        let bench = Self { product, directory, system: Cell::new(System::Kernel) };
        read::populate(&bench, scale)?;
        Ok(bench)
    }

    /// From now on `system` is measured.
    pub(crate) fn choose(&self, system: System) {
        self.system.set(system);
    }

    /// A file beside the images.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A fresh ext4 of `mib` MiB, with mke2fs' defaults but everything initialized.
    pub(crate) fn make(&self, name: &str, mib: usize) -> Result<PathBuf> {
        let image = self.file(name);
        let _ = std::fs::remove_file(&image);
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        command::succeed(mke2fs.arg(&image).arg(format!("{mib}M")))?;
        Ok(image)
    }

    /// Mounts `image`, with nothing of it in any cache.
    pub(crate) fn mount(&self, image: &Path, options: &str) -> Result<Mount> {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--direct-io=on"]).arg(image);
        let device = PathBuf::from(command::succeed(&mut losetup)?.trim());
        let mut mount = Mount { mounted: None, device };
        drop_caches()?;
        let target = self.file("mnt");
        self.start(&mount.device, &target, options)?;
        mount.mounted = Some(Mounted::adopt(&target));
        Ok(mount)
    }

    fn start(&self, device: &Path, target: &Path, options: &str) -> Result<()> {
        let mut program = match self.system.get() {
            System::Kernel => {
                let mut mount = Command::new("mount");
                mount.args(["-i", "-t", "ext4", "-o", options]);
                mount
            }
            System::Classic | System::Ring => {
                let ring = self.system.get() == System::Ring;
                let ring = if ring { "io_uring=on" } else { "io_uring=off" };
                let mut helper = Command::new(self.product.helper());
                helper.arg("-o").arg(format!("{options},server=spawn,{ring}"));
                helper
            }
            System::Fuse2fs => {
                let mut fuse2fs = Command::new("fuse2fs");
                fuse2fs.arg("-o").arg(format!("{options},allow_other"));
                fuse2fs
            }
        };
        program.arg(device).arg(target).stdout(Stdio::null());
        ensure!(program.status()?.success(), "{program:?}");
        // fuse2fs goes into the background before it is mounted.
        let patience = Instant::now() + Duration::from_secs(10);
        while !command::run(Command::new("mountpoint").arg("-q").arg(target))?.status.success() {
            ensure!(Instant::now() < patience, "never mounted");
        }
        Ok(())
    }
}

impl Mount {
    /// The root of what is mounted.
    pub(crate) fn root(&self) -> Result<&Path> {
        self.mounted.as_ref().map(Mounted::path).context("not mounted")
    }

    /// Unmounts; what was written is on the device then.
    pub(crate) fn end(mut self) -> Result<()> {
        let Some(mounted) = self.mounted.take() else { bail!("not mounted") };
        mounted.unmount()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(self.mounted.take());
        // fuse2fs lets go of the device a little after the mount is gone.
        for _ in 0..500 {
            let mut detach = Command::new("losetup");
            if detach.arg("-d").arg(&self.device).status().is_ok_and(|status| status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Empties the host's caches of pages, names and inodes.
pub(crate) fn drop_caches() -> Result<()> {
    rustix::fs::sync();
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "3")?)
}

/// Runs a program to its end and tells how long that took, in seconds.
pub(crate) fn time(program: &mut Command) -> Result<f64> {
    let start = Instant::now();
    let status = program.stdout(Stdio::null()).status()?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(status.success(), "{program:?}: {status}");
    Ok(seconds)
}
