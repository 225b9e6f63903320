//! Directories without an index, read from the first block to the last.
//!
//! Cookies are the byte offset of the next entry. A cookie that is inside an entry stands for the
//! entry after it, so that a directory may change (or a client may lie) between two calls.
//! Kernel: fs/ext4/dir.c `ext4_readdir`, fs/ext4/namei.c `__ext4_find_entry`

use core::ops::ControlFlow;
use std::sync::Arc;

use super::block::{DirBlock, Directory, Found};
use super::hash::DirHash;
use super::{DirEntry, Emit, Wanted, is_name, shown};
use crate::cache::Block;
use crate::disk::dirent::{self, Entries, Entry};
use crate::error::{CorruptKind, Error, Result};
use crate::ids::{BlockNr, LogicalBlock};

/// Searches every block. An error met on the way is the answer only if the name is nowhere: "not
/// found" must not be concluded from blocks that cannot be read.
pub(super) fn find(dir: &Directory<'_>, wanted: &Wanted<'_>) -> Result<Option<Found>> {
    let mut failed: Option<Error> = None;
    let mut walk = Walk::new(dir, 0);
    while let Some((at, block)) = walk.next_block()? {
        let found =
            dir.verify_entries_or_index(at, &block).and_then(|()| find_in(dir, at, &block, wanted));
        match found {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    failed.map_or(Ok(None), Err)
}

/// Searches one block of entries.
pub(super) fn find_in(
    dir: &Directory<'_>,
    at: LogicalBlock,
    block: &Block,
    wanted: &Wanted<'_>,
) -> Result<Option<Found>> {
    for entry in Entries::new(dir.layout, block.bytes()) {
        let entry = entry.map_err(|error| dir.located(error, block))?;
        if entry.inode.get() != 0 && wanted.matches(entry.name) {
            let Entry { inode, offset, .. } = entry;
            return Ok(Some(Found { inode, at, block: block.nr(), offset }));
        }
    }
    Ok(None)
}

/// Emits entries from byte `cookie` on. As in the kernel, holes are skipped, and so is the rest of a
/// block after a corrupt entry, which is noticed.
pub(super) fn iterate(dir: &Directory<'_>, cookie: u64, emit: &mut Emit<'_>) -> Result<()> {
    let block_size = u64::from(dir.layout.block_size);
    let mut walk = Walk::new(dir, cookie.checked_div(block_size).unwrap_or(0));
    while let Some((at, block)) = walk.next_block()? {
        if let Err(error) = dir.verify_entries_or_index(at, &block) {
            dir.notice(error, Some(block.nr()));
            continue;
        }
        let part = Part {
            entries: Entries::new(dir.layout, block.bytes()),
            start: u64::from(at.get()).saturating_mul(block_size),
            block: Some(block.nr()),
        };
        if part.list(dir, cookie, emit).is_break() {
            break;
        }
    }
    Ok(())
}

/// A stretch of entries and the cookie of its first byte.
pub(super) struct Part<'a> {
    pub(super) entries: Entries<'a>,
    pub(super) start: u64,
    pub(super) block: Option<BlockNr>,
}

impl Part<'_> {
    pub(super) fn list(
        self,
        dir: &Directory<'_>,
        cookie: u64,
        emit: &mut Emit<'_>,
    ) -> ControlFlow<()> {
        for entry in self.entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    dir.notice(error, self.block);
                    break;
                }
            };
            if self.start.saturating_add(entry.offset.into()) < cookie
                || !is_name(dir, &entry, self.block)
            {
                continue;
            }
            // Hash 0: the kernel computes none on this path, and encrypted names show it.
            if let Some(name) = shown(dir, entry.name, DirHash::default()) {
                let cookie = self.start.saturating_add(entry.next.into());
                emit(DirEntry { inode: entry.inode, kind: entry.kind, name: &name, cookie })?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Directory<'_> {
    /// Checks a block met on a linear walk. In an indexed directory the root and the index nodes
    /// look like entries but end in a checksum of another kind.
    pub(super) fn verify_entries_or_index(&self, at: LogicalBlock, block: &Block) -> Result<()> {
        let is_index = || at.get() == 0 || dirent::looks_like_index(self.layout, block.bytes());
        if self.is_indexed() && is_index() {
            return Ok(());
        }
        self.verify_entries(block)
    }
}

/// The blocks of a directory in order, holes skipped.
pub(super) struct Walk<'a> {
    dir: &'a Directory<'a>,
    next: u64,
    left: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(dir: &'a Directory<'a>, first: u64) -> Self {
        Self { dir, next: first, left: dir.budget() }
    }

    pub(super) fn next_block(&mut self) -> Result<Option<(LogicalBlock, Arc<Block>)>> {
        while self.next < u64::from(self.dir.blocks()) {
            let Some(at) = u32::try_from(self.next).ok().map(LogicalBlock::new) else { break };
            let Some(left) = self.left.checked_sub(1) else {
                let blocks = self.dir.blocks();
                return Err(self.dir.corrupt(None, CorruptKind::DirTooManyBlocks { blocks }));
            };
            self.left = left;
            match self.dir.block(at).map_err(|error| error.at_inode(self.dir.inode.nr))? {
                DirBlock::There(block) => {
                    self.next = self.next.saturating_add(1);
                    return Ok(Some((at, block)));
                }
                DirBlock::Hole(len) => self.next = self.next.saturating_add(len.into()),
            }
        }
        Ok(None)
    }
}
