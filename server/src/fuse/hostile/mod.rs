//! A server that means harm, for the tests of containment; it is in no program that is shipped.
//!
//! Its root holds `file`, `link` and `dir`, and a name for each of [`LIES`], which is told to whoever
//! does with that name what its [`Action`] says. Everything is asked for again each time.
#![allow(
    missing_docs,
    clippy::missing_docs_in_private_items,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod flood;
mod lies;
mod registering;

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use fuser::InitFlags;
use rustix::io::Errno;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{
    Attr, AttrOut, Dirent, EntryOut, InHeader, InitOut, MAJOR, MINOR, OpenOut, OutHeader,
    StatfsOut, WriteIn, WriteOut, opcode,
};
pub use lies::{Action, LIES, Lie};
pub(crate) use registering::run as misuse_ring;

/// Operations that are refused in turn, and what they are called.
pub const MUTES: [(&str, u32); 14] = [
    ("INIT", opcode::INIT),
    ("LOOKUP", opcode::LOOKUP),
    ("GETATTR", opcode::GETATTR),
    ("OPEN", opcode::OPEN),
    ("READ", opcode::READ),
    ("WRITE", opcode::WRITE),
    ("READDIR", opcode::READDIR),
    ("READLINK", opcode::READLINK),
    ("STATFS", opcode::STATFS),
    ("SYNCFS", opcode::SYNCFS),
    ("FSYNC", opcode::FSYNC),
    ("FLUSH", opcode::FLUSH),
    ("RELEASE", opcode::RELEASE),
    ("DESTROY", opcode::DESTROY),
];

const ROOT: u64 = 1;
const FILE: u64 = 2;
const LINK: u64 = 3;
const DIRECTORY: u64 = 5;
/// The node of the first lie.
const FIRST_LIE: u64 = 100;

/// Threads that do nothing but that.
const SPINNING: usize = 64;
/// Bytes of a file, and of a message's content.
const BYTES: u32 = 4096;

struct Hostile {
    fuse: Arc<OwnedFd>,
    /// What is not answered.
    mute: Option<u32>,
    /// Whether it was asked for attributes, as whoever mounts does.
    met: Cell<bool>,
    /// Whether rings are promised.
    rings: bool,
    /// Told once INIT is answered.
    begun: Sender<()>,
    /// Seconds after which the kernel gives up.
    timeout: u16,
}

/// Serves until the kernel hangs up. `how` is `mute:OPCODE`, `flood`, `spin`, `rings`, `commands`, or anything
/// else to serve what is said above; `timeout` in seconds. `begun` is told once INIT is answered.
pub(crate) fn serve_hostile(
    fuse: OwnedFd,
    how: &str,
    timeout: u32,
    begun: Sender<()>,
) -> io::Result<()> {
    let fuse = Arc::new(fuse);
    let mute = how.strip_prefix("mute:").and_then(|opcode| opcode.parse().ok());
    let timeout = u16::try_from(timeout).unwrap_or(0);
    let (rings, met) = (how == "rings" || how == "commands", Cell::new(false));
    let server = Hostile { fuse: Arc::clone(&fuse), mute, met, rings, begun, timeout };
    match how {
        "flood" => drop(std::thread::spawn(move || flood::run(&fuse))),
        "spin" => (0..SPINNING).for_each(|_| {
            std::thread::spawn(|| {
                loop {
                    std::hint::spin_loop();
                }
            });
        }),
        _ => {}
    }
    server.run()
}

impl Hostile {
    fn run(&self) -> io::Result<()> {
        let mut room = vec![0; 1 << 20];
        loop {
            let len = match rustix::io::read(&self.fuse, &mut room[..]) {
                Err(Errno::INTR | Errno::AGAIN | Errno::NOENT) => continue,
                Err(Errno::NODEV) => return Ok(()),
                other => other?,
            };
            let (asked, body) =
                InHeader::read_from_prefix(&room[..len]).map_err(|_| io::ErrorKind::InvalidData)?;
            if !self.is_mute(asked.opcode) && !self.lie(&asked, body) {
                self.answer(&asked, body);
            }
            if asked.opcode == opcode::INIT {
                let _ = self.begun.send(());
            }
        }
    }

    fn is_mute(&self, asked: u32) -> bool {
        let first = asked == opcode::GETATTR && !self.met.replace(true);
        self.mute == Some(asked) && !first
    }

    /// Tells the lie that this request is for, if it is for one.
    fn lie(&self, asked: &InHeader, body: &[u8]) -> bool {
        let named = (asked.opcode == opcode::LOOKUP).then(|| node(body)).flatten();
        let node = named.unwrap_or(asked.nodeid);
        let Some(lie) = node.checked_sub(FIRST_LIE).and_then(|index| LIES.get(index as usize))
        else {
            return false;
        };
        if !lie.is_told(asked) {
            return false;
        }
        let told = rustix::io::write(&self.fuse, &lie.message(asked, node));
        let errno = told.err().map_or(0, Errno::raw_os_error);
        crate::attack::println_error(&format!("lie {}: {errno}", lie.name));
        // Where the kernel did not take it, it still waits.
        if lie.is_refused_by_kernel() {
            self.reply(asked, Err(libc::EIO));
        }
        true
    }

