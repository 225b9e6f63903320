//! The log's blocks, made: descriptor, revoke and commit blocks, and the log's superblock.
//!
//! Readers are in [`super::jbd2`]; what these make, they take.
//! Source: Documentation/filesystems/ext4/journal.rst.

use core::time::Duration;

use zerocopy::big_endian::U32;
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::checksum::crc32c;
use super::jbd2::{
    CHECKSUM_CRC32, CHECKSUM_CRC32C, COMPAT_CHECKSUM, FLAG_ESCAPE, FLAG_LAST_TAG, FLAG_SAME_UUID,
    HEADER, INCOMPAT_64BIT, INCOMPAT_ASYNC_COMMIT, INCOMPAT_CSUM_V2, INCOMPAT_CSUM_V3,
    INCOMPAT_REVOKE, LogChecksums, LogFormat, MAGIC, RawCommit, RawHeader, RawJournalSuperblock,
    TAIL,
};
use crate::ids::{BlockNr, Tid, in_memory};

const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const SUPERBLOCK_V1: u32 = 3;
const SUPERBLOCK_V2: u32 = 4;
const REVOKE: u32 = 5;
/// Bytes of the UUID after a descriptor's first tag.
const UUID: usize = 16;
/// Bytes in front of revoke records.
const REVOKE_START: usize = HEADER + 4;

/// What a descriptor says of one copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTag {
    /// The file system block.
    pub(crate) block: BlockNr,
    /// The copy's first word was [`MAGIC`] and is zero in the log.
    pub(crate) escaped: bool,
    /// Of the copy as it stands in the log, from [`LogFormat::copy_checksum`].
    pub(crate) checksum: u32,
}

fn header(kind: u32, tid: Tid) -> Vec<u8> {
    let header =
        RawHeader { magic: MAGIC.into(), blocktype: kind.into(), sequence: tid.get().into() };
    header.as_bytes().to_vec()
}

impl LogFormat {
    fn room(&self, block_size: u32, before: usize) -> usize {
        let tail = if self.tags_have_checksums() { TAIL } else { 0 };
        in_memory(block_size.into()).saturating_sub(before.saturating_add(tail))
    }

    /// How many copies a descriptor block names.
    pub(crate) fn tags_per_block(&self, block_size: u32) -> usize {
        let room = self.room(block_size, HEADER.saturating_add(UUID));
        room.checked_div(self.tag_bytes()).unwrap_or(1).max(1)
    }

    /// How many freed blocks a revoke block names.
    pub(crate) fn revokes_per_block(&self, block_size: u32) -> usize {
        let width = if self.wide { 8 } else { 4 };
        self.room(block_size, REVOKE_START).checked_div(width).unwrap_or(1).max(1)
    }

    /// The checksum of a copy in transaction `tid`, as it stands in the log.
    pub(crate) fn copy_checksum(&self, tid: Tid, copy: &[u8]) -> u32 {
        self.seed().map_or(0, |seed| crc32c(crc32c(seed, &tid.get().to_be_bytes()), copy))
    }

    /// A descriptor block for at most [`LogFormat::tags_per_block`] copies.
    pub(crate) fn descriptor(
        &self,
        tid: Tid,
        uuid: &[u8; UUID],
        tags: &[NewTag],
        block_size: u32,
    ) -> Vec<u8> {
        let mut block = header(DESCRIPTOR, tid);
        let last = tags.len().saturating_sub(1);
        for (index, tag) in tags.iter().enumerate() {
            let mut flags = if tag.escaped { FLAG_ESCAPE } else { 0 };
            flags |= if index > 0 { FLAG_SAME_UUID } else { 0 };
            flags |= if index == last { FLAG_LAST_TAG } else { 0 };
            self.push_tag(&mut block, tag, flags);
            if index == 0 {
                block.extend(uuid);
            }
        }
        self.finish(block, block_size)
    }

    fn push_tag(&self, block: &mut Vec<u8>, tag: &NewTag, flags: u16) {
        let [h0, h1, h2, h3, l0, l1, l2, l3] = tag.block.get().to_be_bytes();
        block.extend([l0, l1, l2, l3]);
        let [_, _, sum2, sum3] = tag.checksum.to_be_bytes();
        match self.checksums {
            LogChecksums::Full(_) => {
                block.extend(u32::from(flags).to_be_bytes());
                block.extend([h0, h1, h2, h3]);
                block.extend(tag.checksum.to_be_bytes());
                return;
            }
            LogChecksums::Short(_) => block.extend([sum2, sum3]),
            LogChecksums::None | LogChecksums::Transaction => block.extend([0, 0]),
        }
        block.extend(flags.to_be_bytes());
        if self.wide {
            block.extend([h0, h1, h2, h3]);
        }
        if matches!(self.checksums, LogChecksums::Short(_)) {
            block.extend([0; 2]);
        }
    }

