//! Bytes from the kernel → one typed request.
//!
//! Strict: lengths are as the header says, fixed parts are whole, names end in the one NUL they
//! hold, counts are those of what follows. What fails here is never seen by a verb.

use zerocopy::FromBytes;

use super::abi::{self, InHeader, fattr, opcode};
use super::body::{Body, Parser};
use super::nodes::NodeId;
use super::request::{
    Call, Data, Extras, Forgets, Handle, Labels, Name, NewFile, Opening, Request, SetAttr, SetTime,
    Write,
};
use fuse4fs_ext4::Timestamp;

/// Bytes that are no request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Malformed;

/// What was settled at INIT and decides how requests look.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Dialect {
    /// SETXATTR_EXT
    pub(super) setxattr_ext: bool,
}

/// Reads one request.
///
/// # Errors
/// [`Malformed`] for anything that the kernel would not send.
pub(super) fn decode<'a>(
    header: &InHeader,
    body: Body<'a>,
    dialect: Dialect,
) -> Result<Call<'a>, Malformed> {
    let mut parser = Parser::new(body, header.len)?;
    let extensions = parser.extensions(header.total_extlen)?;
    if !extensions.is_empty() && !creates(header.opcode) {
        return Err(Malformed);
    }
    let extras = extras(extensions).ok_or(Malformed)?;
    let request = request(header, &mut parser, extras, dialect).ok_or(Malformed)?;
    if !parser.is_whole() && !matches!(request, Request::Unknown) {
        return Err(Malformed);
    }
    let &InHeader { unique, nodeid, uid, gid, .. } = header;
    Ok(Call { unique, node: NodeId(nodeid), uid, gid, request })
}

/// Whether extensions may follow.
fn creates(number: u32) -> bool {
    matches!(
        number,
        opcode::SYMLINK | opcode::MKNOD | opcode::MKDIR | opcode::CREATE | opcode::TMPFILE
    )
}

fn request<'a>(
    header: &InHeader,
    body: &mut Parser<'a>,
    extras: Extras<'a>,
    dialect: Dialect,
) -> Option<Request<'a>> {
    match header.opcode {
        // Always in one piece: it comes before any ring.
        opcode::INIT => Some(Request::Init(init(body.rest())?)),
        opcode::LOOKUP => Some(Request::Lookup(name(body)?)),
        opcode::FORGET => forget(body, NodeId(header.nodeid)),
        opcode::BATCH_FORGET => batch_forget(body),
        opcode::GETATTR => body.fixed::<abi::GetattrIn>().map(|_| Request::Getattr),
        opcode::STATX => body.fixed::<abi::StatxIn>().map(|_| Request::Statx),
        opcode::SETATTR => setattr(body),
        opcode::READLINK => Some(Request::Readlink),
        opcode::SYMLINK => symlink(body, extras),
        opcode::MKNOD => mknod(body, extras),
        opcode::MKDIR => mkdir(body, extras),
        opcode::UNLINK => Some(Request::Unlink(name(body)?)),
        opcode::RMDIR => Some(Request::Rmdir(name(body)?)),
        opcode::RENAME | opcode::RENAME2 => rename(body, header.opcode),
        opcode::LINK => link(body),
        opcode::OPEN => open(body),
        opcode::CREATE => create(body, extras),
        opcode::TMPFILE => tmpfile(body, extras),
        opcode::STATFS => Some(Request::Statfs),
        opcode::SYNCFS => body.fixed::<abi::SyncfsIn>().map(|_| Request::Syncfs),
        opcode::INTERRUPT => Some(Request::Interrupt(body.fixed::<abi::InterruptIn>()?.unique)),
        opcode::DESTROY => Some(Request::Destroy),
        opcode::SETXATTR => setxattr(body, dialect),
        opcode::GETXATTR => getxattr(body),
        opcode::LISTXATTR => {
            Some(Request::Listxattr { size: body.fixed::<abi::GetxattrIn>()?.size })
        }
        opcode::REMOVEXATTR => Some(Request::Removexattr(name(body)?)),
        opcode::NOTIFY_REPLY => {
            body.skip();
            Some(Request::NotifyReply)
        }
        number => of_a_handle(number, body),
    }
}

