//! What opening, reading and naming refuse, on images that debugfs changed.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{CorruptKind, Error, Filesystem, Inode, Refusal, Seek};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::{command, engine_walk, trial};
use libtest_mimic::Trial;

const PLAIN: Recipe = Recipe {
    name: "plain",
    mke2fs: "-t ext4 -b 1024 -O encrypt,ea_inode",
    tune2fs: "",
    options: "",
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("content of an encrypted file needs its key", encrypted_content_needs_a_key),
        trial::test("an attribute's value inode is no file", a_value_inode_is_no_file),
        trial::test("a directory is not read as a file", a_directory_is_not_read),
        trial::test("a root that is an attribute's value is not mounted", such_a_root_is_refused),
    ]
}

/// An image with the file `f`, changed by one debugfs command.
fn image(directory: &Path, change: &str) -> Result<PathBuf> {
    let image = PLAIN.make(directory)?;
    let content = directory.join("content");
    std::fs::write(&content, "content")?;
    for request in [&format!("write {} f", content.display()), change] {
        command::sh("debugfs", [Path::new("-w"), Path::new("-R"), Path::new(request), &image])?;
    }
    Ok(image)
}

fn refused<T>(result: Result<T, Error>) -> Option<Refusal> {
    match result {
        Err(Error::Refused(refusal)) => Some(refusal),
        _ => None,
    }
}

/// What open, read, seek and bmap refuse.
fn refusals(fs: &Filesystem, inode: &Inode) -> [Option<Refusal>; 4] {
    [
        refused(fs.open(inode, fuse4fs_ext4::Open::Read)),
        refused(fs.read(inode, 0, &mut [0; 10])),
        refused(fs.seek(inode, 0, Seek::Data)),
        refused(fs.bmap(inode, 0, 1024)),
    ]
}

fn encrypted_content_needs_a_key() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let fs = engine_walk::mount(&image(directory.path(), "sif f flags 0x80800")?)?;
    let file = fs.lookup(&*fs.inode(InodeNr::ROOT)?, b"f")?;
    let found = refusals(&fs, &file);
    ensure!(found == [Some(Refusal::NoKey); 4], "{found:?}");
    Ok(())
}

fn a_value_inode_is_no_file() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let fs = engine_walk::mount(&image(directory.path(), "sif f flags 0x280000")?)?;
    let answer = fs.lookup(&*fs.inode(InodeNr::ROOT)?, b"f");
    let kind = matches!(answer, Err(Error::Corrupt { kind: CorruptKind::InodeFlags { .. }, .. }));
    ensure!(kind, "{answer:?}");
    Ok(())
}

fn a_directory_is_not_read() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let fs = engine_walk::mount(&image(directory.path(), "mkdir d")?)?;
    let dir = fs.inode(InodeNr::ROOT)?;
    let found = refusals(&fs, &dir);
    let is = Some(Refusal::IsDirectory);
    ensure!(found == [None, is, is, is], "{found:?}");
    Ok(())
}

fn such_a_root_is_refused() -> Result<()> {
    let directory = tempfile::tempdir()?;
    // EXT4_EA_INODE_FL beside EXT4_EXTENTS_FL.
    let refused = engine_walk::mount(&image(directory.path(), "sif <2> flags 0x280000")?).err();
    let said = refused.map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(said.contains("inode #2: ") && said.contains("[inode-flags]"), "{said}");
    Ok(())
}
