//! What is refused already when a file is opened.

use crate::alloc;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{FileKind, Inode, InodeFlags};

/// What a file is opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Reading only.
    Read,
    /// Writing at its end, and reading.
    Append,
    /// Writing anywhere, and reading.
    Write,
}

impl Filesystem {
    /// Checks that `inode`'s content can be used as wanted.
    ///
    /// # Errors
    /// [`Refusal::NoKey`] for encrypted regular files: keys stay with the kernel.
    /// [`Refusal::NotPermitted`] for writing what is immutable, append-only or under verity;
    /// [`Refusal::ReadOnly`].
    pub fn open(&self, inode: &Inode, how: Open) -> Result<()> {
        if inode.kind == FileKind::Regular && inode.flags.has(InodeFlags::ENCRYPT) {
            return Err(Refusal::NoKey.into());
        }
        let fixed = match how {
            Open::Read => return Ok(()),
            Open::Append => InodeFlags::IMMUTABLE | InodeFlags::VERITY,
            Open::Write => InodeFlags::IMMUTABLE | InodeFlags::VERITY | InodeFlags::APPEND,
        };
        if inode.flags.has(fixed) {
            return Err(Refusal::NotPermitted.into());
        }
        if !self.is_writable() {
            return Err(Refusal::ReadOnly.into());
        }
        Ok(())
    }

    /// A file is closed: blocks that were set aside for its growth are anybody's again.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn close(&self, nr: InodeNr) -> Result<()> {
        if self.is_writable() { alloc::release(&self.volume, nr) } else { Ok(()) }
    }

    /// Checks that `inode` is a regular file whose content can be read.
    pub(super) fn open_regular(&self, inode: &Inode) -> Result<()> {
        match inode.kind {
            FileKind::Regular => self.open(inode, Open::Read),
            FileKind::Directory => Err(Refusal::IsDirectory.into()),
            _ => Err(Refusal::Invalid.into()),
        }
    }
}
