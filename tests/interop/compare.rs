//! One image, three tellers: the kernel's ext4, the engine in this process, and a fuse4fs mount.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::tree::{Counts, Tree, expect_equal};
use fuse4fs_tests::{content, engine_walk, image, mount_walk, populate, trial};
use libtest_mimic::Trial;

/// A finished image and what the kernel shows of it.
struct Sample {
    image: PathBuf,
    mountpoint: PathBuf,
    tree: Tree,
    counts: Counts,
    hash: String,
    // Last, so that it is removed last.
    _directory: tempfile::TempDir,
}

/// Making an image takes longer than reading it, so both comparisons stand on the same one.
struct Shared {
    recipe: &'static Recipe,
    sample: Mutex<Option<Arc<Sample>>>,
}

impl Shared {
    fn sample(&self) -> Result<Arc<Sample>> {
        let mut sample = self.sample.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = &*sample {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(Sample::make(self.recipe)?);
        Ok(Arc::clone(sample.insert(made)))
    }
}

pub(crate) fn trials(recipe: &'static Recipe) -> Vec<Trial> {
    let engine = Arc::new(Shared { recipe, sample: Mutex::default() });
    let mount = Arc::clone(&engine);
    vec![
        trial::test(format!("{}: engine and kernel show the same", recipe.name), move || {
            engine.sample()?.compare_engine()
        }),
        trial::test(format!("{}: a mount and the kernel show the same", recipe.name), move || {
            let product = Product::get()?;
            mount.sample()?.compare_mount(product)
        }),
    ]
}

impl Sample {
    fn make(recipe: &Recipe) -> Result<Self> {
        host::need_root()?;
        host::need_program("mke2fs")?;
        let directory = tempfile::tempdir()?;
        let mountpoint = directory.path().join("mnt");
        std::fs::create_dir(&mountpoint)?;
        let image = recipe.make(directory.path())?;
        fill(&image, &mountpoint, recipe.options)?;
        recipe.finish(&image)?;
        let mounted = Mounted::kernel(&image, &mountpoint, "ro")?;
        let tree = mount_walk::walk(mounted.path()).context("the kernel's tree")?;
        let counts = mount_walk::counts(mounted.path())?;
        mounted.unmount()?;
        ensure!(tree.entries.len() > 3000, "the tree has {} entries only", tree.entries.len());
        let hash = content::sha256_of_file(&image)?;
        Ok(Self { image, mountpoint, tree, counts, hash, _directory: directory })
    }

    fn compare_engine(&self) -> Result<()> {
        let fs = engine_walk::mount(&self.image)?;
        self.compare_tree(&engine_walk::walk(&fs).context("the engine's tree")?)?;
        self.compare_counts(engine_walk::counts(&fs)?)
    }

    fn compare_mount(&self, product: &Product) -> Result<()> {
        let mounted = product.mount(&self.image, &self.mountpoint, "ro")?;
        let found = mount_walk::walk(mounted.path()).context("the mounted tree")?;
        let counts = mount_walk::counts(mounted.path())?;
        mounted.unmount()?;
        self.compare_tree(&found)?;
        self.compare_counts(counts)
    }

    fn compare_tree(&self, found: &Tree) -> Result<()> {
        expect_equal(&self.tree.differences(found))?;
        ensure!(content::sha256_of_file(&self.image)? == self.hash, "reading changed the image");
        Ok(())
    }

    fn compare_counts(&self, found: Counts) -> Result<()> {
        ensure!(found == self.counts, "statfs: expected {:?}, found {found:?}", self.counts);
        Ok(())
    }
}

fn fill(image: &Path, mountpoint: &Path, options: &str) -> Result<()> {
    let mounted = Mounted::kernel(image, mountpoint, options)?;
    let block = mount_walk::counts(mounted.path())?.block_size;
    populate::populate(mounted.path(), block).context("filling it through the kernel")?;
    mounted.unmount()?;
    image::check(image)
}
