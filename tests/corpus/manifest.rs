//! The list of images, with what others made of them.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fuse4fs_tests::{shared, trial};

/// One image.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What it lies about.
    pub(crate) class: String,
    pub(crate) packed: PathBuf,
    /// e2fsck -fn finds nothing to repair, not counting what is in the journal.
    pub(crate) is_sound: bool,
    /// It has a journal to be replayed.
    pub(crate) is_dirty: bool,
    /// Kernel 6.1 mounts it.
    pub(crate) kernel_mounts: bool,
    /// What kernel 6.1 read, without its journal, if it met no error.
    pub(crate) digest: Option<String>,
    /// What kernel 6.1 read, with what is in its journal, if it met no error.
    pub(crate) recovered_digest: Option<String>,
    /// fuse2fs, mounted to be written and changed a little.
    pub(crate) fuse2fs: String,
}

/// All images.
///
/// # Errors
/// [`trial::Skip`] where there are none.
pub(crate) fn read() -> Result<Vec<Row>> {
    let directory = shared::directory().join("corpus");
    let Ok(text) = std::fs::read_to_string(directory.join("manifest.tsv")) else {
        return trial::skip(format!("no corpus at {}", directory.display()));
    };
    let mut lines = text.lines();
    let head: Vec<&str> = lines.next().context("no head")?.split('\t').collect();
    let rows = lines.map(|line| {
        let fields: HashMap<&str, &str> = head.iter().copied().zip(line.split('\t')).collect();
        let get = |name: &str| fields.get(name).copied().unwrap_or_default().to_owned();
        let (mounts, whole) = (get("k61_mount") == "ok", get("k61_complete") == "yes");
        let digest = (mounts && whole && get("k61_nerr") == "0").then(|| get("k61_digest"));
        let digest = digest.filter(|digest| !digest.is_empty());
        let is_dirty = get("features").split(' ').any(|feature| feature == "needs_recovery");
        let recovers = get("k61_recover_mount") == "ok" && get("k61_recover_nerr") == "0";
        let recovered = recovers.then(|| get("k61_recover_digest"));
        Row {
            recovered_digest: if is_dirty { recovered } else { digest.clone() },
            packed: directory.join(get("file")),
            name: get("name"),
            class: get("cls"),
            is_sound: get("fsck_rc") == "0",
            is_dirty,
            kernel_mounts: mounts,
            digest,
            fuse2fs: get("fuse_rw"),
        }
    });
    Ok(rows.filter(|row| row.packed.is_file()).collect())
}
