//! Mode, owner and times. The size is another verb's: it moves blocks.

use std::sync::Arc;

use super::write::strip_set_id;
use crate::caller::Caller;
use crate::error::{Error, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags, Timestamp};
use crate::xattr::access::{self, Which};
use crate::xattr::{self, Change, Mode};

/// A time to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// What the caller's clock says.
    Now,
    /// This one, clamped to what can be stored.
    At(Timestamp),
}

/// What shall change.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttr {
    /// Permission bits, 0..=0o7777.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of content.
    pub mtime: Option<SetTime>,
    /// Last change of the inode, from a kernel that keeps times itself; else it is now.
    pub ctime: Option<Timestamp>,
    /// Take set-id bits and capabilities (FATTR_KILL_SUIDGID).
    pub kill_privileges: bool,
}

/// What a program may do that its user may not.
const CAPABILITY: &[u8] = b"security.capability";

impl SetAttr {
    /// Whether nothing is to be set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Filesystem {
    /// Changes attributes of `nr`, and returns the inode as it is then. An access ACL follows the
    /// mode. A change of owner takes set-id bits and capabilities from anything but directories.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`] for immutable inodes, and append-only ones unless times become now;
    /// `NoSpace`, `Quota`, `ReadOnly`, `Stale`; corruption and I/O errors.
    pub fn setattr(&self, caller: &Caller, nr: InodeNr, set: &SetAttr) -> Result<Arc<Inode>> {
        let _lock = self.lock(nr)?;
        let old = self.inode(nr)?;
        set.check(&old)?;
        let mut inode = (*old).clone();
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        let mut capability = None;
        if (set.kill_privileges || set.changes_owner()) && !inode.is_directory() {
            capability = self.kill_privileges(&mut inode)?;
        }
        let list = match set.mode {
            Some(mode) => {
                inode.permissions = mode & 0o7777;
                access::after_chmod(&self.volume, &inode, mode)?
            }
            None => None,
        };
        let list = list.as_deref().map(|disk| access::change(Which::Access, Some(disk)));
        let changes: Vec<_> = capability.into_iter().chain(list).collect();
        set.set_times(&mut inode, caller);
        self.apply(caller, inode, set.ctime, &changes)
    }

    /// A file whose content changes loses the capabilities it gives to whoever executes it, whatever
    /// the request says of set-id bits.
    ///
    /// # Errors
    /// As [`Filesystem::remove_xattr`].
    pub(super) fn drop_capability(&self, caller: &Caller, nr: InodeNr) -> Result<()> {
        let inode = self.inode(nr)?;
        let has_none = inode.xattr_block.is_none() && inode.tail.iter().all(|byte| *byte == 0);
        if has_none {
            return Ok(());
        }
        match self.xattr(&inode, CAPABILITY) {
            Ok(_) => self.remove_xattr(caller, nr, CAPABILITY).map(drop),
            Err(Error::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Takes set-id bits, and says which attribute goes with them: what chown(2), and write(2) and
    /// truncate(2) by others than root, do to a file.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub(super) fn kill_privileges(&self, inode: &mut Inode) -> Result<Option<Change<'static>>> {
        strip_set_id(inode);
        let name = CAPABILITY;
        let load = |nr| inode::get(&self.volume, nr);
        match xattr::get(&self.volume, inode, name, load) {
            Ok(_) => Change::new(name, None, Mode::Any).map(Some),
            Err(Error::Refused(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl SetAttr {
    const fn changes_owner(&self) -> bool {
        self.uid.is_some() || self.gid.is_some()
    }

    fn check(&self, inode: &Inode) -> Result<()> {
        // The kernel brings its own times of a file that was written to before.
        let is_flush = self.ctime.is_some() && self.mode.is_none() && !self.changes_owner();
        let explicit = |time| matches!(time, Some(SetTime::At(_)));
        let more = self.mode.is_some()
            || self.changes_owner()
            || explicit(self.atime)
            || explicit(self.mtime);
        let forbidden =
            inode.flags.has(InodeFlags::IMMUTABLE) || more && inode.flags.has(InodeFlags::APPEND);
        if forbidden && !is_flush {
            return Err(Refusal::NotPermitted.into());
        }
        Ok(())
    }

    fn set_times(&self, inode: &mut Inode, caller: &Caller) {
        let time = |set, old| match set {
            None => old,
            Some(SetTime::Now) => caller.now,
            Some(SetTime::At(time)) => time,
        };
        inode.atime = time(self.atime, inode.atime);
        inode.mtime = time(self.mtime, inode.mtime);
    }
}
