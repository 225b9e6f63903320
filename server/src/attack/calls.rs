//! Other processes, and programs.

use super::{Attempt, row};
use crate::sys::attack::{address, address_mut, call, forking};

const NEW: &str = "processes and programs";
const OTHERS: &str = "other processes";

/// Outside, whoever started this; inside nobody can be told.
fn parent() -> i64 {
    call(libc::SYS_getppid, [0; 6]).max(0)
}

fn own() -> i64 {
    std::process::id().into()
}

/// Becomes echo(1), which says "0".
fn execute(from: impl FnOnce(i64, i64) -> i64) -> i64 {
    let arguments = [address(c"echo"), address(c"0"), 0];
    let nothing = [0_i64];
    from(address(&arguments), address(&nothing))
}

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = processes();
    all.extend(others());
    all
}

fn processes() -> Vec<Attempt> {
    vec![
        row(NEW, "clone as fork", 0, |_| {
            forking(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0, 0])
        }),
        row(NEW, "clone as vfork", 0, |_| {
            let flags = libc::CLONE_VFORK | libc::SIGCHLD;
            forking(libc::SYS_clone, [flags.into(), 0, 0, 0, 0, 0])
        }),
        row(NEW, "clone with namespaces", 0, |_| {
            let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::SIGCHLD;
            forking(libc::SYS_clone, [flags.into(), 0, 0, 0, 0, 0])
        }),
        #[cfg(target_arch = "x86_64")]
        row(NEW, "fork", 0, |_| forking(libc::SYS_fork, [0; 6])),
        row(NEW, "execve", 0, |_| {
            execute(|arguments, nothing| {
                let path = address(c"/bin/echo");
                call(libc::SYS_execve, [path, arguments, nothing, 0, 0, 0])
            })
        }),
        row(NEW, "execveat of a descriptor", 0, |reach| {
            let at = [libc::AT_FDCWD.into(), address(c"/bin/echo"), 0, 0, 0, 0];
            let program = call(libc::SYS_openat, at);
            let program = if program < 0 { reach.device.into() } else { program };
            let empty = address(c"");
            execute(|arguments, nothing| {
                let flags = libc::AT_EMPTY_PATH.into();
                call(libc::SYS_execveat, [program, empty, arguments, nothing, flags, 0])
            })
        }),
        // The filter lets glibc fall back to clone by this errno.
        Attempt {
            group: NEW,
            name: "clone3",
            inside: &[libc::ENOSYS],
            outside: 0,
            run: |_| {
                let arguments = [0_u64, 0, 0, 0, libc::SIGCHLD as u64, 0, 0, 0];
                forking(libc::SYS_clone3, [address(&arguments), 64, 0, 0, 0, 0])
            },
        },
    ]
}

fn others() -> Vec<Attempt> {
    vec![
        row(OTHERS, "kill", 0, |_| call(libc::SYS_kill, [parent(), 0, 0, 0, 0, 0])),
        row(OTHERS, "kill of all", 0, |_| call(libc::SYS_kill, [-1, 0, 0, 0, 0, 0])),
        row(OTHERS, "tkill", 0, |_| call(libc::SYS_tkill, [parent(), 0, 0, 0, 0, 0])),
        row(OTHERS, "tgkill", 0, |_| call(libc::SYS_tgkill, [parent(), parent(), 0, 0, 0, 0])),
        row(OTHERS, "rt_sigqueueinfo", libc::EPERM, |_| {
            let info = [0_i64; 16];
            call(libc::SYS_rt_sigqueueinfo, [parent(), 0, address(&info), 0, 0, 0])
        }),
        row(OTHERS, "ptrace", 0, |_| call(libc::SYS_ptrace, [0; 6])),
        row(OTHERS, "process_vm_readv", 0, |_| {
            let (from, mut to) = ([1_u8; 8], [0_u8; 8]);
            let (local, remote) = ([address_mut(&mut to), 8], [address(&from), 8]);
            let (local, remote) = (address(&local), address(&remote));
            call(libc::SYS_process_vm_readv, [own(), local, 1, remote, 1, 0])
        }),
        row(OTHERS, "process_vm_writev", 0, |_| {
            let (from, mut to) = ([1_u8; 8], [0_u8; 8]);
            let (local, remote) = ([address(&from), 8], [address_mut(&mut to), 8]);
            let (local, remote) = (address(&local), address(&remote));
            call(libc::SYS_process_vm_writev, [own(), local, 1, remote, 1, 0])
        }),
        row(OTHERS, "kcmp", 0, |_| call(libc::SYS_kcmp, [own(), own(), 0, 0, 0, 0])),
        row(OTHERS, "pidfd_open", 0, |_| call(libc::SYS_pidfd_open, [parent(), 0, 0, 0, 0, 0])),
        row(OTHERS, "pidfd_getfd", libc::EBADF, |reach| {
            call(libc::SYS_pidfd_getfd, [reach.device.into(), 0, 0, 0, 0, 0])
        }),
        row(OTHERS, "pidfd_send_signal", libc::EBADF, |reach| {
            call(libc::SYS_pidfd_send_signal, [reach.device.into(), 0, 0, 0, 0, 0])
        }),
        row(OTHERS, "getppid", 0, |_| call(libc::SYS_getppid, [0; 6])),
        row(OTHERS, "wait4", libc::ECHILD, |_| {
            call(libc::SYS_wait4, [-1, 0, libc::WNOHANG.into(), 0, 0, 0])
        }),
        row(OTHERS, "prlimit64 of another", 0, |_| {
            let mut old = [0_u64; 2];
            let which = i64::from(libc::RLIMIT_NOFILE);
            call(libc::SYS_prlimit64, [parent(), which, 0, address_mut(&mut old), 0, 0])
        }),
        row(OTHERS, "sched_setaffinity of another", 0, |_| {
            let set = [u64::MAX; 16];
            call(libc::SYS_sched_setaffinity, [own(), 128, address(&set), 0, 0, 0])
        }),
        row(OTHERS, "sched_setscheduler of another", 0, |_| {
            let none = [0_i32];
            let batch = libc::SCHED_BATCH.into();
            call(libc::SYS_sched_setscheduler, [own(), batch, address(&none), 0, 0, 0])
        }),
        row(OTHERS, "shmget", 0, |_| {
            call(libc::SYS_shmget, [libc::IPC_PRIVATE.into(), 4096, 0o600, 0, 0, 0])
        }),
        row(OTHERS, "msgget", 0, |_| {
            call(libc::SYS_msgget, [libc::IPC_PRIVATE.into(), 0o600, 0, 0, 0, 0])
        }),
    ]
}
