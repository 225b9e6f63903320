//! Block → newest committed copy in the log, for mounts that may not write.
//!
//! Sixteen bytes of memory for each block the log holds; contents stay in the log.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::disk::jbd2;
use crate::error::{CorruptKind, Error, IoOp, Place, Result};
use crate::ids::{BlockNr, in_memory, on_disk};
use crate::journal::area::Area;

const ESCAPED: u32 = 1 << 30;
const BAD: u32 = 1 << 31;

/// One block's newest copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copy {
    /// The file system block.
    pub(crate) block: u64,
    /// The log block, less than [`super::area::MAX_BLOCKS`], and the two flags.
    at: u32,
    /// The transaction that wrote it, counted from the first one replayed.
    pub(crate) age: u32,
}

impl Copy {
    pub(crate) fn new(block: u64, at: u32, age: u32) -> Self {
        Self { block, at, age }
    }

    /// The copy's first word stands for the log's magic.
    pub(crate) fn escaped(self, escaped: bool) -> Self {
        if escaped { Self { at: self.at | ESCAPED, ..self } } else { self }
    }

    /// The copy is not what was logged: reading the block is an error.
    pub(crate) fn bad(self, bad: bool) -> Self {
        if bad { Self { at: self.at | BAD, ..self } } else { self }
    }

    pub(crate) fn is_bad(self) -> bool {
        self.at & BAD != 0
    }

    fn log_block(self) -> u32 {
        self.at & !(ESCAPED | BAD)
    }
}

/// Maps file system blocks to their newest committed copies in the log. Immutable once built.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    copies: Box<[Copy]>,
    area: Option<Arc<Area>>,
}

impl Overlay {
    /// Nothing in the log.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    /// The copies in `area`, at most one per block, in ascending order.
    pub(crate) fn new(copies: Vec<Copy>, area: Arc<Area>) -> Self {
        Self { copies: copies.into(), area: Some(area) }
    }

