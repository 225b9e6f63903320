//! sync, the end of a mount, and what a thread of the caller's does for the journal meanwhile.
//!
//! Kernel: fs/ext4/super.c `ext4_sync_fs`, `ext4_put_super`

use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, Refusal, Result};
use crate::filesystem::{ErrorPolicy, Filesystem};
use crate::ids::InodeNr;
use crate::superblock::STATE_VALID;

impl Filesystem {
    /// Makes durable whatever was done before this call.
    ///
    /// # Errors
    /// [`crate::Refusal::Aborted`]; I/O errors.
    pub fn sync(&self) -> Result<()> {
        self.check_claim()?;
        if !self.is_writable() {
            return self.check_closed();
        }
        self.flush_times()?;
        self.volume.sync()
    }

    /// Commits what was changed and writes it to its place, so that nothing of it has to stay in memory.
    ///
    /// # Errors
    /// As [`Filesystem::sync`].
    pub fn write_home(&self) -> Result<()> {
        self.check_claim()?;
        if !self.is_writable() {
            return Ok(());
        }
        self.volume.write_home()
    }

    /// What was not durable when an error stopped writing never will be.
    fn check_closed(&self) -> Result<()> {
        let stopped = self.volume.journal().is_aborted() && !self.closed.load(Ordering::Acquire);
        if stopped { Err(Refusal::Aborted.into()) } else { Ok(()) }
    }

    /// Stops all writing if another node has taken the file system.
    fn check_claim(&self) -> Result<()> {
        let Some(error) = self.claim.as_ref().and_then(|claim| claim.0.loss()) else {
            return Ok(());
        };
        // Not even the error is recorded: the device is the other node's.
        self.volume.journal().abort();
        Err(error)
    }

    /// Makes `nr` durable, content and attributes, whoever changed them. With `data_only`, times need
    /// not be.
    ///
    /// # Errors
    /// As [`Filesystem::sync`].
    pub fn fsync(&self, nr: InodeNr, data_only: bool) -> Result<()> {
        if !self.is_writable() {
            return self.check_closed();
        }
        if !data_only && self.volume.lazy.has(nr) {
            self.flush_time(nr)?;
        }
        match self.volume.changed.last(nr, data_only) {
            Some(tid) => self.volume.fsync(tid),
            None if self.volume.journal().has_log() => self.volume.flush(),
            None => self.volume.sync(),
        }
    }

    /// Whether this mount writes: not read-only, and not stopped by an error.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.volume.journal().is_writable()
    }

    /// Commits what is older than the commit interval or what someone waits for. When to call again,
    /// at the latest.
    ///
    /// # Errors
    /// [`crate::Refusal::Aborted`]; I/O errors, after which nothing can be written any more.
    pub fn commit_if_due(&self, now: Instant) -> Result<Instant> {
        self.check_claim()?;
        self.volume.commit_if_due(now, self.writing.commit_interval)
    }

    /// Commits when it is due, until the mount is not writable any more: for a thread of its own.
    ///
    /// # Errors
    /// As [`Filesystem::commit_if_due`].
    pub fn run_commits(&self) -> Result<()> {
        while self.is_writable() {
            let next = self.commit_if_due(Instant::now())?;
            self.discard_freed()?;
            if self.volume.lazy.is_due() {
                self.flush_times()?;
            }
            self.volume.journal().wait_until(next);
        }
        Ok(())
    }

    /// Records an error that a verb met, and says what is to be done; [`ErrorPolicy::ReadOnly`] has
    /// been done then.
    pub fn record_error(&self, error: &Error) -> ErrorPolicy {
        let policy = self.error_policy();
        if !error.is_recorded() {
            return policy;
        }
        if !self.is_writable() {
            self.volume.superblock.see(error);
            return policy;
        }
        match policy {
            ErrorPolicy::Continue => self.volume.note_error(error),
            ErrorPolicy::ReadOnly | ErrorPolicy::Panic => self.volume.abort(error),
        }
        policy
    }

    /// What is to be done after an error.
    #[must_use]
    pub fn error_policy(&self) -> ErrorPolicy {
        self.writing.errors.unwrap_or(match self.facts.errors {
            2 => ErrorPolicy::ReadOnly,
            3 => ErrorPolicy::Panic,
            _ => ErrorPolicy::Continue,
        })
    }

    /// Ends the mount: everything is home, the log is empty, and the superblock says so. No verb may
    /// be under way; none that writes works afterwards. Nothing is done if an error stopped writing:
    /// the next mount replays the log.
    ///
    /// # Errors
    /// I/O errors; the next mount replays the log then.
    pub fn unmount(&self) -> Result<()> {
        let result = if self.is_writable() { self.close_journal() } else { Ok(()) };
        let given_up = self.claim.as_ref().map_or(Ok(()), |claim| claim.0.end());
        result.and(given_up)
    }

    fn close_journal(&self) -> Result<()> {
        self.check_claim()?;
        let volume = &self.volume;
        self.flush_times()?;
        volume.write_home()?;
        self.discard_freed()?;
        volume.aborting(volume.journal().empty(volume.blocks()))?;
        let was_valid = self.facts.state & STATE_VALID != 0;
        let orphans = volume.orphans.len() > 0;
        let result = volume.aborting(volume.write_superblock(|raw| raw.close(was_valid, orphans)));
        self.closed.store(result.is_ok(), Ordering::Release);
        volume.journal().abort();
        result
    }
}
