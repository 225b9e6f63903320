//! The system calls that serving takes. All others fail with EPERM.
//!
//! No thread has all of them: see [`Part`].

use std::collections::BTreeMap;
use std::io;
use std::os::fd::RawFd;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter, apply_filter_all_threads,
};

use super::{SandboxError, Step};
use crate::sys::ring::UNREGISTER_FILES;

/// Permitted whatever the arguments: on descriptors that are open already, on memory, on time, and
/// what glibc's threads and Rust's start and end of a thread take.
const ALWAYS: &[libc::c_long] = &[
    // Requests, replies, the device, log lines.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    // Rings, which can do what they were restricted to before and no more.
    libc::SYS_io_uring_enter,
    libc::SYS_ppoll,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_close,
    // Memory. Not mremap, which moves a stack out of the limits; realloc(3) copies without it.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_madvise,
    // Threads. clone3 is answered ENOSYS by the other filter.
    libc::SYS_clone3,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Signals.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // Time (where the vDSO cannot tell it) and randomness (of hash tables).
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
];

/// What a thread is for, and all threads that it starts.
///
/// A notification that is written to /dev/fuse may wait, unkillable, for a lock that a request holds.
/// If that request was handed to a ring by whose thread it is written, nobody can take it any more, and
/// an abort of the connection does not end it (kernel: fs/fuse/dev_uring.c, entries of
/// `ent_w_req_queue`): umount(2) would wait until the next boot. So whoever may use a ring must not be
/// able to write there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part<'a> {
    /// May write to /dev/fuse, and use no ring.
    Channels,
    /// May use rings, and write to none of these, which are /dev/fuse.
    Rings(&'a [RawFd]),
}

/// The argument `index` has, under `mask`, the value `value`.
fn argument(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::Error> {
    Ok(SeccompRule::new(vec![condition(index, mask, value)?])?)
}

fn condition(index: u8, mask: u64, value: u64) -> Result<SeccompCondition, seccompiler::Error> {
    let compare = SeccompCmpOp::MaskedEq(mask);
    Ok(SeccompCondition::new(index, SeccompCmpArgLen::Qword, compare, value)?)
}

fn bits(number: libc::c_int) -> u64 {
    u64::from(number.unsigned_abs())
}

/// Permitted with these arguments only.
fn conditional() -> Result<Vec<(libc::c_long, SeccompRule)>, seccompiler::Error> {
    let exec = bits(libc::PROT_EXEC);
    let thread = bits(libc::CLONE_THREAD);
    let vfork = bits(libc::CLONE_VFORK);
    let own = u64::from(std::process::id());
    let abort = vec![condition(0, u64::MAX, own)?, condition(2, u64::MAX, bits(libc::SIGABRT))?];
    let punch = bits(libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE);
    let own_filter = vec![
        condition(0, u64::MAX, libc::SECCOMP_SET_MODE_FILTER.into())?,
        condition(1, u64::MAX, 0)?,
    ];
    let uncounted = libc::MAP_SHARED | libc::MAP_GROWSDOWN;
    let private = vec![condition(2, exec, 0)?, condition(3, bits(uncounted), 0)?];
    let to_idle = vec![condition(0, u64::MAX, 0)?, condition(1, u64::MAX, bits(libc::SCHED_IDLE))?];
    Ok(vec![
        // No memory that can be executed, and none that escapes the limit of memory.
        (libc::SYS_mmap, SeccompRule::new(private)?),
        (libc::SYS_mprotect, argument(2, exec, 0)?),
        // Threads, but no processes; CLONE_THREAD excludes new user and pid namespaces. A thread that
        // waits as vfork(2) does cannot be woken by its ring: nor could who waits for that ring then,
        // even after the connection was aborted.
        (libc::SYS_clone, argument(0, thread | vfork, thread)?),
        // A discard, which neither writes zeros one by one nor makes a file longer.
        (libc::SYS_fallocate, argument(1, u64::MAX, punch)?),
        // Reading ahead; other advice could drop what others have in the page cache.
        (libc::SYS_fadvise64, argument(3, u64::MAX, bits(libc::POSIX_FADV_WILLNEED))?),
        // A thread's own CPU: those that serve a ring stay where its requests are made.
        (libc::SYS_sched_setaffinity, argument(0, u64::MAX, 0)?),
        // A thread's own class, and only the lowest, which it cannot leave.
        (libc::SYS_sched_setscheduler, SeccompRule::new(to_idle)?),
        // A ring lets go of its files, so that the device can be closed.
        (libc::SYS_io_uring_register, argument(1, u64::MAX, UNREGISTER_FILES.into())?),
        // The name of a thread.
        (libc::SYS_prctl, argument(0, u64::MAX, bits(libc::PR_SET_NAME))?),
        // The filter of its part.
        (libc::SYS_prctl, argument(0, u64::MAX, bits(libc::PR_SET_NO_NEW_PRIVS))?),
        (libc::SYS_seccomp, SeccompRule::new(own_filter)?),
        // abort(3), and no other signal: a stopped thread cannot be woken by its ring either.
        (libc::SYS_tgkill, SeccompRule::new(abort)?),
        // On a connected socket: no address.
        (libc::SYS_sendto, argument(4, u64::MAX, 0)?),
    ])
}

/// Installs the filters on all threads.
///
/// # Errors
/// A kernel without seccomp.
pub(super) fn filter() -> Result<(), SandboxError> {
    let programs = programs().map_err(io::Error::other).step("compiling the system call filter")?;
    for program in &programs {
        apply_filter_all_threads(program)
            .map_err(io::Error::other)
            .step("installing the system call filter")?;
    }
    Ok(())
}

/// In the order to be installed. Flags of clone3 lie in memory, where no filter can look, so the
/// first one makes glibc fall back to clone; the second is the list.
fn programs() -> Result<[BpfProgram; 2], seccompiler::Error> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = |errno: libc::c_int| SeccompAction::Errno(errno.unsigned_abs());
    let clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    let mut permitted: BTreeMap<_, _> = ALWAYS.iter().map(|nr| (*nr, Vec::new())).collect();
    for (number, rule) in conditional()? {
        permitted.entry(number).or_insert_with(Vec::new).push(rule);
    }
    let no_clone3 = SeccompFilter::new(clone3, SeccompAction::Allow, errno(libc::ENOSYS), arch)?;
    let list = SeccompFilter::new(permitted, errno(libc::EPERM), SeccompAction::Allow, arch)?;
    Ok([no_clone3.try_into()?, list.try_into()?])
}

