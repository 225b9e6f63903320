//! A server without a file system: what a round trip costs by itself. The benchmark measures it
//! beside ours, on the same transports; it is in no program that is shipped.
//!
//! Every name exists and is a node of its own; one with a dot is a file's, any other a directory's.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::{Errno, InitFlags};
use rustix::io::Errno as SysError;
use rustix::thread::CpuSet;
use zerocopy::{FromBytes, IntoBytes};

use super::abi::{
    Attr, AttrOut, EntryOut, InHeader, InitOut, MAJOR, MINOR, OutHeader, StatfsOut, opcode,
};
use super::reply::Output;
use super::serve::Answer;
use crate::sys::arena::{self, Entry};
use crate::sys::ring::{Event, File, Ring};

/// Bytes of file data in a message, which this server never sees any of. The kernel's default.
const DATA: usize = 128 << 10;
/// Bytes of a reply, at most.
const REPLY: usize = 256;
/// Entries of a CPU's queue, as ours has.
const DEPTH: usize = 8;
/// As good as for ever, in seconds.
const FOR_EVER: u64 = 1 << 31;
/// `struct fuse_uring_req_header`: its size, and where its `commit_id` and `payload_sz` are.
const HEADER: usize = 288;
const COMMIT_ID: usize = 264;
const PAYLOAD_SIZE: usize = 272;

/// The last node, without the bit that says that it is a directory.
static NODES: AtomicU64 = AtomicU64::new(0);

/// Serves the mount of a /dev/fuse descriptor until it is unmounted; through rings if `possible` says
/// how many CPUs the machine could ever have.
///
/// # Errors
/// When the kernel takes no ring, or reading fails.
pub fn serve_null(fuse: OwnedFd, possible: Option<u16>) -> io::Result<()> {
    let fuse = Arc::new(fuse);
    let mut request = vec![0; DATA.saturating_add(4096)];
    loop {
        let len = match rustix::io::read(&fuse, &mut request[..]) {
            Err(SysError::INTR | SysError::AGAIN | SysError::NOENT) => continue,
            Err(SysError::NODEV) => return Ok(()),
            other => other?,
        };
        let request = request.get(..len).unwrap_or_default();
        let (asked, body) =
            InHeader::read_from_prefix(request).map_err(|_| io::ErrorKind::InvalidData)?;
        let mut room = [0; REPLY];
        let mut out = Output::new(&mut room);
        let answer = answer(&asked, body, possible.is_some(), &mut out);
        if !matches!(answer, Answer::Silent) {
            let payload = if matches!(answer, Answer::Error(_)) { &[] } else { out.bytes() };
            let header = head(&answer, asked.unique, payload.len());
            let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
            rustix::io::writev(&fuse, &parts)?;
        }
        if let Some(possible) = possible.filter(|_| asked.opcode == opcode::INIT) {
            start_rings(&fuse, possible)?;
        }
    }
}

fn head(answer: &Answer, unique: u64, payload: usize) -> OutHeader {
    let error = match answer {
        Answer::Error(errno) => errno.code().saturating_neg(),
        _ => 0,
    };
    let len = u32::try_from(payload.saturating_add(size_of::<OutHeader>())).unwrap_or(0);
    OutHeader { len, error, unique }
}

fn answer(asked: &InHeader, body: &[u8], rings: bool, out: &mut Output<'_>) -> Answer {
    let put = match asked.opcode {
        opcode::INIT => out.put(&init(rings)),
        opcode::LOOKUP => {
            let nodeid = found(body);
            let (entry_valid, attr_valid) = (FOR_EVER, FOR_EVER);
            let attr = attributes(nodeid);
            out.put(&EntryOut { nodeid, entry_valid, attr_valid, attr, ..EntryOut::default() })
        }
        opcode::GETATTR => {
            let attr = attributes(asked.nodeid);
            out.put(&AttrOut { attr_valid: FOR_EVER, attr, ..AttrOut::default() })
        }
        opcode::STATFS => out.put(&StatfsOut::default()),
        opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return Answer::Silent,
        _ => return Answer::Error(Errno::ENOSYS),
    };
    if put.is_ok() { Answer::Reply } else { Answer::Error(Errno::EIO) }
}

