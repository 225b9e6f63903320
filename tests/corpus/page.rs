//! docs/hostile-images.md: the parts of it that are written by a run.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The line above what the engine makes of the images; that part goes to the end of the page.
pub(crate) const ENGINE: &str = "<!-- by tests/corpus -->\n";
/// The line above the comparison with fuse2fs, which goes to the next part.
pub(crate) const BESIDE: &str = "<!-- by tests/corpus, beside fuse2fs -->\n";

/// Whether `FUSE4FS_REPORT` asks for writing.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("FUSE4FS_REPORT").is_some()
}

/// The part below `head`, to the next one.
///
/// # Errors
/// When there is none.
pub(crate) fn part(head: &str) -> Result<String> {
    Ok(split(head)?.1)
}

/// Writes `fresh` below `head`; prints it unless that is asked for.
///
/// # Errors
/// When there is no such part.
pub(crate) fn replace(head: &str, fresh: &str) -> Result<()> {
    if !is_asked_for() {
        println!("{fresh}");
        return Ok(());
    }
    let (before, _, behind) = split(head)?;
    Ok(std::fs::write(path(), format!("{before}{head}{fresh}{behind}"))?)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/hostile-images.md")
}

/// What is before the part below `head`, the part, and what is behind it: a heading or nothing.
fn split(head: &str) -> Result<(String, String, String)> {
    let page = std::fs::read_to_string(path()).context("docs/hostile-images.md")?;
    let (before, rest) = page.split_once(head).with_context(|| format!("no {head}"))?;
    let end = rest.find("\n## ").unwrap_or(rest.len());
    let (part, behind) = rest.split_at(end);
    Ok((before.to_owned(), part.to_owned(), behind.to_owned()))
}
