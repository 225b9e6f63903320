//! Handles: the only way to change metadata.
//!
//! A verb begins one handle, makes all its changes through it and stops it: either all of them are in
//! one transaction or, after a crash, none. A handle that is dropped after it changed something and
//! before it was stopped aborts the journal, because half an update must never be committed.
//! # Locking
//! Rank "open handle": taken after inode locks, before any lock of maps, groups and blocks. A
//! closure given to [`Handle::edit`] runs under the block's lock and must not touch the volume.
//! Kernel: fs/jbd2/transaction.c, fs/ext4/ext4_jbd2.c

#[cfg(test)]
use core::panic::Location;

use crate::device::would_wait;
use crate::disk::superblock::RawSuperblock;
use crate::error::{Refusal, Result};
use crate::ids::{BlockNr, Tid, in_memory};
use crate::journal::{Begun, Changes};
use crate::quota::{self, Claim};
use crate::volume::Volume;

/// How many blocks a handle may change: the sum is derived beside each verb. A freed block counts only
/// where its block of the bitmap and the like change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Credits(pub(crate) u32);

/// An open handle on the running transaction.
#[derive(Debug)]
pub(crate) struct Handle<'v> {
    volume: &'v Volume,
    tid: Tid,
    credits: u32,
    used: u32,
    changes: Changes,
    /// Something was changed, and it is not all yet.
    is_half_done: bool,
    claim: Option<Claim<'v>>,
    #[cfg(test)]
    begun_at: &'static Location<'static>,
}

impl Volume {
    /// Begins a handle that may change up to `credits` blocks. Waits while the journal has no room.
    /// A thread has one handle at a time.
    ///
    /// # Errors
    /// [`crate::Refusal::ReadOnly`], [`crate::Refusal::Aborted`]; I/O errors of a commit that had to
    /// come first; `WouldBlock` where this thread may not wait, see
    /// [`crate::device::BlockDevice::may_wait`].
    #[cfg_attr(test, track_caller)]
    pub(crate) fn begin(&self, credits: Credits) -> Result<Handle<'_>> {
        // Whatever a verb changes, its owners are charged for.
        let credits = Credits(credits.0.saturating_add(quota::surcharge(self).0));
        loop {
            let device = self.source().device();
            match self.journal().begin(credits.0, || device.may_wait())? {
                Begun::Open(tid) => {
                    let handle = Handle {
                        volume: self,
                        tid,
                        credits: credits.0,
                        used: 0,
                        changes: Changes::default(),
                        is_half_done: false,
                        claim: None,
                        #[cfg(test)]
                        begun_at: Location::caller(),
                    };
                    return if device.decide() { Ok(handle) } else { Err(would_wait()) };
                }
                Begun::Full(tid) => drop(self.commit(tid)?),
            }
        }
    }
}

