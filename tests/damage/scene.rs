//! An image with one of each thing to be damaged, and the mount through which it is noticed.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, populate};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Bytes of a block.
pub(crate) const BLOCK: u64 = 1024;
/// What is in `sound/file`, and is there whatever happens to the others.
const SOUND: usize = 50_000;
const RECIPE: &str = "-t ext4 -b 1024 -N 2048 -J size=4 -E lazy_itable_init=0";

/// Everything has a checksum.
pub(crate) const SUMS: Recipe = Recipe { name: "sums", mke2fs: RECIPE, tune2fs: "", options: "rw" };
/// Nothing has one: damage is what makes no sense.
pub(crate) const PLAIN: Recipe = Recipe {
    name: "plain",
    mke2fs: "-t ext4 -b 1024 -N 2048 -J size=4 -E lazy_itable_init=0 -O ^metadata_csum,^uninit_bg",
    tune2fs: "",
    options: "rw",
};

/// A directory with the image, a mount point `mnt` and a log.
pub(crate) struct Scene {
    pub(crate) product: &'static Product,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) image: PathBuf,
}

impl Scene {
    /// A populated image of `recipe`.
    pub(crate) fn new(recipe: &Recipe) -> Result<Self> {
        Self::within(host::scratch()?, recipe)
    }

    /// The same in `directory`.
    pub(crate) fn within(directory: tempfile::TempDir, recipe: &Recipe) -> Result<Self> {
        let product = Product::get()?;
        host::need_program("debugfs")?;
        let image = recipe.make(directory.path())?;
        let scene = Self { product, directory, image };
        std::fs::create_dir(scene.root())?;
        let mounted = Mounted::kernel(&scene.image, &scene.root(), "rw")?;
        fill(&scene.root())?;
        mounted.unmount()?;
        image::check(&scene.image)?;
        Ok(scene)
    }

    /// The mount point.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    /// Mounts it; `options` begin with ro or rw.
    pub(crate) fn mount(&self, options: &str) -> Result<Mounted> {
        let log = self.directory.path().join("log");
        let _ = std::fs::remove_file(&log);
        let options = format!("{options},log={}", log.display());
        self.product.mount(&self.image, &self.root(), &options)
    }

    /// The errors that the server has logged since it was mounted.
    pub(crate) fn errors(&self) -> Result<Vec<String>> {
        let said = std::fs::read_to_string(self.directory.path().join("log"))?;
        let errors = said.lines().filter(|line| line.contains("EXT4-fs error"));
        Ok(errors.map(str::to_owned).collect())
    }

    /// All that the server has logged since it was mounted.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.directory.path().join("log"))?)
    }

    /// Changes the image under the mount, and has the host forget what it knows of it.
    pub(crate) fn overwrite(&self, at: u64, bytes: &[u8]) -> Result<()> {
        OpenOptions::new().write(true).open(&self.image)?.write_all_at(bytes, at)?;
        forget()
    }

    /// The bytes of the image from `at`.
    pub(crate) fn bytes(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        File::open(&self.image)?.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// What debugfs(8) says to `request`.
    pub(crate) fn debugfs(&self, request: &str) -> Result<String> {
        command::sh("debugfs", ["-R".as_ref(), request.as_ref(), self.image.as_os_str()])
    }

    /// The value that `dumpe2fs -h` calls `name`.
    pub(crate) fn field(&self, name: &str) -> Result<Option<String>> {
        let said = command::sh("dumpe2fs", ["-h".as_ref(), self.image.as_os_str()])?;
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.map(|value| value.trim().to_owned()))
    }

    /// Has e2fsck repair what it likes, and look again.
    pub(crate) fn repair(&self) -> Result<()> {
        let (code, said) = image::e2fsck(&["-fy"], &self.image)?;
        ensure!(code.is_some_and(|code| code <= 1), "e2fsck -fy: {code:?}: {said}");
        image::check(&self.image)
    }
}

fn fill(root: &Path) -> Result<()> {
    for name in ["sound", "names", "inodes"] {
        std::fs::create_dir(root.join(name))?;
    }
    std::fs::write(root.join("sound/file"), sound())?;
    // Several blocks of names, and an index.
    for number in 0..300 {
        File::create(root.join(format!("names/{number:03}-{}", "n".repeat(20))))?;
    }
    // Several blocks of inodes.
    for number in 0..24 {
        std::fs::write(root.join(format!("inodes/{number}")), "content")?;
    }
    // More extents than an inode holds.
    let file = File::create(root.join("extents"))?;
    for number in 0..40 {
        file.write_all_at(&[b'x'; BLOCK as usize], number * 2 * BLOCK)?;
    }
    file.sync_all()?;
    // More attributes than an inode holds.
    std::fs::write(root.join("attributes"), "")?;
    let value = vec![b'v'; 700];
    rustix::fs::setxattr(root.join("attributes"), "user.long", &value, XattrFlags::empty())?;
    Ok(())
}

fn sound() -> Vec<u8> {
    populate::pattern("sound", 0, SOUND)
}

/// Fails unless what is not damaged can be read as ever, and written where it may be.
pub(crate) fn goes_on(root: &Path, written: bool) -> Result<()> {
    ensure!(std::fs::read(root.join("sound/file"))? == sound(), "sound/file has other bytes");
    let names = std::fs::read_dir(root.join("sound"))?.collect::<Result<Vec<_>, _>>()?;
    ensure!(!names.is_empty(), "no names in sound");
    rustix::fs::statvfs(root)?;
    if written {
        let file = File::create(root.join("sound/new")).context("a new file")?;
        file.write_all_at(b"new content", 0)?;
        file.sync_all().context("fsync")?;
        std::fs::remove_file(root.join("sound/new"))?;
    }
    Ok(())
}

/// Empties the host's caches: of the device's blocks, of names and of inodes.
pub(crate) fn forget() -> Result<()> {
    Ok(std::fs::write("/proc/sys/vm/drop_caches", "3")?)
}

/// The errno of a failure.
pub(crate) fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().as_ref().and_then(Errno::from_io_error)
}

/// The number behind `name` in what a program said.
pub(crate) fn number(said: &str, name: &str) -> Result<u64> {
    let rest = said.split_once(name).with_context(|| format!("no {name} in {said}"))?.1;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Ok(rest[..digits].parse()?)
}
