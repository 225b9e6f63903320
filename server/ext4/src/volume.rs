//! What every layer of the engine needs: the geometry, the blocks, and the recovered edits.
//!
//! Lower layers (map, dir, xattr, inode) take `&Volume`; only `mount.rs` builds one.

use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::alloc::Space;
use crate::cache::{Ahead, Block, Blocks, Memory};
use crate::edits::Edits;
use crate::error::{CorruptKind, Error, IoOp, Place, Refusal, Result};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, in_memory, on_disk};
use crate::inode::{self, FileKind, Inode, InodeFlags};
use crate::journal::Journal;
use crate::notices::Notices;
use crate::orphan::Orphans;
use crate::quota::Quotas;
use crate::rules::Rules;
use crate::sharing::Sharing;
use crate::source::Source;
use crate::superblock::Live;

/// Bytes of committed blocks that memory holds at most before they are written home.
const PINNED: u64 = 32 << 20;

/// One mounted file system, below the verbs.
#[derive(Debug)]
pub(crate) struct Volume {
    pub(crate) geometry: Geometry,
    /// What fsync has to wait for.
    pub(crate) changed: inode::Changed,
    /// Access times on their way to the disk.
    pub(crate) lazy: inode::Lazy,
    /// What mount options ask of all verbs.
    pub(crate) rules: Rules,
    pub(crate) notices: Notices,
    /// One lock per inode in use, for the verbs.
    pub(crate) locks: inode::Locks,
    /// Taken to move a directory to another parent (s_vfs_rename_mutex).
    pub(crate) renames: Mutex<()>,
    /// Inodes that are in use without a name, or are being cut.
    pub(crate) orphans: Orphans,
    /// Quota files; set by `quota::open` where the mount may write.
    pub(crate) quotas: OnceLock<Quotas>,
    /// Attribute blocks and value inodes that may be shared.
    pub(crate) sharing: Sharing,
    /// Free blocks and inodes; set by `alloc::open` where the mount may write.
    pub(crate) space: OnceLock<Space>,
    /// Counts and errors on their way into the superblock.
    pub(crate) superblock: Live,
    edits: Edits,
    blocks: Blocks,
    journal: Journal,
    /// The content of all files goes through the log (data=journal).
    journals_data: bool,
    cache_bytes: u64,
    /// What is to be done wrong, and the data that were held back for it.
    #[cfg(test)]
    pub(crate) fault: OnceLock<crate::journal::Fault>,
    #[cfg(test)]
    late: Mutex<Vec<(u64, Box<[u8]>)>>,
}

impl Volume {
    /// A volume whose changes go home only when [`Volume::write_home`] is called.
    pub(crate) fn new(geometry: Geometry, source: Source, cache_bytes: u64) -> Self {
        let blocks = Blocks::new(source, cache_bytes);
        let superblock = Live::primary(&geometry);
        let journal = Journal::unlogged(cache_bytes.min(PINNED), geometry.block_size);
        Self {
            geometry,
            changed: inode::Changed::default(),
            lazy: inode::Lazy::default(),
            rules: Rules::default(),
            notices: Notices::default(),
            locks: inode::Locks::default(),
            renames: Mutex::new(()),
            orphans: Orphans::default(),
            quotas: OnceLock::new(),
            sharing: Sharing::default(),
            space: OnceLock::new(),
            superblock,
            edits: Edits::default(),
            blocks,
            journal,
            journals_data: false,
            cache_bytes,
            #[cfg(test)]
            fault: OnceLock::new(),
            #[cfg(test)]
            late: Mutex::default(),
        }
    }

    /// The same volume with another journal, before anything was changed.
    pub(crate) fn with_journal(self, journal: Journal) -> Self {
        Self { journal, ..self }
    }

    /// Bytes of committed blocks that memory holds before they are written home.
    pub(crate) fn pinned_bytes(&self) -> u64 {
        self.cache_bytes.min(PINNED)
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.geometry.block_size
    }

    pub(crate) fn source(&self) -> &Source {
        self.blocks.source()
    }

    /// Gives up the volume for its source.
    pub(crate) fn into_source(self) -> Source {
        self.blocks.into_source()
    }

    /// What could be read again.
    pub(crate) fn memory(&self) -> &Memory {
        self.blocks.clean()
    }

    /// For handles, commits and checkpoints.
    pub(crate) fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// Whether anything was ever changed, or may be.
    pub(crate) fn may_change(&self) -> bool {
        !matches!(self.journal, Journal::ReadOnly)
    }

    /// For handles, commits and checkpoints.
    pub(crate) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// What fast commits changed.
    pub(crate) fn edits(&self) -> &Edits {
        &self.edits
    }

    /// For recovery, before any inode is cached.
    pub(crate) fn edits_mut(&mut self) -> &mut Edits {
        &mut self.edits
    }

    /// A metadata block through the cache.
    ///
    /// # Errors
    /// [`CorruptKind::BlockRange`] if a pointer on the disk led outside the file system; I/O errors.
    pub(crate) fn metadata(&self, nr: BlockNr) -> Result<Arc<Block>> {
        self.metadata_among(nr, Ahead::NOTHING)
    }