/// What is asked of an open file or directory.
fn of_a_handle<'a>(number: u32, body: &mut Parser<'a>) -> Option<Request<'a>> {
    match number {
        opcode::READ => read(body),
        opcode::WRITE => write(body),
        opcode::FLUSH => Some(Request::Flush(Handle(body.fixed::<abi::FlushIn>()?.fh))),
        opcode::RELEASE => Some(Request::Release(Handle(body.fixed::<abi::ReleaseIn>()?.fh))),
        opcode::FSYNC => fsync(body),
        opcode::FALLOCATE => fallocate(body),
        opcode::COPY_FILE_RANGE => copy_file_range(body, false),
        opcode::COPY_FILE_RANGE_64 => copy_file_range(body, true),
        opcode::LSEEK => lseek(body),
        opcode::IOCTL => ioctl(body),
        opcode::BMAP => bmap(body),
        opcode::OPENDIR => body.fixed::<abi::OpenIn>().map(|_| Request::Opendir),
        opcode::READDIR => readdir(body, false),
        opcode::READDIRPLUS => readdir(body, true),
        opcode::RELEASEDIR => body.fixed::<abi::ReleaseIn>().map(|_| Request::Releasedir),
        opcode::FSYNCDIR => {
            let fixed = body.fixed::<abi::FsyncIn>()?;
            Some(Request::Fsyncdir { data_only: fixed.fsync_flags & abi::FSYNC_FDATASYNC != 0 })
        }
        opcode::ACCESS => body.fixed::<abi::AccessIn>().map(|_| Request::Unneeded),
        opcode::POLL => body.fixed::<abi::PollIn>().map(|_| Request::Unneeded),
        opcode::GETLK | opcode::SETLK | opcode::SETLKW => {
            body.fixed::<abi::LkIn>().map(|_| Request::Unneeded)
        }
        _ => Some(Request::Unknown),
    }
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
    abi::InitIn::read_from_bytes(&padded).ok()
}

/// The last name of a body. Longer ones than 255 bytes are the verb's to refuse.
fn name<'a>(body: &mut Parser<'a>) -> Option<Name<'a>> {
    let (nul, name) = body.rest().split_last()?;
    (*nul == 0 && !name.is_empty() && !name.contains(&0)).then_some(Name(name))
}

fn forget<'a>(body: &mut Parser<'a>, node: NodeId) -> Option<Request<'a>> {
    let lookups = body.fixed::<abi::ForgetIn>()?.nlookup;
    Some(Request::Forget(Forgets::One(node, lookups)))
}

fn batch_forget<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let count = usize::try_from(body.fixed::<abi::BatchForgetIn>()?.count).ok()?;
    let all = body.rest();
    let len = count.checked_mul(size_of::<abi::ForgetOne>())?;
    (len == all.len()).then_some(Request::Forget(Forgets::Batch(Data(all))))
}

fn setattr<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let fixed = body.fixed::<abi::SetattrIn>()?;
    let has = |bit: u32| fixed.valid & bit != 0;
    if fixed.valid & !fattr::ALL != 0 {
        return None;
    }
    let time = |bit, now, seconds, nanoseconds| match (has(bit), has(now)) {
        (false, _) => Some(None),
        (true, true) => Some(Some(SetTime::Now)),
        (true, false) => timestamp(seconds, nanoseconds).map(|at| Some(SetTime::At(at))),
    };
    Some(Request::Setattr(SetAttr {
        handle: has(fattr::FH).then_some(Handle(fixed.fh)),
        mode: has(fattr::MODE).then_some(fixed.mode),
        uid: has(fattr::UID).then_some(fixed.uid),
        gid: has(fattr::GID).then_some(fixed.gid),
        size: has(fattr::SIZE).then_some(fixed.size),
        atime: time(fattr::ATIME, fattr::ATIME_NOW, fixed.atime, fixed.atimensec)?,
        mtime: time(fattr::MTIME, fattr::MTIME_NOW, fixed.mtime, fixed.mtimensec)?,
        ctime: time(fattr::CTIME, 0, fixed.ctime, fixed.ctimensec)?,
        kill_suidgid: has(fattr::KILL_SUIDGID),
    }))
}

