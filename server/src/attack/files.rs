//! Files and sockets.

use super::{Attempt, HERE, row};
use crate::sys::attack::{address, address_mut, call};

const FILES: &str = "files by name";
const DESCRIPTORS: &str = "descriptors";
const SOCKETS: &str = "sockets";

fn open(path: &std::ffi::CStr, flags: i32) -> i64 {
    call(libc::SYS_openat, [HERE, address(path), flags.into(), 0o600, 0, 0])
}

fn socket(domain: i32, kind: i32, protocol: i32) -> i64 {
    call(libc::SYS_socket, [domain.into(), kind.into(), protocol.into(), 0, 0, 0])
}

/// With the handle of a file, or with one that is made up.
fn open_by_handle() -> i64 {
    // struct file_handle: bytes, type, and room for MAX_HANDLE_SZ = 128.
    let mut handle = [0_u32; 34];
    let mut mount = 0_i32;
    handle[0] = 128;
    let path = c"/etc/passwd";
    let named = [HERE, address(path), address_mut(&mut handle), address_mut(&mut mount), 0, 0];
    call(libc::SYS_name_to_handle_at, named);
    call(libc::SYS_open_by_handle_at, [HERE, address_mut(&mut handle), 0, 0, 0, 0])
}

/// Sends descriptor 0 through `socket`.
fn send_descriptor(socket: i32) -> i64 {
    #[repr(C, align(8))]
    struct Rights {
        header: libc::cmsghdr,
        fd: i32,
    }
    let mut byte = [0_u8; 1];
    let part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let rights = Rights {
        header: libc::cmsghdr {
            cmsg_len: 20,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        fd: 0,
    };
    // struct msghdr of 64 bits: name, its length, parts, their number, control, its length, flags.
    let (part, rights) = (address(&part), address(&rights));
    let message = [0, 0, part, 1, rights, 24, 0_i64];
    call(libc::SYS_sendmsg, [socket.into(), address(&message), 0, 0, 0, 0])
}

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = by_name();
    all.extend(others());
    all
}

fn by_name() -> Vec<Attempt> {
    vec![
        row(FILES, "openat", 0, |_| open(c"/etc/passwd", libc::O_RDONLY)),
        row(FILES, "openat to create", 0, |_| open(c"/tmp", libc::O_TMPFILE | libc::O_RDWR)),
        row(FILES, "openat of /", 0, |_| open(c"/", libc::O_DIRECTORY)),
        row(FILES, "openat by /proc", 0, |_| open(c"/proc/self/root/etc/passwd", 0)),
        row(FILES, "openat of a device", 0, |_| open(c"/dev/zero", libc::O_RDWR)),
        row(FILES, "openat from the device's descriptor", libc::ENOTDIR, |reach| {
            let path = address(c"../../etc/passwd");
            call(libc::SYS_openat, [reach.device.into(), path, 0, 0, 0, 0])
        }),
        row(FILES, "openat2", 0, |_| {
            let how = [0_u64; 3];
            call(libc::SYS_openat2, [HERE, address(c"/etc/passwd"), address(&how), 24, 0, 0])
        }),
        row(FILES, "open_by_handle_at", 0, |_| open_by_handle()),
        row(FILES, "getdents64", libc::ENOTDIR, |reach| {
            let mut room = [0_u64; 64];
            let into = address_mut(&mut room);
            call(libc::SYS_getdents64, [reach.device.into(), into, 512, 0, 0, 0])
        }),
        row(FILES, "newfstatat", 0, |_| {
            let mut stat = [0_u64; 32];
            let into = address_mut(&mut stat);
            call(libc::SYS_newfstatat, [HERE, address(c"/etc/passwd"), into, 0, 0, 0])
        }),
        row(FILES, "statx", 0, |_| {
            let mut stat = [0_u64; 32];
            let into = address_mut(&mut stat);
            call(libc::SYS_statx, [HERE, address(c"/etc/passwd"), 0, 0x7ff, into, 0])
        }),
        row(FILES, "faccessat2", 0, |_| {
            call(libc::SYS_faccessat2, [HERE, address(c"/etc/passwd"), 0, 0, 0, 0])
        }),
        row(FILES, "readlinkat", 0, |_| {
            let mut room = [0_u64; 64];
            let (path, into) = (address(c"/proc/self/exe"), address_mut(&mut room));
            call(libc::SYS_readlinkat, [HERE, path, into, 512, 0, 0])
        }),
        row(FILES, "unlinkat", libc::ENOENT, |_| {
            call(libc::SYS_unlinkat, [HERE, address(c"/no such file"), 0, 0, 0, 0])
        }),
        row(FILES, "mkdirat", libc::EEXIST, |_| {
            call(libc::SYS_mkdirat, [HERE, address(c"/tmp"), 0, 0, 0, 0])
        }),
        row(FILES, "mknodat", libc::EEXIST, |_| {
            call(libc::SYS_mknodat, [HERE, address(c"/tmp"), 0o020_600, 0x103, 0, 0])
        }),
        row(FILES, "symlinkat", libc::EEXIST, |_| {
            call(libc::SYS_symlinkat, [address(c"x"), HERE, address(c"/tmp"), 0, 0, 0])
        }),
        row(FILES, "renameat2", libc::ENOENT, |_| {
            let (from, to) = (address(c"/no such file"), address(c"/no other"));
            call(libc::SYS_renameat2, [HERE, from, HERE, to, 0, 0])
        }),
        row(FILES, "fchmodat", libc::ENOENT, |_| {
            call(libc::SYS_fchmodat, [HERE, address(c"/no such file"), 0o777, 0, 0, 0])
        }),
        row(FILES, "chdir", 0, |_| call(libc::SYS_chdir, [address(c"/tmp"), 0, 0, 0, 0, 0])),
        row(FILES, "chroot", 0, |_| call(libc::SYS_chroot, [address(c"/"), 0, 0, 0, 0, 0])),
        row(FILES, "fanotify_init", 0, |_| call(libc::SYS_fanotify_init, [0; 6])),
        row(FILES, "inotify_init1", 0, |_| call(libc::SYS_inotify_init1, [0; 6])),
    ]
}

