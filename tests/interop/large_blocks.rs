//! Blocks larger than a page, which the kernel does not mount: mke2fs copies a tree, the engine reads it.

use anyhow::{Context, Result};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::tree::{Entry, Tree, expect_equal};
use fuse4fs_tests::truth::as_mke2fs_copies;
use fuse4fs_tests::{command, engine_walk, mount_walk, populate, trial};
use libtest_mimic::Trial;

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |block: &'static str, features: &'static str| {
        trial::test(
            format!("blocks of {block} bytes, {features}: the engine shows the tree copied"),
            move || the_engine_shows_the_tree_copied(block, features),
        )
    };
    vec![
        trial("8192", "metadata_csum"),
        trial("16384", "inline_data"),
        trial("32768", "^metadata_csum"),
        trial("65536", "metadata_csum"),
        trial("65536", "^extents,^64bit"),
    ]
}

const SOURCE: Recipe =
    Recipe { name: "source", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };

fn the_engine_shows_the_tree_copied(block: &str, features: &str) -> Result<()> {
    host::need_root()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let source = Mounted::kernel(&SOURCE.make(directory.path())?, &mountpoint, "rw")?;
    populate::populate(source.path(), 4096)?;
    let image = directory.path().join("large.img");
    let mut mke2fs = std::process::Command::new("mke2fs");
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", block, "-N", "2000", "-O", features, "-d"]);
    command::succeed(mke2fs.arg(source.path()).arg(&image).arg("256M"))?;
    let want = what_mke2fs_copies(mount_walk::walk(source.path())?);
    let found = engine_walk::walk(&engine_walk::mount(&image)?).context("the engine's tree")?;
    expect_equal(&want.differences(&found))
}

fn what_mke2fs_copies(tree: Tree) -> Tree {
    let mut entries = tree.entries;
    entries.insert(b".".to_vec(), Entry { kind: "dir".into(), ..Entry::default() });
    let copy = |(path, entry)| (path, as_mke2fs_copies(entry));
    Tree { entries: entries.into_iter().map(copy).collect() }
}
