//! The way into confinement, taken before the first byte of the image is looked at.
//!
//! Each step takes away one kind of power, and none relies on another: an empty root (where this
//! process was spawned into namespaces of its own), no privileged user, no capability, no
//! descriptor but the known ones and no room for more, no file system or network (Landlock), and
//! only the system calls that serving takes (seccomp). Under systemd the unit has done most of it
//! already; it is done again, because a unit can be edited.

mod limits;
mod privileges;
mod root;
mod syscalls;

use std::io;
use std::os::fd::RawFd;
use std::sync::mpsc::{Sender, channel};
use std::thread;

pub(crate) use fuse4fs_protocol::Surroundings;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, Scope,
};
use thiserror::Error;

use syscalls::Part;

/// A step that failed. There is no mount without it.
#[derive(Debug, Error)]
#[error("cannot enter the sandbox: {step}: {source}")]
pub(crate) struct SandboxError {
    step: &'static str,
    source: io::Error,
}

/// Names the step that an error belongs to.
trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, SandboxError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, SandboxError> {
        self.map_err(|error| SandboxError { step, source: error.into() })
    }
}

/// A process that may still do what its user may.
#[derive(Debug)]
pub(crate) struct Unconfined {
    surroundings: Surroundings,
    /// Bytes of the longest file that it may write.
    file: u64,
    /// Bytes of memory that it has.
    data: u64,
}

/// A process that can read, write and wait on the descriptors it has, and nothing else. Serving an
/// image takes one of these.
///
/// The thread that went in, and all that it starts, may use rings, but cannot write to /dev/fuse.
#[derive(Debug)]
pub(crate) struct Confined {
    pub(crate) surroundings: Surroundings,
    /// The ABI of Landlock in force; 0 for none.
    pub(crate) landlock: u16,
    /// Bytes of memory that it may have.
    pub(crate) memory_limit: u64,
    /// To the thread that can, and waits to be told what to do.
    channels: Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Unconfined {
    /// The process at its start. Of files that are no devices none shall grow beyond `file` bytes.
    pub(crate) fn new(surroundings: Surroundings, file: u64) -> Self {
        Self { surroundings, file, data: limits::data() }
    }

    /// Goes in. There must be one thread only; others can be started from inside. Of the
    /// descriptors, the standard ones and those of `keep` stay; those of `fuse` are /dev/fuse.
    ///
    /// # Errors
    /// The step that failed; the process must end then.
    pub(crate) fn enter(self, keep: Vec<RawFd>, fuse: &[RawFd]) -> Result<Confined, SandboxError> {
        if self.surroundings == Surroundings::Namespaces {
            root::empty()?;
        }
        privileges::drop_all()?;
        close_others(keep)?;
        let landlock = landlock()?;
        let memory_limit = limits::set(&self)?;
        syscalls::filter()?;
        let channels = start_channels()?;
        syscalls::narrow(Part::Rings(fuse))?;
        Ok(Confined { surroundings: self.surroundings, landlock, memory_limit, channels })
    }
}

impl Confined {
    /// Does `job` on the thread that may write to /dev/fuse. So may those that it starts; none of them
    /// can use a ring. To be called once: the thread ends with the job.
    pub(crate) fn serve_channels(&self, job: impl FnOnce() + Send + 'static) {
        // It waits for nothing else, and cannot have ended before.
        let _ = self.channels.send(Box::new(job));
    }
}

/// Starts a thread for [`Confined::serve_channels`], and waits until it is confined to that.
fn start_channels() -> Result<Sender<Job>, SandboxError> {
    let (job, jobs) = channel::<Job>();
    let (confined, is_confined) = channel();
    let work = move || {
        let narrowed = syscalls::narrow(Part::Channels);
        let goes_on = narrowed.is_ok();
        let _ = confined.send(narrowed);
        if goes_on && let Ok(job) = jobs.recv() {
            job();
        }
    };
    thread::Builder::new().name("channels".into()).spawn(work).step("starting a thread")?;
    is_confined.recv().map_err(io::Error::other).step("waiting for a thread")??;
    Ok(job)
}

fn close_others(mut keep: Vec<RawFd>) -> Result<(), SandboxError> {
    keep.extend([libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO]);
    keep.sort_unstable();
    crate::sys::close_all_but(&keep).step("closing descriptors")
}

/// No access to any file or socket by name, no signal to the outside; as much of it as the kernel
/// knows, and nothing where it has no Landlock: the empty root and the system call filter stand
/// without it.
/// The ABI in force.
fn landlock() -> Result<u16, SandboxError> {
    let abi = ABI::V6;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(abi)))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(abi)))
        .and_then(Ruleset::create);
    let status = ruleset
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)
        .step("Landlock")?;
    tracing::debug!("Landlock: {:?}", status.ruleset);
    let abis = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];
    let in_force = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi.min(abi),
        _ => ABI::Unsupported,
    };
    let number = abis.iter().filter(|known| **known <= in_force).count();
    Ok(u16::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests;
