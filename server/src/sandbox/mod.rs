//! The way into confinement, taken before the first byte of the image is looked at.
//!
//! Each step takes away one kind of power, and none relies on another: an empty root (where this
//! process was spawned into namespaces of its own), no privileged user, no capability, no
//! descriptor but the known ones and no room for more, no file system or network (Landlock), and
//! only the system calls that serving takes (seccomp). Under systemd the unit has done most of it
//! already; it is done again, because a unit can be edited.

mod privileges;
mod root;
mod syscalls;

use std::io;
use std::os::fd::RawFd;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use rustix::process::{Resource, Rlimit};
use thiserror::Error;

/// Who made the surroundings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Surroundings {
    /// systemd, by the unit.
    Unit,
    /// The helper: fresh namespaces, in which this process is root.
    Namespaces,
    /// The helper, on a host without user namespaces.
    Bare,
}

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
pub(crate) struct Unconfined(Surroundings);

/// A process that can read, write and wait on the descriptors it has, and nothing else. Serving an
/// image takes one of these.
#[derive(Debug)]
pub(crate) struct Confined(());

impl Unconfined {
    /// The process at its start.
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        Self(surroundings)
    }

    /// Goes in. There must be one thread only; others can be started from inside. Of the
    /// descriptors, the standard ones and those of `keep` stay.
    ///
    /// # Errors
    /// The step that failed; the process must end then.
    pub(crate) fn enter(self, keep: Vec<RawFd>) -> Result<Confined, SandboxError> {
        if self.0 == Surroundings::Namespaces {
            root::empty()?;
        }
        privileges::drop_all()?;
        close_others(keep)?;
        landlock()?;
        limit()?;
        syscalls::filter()?;
        Ok(Confined(()))
    }
}

fn close_others(mut keep: Vec<RawFd>) -> Result<(), SandboxError> {
    keep.extend([libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO]);
    keep.sort_unstable();
    crate::sys::close_all_but(&keep).step("closing descriptors")
}

/// No access to any file or socket by name, no signal to the outside; as much of it as the kernel
/// knows, and nothing where it has no Landlock: the empty root and the system call filter stand
/// without it.
fn landlock() -> Result<(), SandboxError> {
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
    Ok(())
}

/// Core dumps would hold file contents. Descriptors: no number is free, so that even a call that
/// makes one fails. Locked memory and message queues are never needed.
///
/// Not limited: processes, because they are counted for a user and not for a mount (the system call
/// filter permits threads only); address space, because it says little of memory (the unit's
/// MemoryMax does); file size, because it is about files this process cannot have.
fn limit() -> Result<(), SandboxError> {
    for resource in [Resource::Core, Resource::Nofile, Resource::Memlock, Resource::Msgqueue] {
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        rustix::process::setrlimit(resource, none).step("resource limits")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
