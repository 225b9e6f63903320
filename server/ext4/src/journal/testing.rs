//! Logs made in memory, for tests.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use std::sync::Arc;

use zerocopy::IntoBytes;
use zerocopy::big_endian::U32;

use crate::device::{BlockDevice, MemDevice};
use crate::disk::checksum::{crc32_be, crc32c};
use crate::disk::jbd2::{LogSuperblock, MAGIC, RawJournalSuperblock};
use crate::error::Result;
use crate::ids::BlockNr;
use crate::journal::area::{Area, Runs};
use crate::journal::overlay::Overlay;
use crate::journal::recovery::{Recovered, recover};
use crate::observer::Unobserved;

/// Bytes of a block.
pub(crate) const BLOCK: usize = 1024;
/// Blocks of the file system in front of the log.
pub(crate) const HOME: usize = 64;

/// Which flavour of log to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sums {
    None,
    V1,
    V2,
    V3,
}

/// A log being written. Blocks 0..HOME of the device are home blocks filled with 0xee; the log follows.
pub(crate) struct LogImage {
    pub(crate) bytes: Vec<u8>,
    pub(crate) superblock: RawJournalSuperblock,
    pub(crate) sums: Sums,
    pub(crate) wide: bool,
    pub(crate) tid: u32,
    pub(crate) at: u32,
    pub(crate) seconds: u64,
    sum: u32,
}

impl LogImage {
    pub(crate) fn new(sums: Sums, wide: bool) -> Self {
        Self::with_blocks(sums, wide, 1024)
    }

    pub(crate) fn with_blocks(sums: Sums, wide: bool, log_blocks: u32) -> Self {
        let zeros = vec![0; 1024];
        let mut superblock: RawJournalSuperblock =
            *zerocopy::FromBytes::ref_from_bytes(&zeros[..]).unwrap();
        superblock.header.magic = U32::new(MAGIC);
        superblock.header.blocktype = U32::new(4);
        superblock.blocksize = U32::new(BLOCK as u32);
        superblock.maxlen = U32::new(log_blocks);
        superblock.first = U32::new(1);
        superblock.start = U32::new(1);
        superblock.sequence = U32::new(7);
        superblock.uuid = *b"uuid of this log";
        let incompat = match sums {
            Sums::None => 0,
            Sums::V1 => {
                superblock.feature_compat = U32::new(1);
                0
            }
            Sums::V2 => 8,
            Sums::V3 => 16,
        };
        superblock.feature_incompat = U32::new(1 | incompat | if wide { 2 } else { 0 });
        superblock.checksum_type = if matches!(sums, Sums::V2 | Sums::V3) { 4 } else { 0 };
        let mut bytes = vec![0xee; HOME * BLOCK];
        bytes.resize((HOME + log_blocks as usize) * BLOCK, 0);
        Self { bytes, superblock, sums, wide, tid: 7, at: 1, seconds: 1000, sum: !0 }
    }

    /// Starts the log at `at` with transaction `tid`.
    pub(crate) fn starting(mut self, at: u32, tid: u32) -> Self {
        self.superblock.start = U32::new(at);
        self.superblock.sequence = U32::new(tid);
        (self.at, self.tid) = (at, tid);
        self
    }

    /// Sets incompat feature bits.
    pub(crate) fn incompat(mut self, bits: u32) -> Self {
        self.superblock.feature_incompat = U32::new(self.superblock.feature_incompat.get() | bits);
        self
    }

    fn seed(&self) -> u32 {
        crc32c(!0, &self.superblock.uuid)
    }

    fn has_tails(&self) -> bool {
        matches!(self.sums, Sums::V2 | Sums::V3)
    }

    /// The bytes of log block `at`.
    pub(crate) fn block_mut(&mut self, at: u32) -> &mut [u8] {
        let start = (HOME + at as usize) * BLOCK;
        &mut self.bytes[start..start + BLOCK]
    }

    fn append(&mut self, block: &[u8]) -> u32 {
        let at = self.at;
        self.block_mut(at).copy_from_slice(block);
        let last = self.superblock.maxlen.get();
        self.at = if at + 1 == last { 1 } else { at + 1 };
        at
    }

