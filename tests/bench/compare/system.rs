//! The file systems that are compared, and the loop device that all of them get.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::command;
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::uring::Parameter;

use crate::limit::Limit;
use crate::{Options, Scale, null, read};

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
    /// No file system, over /dev/fuse.
    Null,
    /// No file system, over io_uring.
    NullRing,
}

impl System {
    /// All of them, the kernel first.
    pub(crate) const ALL: [Self; 6] =
        [Self::Kernel, Self::Classic, Self::Ring, Self::Fuse2fs, Self::Null, Self::NullRing];

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
            Self::Null => "null",
            Self::NullRing => "null-ring",
        }
    }

    /// The transport of ours by itself.
    pub(crate) const fn bare(self) -> Option<Self> {
        match self {
            Self::Classic => Some(Self::Null),
            Self::Ring => Some(Self::NullRing),
            Self::Kernel | Self::Fuse2fs | Self::Null | Self::NullRing => None,
        }
    }

    /// Whether requests come through io_uring.
    const fn has_rings(self) -> bool {
        matches!(self, Self::Ring | Self::NullRing)
    }
}

/// Images, a mount point, and the system that is measured at the moment.
#[derive(Debug)]
pub(crate) struct Bench {
    product: &'static Product,
    /// Holds everything; removed at the end.
    directory: tempfile::TempDir,
    system: Cell<System>,
    limit: RefCell<Arc<Limit>>,
    patience: Duration,
    /// Mount options of ours, behind a comma.
    ours: String,
}

/// A mounted system.
#[derive(Debug)]
pub(crate) struct Mount {
    mounted: Option<Mounted>,
    device: PathBuf,
    null: Option<Child>,
}

impl Bench {
    /// Makes the images.
    pub(crate) fn prepare(options: &Options, scale: &Scale) -> Result<Self> {
        let product = Product::release()?;
        let directory = tempfile::tempdir_in(&options.directory)?;
        std::fs::create_dir(directory.path().join("mnt"))?;
        let (patience, ours) = (options.limit, options.ours.clone());
        let limit = RefCell::new(Arc::new(Limit::of(patience)));
        let system = Cell::new(System::Kernel);
        let bench = Self { product, directory, system, limit, patience, ours };
        read::populate(&bench, scale)?;
        Ok(bench)
    }

    /// From now on `system` is measured, for no longer than one may take.
    pub(crate) fn choose(&self, system: System) {
        self.system.set(system);
        self.limit.replace(Arc::new(Limit::of(self.patience)));
    }

    /// What is measured now.
    pub(crate) fn chosen(&self) -> System {
        self.system.get()
    }

    /// How long the measurement under way may take.
    pub(crate) fn limit(&self) -> Arc<Limit> {
        Arc::clone(&self.limit.borrow())
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
        self.mount_with(image, options, "")
    }

    /// The same, where it is ours with the options `ours` as well, which have a comma before them.
    pub(crate) fn mount_with(&self, image: &Path, options: &str, ours: &str) -> Result<Mount> {
        let mut losetup = Command::new("losetup");
        losetup.args(["--find", "--show", "--direct-io=on"]).arg(image);
        let device = PathBuf::from(command::succeed(&mut losetup)?.trim());
        let mut mount = Mount { mounted: None, device, null: None };
        drop_caches()?;
        let (system, target) = (self.system.get(), self.file("mnt"));
        // It keeps the rings that it has once it answers.
        let rings = if system.has_rings() { Some(Parameter::set("Y")?) } else { None };
        match self.program(options, ours) {
            Some(mut program) => {
                program.arg(&mount.device).arg(&target).stdout(Stdio::null());
                ensure!(program.status()?.success(), "{program:?}");
            }
            None => mount.null = Some(null::start(&target, system.has_rings())?),
        }
        // fuse2fs goes into the background before it is mounted, and the null server takes its time.
        let patience = Instant::now() + Duration::from_secs(10);
        while !command::run(Command::new("mountpoint").arg("-q").arg(&target))?.status.success() {
            ensure!(Instant::now() < patience, "never mounted");
        }
        drop(rings);
        mount.mounted = Some(Mounted::adopt(&target));
        Ok(mount)
    }

    /// What mounts a file system of the present system.
    fn program(&self, options: &str, ours: &str) -> Option<Command> {
        Some(match self.system.get() {
            System::Null | System::NullRing => return None,
            System::Kernel => {
                let mut mount = Command::new("mount");
                mount.args(["-i", "-t", "ext4", "-o", options]);
                mount
            }
            System::Classic | System::Ring => {
                let ring = self.system.get().has_rings();
                let ring = if ring { "io_uring=on" } else { "io_uring=off" };
                let mut helper = Command::new(self.product.helper());
                helper.arg("-o").arg(format!("{options},server=spawn,{ring}{}{ours}", self.ours));
                helper
            }
            System::Fuse2fs => {
                let mut fuse2fs = Command::new("fuse2fs");
                fuse2fs.arg("-o").arg(format!("{options},allow_other"));
                fuse2fs
            }
        })
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
        if let Some(mut null) = self.null.take() {
            let _ = null.kill();
            let _ = null.wait();
        }
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

/// Empties those of names and inodes only.
pub(crate) fn drop_names() -> Result<()> {
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "2")?)
}
