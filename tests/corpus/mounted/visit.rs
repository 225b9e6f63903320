//! What is done to a mount, whoever serves it: walk, changes, unmount, each of which has to end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use fuse4fs_tests::connection::Connection;
use fuse4fs_tests::watchdog;
use rustix::fs::StatVfsMountFlags;
use serde_json::{Value, json};

use super::{change, walk};
use crate::child::{Errnos, ask, errnos};

/// A connection that ends is gone after this long.
const GONE: Duration = Duration::from_secs(10);

/// What a walk saw.
#[derive(Debug)]
pub(crate) struct Walked {
    pub(crate) errnos: Errnos,
    pub(crate) digest: String,
    /// It saw everything.
    pub(crate) complete: bool,
    /// A directory was met a second time.
    pub(crate) loops: bool,
    /// The mount says that it cannot be written.
    pub(crate) read_only: bool,
}

/// How a mount ended.
#[derive(Debug)]
pub(crate) enum Fate {
    /// There was none, and that was said.
    Refused,
    /// It served until it was unmounted.
    Served,
    /// The server ended by itself.
    Crashed(String),
    /// A step did not end in time.
    Hung(String),
}

/// One mount of one image.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) fate: Fate,
    /// Before any change.
    pub(crate) walked: Option<Walked>,
    /// Memory that the server has had at most, KiB, if known.
    pub(crate) resident: Option<u64>,
}

impl Round {
    /// One that came to nothing.
    pub(crate) fn none(fate: Fate) -> Self {
        Self { fate, walked: None, resident: None }
    }
}

/// The work of a child: a walk below the mounted directory `path`, or changes there.
pub(crate) fn job(what: &str, path: &Path) -> Result<Value> {
    if what == "alter" {
        return Ok(json!({ "errnos": change::all(path) }));
    }
    anyhow::ensure!(what == "walk", "no job {what}");
    let walk = walk::Walk::all(path);
    Ok(json!({
        "errnos": walk.errnos,
        "digest": walk.digest(),
        "complete": walk.complete,
        "loops": walk.loops,
    }))
}

/// Walks what is mounted at `root` and, if it may be `written`, changes it then.
///
/// # Errors
/// That one of both did not end; its connection is aborted.
pub(crate) fn visit(root: &Path, written: bool) -> Result<Walked> {
    let connection = Connection::of(root)?;
    let result = steps(root, written);
    if result.is_err() {
        connection.abort()?;
    }
    result
}

fn steps(root: &Path, written: bool) -> Result<Walked> {
    let told = ask("walk", root).context("the walk")?;
    let flags = rustix::fs::statvfs(root).map(|stat| stat.f_flag);
    if written {
        ask("alter", root).context("the changes")?;
    }
    Ok(Walked {
        errnos: errnos(&told["errnos"])?,
        digest: told["digest"].as_str().context("digest")?.to_owned(),
        complete: told["complete"] == true,
        loops: told["loops"] == true,
        read_only: flags.is_ok_and(|flags| flags.contains(StatVfsMountFlags::RDONLY)),
    })
}

/// Unmounts what is mounted at `root`.
///
/// # Errors
/// That it does not end; its connection is aborted.
pub(crate) fn leave(mounted: fuse4fs_tests::host::Mounted) -> Result<()> {
    let connection = Connection::of(mounted.path())?;
    watchdog::step("the unmount", Some(&connection), || mounted.unmount())?;
    connection.expect_gone(GONE)
}
