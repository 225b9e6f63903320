//! Bytes from the kernel → one typed request.
//!
//! Strict: the length in the header is the length read, fixed parts are whole, names end in the
//! one NUL they hold. What fails here is never seen by a verb.

use zerocopy::FromBytes;

use super::abi::{self, InHeader, opcode};
use super::nodes::NodeId;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    /// Names the request in its reply.
    pub(super) unique: u64,
    /// The node it is about.
    pub(super) node: NodeId,
    /// Who asks.
    pub(super) uid: u32,
    /// What is asked.
    pub(super) request: Request<'a>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    Init(abi::InitIn),
    Lookup(&'a [u8]),
    /// FORGET and BATCH_FORGET, which have no reply.
    Forget,
    Getattr,
    Statx,
    Readlink,
    Open,
    Read {
        offset: u64,
        size: u32,
    },
    Opendir,
    Readdir {
        cookie: u64,
        size: u32,
        plus: bool,
    },
    Statfs,
    Getxattr {
        name: &'a [u8],
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Ioctl(abi::IoctlIn),
    Lseek {
        offset: u64,
        whence: u32,
    },
    Bmap {
        block: u64,
        block_size: u32,
    },
    /// FSYNC, FSYNCDIR, SYNCFS, RELEASE, RELEASEDIR: on a read-only mount there is nothing to do.
    Nothing,
    /// Anything that would write.
    Write,
    Interrupt,
    Destroy,
    /// An operation that is not served.
    Unknown,
}

impl Request<'_> {
    /// The verb's name in log lines.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Lookup(_) => "lookup",
            Self::Forget => "forget",
            Self::Getattr => "getattr",
            Self::Statx => "statx",
            Self::Readlink => "readlink",
            Self::Open => "open",
            Self::Read { .. } => "read",
            Self::Opendir => "opendir",
            Self::Readdir { .. } => "readdir",
            Self::Statfs => "statfs",
            Self::Getxattr { .. } => "getxattr",
            Self::Listxattr { .. } => "listxattr",
            Self::Ioctl(_) => "ioctl",
            Self::Lseek { .. } => "lseek",
            Self::Bmap { .. } => "bmap",
            Self::Nothing => "sync",
            Self::Write => "write",
            Self::Interrupt => "interrupt",
            Self::Destroy => "destroy",
            Self::Unknown => "unknown",
        }
    }
}

/// Bytes that are no request; the `unique` if that much was readable, so that it gets an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed(pub(super) Option<u64>);

/// Reads one request.
///
/// # Errors
/// [`Malformed`] for anything that the kernel would not send.
pub(super) fn decode(bytes: &[u8]) -> Result<Call<'_>, Malformed> {
    let (header, body) = InHeader::read_from_prefix(bytes).map_err(|_| Malformed(None))?;
    let malformed = Malformed(Some(header.unique));
    // No extension is ever asked for at INIT.
    if usize::try_from(header.len) != Ok(bytes.len()) || header.total_extlen != 0 {
        return Err(malformed);
    }
    let request = request(header.opcode, body).ok_or(malformed)?;
    Ok(Call { unique: header.unique, node: NodeId(header.nodeid), uid: header.uid, request })
}

fn request(opcode: u32, body: &[u8]) -> Option<Request<'_>> {
    Some(match opcode {
        opcode::INIT => Request::Init(init(body)?),
        opcode::LOOKUP => Request::Lookup(name(body)?),
        opcode::FORGET | opcode::BATCH_FORGET => Request::Forget,
        opcode::GETATTR => whole::<abi::GetattrIn>(body).map(|_| Request::Getattr)?,
        opcode::STATX => whole::<abi::StatxIn>(body).map(|_| Request::Statx)?,
        opcode::READLINK => Request::Readlink,
        opcode::OPEN => whole::<abi::OpenIn>(body).map(|_| Request::Open)?,
        opcode::OPENDIR => whole::<abi::OpenIn>(body).map(|_| Request::Opendir)?,
        opcode::READ => {
            let read = whole::<abi::ReadIn>(body)?;
            Request::Read { offset: read.offset, size: read.size }
        }
        opcode::READDIR | opcode::READDIRPLUS => {
            let read = whole::<abi::ReadIn>(body)?;
            let plus = opcode == opcode::READDIRPLUS;
            Request::Readdir { cookie: read.offset, size: read.size, plus }
        }
        opcode::STATFS => Request::Statfs,
        opcode::GETXATTR => {
            let (fixed, rest) = abi::GetxattrIn::read_from_prefix(body).ok()?;
            Request::Getxattr { name: name(rest)?, size: fixed.size }
        }
        opcode::LISTXATTR => Request::Listxattr { size: whole::<abi::GetxattrIn>(body)?.size },
        opcode::IOCTL => Request::Ioctl(ioctl(body)?),
        opcode::LSEEK => {
            let seek = whole::<abi::LseekIn>(body)?;
            Request::Lseek { offset: seek.offset, whence: seek.whence }
        }
        opcode::BMAP => {
            let bmap = whole::<abi::BmapIn>(body)?;
            Request::Bmap { block: bmap.block, block_size: bmap.blocksize }
        }
        opcode::FSYNC
        | opcode::FSYNCDIR
        | opcode::SYNCFS
        | opcode::RELEASE
        | opcode::RELEASEDIR => Request::Nothing,
        opcode::INTERRUPT => Request::Interrupt,
        opcode::DESTROY => Request::Destroy,
        writing if is_write(writing) => Request::Write,
        _ => Request::Unknown,
    })
}

fn is_write(opcode: u32) -> bool {
    matches!(
        opcode,
        opcode::SETATTR
            | opcode::SYMLINK
            | opcode::MKNOD
            | opcode::MKDIR
            | opcode::UNLINK
            | opcode::RMDIR
            | opcode::RENAME
            | opcode::RENAME2
            | opcode::LINK
            | opcode::WRITE
            | opcode::SETXATTR
            | opcode::REMOVEXATTR
            | opcode::CREATE
            | opcode::FALLOCATE
            | opcode::COPY_FILE_RANGE
            | opcode::COPY_FILE_RANGE_64
            | opcode::TMPFILE
    )
}

/// A body that is exactly one `T`.
fn whole<T: FromBytes>(body: &[u8]) -> Option<T> {
    T::read_from_bytes(body).ok()
}

/// INIT grows at its end: what a newer kernel appends is of no interest, what an older one leaves
/// out is zero.
fn init(body: &[u8]) -> Option<abi::InitIn> {
    const SHORTEST: usize = 16;
    let mut padded = [0; size_of::<abi::InitIn>()];
    let known = body.len().min(padded.len());
    if known < SHORTEST {
        return None;
    }
    padded.get_mut(..known)?.copy_from_slice(body.get(..known)?);
    whole(&padded)
}

fn ioctl(body: &[u8]) -> Option<abi::IoctlIn> {
    let (fixed, input) = abi::IoctlIn::read_from_prefix(body).ok()?;
    (usize::try_from(fixed.in_size) == Ok(input.len())).then_some(fixed)
}

/// 1 or more bytes, then the NUL that ends the body. Longer ones than 255 are the verb's to refuse.
fn name(body: &[u8]) -> Option<&[u8]> {
    let (nul, name) = body.split_last()?;
    (*nul == 0 && !name.is_empty() && !name.contains(&0)).then_some(name)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
