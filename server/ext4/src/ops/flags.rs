//! Inode flags, project and generation: what chattr(1) and its like set.
//!
//! Kernel: fs/ext4/ioctl.c `ext4_fileattr_set`, `ext4_ioctl_setflags`, `ext4_ioctl_setproject`

use core::ops::ControlFlow;
use std::sync::Arc;

use crate::caller::Caller;
use crate::dir;
use crate::disk::inode as disk;
use crate::error::{Refusal, Result};
use crate::features::{Incompat, RoCompat};
use crate::filesystem::Filesystem;
use crate::geometry::EXTRA_ISIZE;
use crate::ids::InodeNr;
use crate::inode::{FileKind, Inode, InodeFlags};

impl Filesystem {
    /// Sets the flags of `nr` that FS_IOC_SETFLAGS may change; `flags` are all that it shall have,
    /// others that can be seen are ignored. Who may touch immutable and append-only is the kernel's
    /// to say.
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] for flags that are not known, not for this kind of file, or would
    /// change how content is mapped; `NotPermitted` on an inode that stays immutable, and
    /// for data journalling unless root asks; `NotDirectory` and `NotEmpty` for case folding;
    /// `ReadOnly`, `Stale`; corruption and I/O errors.
    pub fn set_flags(&self, caller: &Caller, nr: InodeNr, flags: InodeFlags) -> Result<Arc<Inode>> {
        self.set_fileattr(caller, nr, flags, None)
    }

    /// Sets flags and project at once, as FS_IOC_FSSETXATTR does. `flags` are all that the inode
    /// shall have: whoever knows only some keeps the others.
    ///
    /// # Errors
    /// As [`Filesystem::set_flags`]; `NotSupported` for a project where none can be stored; `Quota`.
    pub fn set_fileattr(
        &self,
        caller: &Caller,
        nr: InodeNr,
        flags: InodeFlags,
        project: Option<u32>,
    ) -> Result<Arc<Inode>> {
        let _lock = self.lock(nr)?;
        let old = self.inode(nr)?;
        if !flags.without(InodeFlags::USER_VISIBLE).is_empty() {
            return Err(Refusal::NotSupported.into());
        }
        let wanted = flags.bits() & InodeFlags::USER_MODIFIABLE;
        if InodeFlags::new(wanted).for_kind(old.kind).bits() != wanted {
            return Err(Refusal::NotSupported.into());
        }
        let project = project.unwrap_or(old.project);
        let before = old.flags.bits() & InodeFlags::USER_MODIFIABLE;
        let changed = InodeFlags::new(before ^ wanted);
        let stays_immutable = before & wanted & InodeFlags::IMMUTABLE != 0;
        if stays_immutable && (!changed.is_empty() || project != old.project) {
            return Err(Refusal::NotPermitted.into());
        }
        self.check_flags(caller, &old, changed)?;
        if project != old.project {
            self.check_project(&old)?;
        }
        if changed.has(InodeFlags::JOURNAL_DATA) && old.kind == FileKind::Regular {
            // No copy of the content may be in the log when it is written past it.
            self.volume.write_home()?;
        }
        let mut inode = (*old).clone();
        inode.flags = old.flags.without(InodeFlags::USER_MODIFIABLE).with(wanted);
        inode.project = project;
        self.apply(caller, inode, None, &[])
    }

    /// Sets i_generation of `nr` (FS_IOC_SETVERSION).
    ///
    /// # Errors
    /// [`Refusal::NotSupported`] with metadata checksums, of which the generation is a part;
    /// `NotPermitted` for immutable inodes; `ReadOnly`, `Stale`; corruption and I/O errors.
    pub fn set_generation(
        &self,
        caller: &Caller,
        nr: InodeNr,
        generation: u32,
    ) -> Result<Arc<Inode>> {
        let _lock = self.lock(nr)?;
        let geometry = &self.volume.geometry;
        if geometry.features.metadata_csum() {
            return Err(Refusal::NotSupported.into());
        }
        let mut inode = (*self.inode(nr)?).clone();
        if inode.flags.has(InodeFlags::IMMUTABLE) {
            return Err(Refusal::NotPermitted.into());
        }
        inode.generation = generation;
        inode.checksum_seed = disk::seed(geometry.checksum_seed, nr, generation);
        self.apply(caller, inode, None, &[])
    }

    fn check_flags(&self, caller: &Caller, old: &Inode, changed: InodeFlags) -> Result<()> {
        if changed.has(InodeFlags::JOURNAL_DATA) && !caller.is_root() {
            return Err(Refusal::NotPermitted.into());
        }
        // Both maps can be written; turning one into the other is e2fsck's or the kernel's.
        if changed.has(InodeFlags::EXTENTS) {
            return Err(Refusal::NotSupported.into());
        }
        if !changed.has(InodeFlags::CASEFOLD) {
            return Ok(());
        }
        if !self.volume.geometry.features.incompat.contains(Incompat::CASEFOLD) {
            return Err(Refusal::NotSupported.into());
        }
        if !old.is_directory() {
            return Err(Refusal::NotDirectory.into());
        }
        if !self.is_empty_directory(old)? {
            return Err(Refusal::NotEmpty.into());
        }
        Ok(())
    }

    fn is_empty_directory(&self, inode: &Inode) -> Result<bool> {
        let mut empty = true;
        dir::iterate(&self.volume, inode, 0, &mut |entry| {
            if matches!(entry.name, b"." | b"..") {
                return ControlFlow::Continue(());
            }
            empty = false;
            ControlFlow::Break(())
        })?;
        Ok(empty)
    }

    /// Whether the inode can have a project (`ext4_ioctl_setproject`).
    fn check_project(&self, inode: &Inode) -> Result<()> {
        let geometry = &self.volume.geometry;
        let fixed = disk::FIXED.saturating_add(EXTRA_ISIZE.into());
        let fits = inode.tail.len().saturating_add(fixed) <= geometry.inode_size.into();
        if geometry.features.ro_compat.contains(RoCompat::PROJECT) && fits {
            return Ok(());
        }
        Err(Refusal::NotSupported.into())
    }
}
