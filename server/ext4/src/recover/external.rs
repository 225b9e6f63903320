//! A journal on a device of its own: a superblock like a file system's, then the log.
//!
//! Blocks of such a log are counted from the start of its device.
//! Kernel: fs/ext4/super.c `ext4_get_journal_blkdev`

use std::sync::Arc;

use zerocopy::FromZeros;
use zerocopy::IntoBytes;

use super::{Home, Journal, read_superblock};
use crate::device::BlockDevice;
use crate::disk::superblock::{MAGIC, OFFSET, RawSuperblock, join};
use crate::error::{Error, IoOp, Place, Result, Unmountable};
use crate::features::Incompat;
use crate::ids::BlockNr;
use crate::journal::{Area, MAX_LOG_BLOCKS, Runs};
use crate::volume::Volume;

fn wrong(why: &'static str) -> Error {
    Unmountable::ExternalJournalWrong { why }.into()
}

/// Opens the journal on `device`, which must have `uuid` and serve the file system in `volume`.
pub(super) fn open(
    volume: &Volume,
    uuid: &[u8; 16],
    device: &Arc<dyn BlockDevice>,
) -> Result<Journal> {
    let raw = read(&**device)?;
    if raw.magic.get() != MAGIC
        || !Incompat::new(raw.feature_incompat.get()).contains(Incompat::JOURNAL_DEV)
    {
        return Err(wrong("it is not a journal"));
    }
    if raw.uuid != *uuid {
        return Err(wrong("its UUID is not the one the file system names"));
    }
    let block_size = volume.block_size();
    if 1024_u32.checked_shl(raw.log_block_size.get()) != Some(block_size) {
        return Err(wrong("its blocks are of another size than the file system's"));
    }
    let on_device = device.size().checked_div(block_size.into()).unwrap_or(0);
    let blocks = join(raw.blocks_count_lo, raw.blocks_count_hi);
    if blocks > on_device {
        return Err(wrong("its device is shorter than the journal"));
    }
    let blocks = u32::try_from(blocks).unwrap_or(u32::MAX).min(MAX_LOG_BLOCKS);
    let mut runs = Runs::default();
    runs.push(BlockNr::new(0), blocks)?;
    let area = Area::new(device.clone(), block_size, runs)?;
    // The log's own superblock is in the block after the one at byte 1024.
    let at = if block_size > 1024 { 1 } else { 2 };
    let log = read_superblock(&area, at, blocks)?;
    if log.users != 1 {
        return Err(wrong("it serves several file systems"));
    }
    if log.first_user != volume.geometry.uuid {
        return Err(wrong("it serves another file system"));
    }
    Ok(Journal { log, at, home: Home::Device(area) })
}

fn read(device: &dyn BlockDevice) -> Result<RawSuperblock> {
    let mut raw = RawSuperblock::new_zeroed();
    if device.size() < OFFSET.saturating_mul(2) {
        return Err(wrong("it is too small"));
    }
    device.read_at(OFFSET, raw.as_mut_bytes()).map_err(|source| Error::Io {
        op: IoOp::Read,
        place: Place::default(),
        source,
    })?;
    Ok(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]

    use super::*;
    use crate::device::MemDevice;
    use crate::journal::testing::{BLOCK, HOME, LogImage, Sums};
    use crate::testing::Image;

    const UUID: [u8; 16] = *b"uuid of journal!";
    const USER: [u8; 16] = *b"uuid of its user";

    struct Device {
        superblock: RawSuperblock,
        log: LogImage,
    }

    impl Device {
        fn new() -> Self {
            let mut superblock = RawSuperblock::new_zeroed();
            superblock.magic = MAGIC.into();
            superblock.feature_incompat = Incompat::JOURNAL_DEV.bits().into();
            superblock.blocks_count_lo = 1030.into();
            superblock.uuid = UUID;
            let mut log = LogImage::with_blocks(Sums::V3, true, 1030).starting(3, 7);
            log.superblock.first = 3.into();
            log.superblock.nr_users = 1.into();
            log.superblock.users[0] = USER;
            log.transaction(&[(5, 1)]);
            Self { superblock, log }
        }

        fn open(mut self) -> Result<Journal> {
            self.log.device();
            let mut bytes = self.log.bytes.split_off(HOME * BLOCK);
            bytes.copy_within(..BLOCK, 2 * BLOCK);
            bytes[BLOCK..2 * BLOCK].copy_from_slice(self.superblock.as_bytes());
            let device: Arc<dyn BlockDevice> = Arc::new(MemDevice::new(bytes));
            let volume = Image::new(64).with(|geometry| geometry.uuid = USER).volume();
            open(&volume, &UUID, &device)
        }
    }

    fn refused(spoil: impl FnOnce(&mut Device)) -> String {
        let mut device = Device::new();
        spoil(&mut device);
        device.open().map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn its_blocks_are_counted_from_the_start_of_the_device() {
        let journal = Device::new().open().unwrap();
        let volume = Image::new(64).volume();
        let log = journal.log;
        let area = journal.blocks(&volume).unwrap();
        let observer = &crate::observer::Unobserved;
        let recovered = crate::journal::recover(&area, &log, 64, observer).unwrap();
        assert_eq!((recovered.transactions, recovered.copies.len()), (1, 1));
    }

    #[test]
    fn another_journal_or_no_journal_is_refused() {
        assert!(refused(|device| device.superblock.magic = 1.into()).contains("not a journal"));
        assert!(refused(|device| device.superblock.feature_incompat = 0.into()).contains("not a"));
        assert!(refused(|device| device.superblock.uuid[0] = 0).contains("UUID"));
        assert!(refused(|device| device.superblock.log_block_size = 2.into()).contains("size"));
        assert!(refused(|device| device.superblock.log_block_size = 99.into()).contains("size"));
        assert!(
            refused(|device| device.superblock.blocks_count_lo = 1031.into()).contains("short")
        );
    }

    #[test]
    fn a_journal_of_other_file_systems_is_refused() {
        assert!(refused(|device| device.log.superblock.nr_users = 2.into()).contains("several"));
        assert!(refused(|device| device.log.superblock.users[0][3] = 0).contains("another"));
    }

    #[test]
    fn a_damaged_log_superblock_is_refused() {
        assert!(refused(|device| device.log.superblock.first = 0.into()).contains("s_first"));
    }
}
