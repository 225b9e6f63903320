//! Where the log's blocks are: a flat list of runs, so that recovery needs no block map.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::{CorruptKind, Error, IoOp, Place, Result};
use crate::ids::{BlockNr, in_memory, on_disk};

/// The longest log that is taken, in blocks: 1 TiB of 1 KiB blocks.
pub(crate) const MAX_BLOCKS: u32 = 1 << 30;
/// The most pieces a log may be in; mke2fs makes a handful.
const MAX_RUNS: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
struct Run {
    logical: u32,
    first: u64,
    len: u32,
}

impl Run {
    fn end(&self) -> u64 {
        self.first.saturating_add(self.len.into())
    }
}

/// The blocks of one log, in order, on whatever device they are. Immutable.
///
/// # Invariants
/// No block is in it twice, so that its length is bounded by the device's and not by what a block
/// map claims.
pub(crate) struct Area {
    device: Arc<dyn BlockDevice>,
    block_size: u32,
    runs: Box<[Run]>,
    blocks: u32,
}

/// Collects an area's runs in order.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    runs: Vec<Run>,
    blocks: u32,
}

fn misplaced(logical: u32) -> Error {
    let kind = CorruptKind::JournalMap { logical: logical.into() };
    Error::corrupt(Place::default(), kind)
}

impl Runs {
    /// Blocks so far: the logical number of the next one.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Appends `len` blocks from `first`, which the caller found to be on the device.
    ///
    /// # Errors
    /// [`CorruptKind::JournalMap`] if the log gets too long or too scattered.
    pub(crate) fn push(&mut self, first: BlockNr, len: u32) -> Result<()> {
        let logical = self.blocks;
        let full = || misplaced(logical);
        self.blocks = logical.checked_add(len).filter(|&sum| sum <= MAX_BLOCKS).ok_or_else(full)?;
        if let Some(run) = self.runs.last_mut()
            && run.end() == first.get()
        {
            run.len = run.len.saturating_add(len);
            return Ok(());
        }
        if self.runs.len() >= MAX_RUNS {
            return Err(full());
        }
        self.runs.push(Run { logical, first: first.get(), len });
        Ok(())
    }
}

impl Area {
    /// The blocks of `runs` on `device`.
    ///
    /// # Errors
    /// [`CorruptKind::JournalMap`] if runs overlap.
    pub(crate) fn new(device: Arc<dyn BlockDevice>, block_size: u32, runs: Runs) -> Result<Self> {
        let mut by_place = runs.runs.clone();
        by_place.sort_unstable_by_key(|run| run.first);
        for pair in by_place.windows(2) {
            if let [left, right] = pair
                && left.end() > right.first
            {
                return Err(misplaced(left.logical.max(right.logical)));
            }
        }
        Ok(Self { device, block_size, runs: runs.runs.into(), blocks: runs.blocks })
    }

    /// Blocks of the log, its superblock included.
    pub(crate) fn blocks(&self) -> u32 {
        self.blocks
    }

    /// Bytes of a block.
    pub(crate) fn block_size(&self) -> u32 {
        self.block_size
    }

    /// Fills `into` from `skip` bytes into log block `at`.
    ///
    /// # Errors
    /// [`CorruptKind::JournalMap`] past the log's end; I/O errors.
    pub(crate) fn read(&self, at: u32, skip: u32, into: &mut [u8]) -> Result<()> {
        let mut rest = into;
        let mut position =
            u64::from(at).saturating_mul(self.block_size.into()).saturating_add(skip.into());
        while !rest.is_empty() {
            let (byte, left) = self.locate(position).ok_or_else(|| misplaced(at))?;
            let len = in_memory(left.min(on_disk(rest.len())));
            let (now, later) = rest.split_at_mut_checked(len).ok_or_else(|| misplaced(at))?;
            self.device.read_at(byte, now).map_err(|source| {
                let place = byte.checked_div(self.block_size.into()).map(BlockNr::new);
                Error::Io {
                    op: IoOp::Read,
                    place: Place { block: place, ..Place::default() },
                    source,
                }
            })?;
            position = position.saturating_add(on_disk(len));
            rest = later;
        }
        Ok(())
    }