/// Takes from this thread, and from those it will start, what is not of its part.
///
/// # Errors
/// A kernel without seccomp.
pub(super) fn narrow(part: Part<'_>) -> Result<(), SandboxError> {
    let program = rest(part).map_err(io::Error::other).step("compiling a thread's filter")?;
    apply_filter(&program).map_err(io::Error::other).step("installing a thread's filter")
}

/// Forbids what a part has not, and further filters.
fn rest(part: Part<'_>) -> Result<BpfProgram, seccompiler::Error> {
    let mut forbidden = BTreeMap::from([(libc::SYS_seccomp, Vec::new())]);
    match part {
        Part::Channels => {
            forbidden.insert(libc::SYS_io_uring_enter, Vec::new());
        }
        Part::Rings([]) => {}
        Part::Rings(fuse) => {
            for call in [libc::SYS_write, libc::SYS_writev, libc::SYS_pwritev2] {
                let rules = fuse.iter().map(|fd| on(*fd)).collect::<Result<_, _>>()?;
                forbidden.insert(call, rules);
            }
        }
    }
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    Ok(SeccompFilter::new(forbidden, SeccompAction::Allow, eperm, arch)?.try_into()?)
}

/// The first argument is this descriptor: 32 bits are, whatever the others.
fn on(fd: RawFd) -> Result<SeccompRule, seccompiler::Error> {
    let (length, fd) = (SeccompCmpArgLen::Dword, u64::from(fd.unsigned_abs()));
    Ok(SeccompRule::new(vec![SeccompCondition::new(0, length, SeccompCmpOp::Eq, fd)?])?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_short() {
        assert!(ALWAYS.len() + conditional().unwrap().len() <= 50);
    }
}