    /// Runs of neighbouring blocks that have copies: the first of each, and how many.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (BlockNr, usize)> {
        let runs =
            self.copies.chunk_by(|left, right| left.block.checked_add(1) == Some(right.block));
        runs.filter_map(|run| Some((BlockNr::new(run.first()?.block), run.len())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.copies.is_empty()
    }

    /// Whether the log has a copy of one of the `count` blocks from `first`.
    pub(crate) fn holds(&self, first: u64, count: u64) -> bool {
        let index = self.copies.partition_point(|copy| copy.block < first);
        let end = first.saturating_add(count);
        self.copies.get(index).is_some_and(|copy| copy.block < end)
    }

    /// Fills `into` from byte `start` of the file system: blocks the log holds come from the log
    /// (escaped first words restored), the rest from `device`, in as few calls as the gaps allow.
    ///
    /// # Errors
    /// [`CorruptKind::JournalCopyChecksum`] where the newest copy is damaged; I/O errors.
    pub(crate) fn read(&self, device: &dyn BlockDevice, start: u64, into: &mut [u8]) -> Result<()> {
        let Some(area) = &self.area else { return plain(device, start, into, 0) };
        let size = u64::from(area.block_size());
        let mut rest = into;
        let mut position = start;
        while !rest.is_empty() {
            let block = position.checked_div(size).unwrap_or(0);
            let index = self.copies.partition_point(|copy| copy.block < block);
            let copy = self.copies.get(index);
            let until = match copy {
                Some(copy) if copy.block == block => block.saturating_add(1).saturating_mul(size),
                Some(copy) => copy.block.saturating_mul(size),
                None => u64::MAX,
            };
            let len = in_memory(until.saturating_sub(position).min(on_disk(rest.len())));
            let Some((now, later)) = rest.split_at_mut_checked(len) else { break };
            match copy.filter(|copy| copy.block == block) {
                Some(copy) => {
                    let skip = position.checked_rem(size).unwrap_or(0);
                    logged(area, *copy, skip, now)?;
                }
                None => plain(device, position, now, block)?,
            }
            position = position.saturating_add(on_disk(len));
            rest = later;
        }
        Ok(())
    }
}

fn plain(device: &dyn BlockDevice, start: u64, into: &mut [u8], block: u64) -> Result<()> {
    device.read_at(start, into).map_err(|source| {
        let place = Place::block(BlockNr::new(block));
        Error::Io { op: IoOp::Read, place, source }
    })
}

/// Part of one block from its copy in the log.
fn logged(area: &Area, copy: Copy, skip: u64, into: &mut [u8]) -> Result<()> {
    if copy.is_bad() {
        let kind = CorruptKind::JournalCopyChecksum { copy: copy.log_block() };
        return Err(Error::corrupt(Place::block(BlockNr::new(copy.block)), kind));
    }
    area.read(copy.log_block(), u32::try_from(skip).unwrap_or(u32::MAX), into)?;
    if copy.at & ESCAPED != 0 {
        let magic = jbd2::MAGIC.to_be_bytes();
        let word = magic.get(in_memory(skip)..).unwrap_or_default();
        for (byte, restored) in into.iter_mut().zip(word) {
            *byte = *restored;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

    use super::*;
    use crate::device::MemDevice;
    use crate::journal::area::Runs;

    /// Sixteen blocks, each filled with its number; the log is blocks 8 to 15.
    fn overlay(copies: Vec<Copy>) -> (Arc<dyn BlockDevice>, Overlay) {
        let bytes = (0..16_u8).flat_map(|block| vec![block; 1024]).collect();
        let device: Arc<dyn BlockDevice> = Arc::new(MemDevice::new(bytes));
        let mut runs = Runs::default();
        runs.push(BlockNr::new(8), 8).unwrap();
        let area = Area::new(device.clone(), 1024, runs).unwrap();
        (device, Overlay::new(copies, Arc::new(area)))
    }

    #[test]
    fn a_long_read_takes_each_block_from_where_it_is_newest() {
        let copies = vec![Copy::new(2, 5, 0), Copy::new(3, 1, 0), Copy::new(6, 7, 0)];
        let (device, overlay) = overlay(copies);
        let mut bytes = vec![0; 7 * 1024];
        overlay.read(&*device, 1024, &mut bytes).unwrap();
        let seen: Vec<u8> = bytes.chunks(1024).map(|block| block[0]).collect();
        assert_eq!(seen, [1, 13, 9, 4, 5, 15, 7]);
        let whole = bytes.chunks(1024).all(|block| block.iter().all(|&byte| byte == block[0]));
        assert!(whole);
    }

    #[test]
    fn it_knows_which_blocks_it_holds() {
        let (_, overlay) = overlay(vec![Copy::new(2, 5, 0), Copy::new(6, 7, 0)]);
        let held: Vec<u64> = (0..9).filter(|block| overlay.holds(*block, 1)).collect();
        assert_eq!(held, [2, 6]);
        assert!(overlay.holds(3, 4) && !overlay.holds(3, 3) && !overlay.holds(7, u64::MAX));
    }

    #[test]
    fn reads_may_start_and_end_inside_blocks() {
        let (device, overlay) = overlay(vec![Copy::new(2, 5, 0)]);
        let mut bytes = [0; 1200];
        overlay.read(&*device, 2 * 1024 - 100, &mut bytes).unwrap();
        assert_eq!((bytes[99], bytes[100], bytes[1123], bytes[1124]), (1, 13, 13, 3));
    }

    #[test]
    fn an_escaped_copy_gets_its_first_word_back_and_only_that() {
        let (device, overlay) = overlay(vec![Copy::new(2, 5, 0).escaped(true)]);
        let mut bytes = [0; 6];
        overlay.read(&*device, 2 * 1024, &mut bytes).unwrap();
        assert_eq!(bytes, [0xc0, 0x3b, 0x39, 0x98, 13, 13]);
        overlay.read(&*device, 2 * 1024 + 2, &mut bytes).unwrap();
        assert_eq!(bytes, [0x39, 0x98, 13, 13, 13, 13]);
        overlay.read(&*device, 2 * 1024 + 4, &mut bytes).unwrap();
        assert_eq!(bytes, [13; 6]);
    }

    #[test]
    fn a_damaged_copy_is_an_error_and_its_neighbours_are_not() {
        let (device, overlay) = overlay(vec![Copy::new(2, 5, 0).bad(true)]);
        let mut bytes = [0; 1024];
        let error = overlay.read(&*device, 2 * 1024, &mut bytes).unwrap_err();
        let Error::Corrupt { kind, place } = error else { panic!("{error}") };
        assert!(kind.is_checksum());
        assert_eq!(place.block, Some(BlockNr::new(2)));
        overlay.read(&*device, 3 * 1024, &mut bytes).unwrap();
        overlay.read(&*device, 1024, &mut bytes).unwrap();
    }

    #[test]
    fn without_copies_the_device_is_read() {
        let (device, _) = overlay(Vec::new());
        let mut bytes = [0; 4];
        Overlay::empty().read(&*device, 3 * 1024, &mut bytes).unwrap();
        assert_eq!(bytes, [3; 4]);
    }

    #[test]
    fn a_copy_takes_sixteen_bytes() {
        assert_eq!(size_of::<Copy>(), 16);
    }
}