    fn header(&self, blocktype: u32) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK);
        block.extend(MAGIC.to_be_bytes());
        block.extend(blocktype.to_be_bytes());
        block.extend(self.tid.to_be_bytes());
        block
    }

    fn seal(&self, mut block: Vec<u8>) -> Vec<u8> {
        assert!(block.len() <= BLOCK - 4);
        block.resize(BLOCK, 0);
        if self.has_tails() {
            let sum = crc32c(self.seed(), &block);
            block[BLOCK - 4..].copy_from_slice(&sum.to_be_bytes());
        }
        block
    }

    /// The copy of a home block as the log holds it, and whether it was escaped.
    fn escape(content: &[u8]) -> (Vec<u8>, bool) {
        let mut copy = content.to_vec();
        let escaped = copy.starts_with(&MAGIC.to_be_bytes());
        if escaped {
            copy[..4].fill(0);
        }
        (copy, escaped)
    }

    /// Writes a descriptor with copies of `blocks` filled with one byte each. The log block of the
    /// descriptor.
    pub(crate) fn write(&mut self, blocks: &[(u64, u8)]) -> u32 {
        let blocks: Vec<_> =
            blocks.iter().map(|&(block, fill)| (block, vec![fill; BLOCK])).collect();
        self.write_blocks(&blocks)
    }

    /// As [`Self::write`], with whole contents.
    pub(crate) fn write_blocks(&mut self, blocks: &[(u64, Vec<u8>)]) -> u32 {
        let mut descriptor = self.header(1);
        let mut copies = Vec::new();
        for (index, (block, content)) in blocks.iter().enumerate() {
            let (copy, escaped) = Self::escape(content);
            let last = index + 1 == blocks.len();
            let flags =
                u32::from(escaped) | if index > 0 { 2 } else { 0 } | if last { 8 } else { 0 };
            let sum = crc32c(crc32c(self.seed(), &self.tid.to_be_bytes()), &copy);
            descriptor.extend((*block as u32).to_be_bytes());
            if self.sums == Sums::V3 {
                descriptor.extend(flags.to_be_bytes());
                descriptor.extend(((*block >> 32) as u32).to_be_bytes());
                descriptor.extend(sum.to_be_bytes());
            } else {
                let short = if self.sums == Sums::V2 { sum as u16 } else { 0 };
                descriptor.extend(short.to_be_bytes());
                descriptor.extend((flags as u16).to_be_bytes());
                if self.wide {
                    descriptor.extend(((*block >> 32) as u32).to_be_bytes());
                }
                if self.sums == Sums::V2 {
                    descriptor.extend([0; 2]);
                }
            }
            if index == 0 {
                descriptor.extend(self.superblock.uuid);
            }
            copies.push(copy);
        }
        let descriptor = self.seal(descriptor);
        self.sum = crc32_be(self.sum, &descriptor);
        let at = self.append(&descriptor);
        for copy in copies {
            self.sum = crc32_be(self.sum, &copy);
            self.append(&copy);
        }
        at
    }

    /// Writes a revoke block. Its log block.
    pub(crate) fn revoke(&mut self, blocks: &[u64]) -> u32 {
        let width = if self.wide { 8 } else { 4 };
        let mut block = self.header(5);
        block.extend((16 + width * blocks.len() as u32).to_be_bytes());
        for revoked in blocks {
            if self.wide {
                block.extend(revoked.to_be_bytes());
            } else {
                block.extend((*revoked as u32).to_be_bytes());
            }
        }
        let block = self.seal(block);
        self.append(&block)
    }

    /// Ends the transaction. The log block of the commit block.
    pub(crate) fn commit(&mut self) -> u32 {
        let mut block = self.header(2);
        block.resize(BLOCK, 0);
        block[0x30..0x38].copy_from_slice(&self.seconds.to_be_bytes());
        match self.sums {
            Sums::None => {}
            Sums::V1 => {
                (block[12], block[13]) = (1, 4);
                block[16..20].copy_from_slice(&self.sum.to_be_bytes());
            }
            Sums::V2 | Sums::V3 => {
                let sum = crc32c(self.seed(), &block);
                block[16..20].copy_from_slice(&sum.to_be_bytes());
            }
        }
        self.tid = self.tid.wrapping_add(1);
        self.sum = !0;
        self.seconds += 5;
        self.append(&block)
    }

    /// One transaction: descriptor, copies, commit block.
    pub(crate) fn transaction(&mut self, blocks: &[(u64, u8)]) {
        self.write(blocks);
        self.commit();
    }

    /// The device with the superblock in place.
    pub(crate) fn device(&mut self) -> Arc<dyn BlockDevice> {
        self.superblock.checksum = U32::new(self.superblock.computed_checksum());
        let superblock = self.superblock;
        self.block_mut(0).copy_from_slice(superblock.as_bytes());
        Arc::new(MemDevice::new(self.bytes.clone()))
    }

    /// The log's area and superblock on `device`.
    pub(crate) fn open(&self, device: &Arc<dyn BlockDevice>) -> Result<(Area, LogSuperblock)> {
        let mut runs = Runs::default();
        let blocks = (self.bytes.len() / BLOCK - HOME) as u32;
        runs.push(BlockNr::new(HOME as u64), blocks)?;
        let area = Area::new(device.clone(), BLOCK as u32, runs)?;
        let mut bytes = vec![0; BLOCK];
        area.read(0, 0, &mut bytes)?;
        let log = LogSuperblock::parse(&bytes, BLOCK as u32, area.blocks())?;
        Ok((area, log))
    }

    /// Recovers the log.
    pub(crate) fn recover(&mut self) -> (Arc<dyn BlockDevice>, Recovered, Area) {
        let device = self.device();
        let (area, log) = self.open(&device).unwrap();
        let recovered = recover(&area, &log, HOME as u64, &Unobserved).unwrap();
        (device, recovered, area)
    }

    /// Recovers the log; what it found and the first byte of each home block as then seen.
    pub(crate) fn seen(&mut self) -> (Found, Vec<u8>) {
        let (device, recovered, area) = self.recover();
        let found = Found { transactions: recovered.transactions, why: recovered.why };
        let overlay = Overlay::new(recovered.copies, Arc::new(area));
        let bytes = (0..HOME as u64).map(|block| first_byte(&device, &overlay, block)).collect();
        (found, bytes)
    }
}

/// The part of a recovery's outcome that most tests look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) transactions: u32,
    pub(crate) why: crate::journal::recovery::LogEnd,
}

/// The first byte of a home block as the overlay shows it; 0xff if it cannot be read.
pub(crate) fn first_byte(device: &Arc<dyn BlockDevice>, overlay: &Overlay, block: u64) -> u8 {
    let mut bytes = vec![0; BLOCK];
    match overlay.read(&**device, block * BLOCK as u64, &mut bytes) {
        Ok(()) => bytes[0],
        Err(_) => 0xff,
    }
}
