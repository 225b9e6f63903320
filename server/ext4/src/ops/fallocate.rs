//! Space for a file is set aside, given back, or made zeros.

use super::change::changed;
use crate::caller::Caller;
use crate::error::{Refusal, Result};
use crate::file::{self, KeepSize};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;

/// What fallocate(2) does; collapsing and inserting ranges never reach a FUSE server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fallocate {
    /// Backs the range with blocks.
    Allocate(KeepSize),
    /// FALLOC_FL_PUNCH_HOLE, which keeps the size.
    PunchHole,
    /// FALLOC_FL_ZERO_RANGE.
    ZeroRange(KeepSize),
}

impl Filesystem {
    /// Changes how the `len` bytes from `offset` of a regular file on are backed. Set-id bits stay: the
    /// kernel has taken them from whoever may not keep them (`file_modified`).
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for no bytes; [`Refusal::TooBig`], `NoSpace`, `Quota`,
    /// [`Refusal::NotSupported`] where the file has no extents; `NotPermitted`, `NoKey`,
    /// `IsDirectory`; corruption and I/O errors.
    pub fn fallocate(
        &self,
        caller: &Caller,
        nr: InodeNr,
        what: Fallocate,
        (offset, len): (u64, u64),
    ) -> Result<()> {
        let end = offset.checked_add(len).ok_or(Refusal::TooBig)?;
        if len == 0 {
            return Err(Refusal::Invalid.into());
        }
        let _lock = self.lock(nr)?;
        let mut inode = (*self.inode(nr)?).clone();
        self.changeable(&inode)?;
        let who = self.privilege(caller);
        changed(&mut inode, caller.now);
        let (volume, range) = (&self.volume, offset..end);
        match what {
            Fallocate::Allocate(keep) => file::allocate(volume, &mut inode, who, range, keep),
            Fallocate::PunchHole => {
                file::punch(volume, &mut inode, who, range)?;
                self.store(&inode)
            }
            Fallocate::ZeroRange(keep) => file::zero_range(volume, &mut inode, who, range, keep),
        }
    }
}
