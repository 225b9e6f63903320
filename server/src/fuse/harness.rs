//! A fake kernel at the other end of a packet socket, and images for it to look at.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::{Filesystem, MountOptions, Overhead, Unobserved, WriteOptions, probe};
use fuse4fs_protocol::Surroundings;
use parking_lot::Mutex;
use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::device::{Access, Device};
use crate::fuse::abi::{self, InHeader, OutHeader, opcode};
use crate::fuse::{Classic, CrewSize, Effort, Frontend, Process, Settings};

/// The asking side.
pub(super) struct Kernel {
    pub(super) socket: OwnedFd,
    pub(super) unique: u64,
}

/// The header's error and what follows it.
pub(super) type Reply = (i32, Vec<u8>);

impl Kernel {
    pub(super) fn send(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> u64 {
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
    pub(super) fn receive(&self) -> Option<(u64, Reply)> {
        let mut bytes = vec![0; 1 << 21];
        let (len, _) = recv(&self.socket, &mut bytes[..], RecvFlags::empty()).ok()?;
        let (header, payload) = OutHeader::read_from_prefix(&bytes[..len]).unwrap();
        assert_eq!(usize::try_from(header.len).unwrap(), len);
        Some((header.unique, (header.error, payload.to_vec())))
    }

    pub(super) fn ask(&mut self, opcode: u32, nodeid: u64, body: &[u8]) -> Reply {
        let unique = self.send(opcode, nodeid, body);
        let (answered, reply) = self.receive().expect("an answer");
        assert_eq!(answered, unique);
        reply
    }

    pub(super) fn init(&mut self) -> abi::InitOut {
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
pub(super) fn read<T: FromBytes + IntoBytes + Immutable>(payload: &[u8]) -> T {
    T::read_from_bytes(payload).unwrap_or_else(|_| panic!("{} bytes", payload.len()))
}

/// A small file system with a file, a link, a sparse file and a directory of many names.
pub(super) static IMAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
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

pub(super) fn device(image: &[u8], access: Access) -> Arc<Device> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(image).unwrap();
    Arc::new(Device::new(file.into(), access))
}

pub(super) fn settings() -> Settings {
    Settings {
        device_name: "test".into(),
        overhead: Overhead::Subtract,
        request_timeout: 300,
        writable: false,
        writeback_cache: false,
        security_labels: false,
        acl: true,
        admin_ioctls: false,
        max_pages: 256,
        max_background: 64,
        rings: false,
        process: Process {
            pid: 4711,
            surroundings: Surroundings::Bare,
            landlock: 0,
            memory_limit: 1 << 30,
        },
    }
}

/// A front end whose file system is not there yet, with one worker.
pub(super) struct Starting {
    pub(super) kernel: Kernel,
    pub(super) device: Arc<Device>,
    /// The device works while nobody else holds this.
    pub(super) works: Arc<Mutex<()>>,
    pub(super) frontend: Arc<Frontend>,
    /// What the first worker that stops says.
    pub(super) stopped: Receiver<std::io::Result<()>>,
}

pub(super) fn starting() -> Starting {
    starting_with(settings())
}

pub(super) fn starting_with(settings: Settings) -> Starting {
    starting_on(&IMAGE, settings)
}

pub(super) fn starting_on(image: &[u8], settings: Settings) -> Starting {
    let flags = SocketFlags::CLOEXEC;
    let (socket, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_secs(2))).unwrap();
    let access = if settings.writable { Access::Write } else { Access::Read };
    let device = device(image, access);
    let geometry = probe(&*device, None).unwrap();
    let devices = vec![Arc::clone(&device)];
    let frontend = Arc::new(Frontend::new(devices, geometry, settings));
    let effort = Effort { size: CrewSize { kept: 2, most: 4 }, busy_poll: Duration::ZERO };
    let (report, stopped) = channel();
    let report = Box::new(move |result| drop(report.send(result)));
    let (transport, delivery) =
        Classic::new(Arc::clone(&frontend), vec![theirs], effort, (Box::new(|| {}), report));
    let (relieved, works) = (Arc::clone(&transport), Arc::new(Mutex::new(())));
    let gate = Arc::clone(&works);
    device.before_wait(move || {
        relieved.relieve_if_asked();
        drop(gate.lock());
    });
    std::thread::spawn(move || transport.run(delivery));
    Starting { kernel: Kernel { socket, unique: 0 }, device, works, frontend, stopped }
}

/// The file system on `device`, as `settings` say.
pub(super) fn mounted(device: &Arc<Device>, settings: &Settings) -> Filesystem {
    let options = MountOptions {
        read_only: !settings.writable,
        noload: false,
        superblock: None,
        journal: None,
        cache_bytes: 1 << 20,
        writing: WriteOptions::default(),
    };
    let device: Arc<dyn BlockDevice> = device.clone();
    Filesystem::mount(device, &options, &Unobserved).unwrap()
}

impl Starting {
    /// Mounts the image.
    pub(super) fn mount(&self) {
        assert!(self.frontend.ready(Arc::new(mounted(&self.device, self.frontend.settings()))));
    }
}

/// A mounted image after INIT.
pub(super) fn serving() -> Starting {
    serving_with(settings())
}

/// As a mount that can be written is talked to.
pub(super) fn writable() -> Starting {
    serving_with(Settings { writable: true, ..settings() })
}

pub(super) fn serving_with(settings: Settings) -> Starting {
    let mut starting = starting_with(settings);
    starting.kernel.init();
    starting.mount();
    starting
}
