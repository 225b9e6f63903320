//! A server for tests of the mount helper: serves an empty directory, or misbehaves in the way
//! that its file name says, for example `fake.silent-after-hello`. It writes nothing, and says so,
//! unless it is called `writable`; `syncs-slowly` is too.
//!
//! It is its own program so that it can hang, die and be killed. The name is the only thing
//! that reaches a server: it is started with an empty environment and fixed arguments.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test code"
)]

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use fuse4fs_protocol::{
    FdRole, Features, Hello, IOC_GET_READ_ONLY, KEY_BYTES, MAGIC, MAX_MESSAGE, Phase, RefusalKind,
    Report, Text, ToHelper, ToServer, VERSION_MAX, Verdict, Welcome, decode, encode,
};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

fn main() {
    let exe = std::env::current_exe().unwrap();
    let name = exe.file_name().unwrap().to_str().unwrap().to_owned();
    let behaviour = name.split_once('.').map_or("good", |(_, behaviour)| behaviour).to_owned();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut server = "fake-server 0";
    let socket = match arguments.as_slice() {
        [spawned] if spawned == "--spawned" => {
            leave_all_mounts();
            inherited_socket()
        }
        [_, bare] if bare == "--no-namespaces" => {
            server = "fake-server 0 without namespaces";
            inherited_socket()
        }
        // In systemd's place, for one connection.
        [listen, path] if listen == "--listen" => accept(path),
        _ => panic!("started with {arguments:?}"),
    };
    Fake { socket, behaviour, server }.run();
}

/// A copy of every mount came with the namespace and would keep them busy: an empty root instead.
fn leave_all_mounts() {
    use rustix::mount::{MountFlags, MountPropagationFlags as Propagation, UnmountFlags};
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC).unwrap();
    rustix::mount::mount("none", "/tmp", "tmpfs", MountFlags::empty(), None).unwrap();
    rustix::process::chdir("/tmp").unwrap();
    rustix::process::pivot_root(".", ".").unwrap();
    rustix::mount::unmount(".", UnmountFlags::DETACH).unwrap();
}

fn accept(path: &str) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let family = AddressFamily::UNIX;
    let socket = rustix::net::socket_with(family, SocketType::SEQPACKET, flags, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 8).unwrap();
    println!("listening");
    rustix::net::accept_with(&socket, flags).unwrap()
}

#[allow(unsafe_code, reason = "descriptor 3 is ours by agreement")]
fn inherited_socket() -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: whoever starts a server passes its socket as descriptor 3, and nobody else uses it.
    unsafe { OwnedFd::from_raw_fd(3) }
}

struct Fake {
    socket: OwnedFd,
    behaviour: String,
    /// What it calls itself.
    server: &'static str,
}

impl Fake {
    fn is(&self, behaviour: &str) -> bool {
        self.behaviour == behaviour
    }

    fn is_writable(&self) -> bool {
        self.is("writable") || self.is("syncs-slowly")
    }

    /// Hangs or dies if that is wanted at this step.
    fn step(&self, step: &str) {
        if self.behaviour == format!("dies-{step}") {
            std::process::exit(1);
        }
        if self.behaviour == format!("silent-{step}") {
            loop {
                std::thread::sleep(Duration::from_secs(1000));
            }
        }
    }

    fn run(self) {
        self.step("at-once");
        let (hello, _) = self.receive();
        assert!(matches!(hello, ToServer::Hello(Hello { magic: MAGIC, .. })));
        self.step("after-hello");
        self.welcome();
        self.step("after-welcome");
        let (message, mut fds) = self.receive();
        self.step("after-mount");
        let request = match message {
            ToServer::Mount(request) => request,
            ToServer::Check(request) => {
                assert_eq!(request.fds.roles(), [FdRole::Device]);
                return self.verdict(&report(), &ToHelper::Serving { read_only: true });
            }
            ToServer::Hello(_) => panic!("no request"),
        };
        assert_eq!(request.fds.roles().len(), fds.len());
        let place = request.fds.roles().iter().position(|role| *role == FdRole::Fuse).unwrap();
        let mut fuse = File::from(fds.swap_remove(place));
        initialise(&mut fuse);
        self.step("after-init");
        if self.is("slow") {
            for done in 0..6 {
                std::thread::sleep(Duration::from_millis(500));
                self.send(&ToHelper::Progress { phase: Phase::Replay, done, total: 6 });
            }
        }
        let serving = ToHelper::Serving { read_only: !self.is_writable() };
        self.verdict(&serving, &report());
        let root = Root {
            ioctl: match (self.is_writable(), request.read_only) {
                (true, false) => 0,
                (true, true) => EROFS,
                (false, _) => ENOSYS,
            },
            readable: if self.is("root-is-lost") { 1 } else { u32::MAX },
            sync: Duration::from_millis(if self.is("syncs-slowly") { 700 } else { 0 }),
        };
        serve(&mut fuse, &root);
        // The devices must be free before umount returns.
        drop(fds);
        answer(&mut fuse, DESTROYED.with(std::cell::Cell::get), 0, &[]);
    }

