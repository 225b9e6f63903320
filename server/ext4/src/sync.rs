//! Making changes durable: commits, the superblock's part in them, and what happens when they fail.
//!
//! The engine has no threads: whoever needs a commit makes it, and a thread of the caller's calls
//! [`Volume::commit_if_due`].
//! Kernel: fs/ext4/fsync.c, fs/ext4/super.c `ext4_handle_error`, fs/jbd2/journal.c `kjournald2`

use std::time::{Duration, Instant};

use crate::alloc;
use crate::cache::{Ahead, Block};
use crate::device::would_wait;
use crate::disk::superblock::RawSuperblock;
use crate::error::{Error, IoOp, Place, Refusal, Result};
use crate::ids::{BlockNr, Tid};
use crate::journal::{Checkpoint, IDLE};
use crate::volume::Volume;

/// EIO, as the log's superblock and the kernel count.
const EIO: i32 = 5;
/// EUCLEAN (EFSCORRUPTED).
const EUCLEAN: i32 = 117;
/// EROFS: what an abort without a cause of its own is called.
const EROFS: i32 = 30;

impl Volume {
    /// The last transaction that no crash can undo. What was freed in it or before may be used again.
    pub(crate) fn committed_tid(&self) -> Tid {
        self.journal().committed()
    }

    /// The transaction that a handle would be opened on now.
    pub(crate) fn running_tid(&self) -> Tid {
        self.journal().running()
    }

    /// Sees to it that transaction `tid` is committed. True if the device was flushed meanwhile. Not
    /// while this thread has a handle open.
    ///
    /// # Errors
    /// [`Refusal::Aborted`]; I/O errors, by which the journal is aborted; `WouldBlock`, by which it is
    /// not, for who may not wait.
    pub(crate) fn commit(&self, tid: Tid) -> Result<bool> {
        self.must_wait()?;
        let result = self.journal().commit(self.blocks(), tid, |tid| self.fold(tid));
        self.aborting(result)
    }

