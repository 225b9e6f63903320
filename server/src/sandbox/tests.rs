#![allow(unsafe_code, reason = "the attacks that the sandbox must stop are raw system calls")]

//! Each test starts this test program anew; the child goes in and then tries one thing.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::process::{Command, Output};
use std::sync::atomic::AtomicU8;

use io_uring::{opcode, squeue, types};
use rustix::event::{PollFd, PollFlags};

use super::*;
use crate::sys::ring::{Ring, drop_files};

/// Names what the child does; without it, the child's entry point is no test at all.
const ATTACK: &str = "FUSE4FS_TEST_ATTACK";

/// The errno of a raw system call, 0 if it succeeded.
fn raw(number: libc::c_long, arguments: [libc::c_long; 5]) -> i32 {
    let [a, b, c, d, e] = arguments;
    // SAFETY: all are either refused or do no harm to this process, which ends right after.
    let result = unsafe { libc::syscall(number, a, b, c, d, e) };
    if result >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

/// What a taken-over server might try; each one must fail with EPERM.
fn attacks() -> Vec<(&'static str, libc::c_long, [libc::c_long; 5])> {
    let path = i64::try_from(c"/etc/passwd".as_ptr().addr()).unwrap();
    let parent = i64::from(rustix::process::getppid().map_or(1, |pid| pid.as_raw_nonzero().get()));
    let at = i64::from(libc::AT_FDCWD);
    let process = i64::from(libc::SIGCHLD);
    let executable = i64::from(libc::PROT_READ | libc::PROT_EXEC);
    let anonymous = i64::from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let shared = i64::from(libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    vec![
        ("open", libc::SYS_openat, [at, path, 0, 0, 0]),
        ("openat2", libc::SYS_openat2, [at, path, 0, 24, 0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0, 0, 0, 0, 0]),
        ("stat", libc::SYS_newfstatat, [at, path, 0, 0, 0]),
        ("socket", libc::SYS_socket, [1, 1, 0, 0, 0]),
        ("socketpair", libc::SYS_socketpair, [1, 1, 0, 0, 0]),
        ("accept", libc::SYS_accept4, [3, 0, 0, 0, 0]),
        ("recvmsg", libc::SYS_recvmsg, [3, 0, 0, 0, 0]),
        ("dup", libc::SYS_dup, [0, 0, 0, 0, 0]),
        ("memfd_create", libc::SYS_memfd_create, [path, 0, 0, 0, 0]),
        ("mount", libc::SYS_mount, [path, path, path, 0, 0]),
        ("fsopen", libc::SYS_fsopen, [path, 0, 0, 0, 0]),
        ("chroot", libc::SYS_chroot, [path, 0, 0, 0, 0]),
        ("pivot_root", libc::SYS_pivot_root, [path, path, 0, 0, 0]),
        ("ptrace", libc::SYS_ptrace, [16, parent, 0, 0, 0]),
        ("process_vm_readv", libc::SYS_process_vm_readv, [parent, 0, 0, 0, 0]),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [0, 0, 0, 0, 0]),
        ("execve", libc::SYS_execve, [path, 0, 0, 0, 0]),
        ("execveat", libc::SYS_execveat, [at, path, 0, 0, 0]),
        ("fork", libc::SYS_clone, [process, 0, 0, 0, 0]),
        ("kill", libc::SYS_kill, [parent, 0, 0, 0, 0]),
        ("tgkill of another", libc::SYS_tgkill, [parent, parent, libc::SIGABRT.into(), 0, 0]),
        ("unshare", libc::SYS_unshare, [i64::from(libc::CLONE_NEWUSER), 0, 0, 0, 0]),
        ("setns", libc::SYS_setns, [0, 0, 0, 0, 0]),
        ("setuid", libc::SYS_setuid, [0, 0, 0, 0, 0]),
        ("capset", libc::SYS_capset, [0, 0, 0, 0, 0]),
        ("prctl", libc::SYS_prctl, [i64::from(libc::PR_SET_DUMPABLE), 1, 0, 0, 0]),
        ("setrlimit", libc::SYS_prlimit64, [0, 7, 0, 0, 0]),
        ("seccomp", libc::SYS_seccomp, [0, 0, 0, 0, 0]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0]),
        ("registering buffers", libc::SYS_io_uring_register, [0, 0, 0, 0, 0]),
        ("registering files", libc::SYS_io_uring_register, [0, 2, 0, 0, 0]),
        ("changing files", libc::SYS_io_uring_register, [0, 6, path, 1, 0]),
        ("restricting anew", libc::SYS_io_uring_register, [0, 11, 0, 0, 0]),
        ("enabling a ring", libc::SYS_io_uring_register, [0, 12, 0, 0, 0]),
        ("another's CPU", libc::SYS_sched_setaffinity, [parent, 8, path, 0, 0]),
        ("a real-time class", libc::SYS_sched_setscheduler, [0, 1, path, 0, 0]),
        ("another's class", libc::SYS_sched_setscheduler, [parent, 5, path, 0, 0]),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0, 0]),
        ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0, 0]),
        ("userfaultfd", libc::SYS_userfaultfd, [0, 0, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0, 0, 0, 0, 0]),
        ("TIOCSTI", libc::SYS_ioctl, [0, 0x5412, path, 0, 0]),
        ("executable memory", libc::SYS_mmap, [0, 4096, executable, anonymous, -1]),
        ("shared memory", libc::SYS_mmap, [0, 4096, 3, shared, -1]),
        ("mremap", libc::SYS_mremap, [0, 4096, 8192, 1, 0]),
        ("making memory executable", libc::SYS_mprotect, [0, 4096, executable, 0, 0]),
        ("sendto with an address", libc::SYS_sendto, [3, 0, 0, 0, path]),
        ("pwrite", libc::SYS_pwrite64, [3, path, 1, 0, 0]),
        ("unlink", libc::SYS_unlinkat, [at, path, 0, 0, 0]),
        ("reboot", libc::SYS_reboot, [0, 0, 0, 0, 0]),
    ]
}