    fn welcome(&self) {
        let mut welcome = Welcome {
            magic: MAGIC,
            version: VERSION_MAX,
            features: Features(0),
            server: Text::lossy(self.server),
        };
        match self.behaviour.as_str() {
            "wrong-magic" => welcome.magic = *b"fuse5fs\0",
            "wrong-version" => welcome.version = 7,
            "welcome-out-of-order" => return self.send(&ToHelper::Serving { read_only: true }),
            "welcome-fds" => return self.send_with_fds(&ToHelper::Welcome(welcome)),
            "welcome-trailing" => return self.send_changed(&ToHelper::Welcome(welcome), 1),
            "welcome-oversize" => {
                return self.send_changed(&ToHelper::Welcome(welcome), MAX_MESSAGE);
            }
            "welcome-nonsense" => return self.send_bytes(&[0xff; 40]),
            _ => {}
        }
        self.send(&ToHelper::Welcome(welcome));
    }

    /// The last word; `other` is that of another conversation.
    fn verdict(&self, last: &ToHelper, other: &ToHelper) {
        match self.behaviour.as_str() {
            "verdict-of-another" => self.send(other),
            "verdict-out-of-order" => self.welcome(),
            "verdict-fds" => self.send_with_fds(last),
            "verdict-trailing" => self.send_changed(last, 1),
            "verdict-oversize" => self.send_changed(last, MAX_MESSAGE),
            "verdict-nonsense" => self.send_bytes(&[0xff; 40]),
            "verdict-empty" => self.send_bytes(&[]),
            "refuses" => {
                let text = Text::lossy("no magic\u{1b}[31m here");
                self.send(&ToHelper::Refused { kind: RefusalKind::NotExt4, text });
                std::process::exit(0);
            }
            "floods" => loop {
                self.send(&ToHelper::Progress { phase: Phase::Replay, done: 0, total: 0 });
            },
            _ => self.send(last),
        }
    }

