//! One image, opened in a process of its own that may not take much.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Error, Filesystem, MountOptions, Unobserved};
use fuse4fs_tests::command;
use fuse4fs_tests::crash::writable;
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::{Value, json};

use crate::{change, walk};

/// Names the job of a child: how, and the image.
const JOB: &str = "FUSE4FS_CORPUS_JOB";
/// A child that takes longer hangs. Waiting for another host (MMP) is part of it.
const LIMIT: Duration = Duration::from_secs(90);
/// CPU time of a child, seconds.
const CPU: u64 = 30;
/// Address space of a child.
const SPACE: u64 = 1 << 30;
/// Memory that a child may have used, KiB: what the caches may hold, and the program.
const RESIDENT: u64 = 64 << 10;

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
    let mut child = Command::new(std::env::current_exe()?);
    child.env(JOB, format!("{name}:{}", image.display()));
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::null()).spawn()?;
    let output = command::wait(child, LIMIT)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, said.trim_end());
    let told: Value = serde_json::from_slice(&output.stdout)?;
    let text = |name: &str| told[name].as_str().map(str::to_owned);
    let resident = told["resident"].as_u64().context("resident")?;
    ensure!(resident <= RESIDENT, "took {resident} KiB of memory");
    let errors = told["errors"].as_object().context("errors")?.iter();
    Ok(Outcome {
        mount: text("refused").map_or(Ok(()), Err),
        errors: errors.map(|(code, n)| (code.clone(), n.as_u64().unwrap_or(0))).collect(),
        digest: text("digest").unwrap_or_default(),
        complete: told["complete"].as_bool().unwrap_or(false),
    })
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
    let (how, image) = job.split_once(':').context("a job")?;
    let (how, _) = How::ALL.into_iter().find(|(_, name)| *name == how).context("a way")?;
    let file = OpenOptions::new().read(true).write(how == How::Changed).open(image)?;
    let device = Arc::new(FileDevice::new(file)?);
    let fs = match Filesystem::mount(device, &how.options(), &Unobserved) {
        Ok(fs) => fs,
        Err(error) => {
            let refused = code(&error);
            return Ok(json!({ "refused": refused, "errors": {}, "resident": resident()? }));
        }
    };
    let mut walk = walk::Walk::new(Instant::now());
    walk.all(&fs);
    let (digest, complete, mut errors) = walk.end();
    if how == How::Changed {
        change::all(&fs, &mut |error| *errors.entry(error).or_default() += 1);
    }
    // What was found wrong is no reason to fail, but it has to end.
    let _ = fs.unmount();
    let resident = resident()?;
    Ok(json!({ "errors": errors, "digest": digest, "complete": complete, "resident": resident }))
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

/// KiB at most so far.
fn resident() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let Some(kib) = line.and_then(|line| line.split_whitespace().next()) else {
        bail!("no VmHWM");
    };
    Ok(kib.parse()?)
}
