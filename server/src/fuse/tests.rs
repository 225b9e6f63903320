//! The dispatch as the kernel sees it: a fake kernel at the other end of a packet socket.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::{Filesystem, MountOptions, Overhead, Unobserved, probe};
use proptest::prelude::*;
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::abi::{self, InHeader, OutHeader, opcode};
use super::{Frontend, Settings};
use crate::device::Device;

/// The asking side.
struct Kernel {
    socket: OwnedFd,
    unique: u64,
}

/// The header's error and what follows it.
type Reply = (i32, Vec<u8>);

impl Kernel {
    fn send(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> u64 {
        self.unique += 2;
        let header = InHeader {
            len: u32::try_from(40 + body.len()).unwrap(),
            opcode,
            unique: self.unique,
            nodeid,
            ..InHeader::default()
        };
        let bytes = [header.as_bytes(), body].concat();
        send(&self.socket, &bytes, SendFlags::empty()).unwrap();
        self.unique
    }

    /// The next reply: to which request, and what it says.
    fn receive(&self) -> Option<(u64, Reply)> {
        let mut bytes = vec![0; 1 << 21];
        let (len, _) = recv(&self.socket, &mut bytes[..], RecvFlags::empty()).ok()?;
        let (header, payload) = OutHeader::read_from_prefix(&bytes[..len]).unwrap();
        assert_eq!(usize::try_from(header.len).unwrap(), len);
        Some((header.unique, (header.error, payload.to_vec())))
    }

    fn ask(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> Reply {
        let unique = self.send(opcode, nodeid, body);
        let (answered, reply) = self.receive().expect("an answer");
        assert_eq!(answered, unique);
        reply
    }

    fn init(&mut self) -> abi::InitOut {
        let init = abi::InitIn {
            major: 7,
            minor: 45,
            max_readahead: 131_072,
            flags: u32::MAX,
            flags2: u32::MAX,
            ..abi::InitIn::default()
        };
        let (error, payload) = self.ask(opcode::INIT, 0, init.as_bytes());
        assert_eq!(error, 0);
        read(&payload)
    }
}

/// A reply of exactly one message.
fn read<T: FromBytes + IntoBytes + Immutable>(payload: &[u8]) -> T {
    T::read_from_bytes(payload).unwrap_or_else(|_| panic!("{} bytes", payload.len()))
}

/// A small file system with a file, a link, a sparse file and a directory of many names.
static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir_all(tree.join("many")).unwrap();
    fs::write(tree.join("hello"), "hello, world\n").unwrap();
    fs::set_permissions(tree.join("hello"), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::symlink("hello", tree.join("link")).unwrap();
    let sparse = File::create(tree.join("sparse")).unwrap();
    sparse.set_len(1 << 20).unwrap();
    sparse.write_all_at(&[7; 4096], 1 << 18).unwrap();
    for number in 0..200 {
        fs::write(tree.join(format!("many/file-{number:03}")), "").unwrap();
    }
    let image = directory.path().join("image");
    let made = Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-b", "4096", "-O", "^has_journal", "-L", "label", "-d"])
        .args([&tree, &image])
        .arg("4M")
        .stdout(Stdio::null())
        .status()
        .expect("mke2fs of e2fsprogs is needed");
    assert!(made.success());
    fs::read(&image).unwrap()
});

fn device() -> Arc<Device> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&IMAGE).unwrap();
    Arc::new(Device::new(file.into()))
}

fn settings() -> Settings {
    Settings {
        device_name: "test".into(),
        errors: None,
        overhead: Overhead::Subtract,
        request_timeout: 300,
    }
}

/// A front end whose file system is not there yet, with one worker.
struct Starting {
    kernel: Kernel,
    device: Arc<Device>,
    frontend: Arc<Frontend>,
    worker: JoinHandle<std::io::Result<()>>,
}

fn starting() -> Starting {
    let flags = SocketFlags::CLOEXEC;
    let (socket, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(2))).unwrap();
    let device = device();
    let geometry = probe(&*device, None).unwrap();
    let devices = vec![Arc::clone(&device)];
    let frontend = Arc::new(Frontend::new(vec![theirs], devices, geometry, settings()));
    let shared = Arc::clone(&frontend);
    let worker = std::thread::spawn(move || shared.work(0));
    Starting { kernel: Kernel { socket, unique: 0 }, device, frontend, worker }
}

