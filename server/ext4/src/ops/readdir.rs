//! The names in a directory.

use core::ops::ControlFlow;

pub use crate::dir::DirEntry;

use crate::dir;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::inode::Inode;

impl Filesystem {
    /// Emits the entries of `dir` after `cookie` (0: from the start, "." and ".." included) until
    /// `emit` breaks or there are no more.
    ///
    /// # Errors
    /// [`crate::Refusal::NotDirectory`]; corruption and I/O errors. An error behind entries that were
    /// emitted is left to the next call, which meets it first.
    pub fn readdir(
        &self,
        dir: &Inode,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        if !dir.is_directory() {
            return Err(Refusal::NotDirectory.into());
        }
        let mut emitted = false;
        let result = dir::iterate(&self.volume, dir, cookie, &mut |entry| {
            emitted = true;
            emit(entry)
        });
        if emitted { Ok(()) } else { result }
    }
}
