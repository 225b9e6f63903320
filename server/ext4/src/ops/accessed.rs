//! Access times. The kernel sends reads only for what it has not cached, and leaves their times to
//! the server.
//!
//! Kernel: fs/inode.c `atime_needs_update`, `relatime_need_update`

use crate::error::{Error, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::Credits;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags, Timestamp};
use crate::rules::Atime;

const DAY: i64 = 24 * 60 * 60;

impl Filesystem {
    /// `inode` was read at `now`. Whether its access time changes is for the mount's options to say;
    /// that it could not be written is nothing that a reader needs to know. Who may not wait does not
    /// change it: its verb is to be called again.
    pub fn accessed(&self, inode: &Inode, now: Timestamp) {
        if !self.is_writable() || !self.is_due(inode, now) {
            return;
        }
        if !self.volume.source().device().may_wait() {
            return;
        }
        if let Err(error) = self.set_atime(inode.nr, now) {
            self.volume.notice(error);
        }
    }

    /// Writes the access times that wait for it (`lazytime`).
    ///
    /// # Errors
    /// `ReadOnly`; corruption and I/O errors.
    pub(super) fn flush_times(&self) -> Result<()> {
        for nr in self.volume.lazy.all() {
            self.flush_time(nr)?;
        }
        Ok(())
    }

    /// The same for one inode.
    pub(super) fn flush_time(&self, nr: InodeNr) -> Result<()> {
        let _lock = self.lock(nr)?;
        if !self.volume.lazy.has(nr) {
            return Ok(());
        }
        match inode::get(&self.volume, nr) {
            Ok(inode) => self.store_atime(&inode),
            Err(Error::Refused(Refusal::Stale)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn is_due(&self, inode: &Inode, now: Timestamp) -> bool {
        let rules = &self.volume.rules;
        if inode.flags.has(InodeFlags::NOATIME) || rules.no_directory_atime && inode.is_directory()
        {
            return false;
        }
        let before = inode.atime;
        match rules.atime {
            Atime::Never => false,
            Atime::Always => before != now,
            Atime::Relative => {
                inode.mtime >= before
                    || inode.ctime >= before
                    || now.seconds.saturating_sub(before.seconds) >= DAY
            }
        }
    }

    fn set_atime(&self, nr: InodeNr, now: Timestamp) -> Result<()> {
        let _lock = self.lock(nr)?;
        let mut inode = (*inode::get(&self.volume, nr)?).clone();
        if !self.is_due(&inode, now) {
            return Ok(());
        }
        inode.atime = now;
        if self.volume.rules.lazytime && inode::set_atime_lazily(&self.volume, &inode) {
            return Ok(());
        }
        self.store_atime(&inode)
    }

    fn store_atime(&self, inode: &Inode) -> Result<()> {
        let mut handle = self.volume.begin(Credits(1))?;
        inode::store_atime(&mut handle, inode)?;
        handle.stop()
    }
}

#[cfg(test)]
#[path = "accessed_tests.rs"]
mod tests;
