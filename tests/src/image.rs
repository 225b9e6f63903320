//! File systems made by mke2fs, and e2fsck's word on them.

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
        let image = directory.join(format!("{}.img", self.name));
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-m", "1", "-L", "fuse4fs test"]);
        mke2fs.args(self.mke2fs.split_whitespace());
        command::succeed(mke2fs.arg(&image).arg(SIZE))?;
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

/// Fails unless e2fsck finds nothing at all to repair.
///
/// # Errors
/// What e2fsck says.
pub fn check(image: &Path) -> Result<()> {
    let output = command::run(Command::new("e2fsck").arg("-fn").arg(image))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "e2fsck -fn: {}: {said}", output.status);
    Ok(())
}