    fn answer(&self, asked: &InHeader, body: &[u8]) {
        let result: Result<Vec<u8>, i32> = match asked.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT | opcode::NOTIFY_REPLY => {
                return;
            }
            opcode::INIT => Ok(self.init().as_bytes().to_vec()),
            opcode::LOOKUP => {
                node(body).map(|node| entry(node).as_bytes().to_vec()).ok_or(libc::ENOENT)
            }
            opcode::GETATTR | opcode::SETATTR => {
                let attr = attributes(asked.nodeid);
                Ok(AttrOut { attr, ..AttrOut::default() }.as_bytes().to_vec())
            }
            opcode::STATFS => Ok(StatfsOut { bsize: 4096, namelen: 255, ..StatfsOut::default() }
                .as_bytes()
                .to_vec()),
            opcode::OPEN | opcode::OPENDIR => Ok(OpenOut::default().as_bytes().to_vec()),
            opcode::READ => Ok(vec![b'x'; BYTES as usize]),
            opcode::READLINK => Ok(b"file".to_vec()),
            opcode::READDIR if offset(body) == 0 => Ok(dirent(b"file", 4, 1)),
            opcode::READDIR | opcode::LISTXATTR => Ok(Vec::new()),
            opcode::WRITE => {
                let size = WriteIn::read_from_prefix(body).map_or(0, |(write, _)| write.size);
                Ok(WriteOut { size, padding: 0 }.as_bytes().to_vec())
            }
            opcode::RELEASE
            | opcode::RELEASEDIR
            | opcode::FLUSH
            | opcode::FSYNC
            | opcode::SYNCFS
            | opcode::DESTROY => Ok(Vec::new()),
            opcode::GETXATTR => Err(libc::ENODATA),
            _ => Err(libc::ENOSYS),
        };
        self.reply(asked, result);
    }

    fn reply(&self, asked: &InHeader, result: Result<Vec<u8>, i32>) {
        let message = match result {
            Ok(body) => message(asked.unique, 0, &body),
            Err(errno) => message(asked.unique, -errno, &[]),
        };
        // Nobody may wait for it any more.
        let _ = rustix::io::write(&self.fuse, &message);
    }

    fn init(&self) -> InitOut {
        let mut flags = InitFlags::FUSE_INIT_EXT | InitFlags::FUSE_REQUEST_TIMEOUT;
        flags.set(InitFlags::FUSE_OVER_IO_URING, self.rings);
        InitOut {
            major: MAJOR,
            minor: MINOR,
            flags: flags.bits() as u32,
            flags2: (flags.bits() >> 32) as u32,
            max_write: BYTES,
            time_gran: 1,
            request_timeout: self.timeout,
            ..InitOut::default()
        }
    }
}

/// A whole message: an answer, or a notification if `unique` is 0.
fn message(unique: u64, error: i32, body: &[u8]) -> Vec<u8> {
    let len = (size_of::<OutHeader>() + body.len()) as u32;
    [OutHeader { len, error, unique }.as_bytes(), body].concat()
}

/// The node of a name, which a NUL ends.
fn node(name: &[u8]) -> Option<u64> {
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    match name {
        b"file" => Some(FILE),
        b"link" => Some(LINK),
        b"dir" => Some(DIRECTORY),
        _ => {
            let index = LIES.iter().position(|lie| lie.name.as_bytes() == name)?;
            Some(FIRST_LIE + index as u64)
        }
    }
}

fn attributes(node: u64) -> Attr {
    let lie = node.checked_sub(FIRST_LIE).and_then(|index| LIES.get(index as usize));
    let mode = match (node, lie.map(|lie| lie.action)) {
        (ROOT | DIRECTORY, _) | (_, Some(Action::List | Action::Descend)) => 0o040_755,
        (LINK, _) | (_, Some(Action::Readlink)) => 0o120_777,
        _ => 0o100_644,
    };
    Attr { ino: node, mode, nlink: 1, size: BYTES.into(), blksize: 4096, ..Attr::default() }
}

fn entry(node: u64) -> EntryOut {
    EntryOut { nodeid: node, attr: attributes(node), ..EntryOut::default() }
}

/// The offset of READ and READDIR.
fn offset(body: &[u8]) -> u64 {
    body.get(8..16).and_then(|bytes| u64::read_from_bytes(bytes).ok()).unwrap_or(0)
}

fn dirent(name: &[u8], namelen: u32, off: u64) -> Vec<u8> {
    let mut bytes = Dirent { ino: FILE, off, namelen, kind: 8 }.as_bytes().to_vec();
    bytes.extend(name);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}
