//! Bytes into a file.

use super::change::changed;
use crate::alloc::Privilege;
use crate::caller::Caller;
use crate::error::{Refusal, Result};
use crate::file;
use crate::filesystem::Filesystem;
use crate::handle::Credits;
use crate::ids::{InodeNr, on_disk};
use crate::inode::{self, Inode, InodeFlags, Timestamp};
use crate::kind::{S_ISGID, S_ISUID, S_IXGRP};

/// How a write comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WriteKind {
    /// From a caller: times change. A part may be written.
    Direct {
        /// Set-id bits go (FUSE_WRITE_KILL_SUIDGID).
        kill_set_id: bool,
    },
    /// From the kernel's page cache, long after the call: the kernel sets the times, and a part is an
    /// error, as nobody would write the rest.
    Cached,
}

impl Filesystem {
    /// Writes `data` from byte `offset` of a regular file on, and returns how many bytes: fewer than
    /// there are only if there is no space or no room for more.
    ///
    /// Whole blocks that are written already are replaced beside other readers and writers; all else
    /// excludes them.
    ///
    /// # Errors
    /// [`Refusal::TooBig`], `NoSpace`, `Quota`, [`Refusal::NotPermitted`], `NoKey`, `IsDirectory`,
    /// `Invalid`; corruption and I/O errors.
    pub fn write(
        &self,
        caller: &Caller,
        nr: InodeNr,
        kind: WriteKind,
        (offset, data): (u64, &[u8]),
    ) -> Result<usize> {
        self.drop_capability(caller, nr)?;
        if self.overwrite(nr, kind, (offset, data))? {
            self.touch(nr, caller.now, kind)?;
            return Ok(data.len());
        }
        let _lock = self.lock(nr)?;
        let mut inode = (*self.inode(nr)?).clone();
        self.changeable(&inode)?;
        let who = self.privilege(caller);
        if let WriteKind::Direct { kill_set_id } = kind {
            changed(&mut inode, caller.now);
            if kill_set_id {
                strip_set_id(&mut inode);
            }
        }
        let written = file::write(&self.volume, &mut inode, who, (offset, data))?;
        if kind == WriteKind::Cached {
            let rest = data.get(written.bytes..).unwrap_or_default();
            let offset = offset.saturating_add(on_disk(written.bytes));
            if !rest.is_empty() {
                // What stopped the first attempt stops this one, and now it is told.
                file::write(&self.volume, &mut inode, who, (offset, rest))?;
            }
        } else if !written.stored {
            self.store(&inode)?;
        }
        Ok(data.len().min(written.bytes))
    }

    /// The fast way, under the shared lock.
    fn overwrite(
        &self,
        nr: InodeNr,
        kind: WriteKind,
        (offset, data): (u64, &[u8]),
    ) -> Result<bool> {
        let _lock = self.lock_shared(nr)?;
        let inode = self.inode(nr)?;
        self.changeable(&inode)?;
        let strips = matches!(kind, WriteKind::Direct { kill_set_id: true })
            && inode.permissions & (S_ISUID | S_ISGID) != 0;
        if strips || !file::can_overwrite(&self.volume, &inode, offset, on_disk(data.len()))? {
            return Ok(false);
        }
        file::overwrite(&self.volume, &inode, offset, data)?;
        Ok(true)
    }

    /// Sets the times of a write that needed nothing else, unless they are so already.
    fn touch(&self, nr: InodeNr, now: Timestamp, kind: WriteKind) -> Result<()> {
        if kind == WriteKind::Cached {
            return Ok(());
        }
        let _lock = self.lock(nr)?;
        let mut inode = (*self.inode(nr)?).clone();
        if (inode.mtime, inode.ctime) == (now, now) {
            return Ok(());
        }
        changed(&mut inode, now);
        let mut handle = self.volume.begin(Credits(1))?;
        inode::store_times(&mut handle, &inode)?;
        handle.stop()
    }

    /// Stores an inode that is changed alone.
    pub(super) fn store(&self, inode: &Inode) -> Result<()> {
        let mut handle = self.volume.begin(Credits(1))?;
        inode::store(&mut handle, inode)?;
        handle.stop()
    }

    /// What space the caller may use.
    pub(super) fn privilege(&self, caller: &Caller) -> Privilege {
        let groups = [caller.gid, caller.group.unwrap_or(caller.gid)];
        Privilege::of(&self.volume, caller.uid, &groups)
    }

    /// Checks that the content of `inode` can be changed at all.
    pub(super) fn changeable(&self, inode: &Inode) -> Result<()> {
        self.open_regular(inode)?;
        let fixed = InodeFlags::IMMUTABLE | InodeFlags::VERITY | InodeFlags::EA_INODE;
        if inode.flags.has(fixed) {
            return Err(Refusal::NotPermitted.into());
        }
        // Data is written without a handle, which would say so.
        if !self.is_writable() {
            return Err(Refusal::ReadOnly.into());
        }
        Ok(())
    }
}

/// Takes set-user-id away, and set-group-id where the group may execute: without that it means
/// mandatory locking.
pub(super) fn strip_set_id(inode: &mut Inode) {
    inode.permissions &= !S_ISUID;
    if inode.permissions & S_IXGRP != 0 {
        inode.permissions &= !S_ISGID;
    }
}