fn timestamp(seconds: u64, nanoseconds: u32) -> Option<Timestamp> {
    let seconds = seconds.cast_signed();
    (nanoseconds < 1_000_000_000).then_some(Timestamp { seconds, nanoseconds })
}

fn symlink<'a>(body: &mut Parser<'a>, extras: Extras<'a>) -> Option<Request<'a>> {
    let name = body.name()?;
    Some(Request::Symlink { name, target: self::name(body)?, extras })
}

fn mknod<'a>(body: &mut Parser<'a>, extras: Extras<'a>) -> Option<Request<'a>> {
    let abi::MknodIn { mode, rdev, umask, .. } = body.fixed()?;
    Some(Request::Mknod { name: name(body)?, mode, rdev, umask, extras })
}

fn mkdir<'a>(body: &mut Parser<'a>, extras: Extras<'a>) -> Option<Request<'a>> {
    let abi::MkdirIn { mode, umask } = body.fixed()?;
    Some(Request::Mkdir { name: name(body)?, mode, umask, extras })
}

fn rename<'a>(body: &mut Parser<'a>, number: u32) -> Option<Request<'a>> {
    let (to, flags) = if number == opcode::RENAME {
        (body.fixed::<abi::RenameIn>()?.newdir, 0)
    } else {
        let fixed = body.fixed::<abi::Rename2In>()?;
        (fixed.newdir, fixed.flags)
    };
    let name = body.name()?;
    Some(Request::Rename { name, to: NodeId(to), new_name: self::name(body)?, flags })
}

fn link<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let of = NodeId(body.fixed::<abi::LinkIn>()?.oldnodeid);
    Some(Request::Link { of, name: name(body)? })
}

fn open<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let abi::OpenIn { flags, open_flags } = body.fixed()?;
    Some(Request::Open(opening(flags, open_flags)))
}

fn opening(flags: u32, open_flags: u32) -> Opening {
    Opening { flags, kill_suidgid: open_flags & abi::OPEN_KILL_SUIDGID != 0 }
}

fn new_file<'a>(fixed: &abi::CreateIn, extras: Extras<'a>) -> NewFile<'a> {
    let &abi::CreateIn { flags, mode, umask, open_flags } = fixed;
    NewFile { opening: opening(flags, open_flags), mode, umask, extras }
}

fn create<'a>(body: &mut Parser<'a>, extras: Extras<'a>) -> Option<Request<'a>> {
    let new = new_file(&body.fixed()?, extras);
    Some(Request::Create { name: name(body)?, new })
}

/// The name that comes along says nothing.
fn tmpfile<'a>(body: &mut Parser<'a>, extras: Extras<'a>) -> Option<Request<'a>> {
    let new = new_file(&body.fixed()?, extras);
    name(body).map(|_| Request::Tmpfile(new))
}

fn read<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let abi::ReadIn { fh, offset, size, flags, .. } = body.fixed()?;
    Some(Request::Read { handle: Handle(fh), offset, size, flags })
}

fn readdir<'a>(body: &mut Parser<'a>, plus: bool) -> Option<Request<'a>> {
    let abi::ReadIn { offset, size, .. } = body.fixed()?;
    Some(Request::Readdir { cookie: offset, size, plus })
}

fn write<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let fixed = body.fixed::<abi::WriteIn>()?;
    let data = sized(body.rest(), fixed.size)?;
    Some(Request::Write(Write {
        handle: Handle(fixed.fh),
        offset: fixed.offset,
        data,
        flags: fixed.flags,
        from_cache: fixed.write_flags & abi::WRITE_CACHE != 0,
        kill_suidgid: fixed.write_flags & abi::WRITE_KILL_SUIDGID != 0,
    }))
}

/// `bytes`, if there are as many as was said.
fn sized(bytes: &[u8], said: u32) -> Option<Data<'_>> {
    (usize::try_from(said) == Ok(bytes.len())).then_some(Data(bytes))
}

