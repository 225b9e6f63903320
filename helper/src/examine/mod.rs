//! `fuse4fs check`: whether and how a device can be mounted, without mounting it.
//!
//! The device is opened for reading only, and a server in the sandbox of a mount looks at it. What that
//! says is bounded, decoded strictly and escaped before anybody sees it.

mod json;
mod mounted;
mod text;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use fuse4fs_protocol::{CheckRequest, Report, Text, Verdict};
use rustix::fs::OFlags;

use crate::connect;
use crate::handover::Handover;
use crate::options::{Options, ServerChoice};
use crate::policy::SourceKind;
use crate::privileges;
use crate::progress::Progress;
use crate::report::{Explain, Failure, Reporter};
use crate::session::{Greeted, Session};
use crate::source;
use crate::spawn::{Privilege, Start};
use crate::sys::open::Pinned;
use crate::sys::signal;
use crate::user;

/// It can be mounted read-only.
const READ_ONLY: u8 = 1;
/// It cannot be mounted.
const UNMOUNTABLE: u8 = 2;
/// No verdict: a command line that makes no sense, a device that cannot be opened, no server.
const TROUBLE: u8 = 16;

const HELP: &str = "\
usage: fuse4fs check SOURCE [-o OPTION,...] [--json] [-v]

Tells what the ext2, ext3 or ext4 file system on SOURCE (a device, an image file, UUID=, LABEL=,
PARTUUID= or PARTLABEL=) is, how its journal stands, and whether and how it can be mounted.
Nothing is mounted or written; a contained process reads the device.

  -o      options of a mount: sb=, noload, journal_path=, offset=, sizelimit=, server=, ...
  --json  for programs; keys are in fuse4fs(1)

exit status: 0 read-write, 1 read-only, 2 cannot be mounted, 16 no verdict
";

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Command {
    Help,
    Examine(Request),
}

/// A device, as typed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Request {
    source: OsString,
    /// Arguments of every `-o`, in order.
    options: Vec<String>,
    json: bool,
    verbose: bool,
}

/// What is known of a device.
#[derive(Debug)]
struct Examined {
    source: String,
    /// Where it is mounted at this moment, as far as this mount namespace shows it.
    mounted: Vec<PathBuf>,
    /// The caller cannot write it, whatever is on it.
    write_protected: bool,
    report: Box<Report>,
}

impl Examined {
    fn exit(&self) -> u8 {
        match self.report.verdict {
            Verdict::ReadWrite if !self.write_protected => 0,
            Verdict::ReadWrite | Verdict::ReadOnly { .. } => READ_ONLY,
            Verdict::Unmountable { .. } => UNMOUNTABLE,
        }
    }
}

/// Runs it with the arguments after `check`.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    match check(args) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            Reporter::new("fuse4fs check", false).fail("", &failure);
            ExitCode::from(TROUBLE)
        }
    }
}

/// The exit code.
fn check(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    user::is_root()?;
    privileges::drop_unneeded()?;
    let request = match parse(args)? {
        Command::Help => return print(HELP).map(|()| 0),
        Command::Examine(request) => request,
    };
    let examined = examine(&request)?;
    print(&if request.json { json::text(&examined) } else { text::text(&examined) })?;
    Ok(examined.exit())
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads it has seen enough; the exit code says the rest.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.or_system_failure("cannot print"),
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, Failure> {
    use lexopt::prelude::{Long, Short, Value};
    let usage = |error: lexopt::Error| Failure::usage(format!("{error}; see fuse4fs check --help"));
    let mut parser = lexopt::Parser::from_args(args);
    let mut request = Request::default();
    while let Some(arg) = parser.next().map_err(usage)? {
        match arg {
            Short('h') | Long("help") => return Ok(Command::Help),
            Short('o') | Long("options") => {
                let value = parser.value().map_err(usage)?.into_string();
                let not_text = |_| Failure::usage("an option is not UTF-8");
                request.options.push(value.map_err(not_text)?);
            }
            Short('v') | Long("verbose") => request.verbose = true,
            Long("json") => request.json = true,
            Value(operand) if request.source.is_empty() => request.source = operand,
            other => return Err(usage(other.unexpected())),
        }
    }
    if request.source.is_empty() {
        return Err(Failure::usage("needs a device or an image; see fuse4fs check --help"));
    }
    Ok(Command::Examine(request))
}

fn examine(request: &Request) -> Result<Examined, Failure> {
    let options = Options::parse(&request.options, false)?;
    let path = source::resolve(&request.source)?;
    let pinned = source::pin(&path)?;
    let mut handover = Handover::of_image(open("it", &pinned)?);
    if let Some(path) = &options.journal_path {
        let what = format!("journal {}", path.display());
        let journal = Pinned::at(path).or_mount_failure(&what)?;
        handover.add_journal(open(&what, &journal)?);
    }
    let shown = request.source.to_string_lossy().into_owned();
    let reporter = Reporter::new("fuse4fs check", request.verbose);
    let asked = CheckRequest {
        fds: handover.roles()?,
        device_name: Text::lossy(&name(&path)),
        log_level: options.log_level,
        offset: options.offset,
        sizelimit: options.sizelimit,
        superblock: options.engine.superblock,
        noload: options.engine.noload,
    };
    let session = greet(&options)?;
    let mut progress = Progress::new(&reporter, &shown, None);
    let hear = |phase, done, total| progress.hear(phase, done, total);
    let report = session.check(asked, &handover.fds(), hear)?;
    drop(progress);
    Ok(Examined {
        mounted: mounted::places(&pinned),
        write_protected: source::is_write_protected(&pinned),
        source: shown,
        report,
    })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// For reading, and for nobody's exclusion: it may be mounted, or locked by who writes it.
fn open(what: &str, pinned: &Pinned) -> Result<std::os::fd::OwnedFd, Failure> {
    match source::kind(pinned) {
        SourceKind::Block | SourceKind::File { .. } => {
            pinned.open(OFlags::RDONLY).or_mount_failure(&format!("cannot open {what}"))
        }
        SourceKind::Directory | SourceKind::Other => {
            Err(Failure::mount(format!("{what} is neither a block device nor a file")))
        }
    }
}

/// A server, reached as for a mount by the same caller.
fn greet(options: &Options) -> Result<Session<Greeted>, Failure> {
    let privilege = user::privilege()?;
    let choice = match (&options.server, privilege) {
        // systemd's socket is root's.
        (ServerChoice::Any, Privilege::Caller) => &ServerChoice::Spawn(None),
        (choice, _) => choice,
    };
    let start = Start { privilege, log: options.log.as_deref(), log_to_stderr: false };
    let contact = connect::reach(choice, &start)?;
    let interruptions = signal::interruptions().or_system_failure("cannot wait for signals")?;
    Session::new(contact, interruptions, options.server_timeout).greet()
}

/// What is printed of a report, for fuzzers: for people, and as JSON.
#[cfg(feature = "fuzzing")]
pub(crate) fn printed(report: Box<Report>) -> [String; 2] {
    let (source, mounted) = ("/dev/x".to_owned(), Vec::new());
    let examined = Examined { source, mounted, write_protected: false, report };
    [text::text(&examined), json::text(&examined)]
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