impl Starting {
    /// Mounts the image.
    fn mount(&self) {
        let options = MountOptions {
            read_only: true,
            noload: false,
            superblock: None,
            journal: None,
            cache_bytes: 1 << 20,
        };
        let device: Arc<dyn BlockDevice> = self.device.clone();
        let filesystem = Filesystem::mount(device, &options, &Unobserved).unwrap();
        assert!(self.frontend.ready(filesystem).unwrap());
    }
}

/// A mounted image after INIT.
fn serving() -> Starting {
    let mut starting = starting();
    starting.kernel.init();
    starting.mount();
    starting
}

#[test]
fn init_is_answered_before_the_file_system_is_there() {
    let mut starting = starting();
    let reply = starting.kernel.init();
    assert_eq!((reply.major, reply.minor), (7, 45));
    assert_eq!((reply.max_write, reply.max_pages, reply.time_gran), (1 << 20, 256, 1));
    assert_eq!(reply.request_timeout, 300);
}

#[test]
fn nothing_is_answered_before_init() {
    let mut starting = starting();
    assert_eq!(starting.kernel.ask(opcode::STATFS, 1, b"").0, -libc::EIO);
}

#[test]
fn sync_and_statfs_do_not_wait_for_the_replay() {
    let mut starting = starting();
    let kernel = &mut starting.kernel;
    kernel.init();
    kernel.send(opcode::GETATTR, 1, abi::GetattrIn::default().as_bytes());
    assert_eq!(kernel.ask(opcode::SYNCFS, 1, b""), (0, Vec::new()));
    let (error, payload) = kernel.ask(opcode::STATFS, 1, b"");
    let statfs: abi::StatfsOut = read(&payload);
    assert_eq!((error, statfs.blocks, statfs.bfree), (0, 1024, 0));
    kernel.send(opcode::FORGET, 1, &[0; 8]);
    assert_eq!(starting.device.size(), 4 << 20);
    assert_eq!(kernel.ask(opcode::DESTROY, 0, b""), (0, Vec::new()));
    assert_eq!(starting.device.size(), 0, "the device is closed before DESTROY is answered");
    starting.worker.join().unwrap().unwrap();
}

#[test]
fn a_malformed_request_is_an_error_and_not_the_end() {
    let mut starting = starting();
    starting.kernel.init();
    assert_eq!(starting.kernel.ask(opcode::LOOKUP, 1, b"no nul").0, -libc::EIO);
    assert_eq!(starting.kernel.ask(opcode::SYNCFS, 1, b"").0, 0);
}

#[test]
fn a_worker_ends_when_the_kernel_hangs_up() {
    let starting = starting();
    drop(starting.kernel);
    starting.worker.join().unwrap().unwrap();
}

#[test]
fn waiting_requests_are_bounded() {
    let mut starting = starting();
    starting.kernel.init();
    for _ in 0..256 {
        starting.kernel.send(opcode::READLINK, 12, b"");
    }
    assert_eq!(starting.kernel.ask(opcode::READLINK, 12, b"").0, -libc::EAGAIN);
}

#[test]
fn what_came_too_early_is_answered_once_the_file_system_is_there() {
    let mut starting = starting();
    starting.kernel.init();
    let unique = starting.kernel.send(opcode::GETATTR, 1, abi::GetattrIn::default().as_bytes());
    // The answer to a later one shows that the first is parked and not just slow.
    assert_eq!(starting.kernel.ask(opcode::SYNCFS, 1, b"").0, 0);
    starting.mount();
    let (answered, (error, payload)) = starting.kernel.receive().unwrap();
    assert_eq!((answered, error), (unique, 0));
    assert_eq!(read::<abi::AttrOut>(&payload).attr.ino, 2);
}

impl Kernel {
    fn lookup(&mut self, parent: u64, name: &str) -> abi::EntryOut {
        let (error, payload) = self.ask(opcode::LOOKUP, parent, format!("{name}\0").as_bytes());
        assert_eq!(error, 0, "{name}");
        read(&payload)
    }

    fn read(&mut self, opcode: u32, node: u64, offset: u64, size: u32) -> Vec<u8> {
        let asked = abi::ReadIn { offset, size, ..abi::ReadIn::default() };
        let (error, payload) = self.ask(opcode, node, asked.as_bytes());
        assert_eq!(error, 0);
        payload
    }