/// The same, of calls that are permitted with other arguments.
fn attacks_by_arguments() -> Vec<(&'static str, libc::c_long, [libc::c_long; 5])> {
    let own = i64::from(std::process::id());
    let stop = i64::from(libc::SIGSTOP);
    let thread = libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_VFORK;
    let zero = i64::from(libc::FALLOC_FL_ZERO_RANGE);
    vec![
        ("stopping itself", libc::SYS_tgkill, [own, own, stop, 0, 0]),
        ("a thread that is waited for", libc::SYS_clone, [thread.into(), 0, 0, 0, 0]),
        ("writing zeros", libc::SYS_fallocate, [2, zero, 0, 1, 0]),
        ("making a file longer", libc::SYS_fallocate, [2, 0, 0, 1, 0]),
        ("filters of others", libc::SYS_seccomp, [1, 1, 0, 0, 0]),
        ("a further filter", libc::SYS_seccomp, [1, 0, 0, 0, 0]),
    ]
}

static BYTE: AtomicU8 = AtomicU8::new(0);

/// The same by a ring, which no filter sees; each one must fail with EACCES.
fn ring_attacks() -> Vec<(&'static str, squeue::Entry)> {
    let (path, here) = (c"/etc/passwd".as_ptr(), types::Fd(libc::AT_FDCWD));
    let (fixed, plain) = (types::Fixed(0), types::Fd(2));
    let address = std::ptr::null();
    vec![
        ("openat", opcode::OpenAt::new(here, path).build()),
        ("openat2", opcode::OpenAt2::new(here, path, std::ptr::null()).build()),
        ("statx", opcode::Statx::new(here, path, std::ptr::null_mut()).build()),
        ("unlinkat", opcode::UnlinkAt::new(here, path).build()),
        ("socket", opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build()),
        ("connect", opcode::Connect::new(fixed, address, 0).build()),
        ("send", opcode::Send::new(fixed, path.cast(), 1).build()),
        ("write", opcode::Write::new(fixed, path.cast(), 1).build()),
        ("close", opcode::Close::new(plain).build()),
        ("files_update", opcode::FilesUpdate::new([2].as_ptr(), 1).build()),
        ("provide_buffers", opcode::ProvideBuffers::new(std::ptr::null_mut(), 1, 1, 0, 0).build()),
        ("epoll_ctl", opcode::EpollCtl::new(fixed, plain, 1, std::ptr::null()).build()),
        ("nop", opcode::Nop::new().build()),
        ("a file that is not registered", opcode::Read::new(plain, BYTE.as_ptr(), 1).build()),
        (
            "linking operations",
            opcode::Read::new(fixed, BYTE.as_ptr(), 1).build().flags(squeue::Flags::IO_LINK),
        ),
    ]
}