fn init(rings: bool) -> InitOut {
    let mut flags = InitFlags::FUSE_INIT_EXT
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_NO_OPEN_SUPPORT
        | InitFlags::FUSE_NO_OPENDIR_SUPPORT;
    flags.set(InitFlags::FUSE_OVER_IO_URING, rings);
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    InitOut {
        major: MAJOR,
        minor: MINOR,
        flags: half(flags.bits()),
        flags2: half(flags.bits() >> 32),
        max_write: u32::try_from(DATA).unwrap_or(0),
        time_gran: 1,
        ..InitOut::default()
    }
}

/// A new node. Directories have odd numbers, as the root has.
fn found(name: &[u8]) -> u64 {
    let node = NODES.fetch_add(2, Ordering::Relaxed).wrapping_add(2);
    if name.contains(&b'.') { node } else { node | 1 }
}

fn attributes(node: u64) -> Attr {
    let mode = if node & 1 == 1 { 0o040_755 } else { 0o100_644 };
    Attr { ino: node, mode, nlink: 1, blksize: 4096, ..Attr::default() }
}

/// A pinned thread for each CPU that this process may use, with its queue and those of CPUs without.
fn start_rings(fuse: &Arc<OwnedFd>, possible: u16) -> io::Result<()> {
    let set = rustix::thread::sched_getaffinity(None)?;
    let mine: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    let mut queues = vec![Vec::new(); mine.len()];
    for queue in 0..possible {
        let own = mine.iter().position(|cpu| *cpu == usize::from(queue));
        let depth = if own.is_some() { DEPTH } else { 1 };
        if let Some(queues) = queues.get_mut(own.unwrap_or(0)) {
            queues.extend(std::iter::repeat_n(queue, depth));
        }
    }
    for (cpu, queues) in mine.into_iter().zip(queues) {
        let fuse = Arc::clone(fuse);
        let serve = move || {
            let mut set = CpuSet::new();
            set.set(cpu);
            let pinned = rustix::thread::sched_setaffinity(None, &set).map_err(io::Error::from);
            if let Err(error) = pinned.and_then(|()| serve_ring(&fuse, &queues)) {
                tracing::error!("a ring has failed: {error}");
            }
        };
        std::thread::Builder::new().spawn(serve)?;
    }
    Ok(())
}

fn serve_ring(fuse: &OwnedFd, queues: &[u16]) -> io::Result<()> {
    const FUSE: File = File(0);
    let mut ring = Ring::new(queues.len(), &[fuse.as_fd()])?;
    let queue = |entry: &Entry| queues.get(entry.index()).copied().unwrap_or(0);
    for entry in arena::entries(queues.len(), HEADER, DATA)? {
        let queue = queue(&entry);
        ring.register(entry, FUSE, queue)?;
    }
    let mut left = queues.len();
    while left > 0 {
        ring.wait()?;
        while let Some(event) = ring.next()? {
            let Event::Request(mut entry) = event else {
                left = left.saturating_sub(1);
                continue;
            };
            let id = serve_entry(&mut entry).ok_or(io::ErrorKind::InvalidData)?;
            let queue = queue(&entry);
            ring.commit(entry, FUSE, (id, queue))?;
        }
    }
    Ok(())
}

/// Puts the answer in; the request's commit id.
fn serve_entry(entry: &mut Entry) -> Option<u64> {
    let (header, payload) = entry.parts();
    let (asked, _) = InHeader::read_from_prefix(header).ok()?;
    let (id, _) = u64::read_from_prefix(header.get(COMMIT_ID..)?).ok()?;
    let (len, _) = u32::read_from_prefix(header.get(PAYLOAD_SIZE..)?).ok()?;
    let mut name = [0; REPLY];
    let len = usize::try_from(len).ok()?.min(REPLY);
    name.get_mut(..len)?.copy_from_slice(payload.get(..len)?);
    let mut out = Output::new(payload);
    let answer = answer(&asked, name.get(..len)?, true, &mut out);
    let len = if matches!(answer, Answer::Error(_)) { 0 } else { out.len() };
    head(&answer, asked.unique, len).write_to_prefix(header).ok()?;
    u32::try_from(len).ok()?.write_to_prefix(header.get_mut(PAYLOAD_SIZE..)?).ok()?;
    Some(id)
}
