//! A verb, what it is tried on, and what can be looked at afterwards.

use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::{BlockDevice, MemDevice};
use fuse4fs_ext4::{DataMode, ErrorPolicy, Filesystem, MountOptions, Unobserved};
use fuse4fs_tests::command::succeed;
use fuse4fs_tests::crash::{STALE, writable};
use fuse4fs_tests::image::{self, e2fsck};

use crate::tools::*;

/// What is left of a verb that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Extent {
    /// Nothing.
    Whole,
    /// Perhaps a part of it: it takes several handles, or is several verbs.
    Parts,
}

/// The one verb that makes an orphan of a file with values in inodes of their own.
pub(crate) const UNLINK_WITH_ATTRIBUTES: &str = "unlink of a file with attributes";

/// A verb with its surroundings.
#[derive(Clone, Copy)]
pub(crate) struct Verb {
    pub(crate) name: &'static str,
    /// Makes what it works on.
    pub(crate) setup: fn(&Filesystem) -> Result<()>,
    /// The verb.
    pub(crate) act: fn(&Filesystem) -> Answer,
    /// Whether all of it was done.
    pub(crate) done: fn(&Filesystem) -> Result<()>,
    pub(crate) extent: Extent,
}

impl Verb {
    /// Whether e2fsck may ask after a crash: it ends an orphan, but not the inodes that hold the values
    /// of its attributes, and then finds these without a name (1.47, after the kernel's crashes too).
    pub(crate) fn leaves_values(&self) -> bool {
        self.name == UNLINK_WITH_ATTRIBUTES
    }
}

/// A kind of file system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// How mke2fs makes it.
    pub(crate) format: &'static [&'static str],
    /// Without a journal: none.
    pub(crate) data: Option<DataMode>,
}

impl Kind {
    pub(crate) fn has_log(&self) -> bool {
        self.data.is_some()
    }

    pub(crate) fn options(&self, errors: ErrorPolicy) -> MountOptions {
        let mut options = writable();
        options.writing.data = self.data;
        options.writing.errors = Some(errors);
        options
    }

    pub(crate) fn mount(
        &self,
        device: Arc<dyn BlockDevice>,
        errors: ErrorPolicy,
    ) -> Answer<Filesystem> {
        Filesystem::mount(device, &self.options(errors), &Unobserved)
    }

    /// A fresh file system of `kib` KiB, unmounted after `setup`.
    pub(crate) fn made(
        &self,
        kib: usize,
        setup: impl FnOnce(&Filesystem) -> Result<()>,
    ) -> Result<Vec<u8>> {
        let image = tempfile::NamedTempFile::new()?;
        std::fs::write(image.path(), vec![STALE; kib * 1024])?;
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-E", "nodiscard"]).args(self.format).arg(image.path());
        succeed(&mut mke2fs)?;
        let device = Arc::new(MemDevice::new(std::fs::read(image.path())?));
        let fs = self.mount(device.clone(), ErrorPolicy::Continue)?;
        setup(&fs).context("setting up")?;
        fs.unmount()?;
        Ok(device.contents())
    }
}

/// What there is whatever happens: it was synced before.
pub(crate) fn make_witness(fs: &Filesystem) -> Result<()> {
    let nr = filled(fs, "witness", 3000, 0x77)?;
    Ok(fs.fsync(nr, false)?)
}

pub(crate) fn see_witness(fs: &Filesystem) -> Result<()> {
    holds(fs, "witness", &[(3000, 0x77)])
}

/// What a look with mounting finds in `bytes`.
pub(crate) fn look<T>(bytes: Vec<u8>, see: impl FnOnce(&Filesystem) -> Result<T>) -> Result<T> {
    let options = MountOptions { read_only: true, ..writable() };
    let fs = Filesystem::mount(Arc::new(MemDevice::new(bytes)), &options, &Unobserved)?;
    see(&fs)
}

/// Whether the superblock, as it stands, tells of an error.
pub(crate) fn tells(bytes: Vec<u8>) -> Result<bool> {
    let options = MountOptions { read_only: true, noload: true, ..writable() };
    let fs = Filesystem::mount(Arc::new(MemDevice::new(bytes)), &options, &Unobserved)?;
    Ok(fs.facts().state & 2 != 0 && fs.facts().error_count > 0)
}

/// Whether inodes wait for their end that nobody will bring about: e2fsck and the kernel, too, leave
/// the orphans of a file system with errors to who answers questions.
pub(crate) fn is_stuck(bytes: Vec<u8>) -> Result<bool> {
    Ok(tells(bytes.clone())? && has_orphans(bytes)?)
}

/// Whether inodes wait for their end.
pub(crate) fn has_orphans(bytes: Vec<u8>) -> Result<bool> {
    look(bytes, |fs| Ok(fs.facts().last_orphan.is_some() || fs.facts().orphan_file.is_some()))
}

/// Whether e2fsck finds nothing.
pub(crate) fn must_be_clean(bytes: &[u8]) -> Result<()> {
    let image = tempfile::NamedTempFile::new()?;
    std::fs::write(image.path(), bytes)?;
    image::check(image.path())
}

/// What e2fsck makes of `bytes`: with the log replayed and what needs no question mended, or, if it
/// may ask (where there is no log or orphans are stuck), with all of it mended.
pub(crate) fn mended(bytes: &[u8], asks: bool) -> Result<Vec<u8>> {
    let image = tempfile::NamedTempFile::new()?;
    std::fs::write(image.path(), bytes)?;
    let how = if asks { "-y" } else { "-p" };
    let (code, said) = e2fsck(&["-f", how], image.path())?;
    ensure!(matches!(code, Some(0 | 1)), "e2fsck -f {how}: {said}");
    let mended = std::fs::read(image.path())?;
    must_be_clean(&mended).context("mended by e2fsck")?;
    Ok(mended)
}
