//! The golden and dirty images with their truths, kept beside the repository in `../shared`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::trial::skip;
use crate::truth::Truth;

/// Names the directory of test data when it is not `../shared`.
pub const OVERRIDE: &str = "FUSE4FS_SHARED";

/// The directory of test data.
#[must_use]
pub fn directory() -> PathBuf {
    std::env::var_os(OVERRIDE)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from)
}

/// The directory of golden images.
///
/// # Errors
/// [`crate::trial::Skip`] where there is none.
pub fn golden_directory() -> Result<PathBuf> {
    let golden = directory().join("golden");
    if !golden.join("images").is_dir() {
        return skip(format!("no test data at {}; set {OVERRIDE}", golden.display()));
    }
    Ok(golden)
}

/// An image with a truth.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Golden {
    /// For example `ext4-1k`; dirty ones start with `dj-`.
    pub name: String,
    directory: PathBuf,
}

impl Golden {
    /// All images that have a truth file, in order of their names.
    ///
    /// # Errors
    /// [`crate::trial::Skip`] where there is no test data; errors of reading the directory.
    pub fn all() -> Result<Vec<Self>> {
        let directory = golden_directory()?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(directory.join("truth"))? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json.zst")) {
                found.push(Self { name: name.to_owned(), directory: directory.clone() });
            }
        }
        found.sort();
        Ok(found)
    }

    /// One image by its name.
    ///
    /// # Errors
    /// As [`Golden::all`], and if there is none of that name.
    pub fn named(name: &str) -> Result<Self> {
        let all = Self::all()?;
        all.into_iter().find(|golden| golden.name == name).with_context(|| format!("no {name}"))
    }

    /// Whether its journal has to be replayed.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.name.starts_with("dj-")
    }

    /// Unpacks the image into `directory`.
    ///
    /// # Errors
    /// When zstd(1) fails or is missing.
    pub fn unpack(&self, directory: &Path) -> Result<PathBuf> {
        let packed = self.directory.join("images").join(format!("{}.img.zst", self.name));
        let image = directory.join(format!("{}.img", self.name));
        unpack(&packed, &image)?;
        Ok(image)
    }

    /// Its truth.
    ///
    /// # Errors
    /// When the file cannot be read or is not of the expected form.
    pub fn truth(&self) -> Result<Truth> {
        let packed = self.directory.join("truth").join(format!("{}.json.zst", self.name));
        let output = Command::new("zstd")
            .args(["-dc", "--long=27"])
            .arg(&packed)
            .stderr(Stdio::inherit())
            .output()
            .context("running zstd")?;
        ensure!(output.status.success(), "zstd -d {}: {}", packed.display(), output.status);
        Truth::parse(&output.stdout).with_context(|| packed.display().to_string())
    }
}

/// Unpacks `packed` as a sparse file.
///
/// # Errors
/// When zstd(1) fails or is missing.
pub fn unpack(packed: &Path, image: &Path) -> Result<()> {
    let status = Command::new("zstd")
        .args(["-dqf", "--long=27", "--sparse"])
        .arg(packed)
        .arg("-o")
        .arg(image)
        .status()
        .context("running zstd")?;
    ensure!(status.success(), "zstd -d {}: {status}", packed.display());
    Ok(())
}
