//! The locks that verbs take first. A thread that may not wait only tries to: its verb fails then
//! with `WouldBlock`, see [`crate::device::BlockDevice::may_wait`].

use parking_lot::MutexGuard;

use crate::device;
use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{ReadGuard, WriteGuard};

impl Filesystem {
    /// Nobody else uses `nr` meanwhile.
    ///
    /// # Errors
    /// `WouldBlock`.
    pub(super) fn lock(&self, nr: InodeNr) -> Result<WriteGuard> {
        let (device, locks) = (self.volume.source().device(), &self.volume.locks);
        device::acquire(&**device, locks.try_write(nr), || locks.write(nr))
    }

    /// Nobody changes `nr` meanwhile.
    ///
    /// # Errors
    /// `WouldBlock`.
    pub(super) fn lock_shared(&self, nr: InodeNr) -> Result<ReadGuard> {
        let (device, locks) = (self.volume.source().device(), &self.volume.locks);
        device::acquire(&**device, locks.try_read(nr), || locks.read(nr))
    }

    /// As [`Filesystem::lock`] for all of `nrs`, each once, in ascending order.
    ///
    /// # Errors
    /// `WouldBlock`.
    pub(super) fn lock_all(&self, nrs: &[InodeNr]) -> Result<Vec<WriteGuard>> {
        let mut sorted = nrs.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        sorted.into_iter().map(|nr| self.lock(nr)).collect()
    }

    /// No directory moves in the tree meanwhile. Taken before any inode's lock.
    ///
    /// # Errors
    /// `WouldBlock`.
    pub(super) fn lock_tree(&self) -> Result<MutexGuard<'_, ()>> {
        let (device, renames) = (self.volume.source().device(), &self.volume.renames);
        device::acquire(&**device, renames.try_lock(), || renames.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{filesystem, mkfs, volume_on};

    #[test]
    fn the_same_inode_twice_is_locked_once() {
        let filesystem = filesystem(volume_on(&mkfs(4096, &["-t", "ext4"])));
        let (a, b) = (InodeNr::new(12), InodeNr::new(76));
        assert_eq!(filesystem.lock_all(&[b, a, b]).unwrap().len(), 2);
    }
}
