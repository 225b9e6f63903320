//! One image, opened in a process of its own that may not take much.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Error, Filesystem, MountOptions, Refusal, Unobserved};
use fuse4fs_tests::command;
use fuse4fs_tests::crash::writable;
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};

use crate::{change, mounted, walk};

/// Names the job of a child: how, and the image.
const JOB: &str = "FUSE4FS_CORPUS_JOB";
/// A child that takes longer hangs. Waiting for another host (MMP) is part of it.
const LIMIT: Duration = Duration::from_secs(90);
/// CPU time of a child, seconds.
const CPU: u64 = 30;
/// Address space of a child.
const SPACE: u64 = 1 << 30;
/// Memory that who opens an image may have used, KiB: what the caches may hold, and the program.
pub(crate) const RESIDENT: u64 = 64 << 10;

/// How often which errno was met.
pub(crate) type Errnos = BTreeMap<i32, u64>;

/// How an image is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum How {
    /// Read-only, as if there were no journal.
    Stale,
    /// Read-only, with what is in the journal.
    Recovered,
    /// To be written, and then changed.
    Changed,
}

impl How {
    const ALL: [(Self, &str); 3] =
        [(Self::Stale, "stale"), (Self::Recovered, "recovered"), (Self::Changed, "changed")];

    fn options(self) -> MountOptions {
        let read_only = self != Self::Changed;
        MountOptions { read_only, noload: self == Self::Stale, ..writable() }
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// It was mounted, or why not.
    pub(crate) mount: Result<(), String>,
    /// How often which error was met.
    pub(crate) errors: BTreeMap<String, u64>,
    /// How often the walk met which errno.
    pub(crate) errnos: Errnos,
    pub(crate) digest: String,
    /// The walk saw everything.
    pub(crate) complete: bool,
}

/// What this process is to do, if it is a child.
pub(crate) fn job() -> Option<String> {
    std::env::var(JOB).ok()
}

/// Has a child open `image`.
///
/// # Errors
/// That it panicked, hung, or took too much.
pub(crate) fn open(how: How, image: &Path) -> Result<Outcome> {
    let (_, name) = How::ALL.into_iter().find(|(each, _)| *each == how).context("a way")?;
    let told = ask(name, image)?;
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    let resident = told["resident"].as_u64().context("resident")?;
    ensure!(resident <= RESIDENT, "took {resident} KiB of memory");
    let errors = told["errors"].as_object().context("errors")?.iter();
    Ok(Outcome {
        mount: text("refused").map_or(Ok(()), Err),
        errors: errors.map(|(code, n)| (code.clone(), n.as_u64().unwrap_or(0))).collect(),
        errnos: errnos(&told["errnos"])?,
        digest: text("digest").unwrap_or_default(),
        complete: told["complete"].as_bool().unwrap_or(false),
    })
}

/// Has a child do `what` to the image or the mounted directory `path`; what it tells.
///
/// # Errors
/// That it panicked, hung, or took too much.
pub(crate) fn ask(what: &str, path: &Path) -> Result<Value> {
    let mut child = Command::new(std::env::current_exe()?);
    child.env(JOB, format!("{what}:{}", path.display()));
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let output = command::wait(child, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, said.trim_end());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// What a child tells of errnos.
pub(crate) fn errnos(told: &Value) -> Result<Errnos> {
    let each = |(errno, n): (&String, &Value)| Ok((errno.parse()?, n.as_u64().context("count")?));
    told.as_object().context("errnos")?.iter().map(each).collect()
}

/// The child: tells what came of it on stdout.
pub(crate) fn run(job: &str) -> ExitCode {
    match limit().and_then(|()| work(job)) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn limit() -> Result<()> {
    for (resource, most) in [(Resource::As, SPACE), (Resource::Cpu, CPU), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

fn work(job: &str) -> Result<Value> {
    let (what, path) = job.split_once(':').context("a job")?;
    match How::ALL.into_iter().find(|(_, name)| *name == what) {
        Some((how, _)) => engine(how, Path::new(path)),
        None => mounted::job(what, Path::new(path)),
    }
}

/// Opens an image with the engine.
fn engine(how: How, image: &Path) -> Result<Value> {
    let file = OpenOptions::new().read(true).write(how == How::Changed).open(image)?;
    let device = Arc::new(FileDevice::new(file)?);
    let fs = match Filesystem::mount(device, &how.options(), &Unobserved) {
        Ok(fs) => fs,
        Err(error) => {
            let refused = code(&error);
            let resident = resident("self")?;
            return Ok(
                json!({ "refused": refused, "errors": {}, "errnos": {}, "resident": resident }),
            );
        }
    };
    let mut walk = walk::Walk::new(Instant::now());
    walk.all(&fs);
    let errnos = walk.errnos();
    let (digest, complete, mut errors) = walk.end();
    if how == How::Changed {
        change::all(&fs, &mut |error| *errors.entry(error).or_default() += 1);
    }
    // What was found wrong is no reason to fail, but it has to end.
    let _ = fs.unmount();
    Ok(json!({
        "errors": errors,
        "errnos": errnos,
        "digest": digest,
        "complete": complete,
        "resident": resident("self")?,
    }))
}

/// A word for an error, without numbers.
pub(crate) fn code(error: &Error) -> String {
    match error {
        Error::Refused(refusal) => format!("{refusal:?}"),
        Error::Corrupt { kind, .. } => kind.code().to_owned(),
        Error::Io { .. } => "io".to_owned(),
        Error::Unmountable(why) => {
            let why = format!("{why:?}");
            why.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_owned()
        }
    }
}

/// The errno by which the server answers an error of the walk.
pub(crate) fn errno(error: &Error) -> i32 {
    let errno = match error {
        Error::Corrupt { kind, .. } if kind.is_checksum() => Errno::BADMSG,
        Error::Corrupt { .. } => Errno::UCLEAN,
        Error::Refused(Refusal::NoKey) => Errno::NOKEY,
        Error::Refused(Refusal::NotFound) => Errno::NOENT,
        Error::Refused(Refusal::NotSupported) => Errno::OPNOTSUPP,
        Error::Refused(Refusal::Stale) => Errno::STALE,
        Error::Refused(_) | Error::Unmountable(_) => Errno::INVAL,
        Error::Io { .. } => Errno::IO,
    };
    errno.raw_os_error()
}

/// Memory that the process `pid` has had at most so far, KiB.
pub(crate) fn resident(pid: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else {
        bail!("no VmHWM");
    };
    Ok(kib.parse()?)
}