    /// All entries of a directory: name, offset, and its inode if asked for.
    fn list(&mut self, node: u64, plus: bool, size: u32) -> Vec<(String, u64, u64)> {
        let opcode = if plus { opcode::READDIRPLUS } else { opcode::READDIR };
        let mut entries: Vec<(String, u64, u64)> = Vec::new();
        loop {
            let cookie = entries.last().map_or(0, |(_, cookie, _)| *cookie);
            let payload = self.read(opcode, node, cookie, size);
            if payload.is_empty() {
                return entries;
            }
            let mut rest = &payload[..];
            while !rest.is_empty() {
                let node = if plus {
                    let (entry, after) = abi::EntryOut::read_from_prefix(rest).unwrap();
                    rest = after;
                    entry.nodeid
                } else {
                    0
                };
                let (fixed, after) = abi::Dirent::read_from_prefix(rest).unwrap();
                let len = usize::try_from(fixed.namelen).unwrap();
                let name = String::from_utf8(after[..len].to_vec()).unwrap();
                entries.push((name, fixed.off, node));
                rest = &after[len.next_multiple_of(8)..];
            }
        }
    }
}

#[test]
fn a_file_is_found_shown_and_read() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    let entry = kernel.lookup(1, "hello");
    assert_eq!(entry.attr.mode, 0o100_640);
    assert_eq!((entry.attr.size, entry.attr.ino, entry.attr.blksize), (13, entry.nodeid, 4096));
    assert_eq!(kernel.read(opcode::READ, entry.nodeid, 0, 1 << 20), b"hello, world\n");
    assert_eq!(kernel.read(opcode::READ, entry.nodeid, 7, 3), b"wor");
    assert_eq!(kernel.read(opcode::READ, entry.nodeid, 13, 100), b"");
    let (_, payload) = kernel.ask(opcode::STATX, entry.nodeid, abi::StatxIn::default().as_bytes());
    let statx: abi::StatxOut = read(&payload);
    assert_eq!((statx.stat.mask, statx.stat.size, statx.stat.mode), (0xfff, 13, 0o100_640));
}

#[test]
fn the_root_shows_inode_2_and_is_its_own_parent() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    for name in [".", ".."] {
        let entry = kernel.lookup(1, name);
        assert_eq!((entry.nodeid, entry.attr.ino), (1, 2), "{name}");
    }
    let many = kernel.lookup(1, "many");
    assert_eq!(kernel.lookup(many.nodeid, "..").nodeid, 1);
    let hello = kernel.lookup(1, "hello");
    assert_eq!(kernel.lookup(hello.nodeid, ".").nodeid, hello.nodeid, "as NFS asks");
}

#[test]
fn a_name_that_is_not_there_is_remembered_as_such() {
    let mut serving = serving();
    let entry = serving.kernel.lookup(1, "nothing");
    assert_eq!(entry.nodeid, 0);
    assert!(entry.entry_valid > 1 << 30);
}

#[test]
fn a_directory_is_listed_in_pieces_without_loss() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    let many = kernel.lookup(1, "many").nodeid;
    for (plus, size) in [(false, 4096), (false, 64), (true, 4096), (true, 200)] {
        let mut names: Vec<_> = kernel.list(many, plus, size);
        assert_eq!(names.len(), 202, "{plus} {size}");
        for (name, _, node) in &names {
            assert_eq!(*node != 0, plus && !name.starts_with('.'), "{name}");
        }
        names.sort();
        names.dedup_by(|a, b| a.0 == b.0);
        assert_eq!(names.len(), 202, "{plus} {size}");
    }
}

#[test]
fn links_holes_and_labels_are_shown() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    let link = kernel.lookup(1, "link").nodeid;
    assert_eq!(kernel.ask(opcode::READLINK, link, b""), (0, b"hello".to_vec()));
    let sparse = kernel.lookup(1, "sparse").nodeid;
    let data = abi::LseekIn { whence: 3, ..abi::LseekIn::default() };
    let (_, payload) = kernel.ask(opcode::LSEEK, sparse, data.as_bytes());
    assert_eq!(read::<abi::LseekOut>(&payload).offset, 1 << 18);
    let label = abi::IoctlIn { cmd: 0x8100_9431, out_size: 256, ..abi::IoctlIn::default() };
    let (error, payload) = kernel.ask(opcode::IOCTL, 1, label.as_bytes());
    assert_eq!((error, payload.len(), &payload[16..22]), (0, 16 + 256, &b"label\0"[..]));
    let bmap = abi::BmapIn { block: 64, blocksize: 4096, padding: 0 };
    let (error, payload) = kernel.ask(opcode::BMAP, sparse, bmap.as_bytes());
    assert_eq!(error, 0);
    let block = usize::try_from(read::<abi::BmapOut>(&payload).block).unwrap();
    assert_eq!(IMAGE[block * 4096..][..4096], [7; 4096]);
}

