//! One method for each operation: decode, call one verb of the engine, put out the answer.

use std::sync::Arc;

use fuse4fs_ext4::{Error, Filesystem, Inode, Overhead, Refusal, Seek, StatFs};
use fuser::{Errno, FopenFlags};

use super::abi::{BmapOut, GetxattrOut, IoctlIn, LseekOut, OpenOut, StatfsOut};
use super::decode::{Call, Request};
use super::errno::Fail;
use super::init::Opens;
use super::nodes::NodeId;
use super::reply::Output;
use super::{attr, ioctl, readdir};

/// SEEK_DATA
const SEEK_DATA: u32 = 3;
/// SEEK_HOLE
const SEEK_HOLE: u32 = 4;
/// Bytes of a name, at most.
const NAME_MAX: u32 = 255;

/// What a verb puts out, or why not.
type Answer = Result<(), Fail>;

/// The operations on a mounted file system.
pub(super) struct Verbs<'a> {
    pub(super) fs: &'a Filesystem,
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
            Request::Open => self.open(node, out),
            Request::Read { offset, size } => self.read(node, offset, size, out),
            Request::Readdir { cookie, size, plus } => {
                readdir::readdir(self.fs, &*self.inode(node)?, (cookie, size, plus), out)
            }
            Request::Statfs => statfs(&self.fs.statfs(self.overhead)?, out),
            Request::Getxattr { name, size } => self.getxattr(node, name, size, out),
            Request::Listxattr { size } => self.listxattr(node, call.uid, size, out),
            Request::Ioctl(asked) => self.ioctl(node, &asked, out),
            Request::Lseek { offset, whence } => self.lseek(node, offset, whence, out),
            Request::Bmap { block, block_size } => self.bmap(node, block, block_size, out),
            Request::Nothing => Ok(()),
            Request::Write => Err(Refusal::ReadOnly.into()),
            // OPENDIR: the kernel then opens directories by itself and caches their entries.
            Request::Opendir
            | Request::Unknown
            | Request::Init(_)
            | Request::Forget
            | Request::Interrupt
            | Request::Destroy => Err(Errno::ENOSYS.into()),
        }
    }

    fn inode(&self, node: NodeId) -> Result<Arc<Inode>, Error> {
        self.fs.inode(node.inode()?)
    }

    /// "." finds the node itself whatever it is: file handles of NFS are opened so.
    fn lookup(&self, parent: NodeId, name: &[u8], out: &mut Output<'_>) -> Answer {
        let parent = self.inode(parent)?;
        if name == b"." {
            return out.put(&attr::entry_out(self.fs, &parent));
        }
        match self.fs.lookup(&parent, name) {
            Ok(inode) => out.put(&attr::entry_out(self.fs, &inode)),
            Err(Error::Refused(Refusal::NotFound)) => out.put(&attr::no_entry_out()),
            Err(error) => Err(error.into()),
        }
    }

    fn getattr(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        out.put(&attr::attr_out(self.fs, &*self.inode(node)?))
    }

    fn statx(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        out.put(&attr::statx_out(self.fs, &*self.inode(node)?))
    }

    fn readlink(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        out.put_bytes(&self.fs.readlink(&*self.inode(node)?)?)
    }

    fn open(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        if self.opens == Opens::Unasked {
            return Err(Errno::ENOSYS.into());
        }
        self.fs.open(&*self.inode(node)?)?;
        let open_flags = FopenFlags::FOPEN_KEEP_CACHE.bits();
        out.put(&OpenOut { open_flags, ..OpenOut::default() })
    }

    fn read(&self, node: NodeId, offset: u64, size: u32, out: &mut Output<'_>) -> Answer {
        let inode = self.inode(node)?;
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        out.fill(size, |room| Ok(self.fs.read(&inode, offset, room)?))
    }

    fn getxattr(&self, node: NodeId, name: &[u8], size: u32, out: &mut Output<'_>) -> Answer {
        sized(&self.fs.xattr(&*self.inode(node)?, name)?, size, out)
    }

    /// As on ext4, names under "trusted." are for the superuser only.
    fn listxattr(&self, node: NodeId, uid: u32, size: u32, out: &mut Output<'_>) -> Answer {
        let names = self.fs.xattr_names(&*self.inode(node)?)?;
        if uid == 0 {
            return sized(&names, size, out);
        }
        let names = names.split_inclusive(|byte| *byte == 0);
        let shown: Vec<u8> =
            names.filter(|n| !n.starts_with(b"trusted.")).flatten().copied().collect();
        sized(&shown, size, out)
    }

    fn ioctl(&self, node: NodeId, asked: &IoctlIn, out: &mut Output<'_>) -> Answer {
        ioctl::ioctl(self.fs, &*self.inode(node)?, (asked.cmd, asked.out_size), out)
    }

    fn lseek(&self, node: NodeId, offset: u64, whence: u32, out: &mut Output<'_>) -> Answer {
        let what = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return Err(Refusal::Invalid.into()),
        };
        let offset = self.fs.seek(&*self.inode(node)?, offset, what)?;
        out.put(&LseekOut { offset })
    }

    fn bmap(&self, node: NodeId, block: u64, unit: u32, out: &mut Output<'_>) -> Answer {
        let block = self.fs.bmap(&*self.inode(node)?, block, unit)?;
        out.put(&BmapOut { block })
    }
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

/// `value`, or only its size if `room` is 0.
fn sized(value: &[u8], room: u32, out: &mut Output<'_>) -> Answer {
    let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    if room == 0 {
        return out.put(&GetxattrOut { size, padding: 0 });
    }
    if size > room {
        return Err(Refusal::Range.into());
    }
    out.put_bytes(value)
}
