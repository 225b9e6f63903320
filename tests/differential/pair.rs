//! Two mounts of equal images, and one sequence of operations for both.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use anyhow::{Context, Result, anyhow, bail, ensure};
use fuse4fs_tests::apply::{self, Seen};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::operation::{Generator, Op};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::tree::{Counts, Tree};
use fuse4fs_tests::{command, mount_walk, trial};
use libtest_mimic::Trial;

const THREADS: u64 = 3;

const fn recipe(name: &'static str, mke2fs: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options: "" }
}

/// Combinations of features that the running kernel writes.
pub(crate) const RECIPES: &[Recipe] = &[
    recipe("default", "-t ext4"),
    recipe("1k-blocks", "-t ext4 -b 1024"),
    recipe("2k-blocks-128-byte-inodes", "-t ext4 -b 2048 -I 128 -O ^project"),
    recipe("ext2", "-t ext2 -b 1024"),
    recipe("ext2-4k", "-t ext2 -b 4096"),
    recipe("ext3", "-t ext3 -b 1024"),
    recipe("no-journal", "-t ext4 -O ^has_journal"),
    recipe("no-checksums", "-t ext4 -O ^metadata_csum,uninit_bg"),
    recipe("32-bit", "-t ext4 -O ^64bit,^metadata_csum_seed"),
    recipe("bigalloc", "-t ext4 -O bigalloc -C 16384"),
    recipe("inline-data", "-t ext4 -O inline_data -I 512"),
    recipe("inline-data-1k", "-t ext4 -O inline_data -b 1024"),
    recipe("ea-inode", "-t ext4 -O ea_inode"),
    recipe("no-extents", "-t ext4 -O ^extent,^64bit"),
    recipe("no-htree", "-t ext4 -O ^dir_index"),
    recipe("meta-bg", "-t ext4 -O meta_bg,^resize_inode -b 1024"),
    recipe("no-flex", "-t ext4 -O ^flex_bg -b 1024"),
    recipe("large-dir-orphan-file", "-t ext4 -O large_dir,orphan_file -b 1024"),
    recipe("fast-commit", "-t ext4 -O fast_commit"),
    recipe("sparse-super2", "-t ext4 -O sparse_super2,^resize_inode"),
    recipe("bigalloc-1k", "-t ext4 -O bigalloc,^resize_inode -b 1024 -C 8192"),
    recipe("bigalloc-64k-clusters", "-t ext4 -O bigalloc -C 65536"),
    recipe("no-extra-isize", "-t ext4 -O ^extra_isize,^project -I 256"),
    recipe("1k-inodes", "-t ext4 -I 1024"),
    recipe("no-dir-nlink", "-t ext4 -O ^dir_nlink -b 1024"),
    recipe("small-counts", "-t ext4 -O ^large_file,^huge_file -b 1024"),
    recipe("stripe", "-t ext4 -E stride=4,stripe_width=16"),
    recipe("tiny-groups", "-t ext4 -O ^resize_inode,orphan_file -b 1024 -g 1024"),
    recipe("verity-encrypt", "-t ext4 -O verity,encrypt"),
];

/// Features that only ours writes where the kernel is built without them: it does the same on a file
/// system that lacks them. What comes before `-O` is common to both.
const OURS_ALONE: &[Recipe] = &[
    recipe("quota-project", "-t ext4 -b 4096 -O quota,project"),
    recipe("quota-1k-no-checksums", "-t ext4 -b 1024 -O quota,^metadata_csum,uninit_bg"),
    recipe("casefold", "-t ext4 -b 4096 -O casefold"),
];

/// Both mount their image this often in the trials across remounts.
const MOUNTS: u64 = 5;

/// One trial for each recipe, and some that remount.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for recipe in RECIPES.iter().chain(OURS_ALONE) {
        let name = format!("the kernel and fuse4fs do the same on {}", recipe.name);
        trials.push(trial::test(name, move || compare(recipe, 1)));
    }
    for name in ["default", "ext2", "ext3", "ea-inode", "large-dir-orphan-file", "bigalloc-1k"] {
        for recipe in RECIPES.iter().filter(|recipe| recipe.name == name) {
            let name = format!("the kernel and fuse4fs do the same across remounts on {name}");
            trials.push(trial::test(name, move || compare(recipe, MOUNTS)));
        }
    }
    trials
}

