//! A file gets another size.

use std::sync::Arc;

use super::change::changed;
use crate::caller::Caller;
use crate::error::Result;
use crate::file;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{self, Inode};

impl Filesystem {
    /// Gives a regular file `size` bytes. Its times change if the size does; blocks behind the end go
    /// in any case.
    ///
    /// # Errors
    /// [`crate::Refusal::TooBig`], `NoSpace`, `Quota`, `NotPermitted`, `NoKey`, `IsDirectory`,
    /// `Invalid`; corruption and I/O errors.
    pub fn truncate(&self, caller: &Caller, nr: InodeNr, size: u64) -> Result<Arc<Inode>> {
        self.drop_capability(caller, nr)?;
        let _lock = self.lock(nr)?;
        let mut inode = (*self.inode(nr)?).clone();
        self.changeable(&inode)?;
        if size != inode.size {
            changed(&mut inode, caller.now);
        }
        file::truncate(&self.volume, &mut inode, self.privilege(caller), size)?;
        inode::get(&self.volume, nr)
    }
}
