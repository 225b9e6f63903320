//! Answers that the protocol does not know, and what whoever asked gets.

use zerocopy::IntoBytes;

use super::super::abi::{
    AttrOut, EntryOut, GetxattrOut, InHeader, IoctlOut, OpenOut, WriteOut, opcode,
};
use super::{ROOT, attributes, dirent, entry, message};

/// What is done with a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Stat,
    /// stat(2) while it is open.
    StatOpen,
    /// stat(2) of the name within itself.
    Descend,
    Open,
    Read,
    Write,
    List,
    Readlink,
    Getxattr,
    Listxattr,
    Ioctl,
}

/// One lie.
pub struct Lie {
    pub name: &'static str,
    pub action: Action,
    /// Errnos that are right; 0 for success.
    pub gets: &'static [i32],
    told: fn(&InHeader, u64) -> Vec<u8>,
}

/// The message is none to the kernel.
const REFUSED: &[i32] = &[libc::EIO];

impl Lie {
    const fn new(
        name: &'static str,
        action: Action,
        gets: &'static [i32],
        told: fn(&InHeader, u64) -> Vec<u8>,
    ) -> Self {
        Self { name, action, gets, told }
    }

    pub(super) fn message(&self, asked: &InHeader, node: u64) -> Vec<u8> {
        (self.told)(asked, node)
    }

    /// Whether this is the request that it answers.
    pub(super) fn is_told(&self, asked: &InHeader) -> bool {
        let told = match self.action {
            Action::Stat | Action::Descend => opcode::LOOKUP,
            Action::StatOpen => opcode::GETATTR,
            Action::Open => opcode::OPEN,
            Action::Read => opcode::READ,
            Action::Write => opcode::WRITE,
            Action::List => opcode::READDIR,
            Action::Readlink => opcode::READLINK,
            Action::Getxattr => opcode::GETXATTR,
            Action::Listxattr => opcode::LISTXATTR,
            Action::Ioctl => opcode::IOCTL,
        };
        asked.opcode == told
    }

    /// Whether the request is to be answered once more.
    pub(super) fn is_refused_by_kernel(&self) -> bool {
        std::ptr::eq(self.gets, REFUSED)
    }
}

fn ok(asked: &InHeader, body: &[u8]) -> Vec<u8> {
    message(asked.unique, 0, body)
}

/// An answer to LOOKUP, changed.
fn changed(asked: &InHeader, node: u64, change: impl FnOnce(&mut EntryOut)) -> Vec<u8> {
    let mut entry = entry(node);
    change(&mut entry);
    ok(asked, entry.as_bytes())
}

/// An answer whose header says that it has `len` bytes.
fn of_length(asked: &InHeader, node: u64, len: u32) -> Vec<u8> {
    let mut message = ok(asked, entry(node).as_bytes());
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message
}