impl<'v> Handle<'v> {
    /// The volume that is changed.
    pub(crate) fn volume(&self) -> &'v Volume {
        self.volume
    }

    /// Takes along what was claimed: what is charged in this handle is taken from it.
    pub(crate) fn with(mut self, claim: Claim<'v>) -> Self {
        self.claim = Some(claim);
        self
    }

    /// The claim that came along.
    pub(crate) fn claim(&mut self) -> Option<&mut Claim<'v>> {
        self.claim.as_mut()
    }

    /// The transaction that the changes are in: durable once [`Volume::committed_tid`] reaches it.
    pub(crate) fn tid(&self) -> Tid {
        self.tid
    }

    /// Changes the metadata block `nr`: `edit` gets a copy of the newest version, which becomes the
    /// block's content when it succeeds. The caller keeps checksums inside the block right. Also for
    /// blocks of journalled data.
    ///
    /// # Errors
    /// Those of `edit` (nothing has changed then) and of reading the block.
    pub(crate) fn edit<T>(
        &mut self,
        nr: BlockNr,
        edit: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<T> {
        self.volume.check_range(nr, 1)?;
        let (value, is_first) = self.volume.blocks().edit(nr, self.tid, edit)?;
        self.note(nr, is_first);
        Ok(value)
    }

    /// As [`Handle::edit`], for a block that was just allocated: it starts as zeros and is not read.
    ///
    /// # Errors
    /// As [`Handle::edit`].
    pub(crate) fn create<T>(
        &mut self,
        nr: BlockNr,
        fill: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<T> {
        self.volume.check_range(nr, 1)?;
        let mut bytes = vec![0; in_memory(self.volume.block_size().into())].into_boxed_slice();
        let value = fill(&mut bytes).map_err(|error| error.at_block(nr))?;
        let is_first = self.volume.blocks().replace(nr, self.tid, bytes);
        self.note(nr, is_first);
        Ok(value)
    }

    /// Changes the superblock, whose block no pointer may lead to, and makes its checksum right.
    ///
    /// # Errors
    /// As [`Handle::edit`].
    pub(crate) fn edit_superblock<T>(
        &mut self,
        edit: impl FnOnce(&mut RawSuperblock) -> T,
    ) -> Result<T> {
        // No pointer may name the superblock's block, so that `edit` would refuse it.
        let superblock = &self.volume.superblock;
        let nr = superblock.block();
        let edit = |bytes: &mut [u8]| superblock.edit(bytes, edit);
        let (value, is_first) = self.volume.blocks().edit(nr, self.tid, edit)?;
        self.note(nr, is_first);
        Ok(value)
    }

    /// `count` blocks of metadata from `nr` on are freed: no older copy of them in the log may be
    /// replayed over what they hold next (a revoke record). Also for blocks of journalled data.
    ///
    /// # Errors
    /// [`crate::CorruptKind::BlockRange`].
    pub(crate) fn forget(&mut self, nr: BlockNr, count: u32) -> Result<()> {
        self.volume.check_range(nr, count.into())?;
        self.is_half_done = true;
        let logged = self.volume.journal().has_log();
        for offset in 0..count {
            let Some(nr) = nr.checked_add(offset.into()) else { break };
            if logged {
                self.volume.blocks().forget(nr, self.tid);
                self.changes.revoked.push(nr);
            } else {
                self.volume.blocks().drop_now(nr);
            }
        }
        Ok(())
    }

    fn note(&mut self, nr: BlockNr, is_first: bool) {
        self.is_half_done = true;
        if is_first {
            self.used = self.used.saturating_add(1);
            self.changes.blocks.push(nr);
        }
    }

    /// Ends the handle: its changes will be committed together.
    ///
    /// # Errors
    /// [`crate::Refusal::Aborted`].
    pub(crate) fn stop(mut self) -> Result<()> {
        self.is_half_done = false;
        #[cfg(test)]
        assert!(
            self.used <= self.credits || !self.volume.journal().has_log(),
            "the handle begun at {} changed {} blocks with {} credits",
            self.begun_at,
            self.used,
            self.credits
        );
        if self.volume.journal().is_aborted() {
            return Err(Refusal::Aborted.into());
        }
        Ok(())
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        // Before it is let go: a commit that waits for it must not take the half it did.
        let aborted = self.is_half_done && self.volume.journal().abort();
        let changes = core::mem::take(&mut self.changes);
        self.volume.journal().stop(self.credits, changes);
        if aborted {
            self.volume.record_abort(&Refusal::Aborted.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InodeNr;
    use crate::inode;
    use crate::testing::{fsck, mkfs, volume_on};

    #[test]
    fn a_changed_inode_is_what_the_next_reader_sees_and_what_the_disk_gets() {
        let device = mkfs(4096, &["-t", "ext4"]);
        let volume = volume_on(&device);
        let mut root = (*inode::get(&volume, InodeNr::ROOT).unwrap()).clone();
        root.uid = 0x1_2345;
        let mut handle = volume.begin(Credits(1)).unwrap();
        inode::store(&mut handle, &root).unwrap();
        handle.stop().unwrap();
        assert_eq!(inode::get(&volume, InodeNr::ROOT).unwrap().uid, 0x1_2345);
        fsck(&volume, &device);
        let again = volume_on(&device);
        assert_eq!(inode::get(&again, InodeNr::ROOT).unwrap().uid, 0x1_2345);
    }
}