    /// A revoke block for at most [`LogFormat::revokes_per_block`] blocks.
    pub(crate) fn revoke_block(&self, tid: Tid, revoked: &[BlockNr], block_size: u32) -> Vec<u8> {
        let mut records = Vec::new();
        for nr in revoked {
            let bytes = nr.get().to_be_bytes();
            let (_, low) = bytes.split_at(4);
            records.extend_from_slice(if self.wide { &bytes } else { low });
        }
        let mut block = header(REVOKE, tid);
        let used = records.len().saturating_add(REVOKE_START);
        block.extend(u32::try_from(used).unwrap_or(u32::MAX).to_be_bytes());
        block.extend(records);
        self.finish(block, block_size)
    }

    /// Fills up with zeros and adds the checksum at the end, if there is one.
    fn finish(&self, mut block: Vec<u8>, block_size: u32) -> Vec<u8> {
        block.resize(in_memory(block_size.into()), 0);
        if let Some(seed) = self.seed() {
            let sum = crc32c(seed, &block);
            if let Some(tail) = block.last_chunk_mut::<TAIL>() {
                *tail = sum.to_be_bytes();
            }
        }
        block
    }

    /// A commit block. `transaction` is the crc32 over the transaction's descriptors and copies (v1),
    /// `time` the time since 1970.
    pub(crate) fn commit_block(
        &self,
        tid: Tid,
        transaction: u32,
        time: Duration,
        block_size: u32,
    ) -> Vec<u8> {
        let mut raw = RawCommit::new_zeroed();
        raw.header =
            RawHeader { magic: MAGIC.into(), blocktype: COMMIT.into(), sequence: tid.get().into() };
        raw.commit_sec = time.as_secs().into();
        raw.commit_nsec = time.subsec_nanos().into();
        if self.sums_copies() {
            (raw.chksum_type, raw.chksum_size) = (CHECKSUM_CRC32, 4);
            let [first, ..] = &mut raw.chksum;
            *first = transaction.into();
        }
        let size = in_memory(block_size.into());
        let mut block = raw.as_bytes().to_vec();
        block.resize(size, 0);
        if let Some(seed) = self.seed() {
            let [first, ..] = &mut raw.chksum;
            *first = crc32c(seed, &block).into();
            block = raw.as_bytes().to_vec();
            block.resize(size, 0);
        }
        block
    }
}

impl RawJournalSuperblock {
    /// The superblock at the start of `block`, to be changed.
    pub(crate) fn in_block(block: &mut [u8]) -> Option<&mut Self> {
        Self::mut_from_prefix(block).ok().map(|(raw, _)| raw)
    }

    /// Gives an empty log the features that the kernel gives it when it is mounted for writing:
    /// `wide` with 64bit, `sums` with metadata_csum.
    pub(crate) fn prepare(&mut self, wide: bool, sums: bool) {
        if self.header.blocktype.get() == SUPERBLOCK_V1 {
            // The first version knows no features, and its records cannot be revoked.
            let fixed = (self.blocksize, self.maxlen, self.first, self.sequence);
            *self = Self::new_zeroed();
            (self.blocksize, self.maxlen, self.first, self.sequence) = fixed;
            self.header.magic = MAGIC.into();
            self.header.blocktype = SUPERBLOCK_V2.into();
            self.nr_users = 1.into();
        }
        let gone = INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3 | INCOMPAT_ASYNC_COMMIT;
        let mut incompat = self.feature_incompat.get() & !gone | INCOMPAT_REVOKE;
        if wide {
            incompat |= INCOMPAT_64BIT;
        }
        if sums {
            incompat |= INCOMPAT_CSUM_V3;
        }
        self.checksum_type = if sums { CHECKSUM_CRC32C } else { 0 };
        self.feature_incompat = incompat.into();
        self.feature_compat = (self.feature_compat.get() & !COMPAT_CHECKSUM).into();
        self.seal();
    }

    /// The log begins at block `start` (0: it is empty) with transaction `sequence`.
    pub(crate) fn set_tail(&mut self, start: u32, sequence: Tid) {
        self.start = start.into();
        self.sequence = sequence.get().into();
        self.seal();
    }

    /// Records why the journal was stopped: an errno, or 0 for no error.
    pub(crate) fn set_errno(&mut self, errno: i32) {
        self.errno = U32::from_bytes(errno.saturating_neg().to_be_bytes());
        self.seal();
    }

    fn seal(&mut self) {
        let sums = INCOMPAT_CSUM_V2 | INCOMPAT_CSUM_V3;
        let has_sum = self.feature_incompat.get() & sums != 0;
        self.checksum = if has_sum { self.computed_checksum().into() } else { U32::ZERO };
    }
}
