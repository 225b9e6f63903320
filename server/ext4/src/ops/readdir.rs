//! The names in a directory.

use core::ops::ControlFlow;

use crate::error::Result;
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::{FileKind, Inode};

/// One name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// The inode it names.
    pub inode: InodeNr,
    /// What that is, if the directory says (filetype).
    pub kind: Option<FileKind>,
    /// 1..=255 bytes.
    pub name: &'a [u8],
    /// Where to go on after this entry: stable while the entry's neighbours come and go.
    pub cookie: u64,
}

impl Filesystem {
    /// Emits the entries of `dir` after `cookie` (0: from the start, "." and ".." included) until
    /// `emit` breaks or there are no more.
    ///
    /// # Errors
    /// [`crate::Refusal::NotDirectory`]; corruption and I/O errors.
    pub fn readdir(
        &self,
        dir: &Inode,
        cookie: u64,
        emit: &mut dyn FnMut(DirEntry<'_>) -> ControlFlow<()>,
    ) -> Result<()> {
        let _ = (dir, cookie, emit);
        unimplemented!()
    }
}
