//! What changes the content of files and the attributes of inodes.

use fuse4fs_ext4::{
    Error, Fallocate, Inode, InodeFlags, KeepSize, Refusal, SetAttr, SetTime, WriteKind, XattrMode,
};
use fuser::Errno;

use super::changes::caller;
use super::{Answer, Verbs};
use crate::clock;
use crate::fuse::abi::{CopyFileRangeOut, WriteOut};
use crate::fuse::attr;
use crate::fuse::nodes::NodeId;
use crate::fuse::reply::Output;
use crate::fuse::request::{self, Call, Data, Handle, Name, Write};

/// FALLOC_FL_* of fallocate(2).
const KEEP_SIZE: u32 = 0x1;
const PUNCH_HOLE: u32 = 0x2;
const ZERO_RANGE: u32 = 0x10;

/// XATTR_* of setxattr(2).
const XATTR_CREATE: u32 = 1;
const XATTR_REPLACE: u32 = 2;

/// O_SYNC and O_DSYNC.
const O_SYNC: u32 = libc::O_SYNC.cast_unsigned();
const O_DSYNC: u32 = libc::O_DSYNC.cast_unsigned();

impl Verbs<'_> {
    /// The space that is kept for the superuser is the opener's to use: pages are written by
    /// whoever flushes them.
    pub(super) fn write(&self, call: &Call<'_>, write: &Write<'_>, out: &mut Output<'_>) -> Answer {
        let file = self.handles.get(write.handle, call.node)?;
        let kind = match write.from_cache {
            true => WriteKind::Cached,
            false => WriteKind::Direct { kill_set_id: write.kill_suidgid },
        };
        let asker = fuse4fs_ext4::Caller { uid: file.uid, ..caller(call) };
        let inode = call.node.inode()?;
        let len = self.fs.write(&asker, inode, kind, (write.offset, write.data.0))?;
        let flags = write.flags | file.flags;
        let has_flag = || Ok::<_, Error>(self.fs.inode(inode)?.flags.has(InodeFlags::SYNC));
        if !write.from_cache && (flags & (O_SYNC | O_DSYNC) != 0 || has_flag()?) {
            self.fs.fsync(inode, flags & (O_SYNC | O_DSYNC) == O_DSYNC)?;
        }
        out.put(&WriteOut { size: u32::try_from(len).unwrap_or(u32::MAX), padding: 0 })
    }

    pub(super) fn fallocate(
        &self,
        call: &Call<'_>,
        handle: Handle,
        (offset, length): (u64, u64),
        mode: u32,
    ) -> Answer {
        self.handles.get(handle, call.node)?;
        let keep = if mode & KEEP_SIZE != 0 { KeepSize::Yes } else { KeepSize::No };
        let what = match mode & !KEEP_SIZE {
            0 => Fallocate::Allocate(keep),
            PUNCH_HOLE if mode & KEEP_SIZE != 0 => Fallocate::PunchHole,
            ZERO_RANGE => Fallocate::ZeroRange(keep),
            _ => return Err(Errno::EOPNOTSUPP.into()),
        };
        Ok(self.fs.fallocate(&caller(call), call.node.inode()?, what, (offset, length))?)
    }

    pub(super) fn copy_file_range(
        &self,
        call: &Call<'_>,
        (from, offset): (Handle, u64),
        (node, to, offset_out): (NodeId, Handle, u64),
        (length, wide): (u64, bool),
        out: &mut Output<'_>,
    ) -> Answer {
        self.handles.get(from, call.node)?;
        self.handles.get(to, node)?;
        // The short reply holds 32 bits, and no request shall take minutes.
        let length = length.min(MAX_COPY);
        let (source, target) = (call.node.inode()?, node.inode()?);
        let copied = self.fs.copy_file_range(
            &caller(call),
            (source, offset),
            (target, offset_out),
            length,
        )?;
        match wide {
            true => out.put(&CopyFileRangeOut { bytes_copied: copied }),
            false => {
                let size = u32::try_from(copied).unwrap_or(u32::MAX);
                out.put(&WriteOut { size, padding: 0 })
            }
        }
    }

    /// A new size first, as that is what can fail for want of space.
    pub(super) fn setattr(
        &self,
        call: &Call<'_>,
        set: &request::SetAttr,
        out: &mut Output<'_>,
    ) -> Answer {
        let (caller, nr) = (caller(call), call.node.inode()?);
        let mut inode = None;
        if let Some(size) = set.size {
            inode = Some(self.fs.truncate(&caller, nr, size)?);
        }
        let rest = SetAttr {
            mode: set.mode.map(|mode| u16::try_from(mode & 0o7777).unwrap_or(0)),
            uid: set.uid,
            gid: set.gid,
            atime: set.atime.map(time),
            mtime: set.mtime.map(time),
            ctime: set.ctime.map(|ctime| match ctime {
                request::SetTime::Now => clock::now(),
                request::SetTime::At(at) => at,
            }),
            kill_privileges: set.kill_suidgid,
        };
        let inode = match inode {
            Some(inode) if rest.is_empty() => inode,
            _ => self.fs.setattr(&caller, nr, &rest)?,
        };
        out.put(&attr::attr_out(self.fs, &inode))
    }

    pub(super) fn setxattr(
        &self,
        call: &Call<'_>,
        (name, value): (Name<'_>, Data<'_>),
        flags: u32,
        kill_sgid: bool,
    ) -> Answer {
        let mode = match flags {
            0 => XattrMode::Any,
            XATTR_CREATE => XattrMode::Create,
            XATTR_REPLACE => XattrMode::Replace,
            _ => return Err(Refusal::Invalid.into()),
        };
        let (name, value) = (name.0, value.0);
        let nr = call.node.inode()?;
        self.fs.set_xattr(&caller(call), nr, (name, value), mode, kill_sgid)?;
        Ok(())
    }

    pub(super) fn removexattr(&self, call: &Call<'_>, name: Name<'_>) -> Answer {
        self.fs.remove_xattr(&caller(call), call.node.inode()?, name.0)?;
        Ok(())
    }

    /// What OPEN with O_TRUNC does besides.
    pub(super) fn truncated(&self, call: &Call<'_>, inode: &Inode, kill: bool) -> Answer {
        let asker = caller(call);
        self.fs.truncate(&asker, inode.nr, 0)?;
        if kill {
            let set = SetAttr { kill_privileges: true, ..SetAttr::default() };
            self.fs.setattr(&asker, inode.nr, &set)?;
        }
        Ok(())
    }
}

/// Bytes of one copy: what a slow device does in a few seconds.
const MAX_COPY: u64 = 64 << 20;

fn time(set: request::SetTime) -> SetTime {
    match set {
        request::SetTime::Now => SetTime::Now,
        request::SetTime::At(at) => SetTime::At(at),
    }
}
