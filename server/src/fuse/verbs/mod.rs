//! One method for each operation: one verb of the engine, then the answer put out.
//!
//! `names`, `data` and `attrs` hold the methods that read, `changes` (names), `writes` (content and
//! attributes) and `commands` (by ioctl) those that change something. Here is which request calls
//! which, in one match.

mod attrs;
mod changes;
mod commands;
mod data;
mod names;
mod writes;

use changes::New;
pub(super) use data::notes_access;

use std::sync::Arc;

use fuse4fs_ext4::{Error, Filesystem, Inode, Overhead, Refusal, StatFs};
use fuser::Errno;

use super::abi::StatfsOut;
use super::control::Control;
use super::errno::Fail;
use super::handles::Handles;
use super::init::Opens;
use super::nodes::{NodeId, Nodes};
use super::reply::Output;
use super::request::{Call, Request};

/// S_IFLNK and S_IFDIR, with a link's permissions.
const SYMLINK: u32 = 0o120_777;
const DIRECTORY: u32 = 0o040_000;
/// Bytes of a name, at most.
const NAME_MAX: u32 = 255;

/// What a verb puts out, or why not.
type Answer = Result<(), Fail>;

/// The operations on a mounted file system.
pub(super) struct Verbs<'a> {
    pub(super) fs: &'a Filesystem,
    pub(super) nodes: &'a Nodes,
    pub(super) handles: &'a Handles,
    pub(super) control: &'a Control,
    pub(super) opens: Opens,
    pub(super) overhead: Overhead,
}

impl Verbs<'_> {
    /// Answers one call.
    ///
    /// # Errors
    /// What the engine says; ENOSYS for operations that the kernel shall not send again.
    pub(super) fn answer(&self, call: &Call<'_>, out: &mut Output<'_>) -> Answer {
        let node = call.node;
        match call.request {
            Request::Lookup(name) => self.lookup(node, name, out),
            Request::Getattr => self.getattr(node, out),
            Request::Statx => self.statx(node, out),
            Request::Readlink => self.readlink(node, out),
            Request::Open(opening) => self.open(call, opening, out),
            Request::Read { offset, size, flags, .. } => {
                self.read(node, (offset, size), flags, out)
            }
            Request::Release(handle) => self.release(node, handle),
            // The kernel opened the directory by itself.
            Request::Releasedir => Ok(()),
            Request::Readdir { cookie, size, plus } => {
                self.readdir(node, (cookie, size, plus), out)
            }
            Request::Statfs => statfs(&self.fs.statfs(self.overhead)?, out),
            Request::Getxattr { name, size } => self.getxattr(node, name, size, out),
            Request::Listxattr { size } => self.listxattr(node, call.uid, size, out),
            Request::Ioctl { command, input, out_size, .. } => {
                self.ioctl(call, (command, input.0), out_size, out)
            }
            Request::Lseek { offset, whence, .. } => self.lseek(node, offset, whence, out),
            Request::Bmap { block, block_size } => self.bmap(node, block, block_size, out),
            Request::Fsync { data_only, .. } => self.fsync(node, data_only),
            Request::Fsyncdir { data_only } => self.fsync(node, data_only),
            Request::Syncfs => Ok(self.fs.sync()?),
            _ => {
                self.change(call, out)?;
                self.settle()
            }
        }
    }

    /// Makes durable what was changed, on a mount that promises that with each answer.
    fn settle(&self) -> Answer {
        if self.fs.rules().sync { Ok(self.fs.sync()?) } else { Ok(()) }
    }

    /// Answers a call that changes something, or that is not served at all.
    fn change(&self, call: &Call<'_>, out: &mut Output<'_>) -> Answer {
        let new = |mode, umask, rdev, target, extras| New { mode, umask, rdev, target, extras };
        if !self.fs.is_writable() && call.request.is_change() {
            return Err(Refusal::ReadOnly.into());
        }
        match call.request {
            Request::Setattr(set) => self.setattr(call, &set, out),
            Request::Symlink { name, target, extras } => {
                self.make(call, name, &new(SYMLINK, 0, 0, target.0, extras), out)
            }
            Request::Mknod { name, mode, rdev, umask, extras } => {
                self.make(call, name, &new(mode, umask, rdev, b"", extras), out)
            }
            Request::Mkdir { name, mode, umask, extras } => {
                let mode = DIRECTORY | (mode & 0o7777);
                self.make(call, name, &new(mode, umask, 0, b"", extras), out)
            }
            Request::Create { name, new } => self.create(call, name, &new, out),
            Request::Tmpfile(new) => self.tmpfile(call, &new, out),
            Request::Link { of, name } => self.link(call, of, name, out),
            Request::Unlink(name) => self.unlink(call, name),
            Request::Rmdir(name) => self.rmdir(call, name),
            Request::Rename { name, to, new_name, flags } => {
                self.rename(call, name, (to, new_name), flags)
            }
            Request::Write(write) => self.write(call, &write, out),
            Request::Fallocate { handle, offset, length, mode } => {
                self.fallocate(call, handle, (offset, length), mode)
            }
            Request::CopyFileRange { from, to, length, wide, .. } => {
                self.copy_file_range(call, from, to, (length, wide), out)
            }
            Request::Setxattr { name, value, flags, kill_sgid } => {
                self.setxattr(call, (name, value), flags, kill_sgid)
            }
            Request::Removexattr(name) => self.removexattr(call, name),
            _ => Err(unserved().into()),
        }
    }

    /// Any descriptor will do, of a directory or only for reading as well.
    fn fsync(&self, node: NodeId, data_only: bool) -> Answer {
        Ok(self.fs.fsync(node.inode()?, data_only)?)
    }

    fn inode(&self, node: NodeId) -> Result<Arc<Inode>, Error> {
        self.fs.inode(node.inode()?)
    }
}

/// The kernel then never asks again: it opens directories by itself and caches their entries
/// (OPENDIR), has nothing to flush at close(2) that it does not write anyway (FLUSH), checks modes,
/// polls and locks by itself.
fn unserved() -> Errno {
    Errno::ENOSYS
}

/// The reply to STATFS.
pub(super) fn statfs(stat: &StatFs, out: &mut Output<'_>) -> Answer {
    out.put(&StatfsOut {
        blocks: stat.blocks,
        bfree: stat.free,
        bavail: stat.available,
        files: stat.inodes,
        ffree: stat.inodes_free,
        bsize: stat.block_size,
        frsize: stat.block_size,
        namelen: NAME_MAX,
        ..StatfsOut::default()
    })
}