    /// Makes durable what transaction `tid` and all writes before this call did.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub(crate) fn fsync(&self, tid: Tid) -> Result<()> {
        if !self.journal().has_log() {
            return self.write_home();
        }
        if self.committed_tid().reached(tid) || !self.commit(tid)? {
            return self.flush();
        }
        Ok(())
    }

    /// Makes everything durable.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub(crate) fn sync(&self) -> Result<()> {
        self.fsync(self.running_tid())
    }

    /// Does what is due: commits if the running transaction is older than `interval` or someone asked
    /// for it, writes home what should be, and makes durable what was written past the log, so that an
    /// idle file system is all on the device within seconds. When to ask again.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub(crate) fn commit_if_due(&self, now: Instant, interval: Duration) -> Result<Instant> {
        let later = |from: Instant, by| from.checked_add(by).unwrap_or(now);
        if !self.journal().has_log() {
            if self.has_unwritten() {
                self.write_home()?;
            }
            return Ok(later(now, interval));
        }
        let (since, wanted) = self.journal().age();
        let due = later(since.unwrap_or(now), interval);
        let commits = since.is_some() && (wanted || due <= now);
        if commits {
            self.commit(self.running_tid())?;
        }
        let what = Checkpoint::AsDue(now);
        let left = self.aborting(self.journal().checkpoint(self.blocks(), what))?;
        if since.is_none() && !left && self.superblock.is_unflushed() {
            // File data without any change to metadata: it was overwritten, with lazytime. While there are
            // commits, these flush.
            self.flush()?;
        }
        let next = if since.is_none() || commits { later(now, interval) } else { due };
        Ok(if left { next.min(later(now, IDLE)) } else { next })
    }

    /// Whether there is anything that the device does not hold, where there is no log.
    fn has_unwritten(&self) -> bool {
        let superblock = &self.superblock;
        !self.blocks().are_home() || superblock.is_waiting() || superblock.is_unflushed()
    }

    /// Writes all committed changes home, or all changes where there is no log.
    ///
    /// # Errors
    /// As [`Volume::commit`].
    pub(crate) fn write_home(&self) -> Result<()> {
        self.must_wait()?;
        if self.journal().has_log() {
            self.commit(self.running_tid())?;
            let what = Checkpoint::All;
            return self.aborting(self.journal().checkpoint(self.blocks(), what)).map(drop);
        }
        self.count_free();
        if self.superblock.is_waiting() {
            self.fold(self.running_tid())?;
        }
        self.aborting(self.journal().empty(self.blocks()))
    }

    /// Makes durable what was written past the log. An error ends all writing: whose data were lost, nobody
    /// knows, and some of them may belong to who asks later.
    ///
    /// # Errors
    /// I/O errors; `WouldBlock` for who may not wait.
    pub(crate) fn flush(&self) -> Result<()> {
        self.must_wait()?;
        self.aborting(self.blocks().flush())
    }

    /// Fails for who may not wait, before anything has begun that would fail for that half-way.
    fn must_wait(&self) -> Result<()> {
        if self.source().device().may_wait() { Ok(()) } else { Err(would_wait()) }
    }

    /// Notes an error to be recorded in the superblock with the next commit.
    pub(crate) fn note_error(&self, error: &Error) {
        if error.is_recorded() {
            self.superblock.note(error);
        }
    }

    /// Stops all writing because of `error`, and records that on the device as far as it takes it.
    /// Not while this thread has a handle open.
    pub(crate) fn abort(&self, error: &Error) {
        if self.journal().abort() {
            self.record_abort(error);
        }
    }

    /// The part of [`Volume::abort`] that writes.
    pub(crate) fn record_abort(&self, error: &Error) {
        self.superblock.note(error);
        let errno = match error {
            Error::Corrupt { .. } => EUCLEAN,
            Error::Io { .. } => EIO,
            Error::Refused(_) | Error::Unmountable(_) => EROFS,
        };
        // It has failed already; a device that takes nothing any more cannot be told more of it.
        let _ = self.journal().record_errno(errno);
        let _ = self.write_superblock(|_| ());
    }

    /// Passes `result` on; an error that is not yet the journal's own stops it. Not while this thread
    /// has a handle open.
    pub(crate) fn aborting<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result
            && !matches!(error, Error::Refused(Refusal::Aborted | Refusal::ReadOnly))
        {
            self.abort(error);
        }
        result
    }

    /// Takes over what the allocator knows to be free.
    fn count_free(&self) {
        if let Some(free) = alloc::totals(self) {
            let ratio = u64::from(self.geometry.cluster_blocks);
            let clusters = free.blocks.checked_div(ratio).unwrap_or(0);
            self.superblock.counters.set(clusters, free.inodes);
        }
    }

    /// Brings the superblock up to date in the transaction `tid`, which is being closed.
    fn fold(&self, tid: Tid) -> Result<Vec<BlockNr>> {
        self.count_free();
        if !self.superblock.is_waiting() {
            return Ok(Vec::new());
        }
        let nr = self.superblock.block();
        let edit = |bytes: &mut [u8]| self.superblock.edit(bytes, |raw| self.superblock.fold(raw));
        let ((), fresh) = self.blocks().edit(nr, tid, edit)?;
        Ok(if fresh { vec![nr] } else { Vec::new() })
    }

    /// Writes the superblock in place, as committed and with `edit`: at mount, at the end, and when
    /// the journal has stopped.
    ///
    /// # Errors
    /// I/O errors.
    pub(crate) fn write_superblock(&self, edit: impl FnOnce(&mut RawSuperblock)) -> Result<()> {
        self.count_free();
        let nr = self.superblock.block();
        let committed = self.blocks().committed_version(nr, self.committed_tid());
        let block = match committed {
            Some(version) => version.block,
            None => self.blocks().newest(nr, Ahead::NOTHING)?,
        };
        let mut bytes: Box<[u8]> = block.bytes().into();
        self.superblock.edit(&mut bytes, |raw| {
            self.superblock.fold(raw);
            edit(raw);
        })?;
        let byte = nr.get().saturating_mul(self.block_size().into());
        let fail = |source| Error::Io { op: IoOp::Write, place: Place::block(nr), source };
        self.source().device().write_through(byte, &bytes).map_err(fail)?;
        self.blocks().refresh(Block::new(nr, bytes));
        Ok(())
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
