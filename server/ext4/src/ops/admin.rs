//! What an administrator asks of a whole file system: its label, FITRIM, a checkpoint, and the end of
//! all I/O.
//!
//! Kernel: fs/ext4/ioctl.c `ext4_ioctl_setlabel`, `ext4_ioctl_checkpoint`, `ext4_force_shutdown`;
//! fs/ext4/mballoc.c `ext4_trim_fs`

use core::ops::Range;
use std::io::ErrorKind;
use std::time::Instant;

use crate::alloc;
use crate::cache::Ahead;
use crate::disk::superblock::text;
use crate::error::{Error, IoOp, Place, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::Credits;
use crate::ids::{BlockNr, GroupNr};
use crate::superblock::LABEL_BYTES;

/// What FITRIM asks for. All in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// Where to begin.
    pub start: u64,
    /// How far to go; `u64::MAX` for all.
    pub len: u64,
    /// Shorter runs of free blocks are left alone.
    pub least: u64,
}

impl Filesystem {
    /// The volume's label, as it is now.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn label(&self) -> Result<Vec<u8>> {
        let live = &self.volume.superblock;
        let block = self.volume.blocks().newest(live.block(), Ahead::NOTHING)?;
        Ok(live.find(block.bytes()).map(|raw| text(&raw.volume_name)).unwrap_or_default())
    }

    /// Sets the volume's label, in the primary superblock.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for one of more than 16 bytes; `ReadOnly`; I/O errors.
    pub fn set_label(&self, label: &[u8]) -> Result<()> {
        if label.len() > LABEL_BYTES {
            return Err(Refusal::Invalid.into());
        }
        let mut handle = self.volume.begin(Credits(1))?;
        handle.edit_superblock(|raw| raw.set_label(label))?;
        handle.stop()
    }

    /// Writes everything home, so that the log has nothing that a replay would need.
    ///
    /// # Errors
    /// `ReadOnly`, [`Refusal::Aborted`]; I/O errors.
    pub fn checkpoint(&self) -> Result<()> {
        if !self.is_writable() {
            return Err(Refusal::ReadOnly.into());
        }
        self.volume.write_home()
    }

    /// Commits and then stops all writing, as after a loss of power: the next mount replays the log.
    ///
    /// # Errors
    /// I/O errors; writing is stopped all the same.
    pub fn shut_down(&self) -> Result<()> {
        let result = self.sync();
        self.volume.journal().abort();
        result
    }

    /// Tells the device which blocks are free, group by group, until `deadline` at most. How many
    /// bytes those were.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for what begins past the end, is shorter than a block, or leaves out runs
    /// as long as a group; `NotSupported` by the device; `ReadOnly`; corruption and I/O errors.
    pub fn trim(&self, trim: Trim, deadline: Instant) -> Result<u64> {
        let geometry = &self.volume.geometry;
        let size = u64::from(geometry.block_size);
        let blocks = |bytes: u64| bytes.checked_div(size).unwrap_or(0);
        let (start, len) = (blocks(trim.start), blocks(trim.len));
        let least = blocks(trim.least).div_ceil(geometry.cluster_blocks.into());
        let most = u64::from(geometry.clusters_per_group());
        if len == 0 || start >= geometry.blocks_count || least > most {
            return Err(Refusal::Invalid.into());
        }
        let least = u32::try_from(least).unwrap_or(u32::MAX);
        let wanted = start..start.saturating_add(len).min(geometry.blocks_count);
        // What is freed and not committed is not free yet.
        self.sync()?;
        self.discard_freed()?;
        let mut trimmed = 0_u64;
        for nr in 0..geometry.group_count {
            let group = GroupNr::new(nr);
            let clusters = self.clusters_of(group, &wanted);
            if clusters.is_empty() {
                continue;
            }
            if Instant::now() >= deadline {
                break;
            }
            let found = alloc::trim(&self.volume, group, clusters, least)?;
            for run in found.runs() {
                self.discard(run.first, run.len)?;
                trimmed = trimmed.saturating_add(u64::from(run.len).saturating_mul(size));
            }
        }
        Ok(trimmed)
    }

    /// The clusters of `group` that are wholly among the blocks `wanted`.
    fn clusters_of(&self, group: GroupNr, wanted: &Range<u64>) -> Range<u32> {
        let geometry = &self.volume.geometry;
        let first = geometry.cluster_block(group, 0).get();
        let ratio = u64::from(geometry.cluster_blocks);
        let cluster = |blocks: u64| u32::try_from(blocks).unwrap_or(u32::MAX);
        let all = geometry.clusters_in_group(group);
        let from = wanted.start.saturating_sub(first).div_ceil(ratio);
        let to = wanted.end.saturating_sub(first).checked_div(ratio).unwrap_or(0);
        cluster(from)..cluster(to).min(all)
    }

    /// Tells the device what was freed and committed, where that is wanted (`discard`): for whoever
    /// makes commits. A device that knows no discards is not asked again.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn discard_freed(&self) -> Result<()> {
        if !self.is_writable() {
            return Ok(());
        }
        let freed = alloc::take_discards(&self.volume)?;
        for run in freed.runs() {
            match self.discard(run.first, run.len) {
                Err(Error::Refused(_)) => return alloc::set_discard(&self.volume, false),
                result => result?,
            }
        }
        Ok(())
    }

    /// Tells the device that `count` blocks from `first` on are free.
    ///
    /// # Errors
    /// [`Refusal::NotSupported`]; I/O errors.
    fn discard(&self, first: BlockNr, count: u32) -> Result<()> {
        let size = u64::from(self.volume.block_size());
        let start = first.get().saturating_mul(size);
        let range = start..start.saturating_add(u64::from(count).saturating_mul(size));
        self.volume.source().device().discard(range).map_err(|source| {
            if source.kind() == ErrorKind::Unsupported {
                return Refusal::NotSupported.into();
            }
            Error::Io { op: IoOp::Write, place: Place::block(first), source }
        })
    }
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
