//! What the status says of what was asked before.

use fuse4fs_protocol::{Operation, STATUS_BYTES, Status};
use zerocopy::{FromBytes, IntoBytes};

use super::harness::{Kernel, serving, starting, writable};
use crate::fuse::abi::{self, IoctlOut, opcode};
use crate::fuse::serve::Phase;

fn ask(kernel: &mut Kernel) -> Status {
    let command = abi::IoctlIn {
        cmd: fuse4fs_protocol::IOC_STATUS,
        out_size: u32::try_from(STATUS_BYTES).unwrap(),
        ..abi::IoctlIn::default()
    };
    let (error, payload) = kernel.ask(opcode::IOCTL, 1, command.as_bytes());
    assert_eq!(error, 0);
    let (_, bytes) = IoctlOut::read_from_prefix(&payload).unwrap();
    Status::from_bytes(bytes).unwrap()
}

fn operation(status: &Status, opcode: u32) -> Option<Operation> {
    status.operations.iter().find(|one| u32::from(one.opcode) == opcode).copied()
}

#[test]
fn who_asks_hears_what_was_asked_before() {
    let mut mount = serving();
    let before = ask(&mut mount.kernel);
    assert!(operation(&before, opcode::LOOKUP).is_none());
    for name in [&b"hello\0"[..], b"absent\0", b"hello\0"] {
        mount.kernel.ask(opcode::LOOKUP, 1, name);
    }
    let status = ask(&mut mount.kernel);
    let lookup = operation(&status, opcode::LOOKUP).unwrap();
    assert_eq!((lookup.count(), lookup.errors), (3, 0), "absent names are told as nodes");
    assert!(lookup.nanoseconds > 0);
    assert_eq!(operation(&status, opcode::IOCTL).unwrap().count(), 1);
    assert_eq!((status.device.as_str(), status.server.pid), ("test", 4711));
    assert_eq!(status.server.nodes, 0, "read-only");
    let found = &status.filesystem;
    assert_eq!((found.label.as_str(), found.block_size), ("label", 4096));
    assert!(
        !found.writable && found.journal.is_none() && found.features.as_str().contains("extent")
    );
    assert!(found.cache.hits > before.filesystem.cache.hits);
}

#[test]
fn an_errno_counts_as_an_error_and_what_waited_counts_once() {
    let mut mount = starting();
    mount.kernel.init();
    let unique = mount.kernel.send(opcode::GETATTR, 1, abi::GetattrIn::default().as_bytes());
    while matches!(&*mount.frontend.phase.lock(), Phase::Starting(waiting) if waiting.is_empty()) {
        std::thread::yield_now();
    }
    mount.mount();
    assert_eq!(mount.kernel.receive().unwrap().0, unique);
    mount.kernel.ask(opcode::READLINK, 1, b"");
    let status = ask(&mut mount.kernel);
    let getattr = operation(&status, opcode::GETATTR).unwrap();
    assert_eq!((getattr.count(), getattr.errors), (1, 0));
    assert_eq!(operation(&status, opcode::READLINK).unwrap().errors, 1);
}

#[test]
fn what_was_shut_down_still_says_so() {
    let mut mount = writable();
    mount.kernel.ask(opcode::LOOKUP, 1, b"hello\0");
    let status = ask(&mut mount.kernel);
    assert!(status.filesystem.writable && status.server.nodes > 0);
    mount.frontend.control.go_down();
    assert!(ask(&mut mount.kernel).filesystem.shut_down);
    let (error, _) = mount.kernel.ask(opcode::LOOKUP, 1, b"hello\0");
    assert_eq!(error, -libc::EIO);
}

#[test]
fn options_are_those_that_mount_takes() {
    let mut mount = serving();
    let options = ask(&mut mount.kernel).filesystem.options;
    assert_eq!(options.as_str(), "errors=continue,acl,user_xattr,relatime");
}