#[test]
fn flags_come_as_large_as_asked_for() {
    let mut serving = serving();
    let flags = abi::IoctlIn { cmd: 0x8008_6601, out_size: 4, ..abi::IoctlIn::default() };
    let (error, payload) = serving.kernel.ask(opcode::IOCTL, 1, flags.as_bytes());
    assert_eq!((error, payload.len()), (0, 20));
    assert_eq!(payload[16..], 0x8_0000_u32.to_ne_bytes());
    let unknown = abi::IoctlIn { cmd: 0x1234, ..abi::IoctlIn::default() };
    assert_eq!(serving.kernel.ask(opcode::IOCTL, 1, unknown.as_bytes()).0, -libc::ENOTTY);
}

#[test]
fn what_writes_is_refused_and_what_is_unknown_is_not_asked_again() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    for number in [opcode::UNLINK, opcode::WRITE, opcode::SETATTR, opcode::CREATE] {
        assert_eq!(kernel.ask(number, 1, b"").0, -libc::EROFS);
    }
    let open = abi::OpenIn::default();
    for (number, body) in [(25, &[][..]), (34, &[]), (opcode::OPEN, open.as_bytes()), (999, &[])] {
        assert_eq!(kernel.ask(number, 1, body).0, -libc::ENOSYS, "{number}");
    }
    assert_eq!(kernel.ask(opcode::OPENDIR, 1, open.as_bytes()).0, -libc::ENOSYS);
}

#[test]
fn attributes_tell_their_size_first() {
    let mut serving = serving();
    let size = abi::GetxattrIn::default();
    let (error, payload) = serving.kernel.ask(opcode::LISTXATTR, 1, size.as_bytes());
    assert_eq!((error, read::<abi::GetxattrOut>(&payload).size), (0, 0));
    let asked = [size.as_bytes(), b"user.none\0"].concat();
    assert_eq!(serving.kernel.ask(opcode::GETXATTR, 1, &asked).0, -libc::ENODATA);
}

#[test]
fn a_stale_node_is_estale() {
    let mut serving = serving();
    let getattr = abi::GetattrIn::default();
    for node in [0, 2, 3, 999_999, u64::MAX] {
        let (error, _) = serving.kernel.ask(opcode::GETATTR, node, getattr.as_bytes());
        assert_eq!(error, -libc::ESTALE, "{node}");
    }
}

#[test]
fn destroy_frees_the_device_before_it_is_answered() {
    let mut serving = serving();
    assert_eq!(serving.kernel.ask(opcode::DESTROY, 0, b""), (0, Vec::new()));
    assert_eq!(serving.device.size(), 0);
    serving.worker.join().unwrap().unwrap();
}

/// Operations that are not for the answering of single requests.
fn is_apart(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::INIT | opcode::DESTROY | opcode::FORGET | opcode::BATCH_FORGET | opcode::STATFS
    )
}

/// Bytes that often make a message: fixed parts of all sizes, with or without a name.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let sizes = prop::sample::select(vec![0, 8, 16, 24, 32, 40]);
    let fixed = sizes.prop_flat_map(|size| {
        prop::collection::vec(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()], size)
    });
    let name = prop_oneof![Just(""), Just("hello\0"), Just("many\0"), Just(".\0"), Just("x")];
    (fixed, name).prop_map(|(fixed, name)| [&fixed[..], name.as_bytes()].concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn whatever_is_asked_is_answered(
        asked in prop::collection::vec((0..60_u32, 0..20_u64, body()), 1..50),
    ) {
        let mut serving = serving();
        for (opcode, node, body) in asked {
            if is_apart(opcode) {
                continue;
            }
            let (error, _) = serving.kernel.ask(opcode, node, &body);
            prop_assert!(error <= 0);
        }
    }
}
