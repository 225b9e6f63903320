//! The dispatch as the kernel sees it: a fake kernel at the other end of a packet socket.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use std::sync::Arc;

use fuse4fs_ext4::device::BlockDevice;
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::Settings;
use super::abi::{self, InHeader, opcode};
use harness::{IMAGE, Kernel, read, serving, settings, starting, starting_on, writable};

#[path = "harness.rs"]
mod harness;
#[path = "recorded_tests.rs"]
mod recorded;
#[path = "status_tests.rs"]
mod status;

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
    assert_eq!(kernel.ask(opcode::SYNCFS, 1, &[0; 8]), (0, Vec::new()));
    let (error, payload) = kernel.ask(opcode::STATFS, 1, b"");
    let statfs: abi::StatfsOut = read(&payload);
    assert_eq!((error, statfs.blocks, statfs.bfree), (0, 1024, 0));
    kernel.send(opcode::FORGET, 1, &[0; 8]);
    assert_eq!(starting.device.size(), 4 << 20);
    assert_eq!(kernel.ask(opcode::DESTROY, 0, b""), (0, Vec::new()));
    assert_eq!(starting.device.size(), 0, "the device is closed before DESTROY is answered");
    starting.stopped.recv().unwrap().unwrap();
}

#[test]
fn a_malformed_request_is_an_error_and_not_the_end() {
    let mut starting = starting();
    starting.kernel.init();
    assert_eq!(starting.kernel.ask(opcode::LOOKUP, 1, b"no nul").0, -libc::EIO);
    assert_eq!(starting.kernel.ask(opcode::SYNCFS, 1, &[0; 8]).0, 0);
}

#[test]
fn a_worker_ends_when_the_kernel_hangs_up() {
    let starting = starting();
    drop(starting.kernel);
    starting.stopped.recv().unwrap().unwrap();
}

#[test]
fn waiting_requests_are_bounded() {
    let mut starting = starting();
    starting.kernel.init();
    for _ in 0..257 {
        starting.kernel.send(opcode::READLINK, 12, b"");
    }
    // Which one comes last is the workers' affair.
    let (_, (error, _)) = starting.kernel.receive().unwrap();
    assert_eq!(error, -libc::EAGAIN);
}

#[test]
fn who_gives_up_need_not_wait_for_the_file_system() {
    let mut starting = starting();
    let kernel = &mut starting.kernel;
    kernel.init();
    let waiting = kernel.send(opcode::READLINK, 12, b"");
    let other = kernel.send(opcode::READLINK, 12, b"");
    // Sent without waiting for an answer, and answered only where it cannot be done.
    kernel.send(opcode::INTERRUPT, 0, &waiting.to_ne_bytes());
    let (answered, (error, _)) = kernel.receive().unwrap();
    assert_eq!((answered, error), (waiting, -libc::EINTR));
    starting.mount();
    assert_eq!(starting.kernel.receive().unwrap().0, other);
}

#[test]
fn a_mount_that_can_be_written_knows_its_open_files() {
    let mut writable = writable();
    let kernel = &mut writable.kernel;
    let node = kernel.lookup(1, "hello").nodeid;
    let mut open = |flags: i32| {
        let asked = abi::OpenIn { flags: flags.cast_unsigned(), open_flags: 0 };
        let (error, payload) = kernel.ask(opcode::OPEN, node, asked.as_bytes());
        assert_eq!(error, 0);
        read::<abi::OpenOut>(&payload)
    };
    let (plain, direct) = (open(libc::O_RDONLY), open(libc::O_RDWR | libc::O_DIRECT));
    assert_ne!(plain.fh, direct.fh);
    assert_eq!((plain.open_flags, direct.open_flags), (1 << 1, 1 | 1 << 6));
    let release = abi::ReleaseIn { fh: plain.fh, ..abi::ReleaseIn::default() };
    assert_eq!(kernel.ask(opcode::RELEASE, node, release.as_bytes()).0, 0);
    assert_eq!(kernel.ask(opcode::RELEASE, node, release.as_bytes()).0, -libc::EBADF);
    let other = abi::ReleaseIn { fh: direct.fh, ..abi::ReleaseIn::default() };
    assert_eq!(kernel.ask(opcode::RELEASE, 1, other.as_bytes()).0, -libc::EBADF);
}

#[test]
fn nothing_is_served_after_destroy() {
    let starting = serving();
    let frontend = Arc::clone(&starting.frontend);
    let mut kernel = starting.kernel;
    assert_eq!(kernel.ask(opcode::DESTROY, 0, b"").0, 0);
    let getattr = abi::GetattrIn::default();
    let header = InHeader { len: 56, opcode: opcode::GETATTR, nodeid: 1, ..InHeader::default() };
    let call = frontend.decode(&header, super::body::Body::Whole(getattr.as_bytes())).unwrap();
    let answer = frontend.serve(&call, &mut super::reply::Output::new(&mut []));
    assert!(matches!(answer, super::serve::Answer::Error(fuser::Errno::EIO)), "{answer:?}");
}

#[test]
fn what_came_too_early_is_answered_once_the_file_system_is_there() {
    let mut starting = starting();
    starting.kernel.init();
    let unique = starting.kernel.send(opcode::GETATTR, 1, abi::GetattrIn::default().as_bytes());
    // The answer to a later one shows that the first is parked and not just slow.
    assert_eq!(starting.kernel.ask(opcode::SYNCFS, 1, &[0; 8]).0, 0);
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
fn what_is_unknown_or_unneeded_is_not_asked_again() {
    let mut serving = serving();
    let kernel = &mut serving.kernel;
    for (number, len) in [
        (opcode::FLUSH, 24),
        (opcode::GETLK, 48),
        (opcode::SETLK, 48),
        (opcode::SETLKW, 48),
        (opcode::ACCESS, 8),
        (opcode::POLL, 24),
        (opcode::OPEN, 8),
        (opcode::OPENDIR, 8),
        (opcode::INTERRUPT, 8),
        (999, 0),
    ] {
        assert_eq!(kernel.ask(number, 1, &vec![0; len]).0, -libc::ENOSYS, "{number}");
    }
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
fn a_device_that_does_not_answer_holds_up_only_those_who_read_it() {
    let mut serving = serving();
    let hello = serving.kernel.lookup(1, "hello").nodeid;
    let works = Arc::clone(&serving.works);
    let stuck = works.lock();
    let asked = abi::ReadIn { size: 4096, ..abi::ReadIn::default() };
    let kernel = &mut serving.kernel;
    let reads: Vec<_> =
        (0..3).map(|_| kernel.send(opcode::READ, hello, asked.as_bytes())).collect();
    for _ in 0..10 {
        let getattr = abi::GetattrIn::default();
        assert_eq!(kernel.ask(opcode::GETATTR, hello, getattr.as_bytes()).0, 0);
    }
    drop(stuck);
    let mut answered: Vec<_> = reads.iter().map(|_| kernel.receive().unwrap().0).collect();
    answered.sort_unstable();
    assert_eq!(answered, reads);
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
    serving.stopped.recv().unwrap().unwrap();
}

/// Operations that are not for the answering of single requests.
fn is_apart(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::INIT
            | opcode::DESTROY
            | opcode::FORGET
            | opcode::BATCH_FORGET
            | opcode::NOTIFY_REPLY
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
