//! Names that come, go and move.

use fuse4fs_ext4::{Caller, Error, FileKind, Inode, Named, NewInode, Refusal, Rename, Unlinked};
use fuser::Errno;

use super::{Answer, Verbs};
use crate::clock;
use crate::fuse::attr;
use crate::fuse::nodes::NodeId;
use crate::fuse::reply::Output;
use crate::fuse::request::{Call, Extras, Name, NewFile};

/// O_EXCL
const O_EXCL: u32 = libc::O_EXCL.cast_unsigned();

/// RENAME_* of renameat2(2).
const NOREPLACE: u32 = 1;
const EXCHANGE: u32 = 2;
const WHITEOUT: u32 = 4;
const NOREPLACE_WHITEOUT: u32 = NOREPLACE | WHITEOUT;

/// What a creation says of the new inode.
#[derive(Clone, Copy)]
pub(super) struct New<'a> {
    /// S_IF* and permissions.
    pub(super) mode: u32,
    pub(super) umask: u32,
    /// As `new_encode_dev` packs it.
    pub(super) rdev: u32,
    /// A symbolic link's target.
    pub(super) target: &'a [u8],
    pub(super) extras: Extras<'a>,
}

impl<'a> New<'a> {
    /// A file that CREATE or TMPFILE makes.
    pub(super) fn file(new: &NewFile<'a>) -> Self {
        Self { mode: new.mode, umask: new.umask, rdev: 0, target: b"", extras: new.extras }
    }
}

/// Who asks, as the engine wants to know it.
pub(super) fn caller(call: &Call<'_>) -> Caller {
    Caller { uid: call.uid, gid: call.gid, group: None, umask: 0, now: clock::now() }
}

fn maker(call: &Call<'_>, new: &New<'_>) -> Caller {
    let umask = u16::try_from(new.umask & 0o777).unwrap_or(0);
    Caller { group: new.extras.group, umask, ..caller(call) }
}

/// The engine's form of what is to be made.
fn inode_of<'a>(new: &New<'a>) -> Result<NewInode<'a>, Errno> {
    let kind = attr::kind_of(new.mode).ok_or(Errno::EINVAL)?;
    let permissions = u16::try_from(new.mode & 0o7777).unwrap_or(0);
    let rdev = match kind {
        FileKind::CharDevice | FileKind::BlockDevice => attr::unpacked_rdev(new.rdev),
        _ => (0, 0),
    };
    // More than one label would come from stacked security modules; the first one's is kept.
    let label = new.extras.labels.iter().next().map(|(name, value)| (name.0, value.0));
    Ok(NewInode { kind, permissions, rdev, target: new.target, label })
}

impl Verbs<'_> {
    /// MKNOD, MKDIR, SYMLINK.
    pub(super) fn make(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        new: &New<'_>,
        out: &mut Output<'_>,
    ) -> Answer {
        let parent = call.node.inode()?;
        let inode = self.fs.create(&maker(call, new), parent, name.0, &inode_of(new)?)?;
        self.entry(&inode, out)
    }

    /// CREATE: a file that somebody else made since the kernel looked is opened.
    pub(super) fn create(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        file: &NewFile<'_>,
        out: &mut Output<'_>,
    ) -> Answer {
        let (parent, new) = (call.node.inode()?, New::file(file));
        let inode = match self.fs.create(&maker(call, &new), parent, name.0, &inode_of(&new)?) {
            Err(Error::Refused(Refusal::Exists)) if file.opening.flags & O_EXCL == 0 => {
                self.fs.lookup(&*self.fs.inode(parent)?, name.0)?
            }
            made => made?,
        };
        self.entry(&inode, out)?;
        self.opened(call, &inode, file.opening, out)
    }

    pub(super) fn tmpfile(
        &self,
        call: &Call<'_>,
        file: &NewFile<'_>,
        out: &mut Output<'_>,
    ) -> Answer {
        let (parent, new) = (call.node.inode()?, New::file(file));
        let inode = self.fs.tmpfile(&maker(call, &new), parent, &inode_of(&new)?)?;
        self.entry(&inode, out)?;
        self.opened(call, &inode, file.opening, out)
    }

    pub(super) fn link(
        &self,
        call: &Call<'_>,
        of: NodeId,
        name: Name<'_>,
        out: &mut Output<'_>,
    ) -> Answer {
        let parent = call.node.inode()?;
        let inode = self.fs.link(&caller(call), of.inode()?, parent, name.0)?;
        self.entry(&inode, out)
    }

    pub(super) fn unlink(&self, call: &Call<'_>, name: Name<'_>) -> Answer {
        let gone = self.fs.unlink(&caller(call), call.node.inode()?, name.0)?;
        self.lost(Some(gone))
    }

    pub(super) fn rmdir(&self, call: &Call<'_>, name: Name<'_>) -> Answer {
        let gone = self.fs.rmdir(&caller(call), call.node.inode()?, name.0)?;
        self.lost(Some(gone))
    }

    pub(super) fn rename(
        &self,
        call: &Call<'_>,
        name: Name<'_>,
        (to, new_name): (NodeId, Name<'_>),
        flags: u32,
    ) -> Answer {
        let how = match flags {
            0 => Rename::Replace,
            NOREPLACE => Rename::NoReplace,
            EXCHANGE => Rename::Exchange,
            // With NOREPLACE, the VFS has seen that the new name is free and holds its directory.
            WHITEOUT | NOREPLACE_WHITEOUT => Rename::Whiteout,
            _ => return Err(Errno::EINVAL.into()),
        };
        let from = Named { parent: call.node.inode()?, name: name.0 };
        let to = Named { parent: to.inode()?, name: new_name.0 };
        let gone = self.fs.rename(&caller(call), from, to, how)?;
        self.lost(gone)
    }

    /// Puts out an entry, which the kernel knows from then on.
    fn entry(&self, inode: &Inode, out: &mut Output<'_>) -> Answer {
        out.put(&attr::entry_out(self.fs, inode))?;
        self.nodes.found(inode);
        Ok(())
    }

    /// An inode that lost its last name ends now, unless the kernel knows it: then with its FORGET.
    fn lost(&self, gone: Option<Unlinked>) -> Answer {
        match gone {
            Some(Unlinked { inode, last: true }) if !self.nodes.knows(inode) => {
                Ok(self.fs.forget(inode, clock::now())?)
            }
            _ => Ok(()),
        }
    }
}
