//! One image mounted by `mount.fuse4fs`.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::{Product, Traces};

use super::visit::{Fate, Round, leave, visit};
use crate::child::{RESIDENT, resident};

/// What is done about damage does not depend on the image, and buffers are few.
const OPTIONS: &str = "errors=continue,io_uring=off,threads=2";
/// Memory that the server may have used, KiB: as in one process, and 1 MiB for what is written and for
/// what is read of each of its threads, which are two and the one that hears of interruptions.
const MOST: u64 = RESIDENT + 3 * 2 * 1024;
/// mount(8): the mount failed.
const FAILED: i32 = 32;

/// Mounts `image` in `directory`.
///
/// # Errors
/// That the server took too much, or something was left behind.
pub(crate) fn round(image: &Path, directory: &Path, written: bool) -> Result<Round> {
    let product = Product::get()?;
    let before = Traces::now(product, directory)?;
    let round = serve(product, image, directory, written)?;
    before.expect_unchanged(product, directory)?;
    let took = round.resident.unwrap_or(0);
    ensure!(took <= MOST, "the server took {took} KiB of memory");
    Ok(round)
}

fn serve(product: &Product, image: &Path, directory: &Path, written: bool) -> Result<Round> {
    let (target, log) = (directory.join("mnt"), directory.join("log"));
    let _ = std::fs::remove_file(&log);
    let access = if written { "rw" } else { "ro" };
    let options = format!("{access},{OPTIONS},log={}", log.display());
    let others = product.servers()?;
    let Ok(output) = product.try_mount(image, &target, &options) else {
        return Ok(Round::none(Fate::Hung("the mount".to_owned())));
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(FAILED), "{}: {said}", output.status);
        return Ok(Round::none(panicked(&log)?.map_or(Fate::Refused, Fate::Crashed)));
    }
    let mounted = Mounted::adopt(&target);
    let servers = product.servers()?;
    let server = servers.iter().find(|pid| !others.contains(pid)).context("no server")?;
    let visited = visit(mounted.path(), written);
    let resident = resident(&server.to_string()).ok();
    let left = leave(mounted);
    let crashed = panicked(&log)?.or_else(|| resident.is_none().then(|| "it is gone".to_owned()));
    let (walked, hung) = match (visited, left) {
        (Ok(walked), Ok(())) => (Some(walked), None),
        (Err(error), _) | (_, Err(error)) => (None, Some(format!("{error:#}"))),
    };
    let fate = match (crashed, hung) {
        (Some(how), _) => Fate::Crashed(how),
        (None, Some(what)) => Fate::Hung(what),
        (None, None) => Fate::Served,
    };
    Ok(Round { fate, walked, resident })
}

/// The line by which a server said that it is broken.
fn panicked(log: &Path) -> Result<Option<String>> {
    // There is none where no server was started.
    let said = match std::fs::read_to_string(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        said => said?,
    };
    Ok(said.lines().find(|line| line.contains("panicked")).map(str::to_owned))
}
