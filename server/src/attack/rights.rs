//! Mounts, privileges, kernel interfaces, code in memory, and ioctls of the descriptors.

use super::{Attempt, HERE, row};
use crate::sys::attack::{address, address_mut, call};

const MOUNTS: &str = "mounts and namespaces";
const RIGHTS: &str = "users and capabilities";
const KERNEL: &str = "kernel interfaces";
const LIMITS: &str = "limits and priorities";
const CODE: &str = "new code in memory";
const IOCTLS: &str = "ioctls of the descriptors";

pub(super) fn attempts() -> Vec<Attempt> {
    [mounts(), rights(), kernel(), limits(), code(), ioctls()].into_iter().flatten().collect()
}

fn mounts() -> Vec<Attempt> {
    vec![
        row(MOUNTS, "mount", 0, |_| {
            let kind = address(c"tmpfs");
            call(libc::SYS_mount, [kind, address(c"/mnt"), kind, 0, 0, 0])
        }),
        row(MOUNTS, "umount2", libc::EINVAL, |_| {
            call(libc::SYS_umount2, [address(c"/etc"), 0, 0, 0, 0, 0])
        }),
        row(MOUNTS, "fsopen", 0, |_| call(libc::SYS_fsopen, [address(c"tmpfs"), 0, 0, 0, 0, 0])),
        row(MOUNTS, "fspick", 0, |_| call(libc::SYS_fspick, [HERE, address(c"/"), 0, 0, 0, 0])),
        row(MOUNTS, "open_tree", 0, |_| {
            let clone = libc::OPEN_TREE_CLONE.into();
            call(libc::SYS_open_tree, [HERE, address(c"/"), clone, 0, 0, 0])
        }),
        row(MOUNTS, "move_mount", libc::EINVAL, |_| {
            let (from, to) = (address(c"/etc"), address(c"/mnt"));
            call(libc::SYS_move_mount, [HERE, from, HERE, to, 0, 0])
        }),
        row(MOUNTS, "mount_setattr", 0, |_| {
            let nothing = [0_u64; 4];
            call(libc::SYS_mount_setattr, [HERE, address(c"/"), 0, address(&nothing), 32, 0])
        }),
        row(MOUNTS, "pivot_root", libc::EBUSY, |_| {
            let root = address(c"/");
            call(libc::SYS_pivot_root, [root, root, 0, 0, 0, 0])
        }),
        row(MOUNTS, "unshare of the user namespace", 0, |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0, 0, 0])
        }),
        row(MOUNTS, "unshare of the mount namespace", 0, |_| {
            call(libc::SYS_unshare, [libc::CLONE_NEWNS.into(), 0, 0, 0, 0, 0])
        }),
        row(MOUNTS, "setns", 0, |reach| {
            let at = [HERE, address(c"/proc/self/ns/net"), 0, 0, 0, 0];
            let namespace = call(libc::SYS_openat, at);
            let namespace = if namespace < 0 { reach.device.into() } else { namespace };
            call(libc::SYS_setns, [namespace, 0, 0, 0, 0, 0])
        }),
    ]
}

fn rights() -> Vec<Attempt> {
    vec![
        row(RIGHTS, "setuid", 0, |_| call(libc::SYS_setuid, [0; 6])),
        row(RIGHTS, "setresuid", 0, |_| call(libc::SYS_setresuid, [0; 6])),
        row(RIGHTS, "setgid", 0, |_| call(libc::SYS_setgid, [0; 6])),
        row(RIGHTS, "setgroups", 0, |_| call(libc::SYS_setgroups, [0; 6])),
        row(RIGHTS, "capset", 0, |_| {
            // _LINUX_CAPABILITY_VERSION_3, this thread.
            let (header, sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
            call(libc::SYS_capset, [address(&header), address(&sets), 0, 0, 0, 0])
        }),
        row(RIGHTS, "prctl(PR_SET_SECUREBITS)", 0, |_| {
            call(libc::SYS_prctl, [libc::PR_SET_SECUREBITS.into(), 0, 0, 0, 0, 0])
        }),
        row(RIGHTS, "prctl(PR_SET_DUMPABLE)", 0, |_| {
            call(libc::SYS_prctl, [libc::PR_SET_DUMPABLE.into(), 1, 0, 0, 0, 0])
        }),
        row(RIGHTS, "personality", 0, |_| {
            call(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0])
        }),
        row(RIGHTS, "keyctl", 0, |_| call(libc::SYS_keyctl, [0, -3, 0, 0, 0, 0])),
        row(RIGHTS, "add_key", 0, |_| {
            let (kind, name) = (address(c"user"), address(c"attack"));
            call(libc::SYS_add_key, [kind, name, name, 6, -2, 0])
        }),
    ]
}