/// What a thread can do of what its part decides: each way to write to `fuse`, and to use a ring that is
/// none.
fn part_of(part: &str, fuse: RawFd) -> String {
    let byte = [io::IoSlice::new(b"x")];
    let at = i64::try_from(byte.as_ptr().addr()).unwrap();
    let (low, high) = (i64::from(fuse), i64::from(fuse) | 1 << 32);
    let try_out = |(name, number, fd, argument): (&str, libc::c_long, i64, i64)| {
        format!("{part}: {name}: {}\n", raw(number, [fd, at, argument, 0, 0]))
    };
    let ways = [
        ("write", libc::SYS_write, low, 0),
        ("write, by a number with more bits", libc::SYS_write, high, 0),
        ("writev", libc::SYS_writev, low, 1),
        ("pwritev2", libc::SYS_pwritev2, low, 1),
        ("writev elsewhere", libc::SYS_writev, i64::from(libc::STDERR_FILENO), 0),
        ("io_uring_enter", libc::SYS_io_uring_enter, low, 0),
    ];
    ways.map(try_out).concat()
}

/// The child: what it prints is what the tests look at.
#[test]
#[ignore = "the child of the other tests, which start it by themselves"]
fn child() {
    let Ok(what) = std::env::var(ATTACK) else { return };
    let status = std::fs::File::open("/proc/thread-self/status").unwrap();
    let spare = std::fs::File::open("/etc/passwd").unwrap();
    let attacks = [attacks(), attacks_by_arguments()].concat();
    let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
    let fuse = null.as_raw_fd();
    let mut ring = Ring::new(1, &[status.as_fd()]).unwrap();
    let keep = vec![status.as_raw_fd(), ring.number(), fuse];
    let confined = Unconfined::new(Surroundings::Bare, 0).enter(keep, &[fuse]).unwrap();
    match what.as_str() {
        "attacks" => {
            for (name, number, arguments) in attacks {
                println!("{name}: {}", raw(number, arguments));
            }
        }
        "ring" => {
            for (name, entry) in ring_attacks() {
                println!("{name}: {}", -ring.attack(entry));
            }
            drop_files(ring.number()).unwrap();
            println!(
                "dropped: {}",
                -ring.attack(opcode::Read::new(types::Fixed(0), BYTE.as_ptr(), 1).build())
            );
        }
        "threads" => {
            let sum: usize = (1..=4_usize)
                .map(|n| std::thread::spawn(move || vec![n; 1 << 20].len() >> 20))
                .map(|thread| thread.join().unwrap())
                .sum();
            println!("sum: {sum}");
            println!("clone3: {}", raw(libc::SYS_clone3, [0; 5]));
        }
        "parts" => {
            let (report, part) = std::sync::mpsc::channel();
            let of = move |part: &str| part_of(part, fuse);
            confined.serve_channels(move || {
                let child = std::thread::spawn(move || of("child of channels"));
                report.send([of("channels"), child.join().unwrap()].concat()).unwrap();
            });
            let child = std::thread::spawn(move || of("child of rings"));
            let [rings, child] = [of("rings"), child.join().unwrap()];
            println!("\n{}{rings}{child}", part.recv().unwrap());
        }
        "status" => print!("{}", io::read_to_string(status).unwrap()),
        "descriptors" => {
            println!("kept: {}", rustix::fs::fstat(&status).is_ok());
            println!("closed: {:?}", rustix::fs::fstat(&spare).err());
            let mut fds = [PollFd::new(&status, PollFlags::IN)];
            println!("polled: {:?}", rustix::event::poll(&mut fds, None));
            // It is closed already, and closing it twice is an error that std aborts on.
            std::mem::forget(spare);
        }
        other => panic!("{other}"),
    }
}

