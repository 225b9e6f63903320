//! Directories that live in their inode: 60 bytes of i_block and the value of `system.data`.
//!
//! The first four bytes name the parent; "." and ".." are not stored. Entries fill the rest of
//! i_block and, as a second stretch, the value.
//! Kernel: fs/ext4/inline.c `ext4_read_inline_dir`, `ext4_find_inline_entry`

use core::ops::ControlFlow;

use super::block::Directory;
use super::hash::Hasher;
use super::linear::Part;
use super::order::{self, Cursor};
use super::{DirEntry, Emit, Wanted};
use crate::disk::dirent::Entries;
use crate::error::Result;
use crate::features::Incompat;
use crate::ids::InodeNr;
use crate::inode::FileKind;
use crate::map::inline::{self, Inline};

/// Where ".." would stand in a block, and the first entry behind it: the cookies after "." and "..".
const DOTDOT_COOKIE: u64 = 12;
const FIRST_COOKIE: u64 = 24;
/// As far behind as the second stretch is.
const SECOND_COOKIE: u64 = 24 + 56;

/// The content of an inline directory.
pub(super) struct InlineDir<'a> {
    dir: &'a Directory<'a>,
    parent: InodeNr,
    /// The two stretches of entries, and the cookie each starts at in disk order.
    parts: [(Entries<'a>, u64); 2],
}

impl<'a> InlineDir<'a> {
    /// The content of `dir`, or `None` if it has blocks.
    pub(super) fn of(dir: &'a Directory<'a>) -> Result<Option<Self>> {
        let Some(Inline { head, tail }) = inline::of(&dir.volume.geometry, dir.inode)? else {
            return Ok(None);
        };
        let (parent, first) = head.split_first_chunk().unwrap_or((&[0; 4], &[]));
        let entries = |bytes| Entries::new(dir.layout, bytes);
        Ok(Some(Self {
            dir,
            parent: InodeNr::new(u32::from_le_bytes(*parent)),
            parts: [(entries(first), FIRST_COOKIE), (entries(tail), SECOND_COOKIE)],
        }))
    }

    pub(super) fn parent(&self) -> InodeNr {
        self.parent
    }

    pub(super) fn find(&self, wanted: &Wanted<'_>) -> Result<Option<InodeNr>> {
        self.find_by(|name| wanted.matches(name))
    }

    /// Whether no name is in it.
    pub(super) fn is_empty(&self) -> Result<bool> {
        self.find_by(|_| true).map(|found| found.is_none())
    }

    fn find_by(&self, is_it: impl Fn(&[u8]) -> bool) -> Result<Option<InodeNr>> {
        for entry in self.parts.clone().into_iter().flat_map(|(entries, _)| entries) {
            let entry = entry.map_err(|error| error.at_inode(self.dir.inode.nr))?;
            if entry.inode.get() != 0 && is_it(entry.name) {
                return Ok(Some(entry.inode));
            }
        }
        Ok(None)
    }

    /// Emits entries in hash order, with `hasher`, or in disk order. In the latter, cookies are the
    /// offsets that entries would have behind "." and "..", as in the kernel.
    pub(super) fn iterate(
        &self,
        hasher: Option<Hasher>,
        cookie: u64,
        emit: &mut Emit<'_>,
    ) -> Result<()> {
        let first = if hasher.is_some() { [1, 2] } else { [DOTDOT_COOKIE, FIRST_COOKIE] };
        if self.list_dots(first, cookie, emit).is_break() {
            return Ok(());
        }
        let Some(hasher) = hasher else {
            for (entries, start) in self.parts.clone() {
                let part = Part { entries, start, block: None };
                if part.list(self.dir, cookie, emit).is_break() {
                    break;
                }
            }
            return Ok(());
        };
        let mut cursor = Cursor::new(cookie);
        order::list(self.dir, &hasher, &mut cursor, emit, &mut |batch| {
            for (entries, _) in self.parts.clone() {
                batch.add(entries, 0, order::LAST, None);
            }
            Ok(())
        })
        .map(drop)
    }

    fn list_dots(&self, after: [u64; 2], cookie: u64, emit: &mut Emit<'_>) -> ControlFlow<()> {
        let filetype = self.dir.volume.geometry.features.incompat.contains(Incompat::FILETYPE);
        let kind = filetype.then_some(FileKind::Directory);
        let names: [(&[u8], _); 2] = [(b".", self.dir.inode.nr), (b"..", self.parent())];
        for ((name, inode), after) in names.into_iter().zip(after) {
            if cookie < after {
                emit(DirEntry { inode, kind, name, cookie: after })?;
            }
        }
        ControlFlow::Continue(())
    }
}
