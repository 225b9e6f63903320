//! copy_file_range(2).

use super::change::changed;
use crate::caller::Caller;
use crate::error::{Refusal, Result};
use crate::file;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;

impl Filesystem {
    /// Copies up to `len` bytes from byte `source.1` of a regular file to byte `target.1` of another
    /// or the same one, as far as the source has them, and returns how many.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for ranges of one file that overlap; those of [`Filesystem::write`].
    pub fn copy_file_range(
        &self,
        caller: &Caller,
        source: (InodeNr, u64),
        target: (InodeNr, u64),
        len: u64,
    ) -> Result<u64> {
        let apart = source.1.abs_diff(target.1) >= len;
        if source.0 == target.0 && !apart {
            return Err(Refusal::Invalid.into());
        }
        let _locks = self.lock_all(&[source.0, target.0])?;
        let from = self.inode(source.0)?;
        let mut to = (*self.inode(target.0)?).clone();
        self.open_regular(&from)?;
        self.changeable(&to)?;
        let who = self.privilege(caller);
        changed(&mut to, caller.now);
        let copied = file::copy(&self.volume, (&from, source.1), (&mut to, target.1), len, who)?;
        if copied > 0 {
            self.store(&to)?;
        }
        Ok(copied)
    }
}