fn others() -> Vec<Attempt> {
    vec![
        row(DESCRIPTORS, "memfd_create", 0, |_| {
            call(libc::SYS_memfd_create, [address(c"x"), 0, 0, 0, 0, 0])
        }),
        row(DESCRIPTORS, "dup", 0, |_| call(libc::SYS_dup, [0; 6])),
        row(DESCRIPTORS, "fcntl", 0, |_| {
            call(libc::SYS_fcntl, [0, libc::F_DUPFD.into(), 0, 0, 0, 0])
        }),
        row(DESCRIPTORS, "pipe2", 0, |_| {
            let mut pair = [0_i32; 2];
            call(libc::SYS_pipe2, [address_mut(&mut pair), 0, 0, 0, 0, 0])
        }),
        row(DESCRIPTORS, "eventfd2", 0, |_| call(libc::SYS_eventfd2, [0; 6])),
        row(DESCRIPTORS, "sendmsg of a descriptor to the helper", 0, |reach| {
            send_descriptor(reach.socket)
        }),
        row(DESCRIPTORS, "recvmsg from the helper", libc::EAGAIN, |reach| {
            let message = [0_i64; 7];
            let wait = libc::MSG_DONTWAIT.into();
            call(libc::SYS_recvmsg, [reach.socket.into(), address(&message), wait, 0, 0, 0])
        }),
        row(DESCRIPTORS, "recvfrom", libc::EAGAIN, |reach| {
            let wait = libc::MSG_DONTWAIT.into();
            call(libc::SYS_recvfrom, [reach.socket.into(), 0, 0, wait, 0, 0])
        }),
        Attempt {
            group: DESCRIPTORS,
            name: "write of another trigger to memory.pressure",
            inside: &[libc::EBUSY, libc::EBADF],
            outside: 0,
            run: |reach| {
                // The kernel overwrites the last byte.
                let trigger = c"some 200000 2000000\n";
                let len = trigger.count_bytes().try_into().unwrap_or(0);
                call(libc::SYS_write, [reach.pressure.into(), address(trigger), len, 0, 0, 0])
            },
        },
        row(SOCKETS, "socket(AF_INET)", 0, |_| socket(libc::AF_INET, libc::SOCK_STREAM, 0)),
        row(SOCKETS, "socket(AF_INET6)", 0, |_| socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)),
        row(SOCKETS, "socket(AF_UNIX)", 0, |_| socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)),
        row(SOCKETS, "socket(AF_NETLINK)", 0, |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        row(SOCKETS, "socket(AF_PACKET)", 0, |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0)),
        row(SOCKETS, "socketpair", 0, |_| {
            let mut pair = [0_i32; 2];
            let (domain, kind) = (libc::AF_UNIX.into(), libc::SOCK_STREAM.into());
            call(libc::SYS_socketpair, [domain, kind, 0, address_mut(&mut pair), 0, 0])
        }),
        row(SOCKETS, "bind", libc::EINVAL, |reach| {
            call(libc::SYS_bind, [reach.socket.into(), 0, 0, 0, 0, 0])
        }),
        row(SOCKETS, "connect", libc::EINVAL, |reach| {
            call(libc::SYS_connect, [reach.socket.into(), 0, 0, 0, 0, 0])
        }),
        row(SOCKETS, "accept4", libc::EOPNOTSUPP, |reach| {
            call(libc::SYS_accept4, [reach.socket.into(), 0, 0, 0, 0, 0])
        }),
        row(SOCKETS, "setsockopt", libc::EFAULT, |reach| {
            let (level, option) = (libc::SOL_SOCKET.into(), libc::SO_SNDBUF.into());
            call(libc::SYS_setsockopt, [reach.socket.into(), level, option, 1, 4, 0])
        }),
        row(SOCKETS, "sendto with an address", libc::EINVAL, |reach| {
            let somewhere = [libc::AF_UNIX as u16, 0x2f2f];
            let (what, to) = (address(c"x"), address(&somewhere));
            call(libc::SYS_sendto, [reach.socket.into(), what, 1, 0, to, 1 << 20])
        }),
    ]
}