/// All there are.
pub const LIES: &[Lie] = &[
    Lie::new("a header cut short", Action::Stat, REFUSED, |asked, _| ok(asked, &[])[..8].to_vec()),
    Lie::new("a length that is too large", Action::Stat, REFUSED, |asked, node| {
        of_length(asked, node, 4096)
    }),
    Lie::new("a length that is too small", Action::Stat, REFUSED, |asked, node| {
        of_length(asked, node, 16)
    }),
    Lie::new("a reply of 512 KiB to LOOKUP", Action::Stat, REFUSED, |asked, _| {
        ok(asked, &vec![0xff; 512 << 10])
    }),
    Lie::new("a reply to nobody", Action::Stat, REFUSED, |asked, node| {
        message(asked.unique ^ 0x5555_0000, 0, entry(node).as_bytes())
    }),
    Lie::new("a positive error", Action::Stat, REFUSED, |asked, _| message(asked.unique, 5, &[])),
    Lie::new("the error -512", Action::Stat, REFUSED, |asked, _| message(asked.unique, -512, &[])),
    Lie::new("the error -4096", Action::Stat, REFUSED, |asked, _| {
        message(asked.unique, -4096, &[])
    }),
    Lie::new("an error with a body", Action::Stat, REFUSED, |asked, node| {
        message(asked.unique, -5, entry(node).as_bytes())
    }),
    Lie::new("node 0", Action::Stat, &[libc::ENOENT], |asked, node| {
        changed(asked, node, |entry| entry.nodeid = 0)
    }),
    Lie::new("the root as a child", Action::Stat, &[libc::EIO], |asked, _| {
        ok(asked, entry(ROOT).as_bytes())
    }),
    Lie::new("no type", Action::Stat, &[libc::EIO], |asked, node| {
        changed(asked, node, |entry| entry.attr.mode = 0)
    }),
    Lie::new("all bits of the mode", Action::Stat, &[libc::EIO], |asked, node| {
        changed(asked, node, |entry| entry.attr.mode = u32::MAX)
    }),
    Lie::new("a negative size", Action::Stat, &[libc::EIO], |asked, node| {
        changed(asked, node, |entry| entry.attr.size = u64::MAX)
    }),
    Lie::new("timeouts that overflow", Action::Stat, &[0], |asked, node| {
        changed(asked, node, |entry| {
            (entry.entry_valid, entry.attr_valid) = (u64::MAX, u64::MAX);
            (entry.entry_valid_nsec, entry.attr_valid_nsec) = (u32::MAX, u32::MAX);
        })
    }),
    Lie::new("blocks of 2 GiB", Action::Stat, &[0], |asked, node| {
        changed(asked, node, |entry| entry.attr.blksize = 1 << 31)
    }),
    Lie::new("times that overflow", Action::Stat, &[0], |asked, node| {
        changed(asked, node, |entry| {
            (entry.attr.mtime, entry.attr.mtimensec) = (u64::MAX, u32::MAX);
            (entry.attr.ino, entry.attr.blocks) = (u64::MAX, u64::MAX);
        })
    }),
    Lie::new("another type than before", Action::StatOpen, &[libc::EIO], |asked, node| {
        let mut attr = attributes(node);
        attr.mode = 0o040_755;
        ok(asked, AttrOut { attr, ..AttrOut::default() }.as_bytes())
    }),
    Lie::new(
        "a directory within itself",
        Action::Descend,
        &[libc::ELOOP, libc::EIO],
        |asked, node| ok(asked, entry(node).as_bytes()),
    ),
    Lie::new("all flags of OPEN", Action::Open, &[libc::EIO, libc::EINVAL], |asked, _| {
        let open = OpenOut { open_flags: u32::MAX, backing_id: 1, fh: 0 };
        ok(asked, open.as_bytes())
    }),
    Lie::new("a backing file that was never given", Action::Open, &[libc::EIO], |asked, _| {
        // FOPEN_PASSTHROUGH
        ok(asked, OpenOut { open_flags: 1 << 7, backing_id: 1, fh: 0 }.as_bytes())
    }),
    Lie::new("more than was asked for", Action::Read, REFUSED, |asked, _| {
        ok(asked, &vec![0xff; 256 << 10])
    }),
    Lie::new("more than was written", Action::Write, &[libc::EIO], |asked, _| {
        ok(asked, WriteOut { size: u32::MAX, padding: 0 }.as_bytes())
    }),
    Lie::new("a name of no byte", Action::List, &[libc::EIO], |asked, _| {
        ok(asked, &dirent(b"", 0, 1))
    }),
    Lie::new("a name with a slash", Action::List, &[libc::EIO], |asked, _| {
        ok(asked, &dirent(b"../etc", 6, 1))
    }),
    Lie::new("a name of 5000 bytes", Action::List, &[libc::EIO], |asked, _| {
        ok(asked, &dirent(b"xyz", 5000, 1))
    }),
    Lie::new("a name that ends beyond the reply", Action::List, &[0, libc::EIO], |asked, _| {
        ok(asked, &dirent(b"xyz", 200, 1))
    }),
    Lie::new("a directory without end", Action::List, &[0], |asked, _| {
        ok(asked, &dirent(b"again", 5, 1))
    }),
    Lie::new("a target with a NUL", Action::Readlink, &[0, libc::EIO], |asked, _| {
        ok(asked, b"file\0/etc/passwd")
    }),
    Lie::new("a target of 8 KiB", Action::Readlink, REFUSED, |asked, _| ok(asked, &[b'x'; 8192])),
    Lie::new(
        "an attribute of 4 GiB",
        Action::Getxattr,
        &[0, libc::ERANGE, libc::E2BIG],
        |asked, _| ok(asked, GetxattrOut { size: u32::MAX, padding: 0 }.as_bytes()),
    ),
    Lie::new("a list of attributes without a NUL", Action::Listxattr, &[libc::EIO], |asked, _| {
        ok(asked, b"user.x")
    }),
    Lie::new("more of the caller's memory", Action::Ioctl, &[libc::EIO], |asked, _| {
        // FUSE_IOCTL_RETRY, with one range of its own choice.
        let again = IoctlOut { result: 0, flags: 1 << 2, in_iovs: 1, out_iovs: 0 };
        ok(asked, &[again.as_bytes(), &0x1000_u64.to_ne_bytes(), &4096_u64.to_ne_bytes()].concat())
    }),
];
