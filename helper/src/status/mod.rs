//! `fuse4fs status`: how mounts are doing, told by their servers.
//!
//! A server may say what it likes, and say it never: each is asked by a process of its own, with a
//! deadline, and what it says is bounded, decoded strictly and escaped before anybody sees it.

mod ask;
mod json;
mod prometheus;
mod table;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use fuse4fs_protocol::Status;

use crate::mounts::{self, Mount};
use crate::privileges;
use crate::report::{Explain, Failure, Reporter};
use crate::user;

/// How long servers may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Some mount did not say how it is doing.
const SILENT: u8 = 1;
/// A command line that makes no sense, or no such mount.
const USAGE: u8 = 2;

const HELP: &str = "\
usage: fuse4fs status [PATH | --all] [--json | --prometheus]

Tells how the fuse4fs mount that PATH is on is doing, or all of this mount namespace that root
or you made.

  --json        for programs; keys are in fuse4fs(1)
  --prometheus  in Prometheus' text format

exit status: 0, 1 some mount did not answer within 5 seconds, 2 no such mount
";

/// How it is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Format {
    Table,
    Json,
    Prometheus,
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Command {
    Help,
    /// The mount of a path, or all.
    Show(Option<PathBuf>, Format),
}

/// A file system that is mounted once or several times, and what its server says.
#[derive(Debug)]
struct Told {
    /// All mounts of it.
    mounts: Vec<Mount>,
    /// Why there is no status, if there is none.
    status: Result<Box<Status>, String>,
}

/// Runs it with the arguments after `status`.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let reporter = Reporter::new("fuse4fs status", false);
    match show(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(SILENT),
        Err(failure) => {
            reporter.fail("", &failure);
            ExitCode::from(USAGE)
        }
    }
}

/// Whether everybody who was asked answered.
fn show(args: impl Iterator<Item = OsString>) -> Result<bool, Failure> {
    user::is_root()?;
    privileges::drop_all_but_to_ask()?;
    let (path, format) = match parse(args)? {
        Command::Help => return print(HELP).map(|()| true),
        Command::Show(path, format) => (path, format),
    };
    let mounts = mounts::ours().or_mount_failure("cannot list mounts")?;
    let told = match &path {
        Some(path) => vec![ask::one(path, mounts)?],
        None => ask::all(mounts)?,
    };
    print(&match format {
        Format::Table => table::text(&told),
        Format::Json => json::text(&told),
        Format::Prometheus => prometheus::text(&told),
    })?;
    Ok(told.iter().all(|told| told.status.is_ok()))
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.or_system_failure("cannot print"),
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    use lexopt::prelude::{Long, Short, Value};
    let usage =
        |error: lexopt::Error| Failure::usage(format!("{error}; see fuse4fs status --help"));
    let mut parser = lexopt::Parser::from_args(args);
    let (mut path, mut all, mut format) = (None, false, None);
    while let Some(arg) = parser.next().map_err(usage)? {
        let chosen = match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Long("json") => Format::Json,
            Long("prometheus") => Format::Prometheus,
            Long("all") => {
                all = true;
                continue;
            }
            Value(operand) if path.is_none() => {
                path = Some(PathBuf::from(operand));
                continue;
            }
            other => return Err(usage(other.unexpected())),
        };
        if format.replace(chosen).is_some_and(|before| before != chosen) {
            return Err(Failure::usage("--json and --prometheus exclude each other"));
        }
    }
    if all && path.is_some() {
        return Err(Failure::usage("--all is all mounts, not those of a path"));
    }
    Ok(Command::Show(path, format.unwrap_or(Format::Table)))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
