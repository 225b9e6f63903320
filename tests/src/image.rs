//! File systems made by mke2fs, and e2fsck's word on them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::command;

/// How to make an image.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// A word for the test's name and the file's.
    pub name: &'static str,
    /// Arguments of mke2fs, separated by spaces.
    pub mke2fs: &'static str,
    /// Arguments of tune2fs once the tree is made, if any: features the running kernel does not write.
    pub tune2fs: &'static str,
    /// Mount options the kernel needs to write this one.
    pub options: &'static str,
}

/// Bytes of an image.
const SIZE: &str = "64M";

impl Recipe {
    /// Makes an empty file system in `directory`.
    ///
    /// # Errors
    /// What mke2fs says.
    pub fn make(&self, directory: &Path) -> Result<PathBuf> {
        self.make_sized(directory, SIZE)
    }

    /// The same, of as many bytes as `size` says to mke2fs.
    ///
    /// # Errors
    /// What mke2fs says.
    pub fn make_sized(&self, directory: &Path, size: &str) -> Result<PathBuf> {
        let image = directory.join(format!("{}.img", self.name));
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-m", "1", "-L", "fuse4fs test"]);
        mke2fs.args(self.mke2fs.split_whitespace());
        command::succeed(mke2fs.arg(&image).arg(size))?;
        Ok(image)
    }

    /// Adds what is added only after the tree is made.
    ///
    /// # Errors
    /// What tune2fs says.
    pub fn finish(&self, image: &Path) -> Result<()> {
        if !self.tune2fs.is_empty() {
            command::sh("tune2fs", self.tune2fs.split_whitespace().map(Path::new).chain([image]))?;
        }
        check(image)
    }
}

/// The exit code of e2fsck with the options `how` (none if a signal ended it), and what it said.
///
/// # Errors
/// That it does not end.
pub fn e2fsck<S: AsRef<OsStr>>(how: &[S], image: &Path) -> Result<(Option<i32>, String)> {
    let output = command::run(Command::new("e2fsck").args(how).arg(image))?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// Fails unless e2fsck finds nothing at all to repair.
///
/// # Errors
/// What e2fsck says.
pub fn check(image: &Path) -> Result<()> {
    let (code, said) = e2fsck(&["-fn"], image)?;
    ensure!(code == Some(0), "e2fsck -fn: {code:?}: {said}");
    Ok(())
}

/// What e2fsck sets right after any crash, the kernel's own included: totals that ext4 keeps in memory
/// while it is mounted, the list of orphans that it has just let go, and the mark that there is one.
const AFTER_ANY_CRASH: [&str; 4] = [
    "Free blocks count wrong (",
    "Free inodes count wrong (",
    "Orphan file (inode ",
    "Feature orphan_present is set but orphan file is clean.",
];

/// Fails unless all that a copy of `image` needs is its journal: e2fsck replays it, lets go of
/// orphans, and finds nothing else to repair. Leaves the copy, repaired, beside it; returns its place.
///
/// # Errors
/// What e2fsck says.
pub fn recovers(image: &Path) -> Result<PathBuf> {
    let copy = image.with_extension("copy");
    std::fs::copy(image, &copy)?;
    let (code, said) = e2fsck(&["-fy"], &copy)?;
    let lines: Vec<_> = said.lines().filter(|line| !line.is_empty()).collect();
    let repaired = |pair: &[&str]| {
        // A tree that could be smaller is none that is wrong: the kernel leaves such as well.
        let wrong = pair[1].ends_with("? yes") && !pair[1].ends_with("Optimize? yes");
        wrong && !AFTER_ANY_CRASH.iter().any(|fine| pair[0].starts_with(fine))
    };
    // 1: something was done, which may be the replay alone. What is repaired is asked for.
    let ended = code.is_some_and(|code| code <= 1);
    ensure!(ended && !lines.windows(2).any(repaired), "e2fsck -fy: {code:?}: {said}");
    check(&copy)?;
    Ok(copy)
}
