//! One image mounted by fuse2fs, which may not take more than the engine in a child.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fuse4fs_tests::command;
use fuse4fs_tests::host::Mounted;

use super::visit::{Fate, Round, leave, visit};
use crate::child::resident;

/// A step that takes longer hangs; as for ours, see `fuse4fs_tests::command`.
const LIMIT: Duration = command::DEADLINE;
/// Address space in bytes, and CPU time in seconds: those of the engine in a child.
const LIMITS: [&str; 3] = ["--as=1073741824", "--cpu=30", "--core=0"];

/// Mounts `image` in `directory`.
///
/// # Errors
/// What keeps it from being tried.
pub(crate) fn round(image: &Path, directory: &Path, written: bool) -> Result<Round> {
    let target = directory.join("mnt");
    let access = if written { "rw" } else { "ro" };
    let mut program = Command::new("prlimit");
    program.args(LIMITS).args(["fuse2fs", "-f", "-o", access]).arg(image).arg(&target);
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = program.spawn()?;
    let result = serve(&mut server, &target, written);
    let _ = server.kill();
    server.wait()?;
    result
}

fn serve(server: &mut Child, target: &Path, written: bool) -> Result<Round> {
    let end = Instant::now() + LIMIT;
    while !is_mounted(target)? {
        if let Some(status) = server.try_wait()? {
            return Ok(Round::none(fell(status).unwrap_or(Fate::Refused)));
        }
        if Instant::now() > end {
            return Ok(Round::none(Fate::Hung("the mount".to_owned())));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let mounted = Mounted::adopt(target);
    let visited = visit(mounted.path(), written);
    let resident = resident(&server.id().to_string()).ok();
    let left = leave(mounted);
    let ended = wait(server)?;
    let (walked, hung) = match (visited, left, ended) {
        (Ok(walked), Ok(()), Some(_)) => (Some(walked), None),
        (Err(error), _, _) | (_, Err(error), _) => (None, Some(format!("{error:#}"))),
        (_, _, None) => (None, Some("its end".to_owned())),
    };
    let fate = match (ended.and_then(fell), hung) {
        (Some(fate), _) => fate,
        (None, Some(what)) => Fate::Hung(what),
        (None, None) => Fate::Served,
    };
    Ok(Round { fate, walked, resident })
}

/// How it ended, if that was by a signal. That of the limit is that of a loop without end.
fn fell(status: ExitStatus) -> Option<Fate> {
    let signal = status.signal()?;
    let hung = [rustix::process::Signal::XCPU, rustix::process::Signal::KILL];
    let is_limit = hung.iter().any(|each| each.as_raw() == signal);
    Some(if is_limit { Fate::Hung(status.to_string()) } else { Fate::Crashed(status.to_string()) })
}

/// Waits for its end, unless that takes too long.
fn wait(server: &mut Child) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + LIMIT;
    loop {
        let status = server.try_wait()?;
        if status.is_some() || Instant::now() > end {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn is_mounted(target: &Path) -> Result<bool> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let target = target.to_str().context("a path of words")?;
    Ok(table.lines().any(|line| line.split(' ').nth(4) == Some(target)))
}