    /// The device the log is on.
    pub(crate) fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// Writes whole blocks to log block `at` and those after it. `durable`: they are when
    /// this returns, and only they.
    ///
    /// # Errors
    /// [`CorruptKind::JournalMap`] past the log's end; I/O errors.
    pub(crate) fn write(&self, at: u32, bytes: &[u8], durable: bool) -> Result<()> {
        let mut rest = bytes;
        let mut position = u64::from(at).saturating_mul(self.block_size.into());
        while !rest.is_empty() {
            let (byte, left) = self.locate(position).ok_or_else(|| misplaced(at))?;
            let len = in_memory(left.min(on_disk(rest.len())));
            let (now, later) = rest.split_at_checked(len).ok_or_else(|| misplaced(at))?;
            let written = match durable {
                true => self.device.write_through(byte, now),
                false => self.device.write_at(byte, now),
            };
            written.map_err(|source| {
                let place = byte.checked_div(self.block_size.into()).map(BlockNr::new);
                let place = Place { block: place, ..Place::default() };
                Error::Io { op: IoOp::Write, place, source }
            })?;
            position = position.saturating_add(on_disk(len));
            rest = later;
        }
        Ok(())
    }

    /// Byte on the device of byte `position` of the log, and how many bytes follow in one piece.
    fn locate(&self, position: u64) -> Option<(u64, u64)> {
        let size = u64::from(self.block_size);
        let at = position.checked_div(size)?;
        let index = self.runs.partition_point(|run| u64::from(run.logical) <= at).checked_sub(1)?;
        let run = self.runs.get(index)?;
        let into_run = position.checked_sub(u64::from(run.logical).checked_mul(size)?)?;
        let left = u64::from(run.len).checked_mul(size)?.checked_sub(into_run)?;
        let byte = run.first.checked_mul(size)?.checked_add(into_run)?;
        (left > 0).then_some((byte, left))
    }
}

impl core::fmt::Debug for Area {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Area")
            .field("blocks", &self.blocks)
            .field("runs", &self.runs.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::MemDevice;

    fn device() -> Arc<dyn BlockDevice> {
        let bytes = (0..16_u8).flat_map(|block| vec![block; 1024]).collect();
        Arc::new(MemDevice::new(bytes))
    }

    fn area(runs: &[(u64, u32)]) -> Result<Area> {
        let mut list = Runs::default();
        for &(first, len) in runs {
            list.push(BlockNr::new(first), len)?;
        }
        Area::new(device(), 1024, list)
    }

    #[test]
    fn a_read_crosses_runs() {
        let area = area(&[(8, 2), (3, 2), (5, 1)]).unwrap();
        assert_eq!((area.blocks(), area.runs.len()), (5, 2));
        let mut bytes = vec![0; 3 * 1024];
        area.read(1, 512, &mut bytes).unwrap();
        assert_eq!((bytes[0], bytes[512], bytes[1536], bytes[2560]), (9, 3, 4, 5));
    }

    #[test]
    fn a_read_past_the_end_is_refused() {
        let area = area(&[(8, 2)]).unwrap();
        assert!(area.read(1, 0, &mut [0; 1024]).is_ok());
        assert!(area.read(1, 1, &mut [0; 1024]).is_err());
        assert!(area.read(2, 0, &mut [0; 1]).is_err());
        assert!(area.read(u32::MAX, 0, &mut [0; 1]).is_err());
    }

    #[test]
    fn runs_that_share_a_block_are_refused() {
        assert!(area(&[(8, 2), (4, 4)]).is_ok());
        assert!(area(&[(8, 2), (4, 5)]).is_err());
        assert!(area(&[(8, 2), (8, 2)]).is_err());
    }

    #[test]
    fn a_log_of_absurd_length_is_refused() {
        assert!(area(&[(8, MAX_BLOCKS)]).is_ok());
        assert!(area(&[(8, MAX_BLOCKS), (1 << 40, 1)]).is_err());
    }
}