    /// As [`Volume::metadata`]. If the block has to be read, what is `ahead` is prefetched, wherever that
    /// may be: nothing is believed of what was not checked.
    ///
    /// # Errors
    /// As [`Volume::metadata`].
    pub(crate) fn metadata_among(&self, nr: BlockNr, ahead: Ahead) -> Result<Arc<Block>> {
        self.check_range(nr, 1)?;
        self.blocks.newest(nr, ahead)
    }

    /// Keeps damage that a verb got around for the log, see [`Notices`].
    pub(crate) fn notice(&self, error: Error) {
        self.notices.corruption(error);
        // It is to be written down, which is no work for who may not wait: its answer is of no use.
        self.source().device().may_wait();
    }

    /// The content of all files is to go through the log (data=journal), before anything was changed.
    pub(crate) fn journal_data(&mut self) {
        self.journals_data = true;
    }

    /// Whether the content of `inode` goes through the log (`ext4_inode_journal_mode`).
    pub(crate) fn journals(&self, inode: &Inode) -> bool {
        let wanted = self.journals_data || inode.flags.has(InodeFlags::JOURNAL_DATA);
        wanted && inode.kind == FileKind::Regular && self.journal.has_log()
    }

    /// File data past the cache: fills `into` from `skip` bytes into block `first`.
    ///
    /// # Errors
    /// As [`Volume::metadata`].
    pub(crate) fn data(&self, first: BlockNr, skip: u32, into: &mut [u8]) -> Result<()> {
        let bytes = on_disk(into.len()).saturating_add(skip.into());
        self.check_range(first, bytes.div_ceil(self.block_size().into()))?;
        self.blocks.source().read(first, skip, into).map_err(|error| match error {
            Error::Io { place, source, .. } => Error::Io { op: IoOp::ReadData, place, source },
            other => other,
        })
    }

    /// As [`Volume::data`], for content that goes through the log: what is not home yet is in memory.
    /// The caller holds the inode's lock, so that no version comes meanwhile.
    ///
    /// # Errors
    /// As [`Volume::metadata`].
    pub(crate) fn logged_data(&self, first: BlockNr, skip: u32, into: &mut [u8]) -> Result<()> {
        let bytes = on_disk(into.len()).saturating_add(skip.into());
        let count = bytes.div_ceil(self.block_size().into());
        // Before the device is read: a version that leaves memory is on the device.
        let newer: Vec<Arc<Block>> =
            (0..count).filter_map(|index| self.blocks.changed(first.checked_add(index)?)).collect();
        self.data(first, skip, into)?;
        let size = in_memory(self.block_size().into());
        let skip = in_memory(skip.into());
        for block in newer {
            let index = in_memory(block.nr().get().saturating_sub(first.get()));
            let start = index.saturating_mul(size);
            let before = skip.saturating_sub(start);
            let to = into.get_mut(start.saturating_sub(skip)..).unwrap_or_default();
            let from = block.bytes().get(before..).unwrap_or_default();
            let len = to.len().min(from.len());
            if let (Some(to), Some(from)) = (to.get_mut(..len), from.get(..len)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// The byte of the device that is `skip` bytes into block `first`, if it and the `len` bytes from
    /// there can be read from the device as they are. Not for content that goes through the log.
    ///
    /// # Errors
    /// [`CorruptKind::BlockRange`].
    pub(crate) fn place(&self, first: BlockNr, skip: u32, len: u64) -> Result<Option<u64>> {
        let bytes = len.saturating_add(skip.into());
        let count = bytes.div_ceil(self.block_size().into());
        self.check_range(first, count)?;
        Ok(self.blocks.source().place(first, skip, count))
    }

    /// File data past the cache: whole blocks from `first` on.
    ///
    /// # Errors
    /// As [`Volume::metadata`]; [`Refusal::NoSpace`] if the device says so.
    pub(crate) fn write_data(&self, first: BlockNr, bytes: &[u8]) -> Result<()> {
        let count = on_disk(bytes.len()).div_ceil(self.block_size().into());
        self.check_range(first, count)?;
        let fail = |source: std::io::Error| match source.kind() {
            // One that promises more than it has (BLK_STS_NOSPC).
            std::io::ErrorKind::StorageFull => Refusal::NoSpace.into(),
            _ => Error::Io { op: IoOp::WriteData, place: Place::block(first), source },
        };
        let byte = first.get().saturating_mul(self.block_size().into());
        #[cfg(test)]
        if self.has(crate::journal::Fault::LateData) {
            self.late.lock().push((byte, bytes.into()));
            return Ok(());
        }
        self.source().device().write_at(byte, bytes).map_err(fail)
    }

    /// Whether `fault` was planted.
    #[cfg(test)]
    pub(crate) fn has(&self, fault: crate::journal::Fault) -> bool {
        self.fault.get() == Some(&fault)
    }

    /// Writes the data that [`crate::journal::Fault::LateData`] held back.
    #[cfg(test)]
    pub(crate) fn write_late(&self) -> std::io::Result<()> {
        let late = core::mem::take(&mut *self.late.lock());
        late.iter().try_for_each(|(byte, bytes)| self.source().device().write_at(*byte, bytes))
    }

    pub(crate) fn check_range(&self, first: BlockNr, count: u64) -> Result<()> {
        if self.geometry.contains(first, count) {
            return Ok(());
        }
        let kind = CorruptKind::BlockRange { first: first.get(), count };
        Err(Error::corrupt(Place::default(), kind))
    }
}