    fn receive(&self) -> (ToServer, Vec<OwnedFd>) {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let parts = &mut [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let len = rustix::net::recvmsg(&self.socket, parts, &mut control, flags).unwrap().bytes;
        if len == 0 {
            std::process::exit(0);
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(more) = message {
                fds.extend(more);
            }
        }
        (decode(&bytes[..len]).unwrap(), fds)
    }

    fn send(&self, message: &ToHelper) {
        self.send_bytes(&encode(message).unwrap());
    }

    /// With this many bytes after the message.
    fn send_changed(&self, message: &ToHelper, more: usize) {
        let mut bytes = encode(message).unwrap();
        bytes.resize(bytes.len() + more, 0);
        self.send_bytes(&bytes);
    }

    fn send_with_fds(&self, message: &ToHelper) {
        let bytes = encode(message).unwrap();
        let fds: [BorrowedFd<'_>; 5] = std::array::from_fn(|_| self.socket.as_fd());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(5))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let sent = rustix::net::sendmsg(
            &self.socket,
            &[IoSlice::new(&bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        if sent.is_err() {
            // The kernel kept them back for the helper; then they are said without.
            self.send_bytes(&[0xff; 40]);
        }
    }

    fn send_bytes(&self, bytes: &[u8]) {
        if rustix::net::send(&self.socket, bytes, SendFlags::NOSIGNAL).is_err() {
            std::process::exit(1);
        }
    }
}

fn report() -> ToHelper {
    ToHelper::Report(Box::new(Report { filesystem: None, verdict: Verdict::ReadWrite }))
}

const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const STATFS: u32 = 17;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const READDIR: u32 = 28;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const DESTROY: u32 = 38;
const GETXATTR: u32 = 22;
const IOCTL: u32 = 39;
const BATCH_FORGET: u32 = 42;
const SYNCFS: u32 = 50;

const EIO: i32 = 5;
const EROFS: i32 = 30;
const ENOSYS: i32 = 38;

thread_local! {
    static DESTROYED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Opcode, unique number and, of an ioctl, the command of the next request; None when the mount is gone.
fn request(fuse: &mut File) -> Option<(u32, u64, u32)> {
    let mut buffer = vec![0; 1 << 17];
    let len = fuse.read(&mut buffer).ok()?;
    assert!(len >= 40);
    let opcode = u32::from_ne_bytes(buffer[4..8].try_into().unwrap());
    let unique = u64::from_ne_bytes(buffer[8..16].try_into().unwrap());
    // After the header: handle, flags, command.
    Some((opcode, unique, u32::from_ne_bytes(buffer[52..56].try_into().unwrap())))
}

fn answer(fuse: &mut File, unique: u64, error: i32, body: &[u8]) {
    let len = u32::try_from(16 + body.len()).unwrap();
    let mut reply = Vec::new();
    reply.extend(len.to_ne_bytes());
    reply.extend((-error).to_ne_bytes());
    reply.extend(unique.to_ne_bytes());
    reply.extend(body);
    let _ = fuse.write(&reply);
}

fn initialise(fuse: &mut File) {
    let Some((INIT, unique, _)) = request(fuse) else { return };
    let mut body = Vec::new();
    // major, minor, max_readahead, flags, max_background and congestion, max_write, time_gran
    for word in [7_u32, 31, 1 << 17, 0, 0, 1 << 16, 1] {
        body.extend(word.to_ne_bytes());
    }
    body.resize(64, 0);
    answer(fuse, unique, 0, &body);
}

/// How the empty directory answers.
struct Root {
    /// How often its attributes are told; EIO after that.
    readable: u32,
    /// The error of every ioctl, or 0.
    ioctl: i32,
    /// How long SYNCFS takes.
    sync: Duration,
}

/// Until the mount is gone; DESTROY is left to be answered.
fn serve(fuse: &mut File, root: &Root) {
    let mut readable = root.readable;
    while let Some((opcode, unique, command)) = request(fuse) {
        match opcode {
            GETATTR if readable == 0 => answer(fuse, unique, EIO, &[]),
            GETATTR => {
                readable = readable.saturating_sub(1);
                answer(fuse, unique, 0, &root_attributes());
            }
            STATFS => answer(fuse, unique, 0, &[0; 80]),
            OPENDIR => answer(fuse, unique, 0, &[0; 16]),
            READDIR | RELEASEDIR => answer(fuse, unique, 0, &[]),
            SYNCFS => {
                std::thread::sleep(root.sync);
                answer(fuse, unique, 0, &[]);
            }
            // What it writes is 0: it is not read-only.
            IOCTL if root.ioctl == 0 && command == IOC_GET_READ_ONLY => {
                answer(fuse, unique, 0, &[0; 16 + 4]);
            }
            // The key of what follows, whatever it is asked for.
            GETXATTR if root.ioctl == 0 => answer(fuse, unique, 0, &[7; KEY_BYTES]),
            IOCTL if root.ioctl == 0 => answer(fuse, unique, 0, &[0; 16]),
            IOCTL => answer(fuse, unique, root.ioctl, &[]),
            FORGET | BATCH_FORGET | INTERRUPT => {}
            DESTROY => {
                DESTROYED.with(|place| place.set(unique));
                return;
            }
            _ => answer(fuse, unique, ENOSYS, &[]),
        }
    }
}

/// `struct fuse_attr_out` of an empty directory.
fn root_attributes() -> Vec<u8> {
    let mut body = vec![0; 16 + 88];
    body[16] = 1;
    // mode follows ino, size, blocks, three times in seconds and three in nanoseconds.
    let mode = 16 + 6 * 8 + 3 * 4;
    body[mode..mode + 4].copy_from_slice(&0o040_755_u32.to_ne_bytes());
    body[mode + 4] = 2;
    body
}
