//! Operations of a ring, which no system call filter sees.

use std::os::fd::RawFd;

use io_uring::squeue::{Entry, Entry128, Flags};
use io_uring::{opcode, types};

use super::{Attempt, FILTER, Reach};
use crate::sys::attack::{address, call, number, submit};

const RINGS: &str = "operations of the rings";
const REGISTER: &str = "io_uring_register";

/// What a restricted ring says.
const RESTRICTED: &[i32] = &[libc::EACCES];

/// The first file of a ring is the connection; the second one the device.
const DEVICE: types::Fixed = types::Fixed(1);
const HERE: types::Fd = types::Fd(libc::AT_FDCWD);
static mut BYTES: [u8; 512] = [0; 512];

fn bytes() -> *mut u8 {
    (&raw mut BYTES).cast()
}

fn ring(reach: &mut Reach, entry: impl Into<Entry128>) -> i64 {
    let missing = i64::from(-libc::ENOTSUP);
    reach.ring.as_mut().and_then(|ring| submit(ring, &entry.into())).unwrap_or(missing)
}

fn plain(fd: RawFd) -> Entry {
    opcode::Read::new(types::Fd(fd), bytes(), 1).build()
}

fn register(reach: &Reach, what: i64, argument: i64, count: i64) -> i64 {
    let ring = reach.ring.as_ref().map_or(-1, number);
    call(libc::SYS_io_uring_register, [ring.into(), what, argument, count, 0, 0])
}

const fn row(name: &'static str, outside: i32, run: fn(&mut Reach) -> i64) -> Attempt {
    Attempt { group: RINGS, name, inside: RESTRICTED, outside, run }
}

const fn registering(name: &'static str, outside: i32, run: fn(&mut Reach) -> i64) -> Attempt {
    Attempt { group: REGISTER, name, inside: FILTER, outside, run }
}

pub(super) fn attempts() -> Vec<Attempt> {
    let mut all = operations();
    all.extend(registrations());
    all
}

fn operations() -> Vec<Attempt> {
    vec![
        row("OPENAT", 0, |reach| {
            ring(reach, opcode::OpenAt::new(HERE, c"/etc/passwd".as_ptr()).build())
        }),
        row("OPENAT2", 0, |reach| {
            let how = types::OpenHow::new();
            ring(reach, opcode::OpenAt2::new(HERE, c"/etc/passwd".as_ptr(), &raw const how).build())
        }),
        row("STATX", 0, |reach| {
            let path = c"/etc/passwd".as_ptr();
            ring(reach, opcode::Statx::new(HERE, path, bytes().cast()).build())
        }),
        row("UNLINKAT", libc::ENOENT, |reach| {
            ring(reach, opcode::UnlinkAt::new(HERE, c"/no such file".as_ptr()).build())
        }),
        row("SOCKET", 0, |reach| {
            ring(reach, opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build())
        }),
        row("CONNECT", libc::EINVAL, |reach| {
            let socket = types::Fd(reach.socket);
            ring(reach, opcode::Connect::new(socket, std::ptr::null(), 0).build())
        }),
        row("SEND", 0, |reach| {
            let socket = types::Fd(reach.socket);
            ring(reach, opcode::Send::new(socket, bytes(), 1).build())
        }),
        row("WRITE of the device", 0, |reach| {
            ring(reach, opcode::Write::new(DEVICE, bytes(), 512).build())
        }),
        row("FALLOCATE of the device", 0, |reach| {
            let how = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
            ring(reach, opcode::Fallocate::new(DEVICE, 4096).mode(how).build())
        }),
        row("READ of a descriptor", 0, |reach| {
            let device = reach.device;
            ring(reach, plain(device))
        }),
        row("linked READ", 0, |reach| {
            ring(reach, opcode::Read::new(DEVICE, bytes(), 1).build().flags(Flags::IO_LINK))
        }),
        row("FILES_UPDATE", 0, |reach| {
            let files = [reach.device];
            ring(reach, opcode::FilesUpdate::new(files.as_ptr(), 1).build())
        }),
        row("PROVIDE_BUFFERS", 0, |reach| {
            ring(reach, opcode::ProvideBuffers::new(bytes(), 64, 1, 0, 0).build())
        }),
        row("FIXED_FD_INSTALL", 0, |reach| {
            ring(reach, opcode::FixedFdInstall::new(DEVICE, 0).build())
        }),
        row("CLOSE", 0, |reach| {
            let fuse = types::Fd(reach.fuse);
            ring(reach, opcode::Close::new(fuse).build())
        }),
        row("NOP", 0, |reach| ring(reach, opcode::Nop::new().build())),
        Attempt {
            group: RINGS,
            name: "READ of an unknown file",
            inside: &[libc::EBADF],
            outside: 0,
            run: |reach| ring(reach, opcode::Read::new(types::Fixed(7), bytes(), 1).build()),
        },
    ]
}

fn registrations() -> Vec<Attempt> {
    vec![
        registering("of files", libc::EBUSY, |reach| {
            let files = [reach.device];
            register(reach, 2, address(&files), 1)
        }),
        registering("of another file", 0, |reach| {
            let files = [reach.device];
            let update = [0_i64, address(&files)];
            register(reach, 6, address(&update), 1)
        }),
        registering("of buffers", 0, |reach| {
            let buffers = [bytes().expose_provenance() as i64, 512];
            register(reach, 0, address(&buffers), 1)
        }),
        registering("of an event descriptor", libc::EINVAL, |reach| {
            let file = [reach.device];
            register(reach, 4, address(&file), 1)
        }),
        registering("of a personality", 0, |reach| register(reach, 9, 0, 0)),
        registering("of restrictions", libc::EBADFD, |reach| {
            let free = [0_u64; 2];
            register(reach, 11, address(&free), 1)
        }),
        registering("of more workers", 0, |reach| {
            let workers = [9_u32, 9];
            register(reach, 19, address(&workers), 2)
        }),
    ]
}