fn is_ours_alone(recipe: &Recipe) -> bool {
    OURS_ALONE.iter().any(|alone| alone.name == recipe.name)
}

fn peer_is_kernel() -> bool {
    std::env::var("FUSE4FS_PEER").is_ok_and(|peer| peer == "kernel")
}

/// What is compared with the kernel's ext4.
pub(crate) fn mount(image: &Path, target: &Path, options: &str) -> Result<Mounted> {
    if peer_is_kernel() {
        return Mounted::kernel(image, target, options);
    }
    Product::get()?.mount(image, target, options)
}

/// Two equal images, mounted by the kernel and by the other.
struct Pair {
    images: [PathBuf; 2],
    mounts: [Mounted; 2],
}

impl Pair {
    fn make(recipe: &Recipe, directory: &Path) -> Result<Self> {
        let second = directory.join("second.img");
        let first = recipe.make(directory)?;
        std::fs::copy(&first, &second)?;
        if is_ours_alone(recipe) {
            let plain = recipe.mke2fs.split_whitespace().take_while(|word| *word != "-O");
            let mut mke2fs = Command::new("mke2fs");
            mke2fs.args(["-q", "-F", "-m", "1"]).args(plain);
            command::succeed(mke2fs.arg(&first))?;
        }
        let points = points(directory);
        for point in &points {
            std::fs::create_dir(point)?;
        }
        Self::mount([first, second], &points, "rw")
    }

    fn mount(images: [PathBuf; 2], points: &[PathBuf; 2], options: &str) -> Result<Self> {
        let kernel = Mounted::kernel(&images[0], &points[0], &format!("{options},user_xattr,acl"))?;
        let ours = mount(&images[1], &points[1], options)?;
        Ok(Self { images, mounts: [kernel, ours] })
    }

    fn roots(&self) -> [&Path; 2] {
        [self.mounts[0].path(), self.mounts[1].path()]
    }

    /// Unmounts both; e2fsck finds nothing in either.
    fn end(self) -> Result<[PathBuf; 2]> {
        let [kernel, ours] = self.mounts;
        kernel.unmount()?;
        ours.unmount()?;
        image::check(&self.images[1]).context("ours")?;
        image::check(&self.images[0]).context("the kernel's")?;
        Ok(self.images)
    }
}

/// Where the kernel's and ours are mounted.
fn points(directory: &Path) -> [PathBuf; 2] {
    [directory.join("kernel"), directory.join("ours")]
}

fn compare(recipe: &Recipe, mounts: u64) -> Result<()> {
    host::need_root()?;
    if is_ours_alone(recipe) && peer_is_kernel() {
        return trial::skip("the kernel may lack these features");
    }
    let directory = tempfile::tempdir()?;
    let points = points(directory.path());
    let mut pair = Pair::make(recipe, directory.path())?;
    let before = pair.roots().map(settled);
    let sequence = Sequence::begin(&pair)?;
    for round in 0..mounts {
        if round > 0 {
            // Without a journal the kernel refuses commit=.
            let options = if recipe.name == "ext2" { "rw" } else { "rw,commit=1" };
            pair = Pair::mount(pair.end()?, &points, options)?;
        }
        sequence.run(&pair, mounts)?;
    }
    let [kernel, shown] = pair.roots().map(tree);
    let (kernel, shown) = (kernel?, shown?);
    expect_equal(&kernel, &shown)?;
    let [kernel_now, our_now] = pair.roots().map(settled);
    let [kernel_before, before] = before;
    let before = before?;
    let kernel_used = kernel_before?.files_free - kernel_now?.files_free;
    let our_used = before.files_free - our_now?.files_free;
    ensure!(kernel_used == our_used, "inodes in use: kernel {kernel_used}, ours {our_used}");
    let images = pair.end()?;

    // What we wrote and showed, seen by the kernel; and then emptied by us again. Not compared with
    // what the kernel wrote: it can lose what it showed. With inline_data it logs a file's first block
    // when that comes into being, and may write it home when the block is another file's already.
    let again = if is_ours_alone(recipe) {
        mount(&images[1], &points[1], "ro")?
    } else {
        Mounted::kernel(&images[1], &points[1], "ro")?
    };
    expect_equal(&shown, &tree(again.path())?).context("as the kernel sees it")?;
    again.unmount()?;
    let ours = mount(&images[1], &points[1], "rw")?;
    apply::empty(ours.path())?;
    let after = settled(ours.path())?;
    ours.unmount()?;
    image::check(&images[1])?;
    ensure!(after.files_free == before.files_free, "inodes leak: {before:?}, then {after:?}");
    // The root may have grown, and stays as it is; so do quota files.
    let lost = before.free.abs_diff(after.free);
    ensure!(
        lost <= if recipe.name.contains("quota") { 40 } else { 8 },
        "blocks leak: {before:?}, then {after:?}"
    );
    Ok(())
}