fn kernel() -> Vec<Attempt> {
    vec![
        row(KERNEL, "bpf", 0, |_| {
            // An array of one number.
            let map = [2_u32, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            call(libc::SYS_bpf, [0, address(&map), 72, 0, 0, 0])
        }),
        row(KERNEL, "userfaultfd", 0, |_| call(libc::SYS_userfaultfd, [0; 6])),
        row(KERNEL, "perf_event_open", 0, |_| {
            // A clock in software: type 1, of 128 bytes.
            let mut event = [0_u32; 32];
            (event[0], event[1]) = (1, 128);
            call(libc::SYS_perf_event_open, [address(&event), 0, -1, -1, 0, 0])
        }),
        row(KERNEL, "io_uring_setup", 0, |_| {
            let mut parameters = [0_u32; 30];
            call(libc::SYS_io_uring_setup, [1, address_mut(&mut parameters), 0, 0, 0, 0])
        }),
        row(KERNEL, "seccomp", 0, |_| {
            let action = [libc::SECCOMP_RET_ALLOW];
            call(libc::SYS_seccomp, [2, 0, address(&action), 0, 0, 0])
        }),
        row(KERNEL, "landlock_create_ruleset", 0, |_| {
            call(libc::SYS_landlock_create_ruleset, [0, 0, 1, 0, 0, 0])
        }),
        row(KERNEL, "reboot", libc::EINVAL, |_| call(libc::SYS_reboot, [0; 6])),
        row(KERNEL, "syslog", 0, |_| call(libc::SYS_syslog, [10, 0, 0, 0, 0, 0])),
        row(KERNEL, "swapon", libc::ENOENT, |_| {
            call(libc::SYS_swapon, [address(c"/no such file"), 0, 0, 0, 0, 0])
        }),
        row(KERNEL, "clock_settime", libc::EINVAL, |_| {
            let never = [0_i64, -1];
            call(libc::SYS_clock_settime, [0, address(&never), 0, 0, 0, 0])
        }),
        row(KERNEL, "quotactl", libc::ENODEV, |_| {
            call(libc::SYS_quotactl, [0x8000_0200, 0, 0, 0, 0, 0])
        }),
    ]
}

fn limits() -> Vec<Attempt> {
    vec![
        row(LIMITS, "prlimit64", 0, |_| {
            let more = [64_u64; 2];
            let which = i64::from(libc::RLIMIT_NOFILE);
            call(libc::SYS_prlimit64, [0, which, address(&more), 0, 0, 0])
        }),
        row(LIMITS, "setrlimit", 0, |_| {
            let more = [u64::MAX; 2];
            call(libc::SYS_setrlimit, [i64::from(libc::RLIMIT_DATA), address(&more), 0, 0, 0, 0])
        }),
        row(LIMITS, "sched_setscheduler(SCHED_FIFO)", 0, |_| {
            let highest = [99_i32];
            let class = libc::SCHED_FIFO.into();
            call(libc::SYS_sched_setscheduler, [0, class, address(&highest), 0, 0, 0])
        }),
        row(LIMITS, "setpriority", 0, |_| call(libc::SYS_setpriority, [0, 0, -20, 0, 0, 0])),
        row(LIMITS, "ioprio_set", 0, |_| call(libc::SYS_ioprio_set, [1, 0, 1 << 13, 0, 0, 0])),
        row(LIMITS, "mlockall", 0, |_| call(libc::SYS_mlockall, [1, 0, 0, 0, 0, 0])),
        row(LIMITS, "fallocate of 512 MiB of the log", 0, |reach| {
            call(libc::SYS_fallocate, [reach.log.into(), 0, 0, 512 << 20, 0, 0])
        }),
    ]
}

fn map(protection: i32, flags: i32, file: i64) -> i64 {
    call(libc::SYS_mmap, [0, 4096, protection.into(), flags.into(), file, 0])
}

fn code() -> Vec<Attempt> {
    const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
    vec![
        row(CODE, "mmap(PROT_WRITE | PROT_EXEC)", 0, |_| {
            map(WRITE | libc::PROT_EXEC, ANONYMOUS, -1)
        }),
        row(CODE, "mmap(PROT_EXEC) of the device", 0, |reach| {
            map(libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE, reach.device.into())
        }),
        row(CODE, "mprotect(PROT_EXEC)", 0, |_| {
            let page = map(WRITE, ANONYMOUS, -1);
            call(libc::SYS_mprotect, [page, 4096, libc::PROT_EXEC.into(), 0, 0, 0])
        }),
        row(CODE, "pkey_mprotect(PROT_EXEC)", 0, |_| {
            let page = map(WRITE, ANONYMOUS, -1);
            call(libc::SYS_pkey_mprotect, [page, 4096, libc::PROT_EXEC.into(), -1, 0, 0])
        }),
        row(CODE, "mmap(PROT_EXEC) of a memfd", 0, |_| {
            let file = call(libc::SYS_memfd_create, [address(c"x"), 0, 0, 0, 0, 0]);
            call(libc::SYS_ftruncate, [file, 4096, 0, 0, 0, 0]);
            map(libc::PROT_EXEC, libc::MAP_SHARED, file)
        }),
    ]
}

fn ioctl(file: i32, command: u32, argument: i64) -> i64 {
    call(libc::SYS_ioctl, [file.into(), command.into(), argument, 0, 0, 0])
}

/// `struct blkpg_ioctl_arg`: adds partition 9, of 1 MiB.
fn add_partition(device: i32) -> i64 {
    let mut partition = [0_u64; 19];
    (partition[0], partition[1], partition[2]) = (1 << 20, 1 << 20, 9);
    let what = [1_i64 /* BLKPG_ADD_PARTITION */, 152, address(&partition)];
    ioctl(device, 0x1269, address(&what))
}

fn ioctls() -> Vec<Attempt> {
    vec![
        row(IOCTLS, "BLKDISCARD", 0, |reach| ioctl(reach.device, 0x1277, address(&[0_u64, 4096]))),
        row(IOCTLS, "BLKZEROOUT", 0, |reach| ioctl(reach.device, 0x127f, address(&[0_u64, 4096]))),
        row(IOCTLS, "BLKROSET", 0, |reach| ioctl(reach.device, 0x125d, address(&[0_i32]))),
        row(IOCTLS, "BLKFLSBUF", 0, |reach| ioctl(reach.device, 0x1261, 0)),
        row(IOCTLS, "BLKRRPART", 0, |reach| ioctl(reach.device, 0x125f, 0)),
        row(IOCTLS, "BLKPG", 0, |reach| add_partition(reach.device)),
        row(IOCTLS, "BLKBSZSET", 0, |reach| ioctl(reach.device, 0x4008_1271, address(&[4096_i32]))),
        row(IOCTLS, "SG_IO", libc::EINVAL, |reach| ioctl(reach.device, 0x2285, 0)),
        row(IOCTLS, "LOOP_GET_STATUS64", 0, |reach| {
            let mut status = [0_u64; 32];
            ioctl(reach.device, 0x4c05, address_mut(&mut status))
        }),
        row(IOCTLS, "LOOP_SET_CAPACITY", 0, |reach| ioctl(reach.device, 0x4c07, 0)),
        row(IOCTLS, "LOOP_CHANGE_FD", libc::EINVAL, |reach| {
            ioctl(reach.device, 0x4c06, reach.device.into())
        }),
        row(IOCTLS, "LOOP_CLR_FD", 0, |reach| ioctl(reach.device, 0x4c01, 0)),
        row(IOCTLS, "FUSE_DEV_IOC_CLONE", libc::EFAULT, |reach| ioctl(reach.fuse, 0x8004_e500, 0)),
        // Refused outside as well, to a connection without pass-through; CLONE shows that ioctls get there.
        row(IOCTLS, "FUSE_DEV_IOC_BACKING_OPEN", libc::EPERM, |reach| {
            ioctl(reach.fuse, 0x4010_e501, 0)
        }),
        row(IOCTLS, "TIOCSTI", libc::ENOTTY, |_| ioctl(0, 0x5412, address(c"x"))),
    ]
}
