//! What a taken-over server can take from the machine, whoever started it; the unit's limits are no wider.

use rustix::process::{Resource, Rlimit};

use super::{SandboxError, Step, Surroundings, Unconfined};

/// Bytes of memory beside what is mapped at the start, as the unit's MemoryMax.
const MEMORY: u64 = 1 << 30;
/// Bytes of the stacks of the threads that a CPU's ring has.
const STACKS: u64 = 4 << 20;
/// Threads, as the unit's TasksMax.
const THREADS: u64 = 2048;
/// Bytes of a log, at least.
const LOG: u64 = 256 << 20;

/// Bytes that are mapped to be written privately: heaps, stacks, and the memory of rings. Zero where /proc
/// does not tell.
pub(super) fn data() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = pages.split_whitespace().nth(5).and_then(|word| word.parse().ok());
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    page.saturating_mul(pages.unwrap_or(0))
}

/// Sets all of them, for good. Bytes of memory that the process may have.
///
/// Core dumps would hold file contents. Descriptors: the only number below the limit is that of the
/// standard input, so that even a call that makes one fails; ppoll(2) fails for more descriptors than
/// the limit, and there it is one. Locked memory and message queues are never needed. Memory that is not counted as
/// data (shared, or a stack's) cannot be had: see `syscalls`.
///
/// Threads are counted for a user, who is this mount's own in namespaces of its own only.
///
/// # Errors
/// None that is known of.
pub(super) fn set(process: &Unconfined) -> Result<u64, SandboxError> {
    for resource in [Resource::Core, Resource::Memlock, Resource::Msgqueue] {
        limit(resource, 0)?;
    }
    limit(Resource::Nofile, 1)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let stacks = u64::try_from(cpus).unwrap_or(1).saturating_mul(STACKS);
    let memory = process.data.saturating_add(MEMORY).saturating_add(stacks);
    let memory = limit(Resource::Data, memory)?;
    // Of no meaning to devices: it is about the log, and an image that is served as a file.
    limit(Resource::Fsize, process.file.max(LOG))?;
    if process.surroundings == Surroundings::Namespaces {
        limit(Resource::Nproc, THREADS)?;
    }
    Ok(memory)
}

/// Not above what it is limited to already. What it is limited to then.
fn limit(resource: Resource, value: u64) -> Result<u64, SandboxError> {
    let now = rustix::process::getrlimit(resource).maximum;
    let value = now.map_or(value, |now| now.min(value));
    let limit = Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(resource, limit).step("resource limits")?;
    Ok(value)
}