fn run(attack: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        // Identity is a matter of the thread, so the child looks at the one that went in.
        .args(["--exact", "sandbox::tests::child", "--ignored", "--nocapture"])
        .arg("--test-threads=1")
        .env(ATTACK, attack)
        .output()
        .unwrap()
}

fn lines(attack: &str) -> Vec<String> {
    let output = run(attack);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn nothing_but_serving_is_permitted() {
    let lines = lines("attacks");
    for (name, ..) in [attacks(), attacks_by_arguments()].concat() {
        let expected = format!("{name}: {}", libc::EPERM);
        assert!(lines.iter().any(|line| line.ends_with(&expected)), "{name}: {lines:#?}");
    }
}

#[test]
fn a_ring_does_nothing_but_what_it_was_made_for() {
    let lines = lines("ring");
    for (name, _) in ring_attacks() {
        let expected = format!("{name}: {}", libc::EACCES);
        assert!(lines.iter().any(|line| line.ends_with(&expected)), "{name}: {lines:#?}");
    }
    let dropped = format!("dropped: {}", libc::EBADF);
    assert!(lines.iter().any(|line| line.ends_with(&dropped)), "{lines:#?}");
}

#[test]
fn no_thread_may_use_rings_and_write_to_channels() {
    let lines = lines("parts");
    let writes = ["write", "write, by a number with more bits", "writev", "pwritev2"]
        .map(|way| (way, libc::EPERM));
    let found = |part: &str, way: &str| {
        let prefix = format!("{part}: {way}: ");
        let line = lines.iter().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("no {prefix}in {lines:#?}")).parse::<i32>().unwrap()
    };
    for part in ["rings", "child of rings"] {
        for (way, errno) in writes {
            assert_eq!(found(part, way), errno, "{part}: {way}");
        }
        // It is no ring, but that was looked at.
        assert_eq!(found(part, "io_uring_enter"), libc::EOPNOTSUPP, "{part}");
        assert_eq!(found(part, "writev elsewhere"), 0, "{part}");
    }
    for part in ["channels", "child of channels"] {
        for (way, _) in writes {
            // A sixth argument of pwritev2 is left to chance.
            assert_ne!(found(part, way), libc::EPERM, "{part}: {way}");
        }
        assert_eq!(found(part, "io_uring_enter"), libc::EPERM, "{part}");
    }
}

#[test]
fn threads_can_be_started_inside() {
    let lines = lines("threads");
    assert!(lines.iter().any(|line| line.ends_with("sum: 4")), "{lines:#?}");
    let fallback = format!("clone3: {}", libc::ENOSYS);
    assert!(lines.iter().any(|line| line.ends_with(&fallback)), "{lines:#?}");
}

#[test]
fn no_privilege_is_left() {
    let lines = lines("status");
    let has = |name: &str, value: &str| {
        let line = lines.iter().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("no {name} in {lines:#?}"));
        assert_eq!(line.split_whitespace().nth(1).unwrap_or_default(), value, "{line}");
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
        has(set, "0000000000000000");
    }
    has("NoNewPrivs:", "1");
    has("Seccomp:", "2");
    if rustix::process::geteuid().is_root() {
        has("CapBnd:", "0000000000000000");
        has("Uid:", "65534");
        has("Gid:", "65534");
        has("Groups:", "");
    }
}

#[test]
fn only_known_descriptors_stay_open_and_can_be_waited_for() {
    let lines = lines("descriptors");
    assert!(lines.iter().any(|line| line.ends_with("kept: true")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("closed: Some")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.ends_with("polled: Ok(1)")), "{lines:#?}");
}
