//! What e2fsck says of an image, and whether a later word is a worse one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Result;
use fuse4fs_tests::command;

/// After this long it counts as never to end: usually it is a moment.
const LIMIT: Duration = Duration::from_secs(20);

/// The better ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Verdict {
    /// Nothing to repair.
    Sound,
    /// Something to repair.
    Damaged,
    /// It could not be checked to the end, or that takes too long.
    Uncheckable,
}

/// Of a copy of `image` in which e2fsck has replayed the journal, if that `is_dirty`. Some logs it replays
/// without end.
pub(crate) fn of(image: &Path, is_dirty: bool) -> Result<Verdict> {
    let copy = image.with_extension("copy");
    std::fs::copy(image, &copy)?;
    if is_dirty && e2fsck(&["-y", "-E", "journal_only"], &copy).is_err() {
        return Ok(Verdict::Uncheckable);
    }
    let Ok((code, said)) = e2fsck(&["-fn"], &copy) else { return Ok(Verdict::Uncheckable) };
    Ok(match code {
        Some(0) if !said.lines().any(is_repair) => Verdict::Sound,
        Some(0..8) => Verdict::Damaged,
        _ => Verdict::Uncheckable,
    })
}

/// What it would repair without calling that an error counts, too. A tree that could be smaller is none
/// that is wrong.
fn is_repair(line: &str) -> bool {
    line.ends_with("? no") && !line.ends_with("Optimize? no")
}

/// Its exit code, and what it said.
///
/// # Errors
/// That it does not end.
fn e2fsck(how: &[&str], image: &Path) -> Result<(Option<i32>, String)> {
    let mut e2fsck = Command::new("e2fsck");
    e2fsck.args(how).arg(image).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let output = command::wait(e2fsck.spawn()?, LIMIT)?;
    Ok((output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned()))
}