fn fsync<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let fixed = body.fixed::<abi::FsyncIn>()?;
    let data_only = fixed.fsync_flags & abi::FSYNC_FDATASYNC != 0;
    Some(Request::Fsync { handle: Handle(fixed.fh), data_only })
}

fn fallocate<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let abi::FallocateIn { fh, offset, length, mode, .. } = body.fixed()?;
    Some(Request::Fallocate { handle: Handle(fh), offset, length, mode })
}

fn copy_file_range<'a>(body: &mut Parser<'a>, wide: bool) -> Option<Request<'a>> {
    let fixed = body.fixed::<abi::CopyFileRangeIn>()?;
    Some(Request::CopyFileRange {
        from: (Handle(fixed.fh_in), fixed.off_in),
        to: (NodeId(fixed.nodeid_out), Handle(fixed.fh_out), fixed.off_out),
        length: fixed.len,
        flags: fixed.flags,
        wide,
    })
}

fn lseek<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let abi::LseekIn { fh, offset, whence, .. } = body.fixed()?;
    Some(Request::Lseek { handle: Handle(fh), offset, whence })
}

fn ioctl<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let fixed = body.fixed::<abi::IoctlIn>()?;
    let input = sized(body.rest(), fixed.in_size)?;
    let abi::IoctlIn { fh, cmd: command, out_size, flags, .. } = fixed;
    Some(Request::Ioctl { handle: Handle(fh), command, input, out_size, flags })
}

fn bmap<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let abi::BmapIn { block, blocksize, .. } = body.fixed()?;
    Some(Request::Bmap { block, block_size: blocksize })
}

fn setxattr<'a>(body: &mut Parser<'a>, dialect: Dialect) -> Option<Request<'a>> {
    let (size, flags, kill_sgid) = if dialect.setxattr_ext {
        let fixed = body.fixed::<abi::SetxattrIn>()?;
        let kill_sgid = fixed.setxattr_flags & abi::SETXATTR_ACL_KILL_SGID != 0;
        (fixed.size, fixed.flags, kill_sgid)
    } else {
        let fixed = body.fixed::<abi::SetxattrInCompat>()?;
        (fixed.size, fixed.flags, false)
    };
    let name = body.name()?;
    let value = sized(body.rest(), size)?;
    Some(Request::Setxattr { name, value, flags, kill_sgid })
}

fn getxattr<'a>(body: &mut Parser<'a>) -> Option<Request<'a>> {
    let size = body.fixed::<abi::GetxattrIn>()?.size;
    Some(Request::Getxattr { name: name(body)?, size })
}

/// Extensions follow each other, each with a header that says how long it is; all are known.
fn extras(mut bytes: &[u8]) -> Option<Extras<'_>> {
    let mut extras = Extras::default();
    while !bytes.is_empty() {
        let (header, _) = abi::ExtHeader::read_from_prefix(bytes).ok()?;
        let size = usize::try_from(header.size).ok()?;
        let content = bytes.get(size_of::<abi::ExtHeader>()..size)?;
        bytes = bytes.get(size.checked_next_multiple_of(8)?..)?;
        match header.kind {
            abi::EXT_GROUPS => extras.group = Some(group(content)?),
            contexts if contexts <= abi::MAX_SECURITY_CONTEXTS => {
                extras.labels = labels(content, contexts)?;
            }
            _ => return None,
        }
    }
    Some(extras)
}

/// `struct fuse_supp_groups`, of which there is one.
fn group(content: &[u8]) -> Option<u32> {
    let (count, groups) = u32::read_from_prefix(content).ok()?;
    let (group, _) = u32::read_from_prefix(groups).ok()?;
    (count == 1).then_some(group)
}

/// As many labels as were said, and no more.
fn labels(content: &[u8], count: u32) -> Option<Labels<'_>> {
    let mut rest = content;
    for _ in 0..count {
        (_, rest) = Labels::split(rest)?;
    }
    rest.is_empty().then_some(Labels(content))
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
