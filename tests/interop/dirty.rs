//! Images copied while the kernel has them mounted: what we show is what the kernel recovers.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Filesystem, Notice, Observer};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::populate::pattern;
use fuse4fs_tests::tree::{Tree, expect_equal};
use fuse4fs_tests::{content, engine_walk, mount_walk, trial};
use libtest_mimic::Trial;

const fn recipe(name: &'static str, mke2fs: &'static str, options: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options }
}

const RECIPES: &[Recipe] = &[
    recipe("dirty-ext3-1k", "-t ext3 -b 1024 -J size=4", "commit=300"),
    recipe("dirty-ext4-1k", "-t ext4 -b 1024 -J size=4", "commit=300"),
    recipe("dirty-ext4-4k", "-t ext4 -b 4096 -J size=8", "commit=300"),
    recipe("dirty-ext4-32bit", "-t ext4 -b 4096 -O ^64bit -J size=8", "commit=300"),
    recipe("dirty-ext4-nocsum", "-t ext4 -b 1024 -O ^metadata_csum -J size=4", "commit=300"),
    recipe("dirty-ext4-v1", "-t ext4 -b 1024 -O ^metadata_csum -J size=4", "journal_checksum"),
    recipe("dirty-ext4-data", "-t ext4 -b 1024 -J size=8", "commit=300,data=journal"),
    recipe("dirty-ext4-async", "-t ext4 -b 4096 -J size=8", "journal_async_commit,data=writeback"),
    recipe("dirty-fast-1k", "-t ext4 -b 1024 -O fast_commit -J size=4", "commit=300"),
    recipe("dirty-fast-4k", "-t ext4 -b 4096 -O fast_commit -J size=8", "commit=300"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |recipe: &'static Recipe| {
        trial::test(format!("{}: the recovered tree is the kernel's", recipe.name), move || {
            the_recovered_tree_is_the_kernels(recipe)
        })
    };
    RECIPES.iter().map(trial).collect()
}

fn the_recovered_tree_is_the_kernels(recipe: &Recipe) -> Result<()> {
    host::need_root()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = recipe.make(directory.path())?;
    let dirty = directory.path().join("dirty.img");
    let mounted = Mounted::kernel(&image, &mountpoint, recipe.options)?;
    work(mounted.path(), || Ok(std::fs::copy(&image, &dirty).map(|_| ())?))?;
    mounted.unmount()?;

    let hash = content::sha256_of_file(&dirty)?;
    let notices = Notices::default();
    let device = Arc::new(FileDevice::new(File::open(&dirty)?)?);
    let fs = Filesystem::mount(device, &engine_walk::options(), &notices)?;
    let found = engine_walk::walk(&fs).context("the engine's tree")?;
    ensure!(content::sha256_of_file(&dirty)? == hash, "reading changed the image");
    notices.expect_a_replay(recipe.name.starts_with("dirty-fast"))?;

    Mounted::kernel(&dirty, &mountpoint, "rw")?.unmount()?;
    let mounted = Mounted::kernel(&dirty, &mountpoint, "ro")?;
    let mut tree = mount_walk::walk(mounted.path()).context("the kernel's tree")?;
    forget_times_of_replay(&mut tree);
    expect_equal(&tree.differences(&found))
}

/// Fast commits do not log a directory's times: the kernel stamps it with the time of its replay.
fn forget_times_of_replay(tree: &mut Tree) {
    for entry in tree.entries.values_mut().filter(|entry| entry.kind == "dir") {
        (entry.mtime, entry.ctime) = (None, None);
    }
}

#[derive(Default)]
struct Notices(Mutex<Vec<Notice>>);

impl Observer for Notices {
    fn notice(&self, notice: Notice) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
    }
}

impl Notices {
    fn expect_a_replay(&self, fast: bool) -> Result<()> {
        let heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let replayed = |notice: &Notice| match *notice {
            Notice::Replayed { transactions } => !fast && transactions > 0,
            Notice::FastCommits { commits } => fast && commits > 0,
            _ => false,
        };
        ensure!(heard.iter().any(replayed), "nothing was replayed: {heard:?}");
        Ok(())
    }
}

fn put(path: &Path, length: usize) -> Result<()> {
    let name = path.to_string_lossy();
    Ok(std::fs::write(path, pattern(&name, 0, length))?)
}

fn fsync(path: &Path) -> Result<()> {
    Ok(File::open(path)?.sync_all()?)
}

/// Changes of all kinds, most of them in the log only when `copy` is called.
fn work(root: &Path, copy: impl FnOnce() -> Result<()>) -> Result<()> {
    let at = |name: &str| root.join(name);
    std::fs::create_dir(at("base"))?;
    for nr in 0..12 {
        put(&at(&format!("base/f{nr}")), nr * 3000 + 5)?;
    }
    rustix::fs::syncfs(File::open(root)?)?;
    for nr in 0..20 {
        let path = at(&format!("new{nr}"));
        put(&path, nr * 1111)?;
        fsync(&path)?;
    }
    std::fs::remove_file(at("base/f3"))?;
    std::fs::rename(at("base/f4"), at("moved"))?;
    std::fs::rename(at("new7"), at("base/f5"))?;
    std::fs::hard_link(at("new8"), at("base/linked"))?;
    File::options().write(true).open(at("base/f9"))?.set_len(1000)?;
    let file = File::options().write(true).open(at("base/f10"))?;
    // Whole blocks that look like the log's own, past a hole.
    file.write_all_at(&[0xc0, 0x3b, 0x39, 0x98].repeat(2048), 1 << 20)?;
    file.sync_all()?;
    put(&at("reused"), 9000)?;
    for name in ["reused", "new8", "base/f9"] {
        fsync(&at(name))?;
    }
    copy()
}
