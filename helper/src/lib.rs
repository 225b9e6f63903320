//! The only code of fuse4fs that runs with privilege: it opens devices, makes mounts and starts
//! servers. What it does is decided in `policy`, before a server is asked.
//!
//! `mount` (root) and `user` (everyone) are the two ways to a mount; `session` is the conversation
//! with the server; `sys` holds the system calls and all `unsafe`.

mod args;
mod cgroup;
mod check;
mod claim;
mod connect;
mod examine;
mod facts;
mod fusermount;
mod handover;
mod image;
mod memory;
mod mount;
mod mounts;
mod notify;
mod options;
mod policy;
mod pressure;
mod privileges;
mod progress;
mod remount;
mod report;
mod scheduling;
mod session;
mod share;
mod source;
mod spawn;
mod status;
mod superblock;
mod sys;
mod tune;
mod user;
mod waiter;
mod words;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use args::{Command, Invocation};
use report::{Failure, Reporter};

pub use options::table;

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use session::{hear_report, hear_server};

/// `mount.fuse4fs`, given its arguments without its own name.
///
/// The exit code is mount(8)'s.
pub fn mount_fuse4fs(args: impl Iterator<Item = OsString>) -> ExitCode {
    main("mount.fuse4fs", args::MOUNT_USAGE, args::parse_mount(args), |invocation, reporter| {
        match user::is_root()? {
            true => mount::run(invocation, reporter),
            false => user::run(&Invocation { fake: false, ..invocation.clone() }, reporter),
        }
    })
}

/// `fuse4fs`, given its arguments without its own name. `fuse4fs status` and `fuse4fs check` have exit codes of their own.
pub fn fuse4fs(args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut args = args.peekable();
    if args.next_if(|first| first == "status").is_some() {
        return status::run(args);
    }
    if args.next_if(|first| first == "check").is_some() {
        return examine::run(args);
    }
    main("fuse4fs", args::USER_USAGE, args::parse_user(args), |invocation, reporter| {
        user::is_root()?;
        user::run(invocation, reporter)
    })
}

fn main(
    program: &'static str,
    usage: &str,
    command: Result<Command, Failure>,
    run: impl FnOnce(&Invocation, &Reporter) -> Result<(), Failure>,
) -> ExitCode {
    let quiet = Reporter::new(program, false);
    let command = match privileges::drop_unneeded().and(command) {
        Ok(command) => command,
        Err(failure) => return quiet.fail("", &failure),
    };
    let text = match command {
        Command::Help => usage.to_owned(),
        Command::Version => format!("{program} {}\n", env!("CARGO_PKG_VERSION")),
        Command::Check(options) => match check::run(&options) {
            Ok(line) => line,
            Err(failure) => {
                quiet.fail("", &failure);
                return ExitCode::FAILURE;
            }
        },
        Command::Mount(invocation) => {
            let reporter = Reporter::new(program, invocation.verbose);
            return match run(&invocation, &reporter) {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => reporter.fail(&invocation.source.to_string_lossy(), &failure),
            };
        }
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}