/// statfs once everything that is freed later is freed: when it has not changed for a while.
pub(crate) fn settled(root: &Path) -> Result<Counts> {
    let count = || -> Result<Counts> {
        rustix::fs::syncfs(std::fs::File::open(root)?)?;
        mount_walk::counts(root)
    };
    let (mut last, mut same) = (count()?, 0);
    for _ in 0..200 {
        std::thread::sleep(std::time::Duration::from_millis(20));
        let now = count()?;
        same = if now == last { same + 1 } else { 0 };
        if same == 5 {
            break;
        }
        last = now;
    }
    Ok(last)
}

/// What the threads do, each below a directory of its own.
struct Sequence {
    ops: u64,
    seed: u64,
    threads: Vec<Mutex<Generator>>,
}

impl Sequence {
    fn begin(pair: &Pair) -> Result<Self> {
        let (ops, seed) = (host::setting("FUSE4FS_OPS", 2000)?, host::setting("FUSE4FS_SEED", 1)?);
        let mut threads = Vec::new();
        for thread in 0..THREADS {
            let top = format!("t{thread}");
            for root in pair.roots() {
                std::fs::create_dir(root.join(&top))?;
            }
            threads.push(Mutex::new(Generator::new(seed * 1000 + thread, &top)));
        }
        Ok(Self { ops, seed, threads })
    }

    /// The next of `parts` equal parts, each answer compared.
    fn run(&self, pair: &Pair, parts: u64) -> Result<()> {
        let thread = |(number, generator): (usize, &Mutex<Generator>)| -> Result<()> {
            let mut generator = generator.lock().map_err(|_| anyhow!("a thread panicked"))?;
            for step in 0..self.ops / THREADS / parts {
                let op = generator.next();
                let [kernel, ours] = pair.roots().map(|root| apply::apply(root, &op));
                if let Some(difference) = difference(&op, &kernel, &ours) {
                    bail!("seed {}, thread {number}, step {step}: {difference}", self.seed);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads = self.threads.iter().enumerate();
            let threads: Vec<_> = threads.map(|of| scope.spawn(move || thread(of))).collect();
            threads.into_iter().try_for_each(|thread| match thread.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            })
        })
    }
}

/// How the answers differ, if they do in a way that counts.
fn difference(op: &Op, kernel: &Seen, ours: &Seen) -> Option<String> {
    // What of a preallocated file counts as data depends on when it was written back.
    let free = matches!(op, Op::Seek { .. }) && (kernel.is_ok() || ours.is_ok());
    let same = kernel == ours || free;
    (!same).then(|| format!("{op:?}\n  kernel {kernel:?}\n  ours   {ours:?}"))
}

/// The tree without what depends on when and where something was written. Written back before: from
/// far before it, the kernel's SEEK_DATA misses what has no blocks yet.
pub(crate) fn tree(root: &Path) -> Result<Tree> {
    rustix::fs::syncfs(std::fs::File::open(root)?)?;
    let mut tree = mount_walk::walk(root)?;
    for entry in tree.entries.values_mut() {
        entry.inode = None;
        (entry.blocks512, entry.atime, entry.ctime, entry.btime) = (None, None, None, None);
        // Set by the clock, unless an operation set it to something that no clock shows.
        entry.mtime = entry.mtime.filter(|mtime| {
            !(1_750_000_000_i128..4_000_000_000).contains(&(mtime / 1_000_000_000))
        });
        (entry.flags, entry.segments) = (None, None);
        if entry.kind == "dir" {
            entry.size = None;
        }
    }
    Ok(tree)
}

fn expect_equal(kernel: &Tree, ours: &Tree) -> Result<()> {
    let differences = kernel.differences(ours);
    let shown: Vec<_> = differences.iter().take(10).map(ToString::to_string).collect();
    ensure!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
    Ok(())
}
