//! The log's own structures. Big-endian, unlike everything else on the disk.
//!
//! A log block is a superblock, a descriptor (tags that say which file system blocks follow), a
//! revoke block, a commit block, or the copy of a file system block. [`LogFormat`] holds what the
//! features decide: width of tags and revoke records, and which checksums there are.
//! Source: Documentation/filesystems/ext4/journal.rst.

use zerocopy::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::{crc32_be, crc32c};
use crate::disk::prefix;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::ids::{Tid, on_disk};

/// h_magic, and the first word that is escaped in copies of file system blocks.
pub(crate) const MAGIC: u32 = 0xc03b_3998;
/// JBD2_MIN_JOURNAL_BLOCKS: the kernel takes no shorter log.
pub(crate) const MIN_BLOCKS: u32 = 1024;
/// Bytes of a block's header.
pub(super) const HEADER: usize = size_of::<RawHeader>();
/// Bytes of the checksum at the end of descriptor and revoke blocks (csum v2 and v3).
pub(super) const TAIL: usize = 4;
/// JBD2_DEFAULT_FAST_COMMIT_BLOCKS
const DEFAULT_FC_BLOCKS: u32 = 256;

pub(super) const COMPAT_CHECKSUM: u32 = 0x1;
pub(super) const INCOMPAT_64BIT: u32 = 0x2;
pub(super) const INCOMPAT_ASYNC_COMMIT: u32 = 0x4;
pub(super) const INCOMPAT_CSUM_V2: u32 = 0x8;
pub(super) const INCOMPAT_CSUM_V3: u32 = 0x10;
pub(super) const INCOMPAT_REVOKE: u32 = 0x1;
const INCOMPAT_FAST_COMMIT: u32 = 0x20;
/// All of the above.
const INCOMPAT_KNOWN: u32 = 0x3f;

pub(super) const FLAG_ESCAPE: u16 = 0x1;
pub(super) const FLAG_SAME_UUID: u16 = 0x2;
pub(super) const FLAG_LAST_TAG: u16 = 0x8;

pub(super) const CHECKSUM_CRC32: u8 = 1;
pub(super) const CHECKSUM_CRC32C: u8 = 4;

/// `journal_header_t`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawHeader {
    pub(crate) magic: U32,     // 0x0
    pub(crate) blocktype: U32, // 0x4
    pub(crate) sequence: U32,  // 0x8
}

/// `journal_superblock_t`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawJournalSuperblock {
    pub(crate) header: RawHeader,      // 0x000
    pub(crate) blocksize: U32,         // 0x00c
    pub(crate) maxlen: U32,            // 0x010
    pub(crate) first: U32,             // 0x014
    pub(crate) sequence: U32,          // 0x018
    pub(crate) start: U32,             // 0x01c
    pub(crate) errno: U32,             // 0x020
    pub(crate) feature_compat: U32,    // 0x024
    pub(crate) feature_incompat: U32,  // 0x028
    pub(crate) feature_ro_compat: U32, // 0x02c
    pub(crate) uuid: [u8; 16],         // 0x030
    pub(crate) nr_users: U32,          // 0x040
    pub(crate) dynsuper: U32,          // 0x044
    pub(crate) max_transaction: U32,   // 0x048
    pub(crate) max_trans_data: U32,    // 0x04c
    pub(crate) checksum_type: u8,      // 0x050
    pub(crate) padding2: [u8; 3],      // 0x051
    pub(crate) num_fc_blks: U32,       // 0x054
    pub(crate) head: U32,              // 0x058
    pub(crate) padding: [U32; 40],     // 0x05c
    pub(crate) checksum: U32,          // 0x0fc
    pub(crate) users: [[u8; 16]; 48],  // 0x100
}

const _: () = assert!(size_of::<RawJournalSuperblock>() == 1024);

/// `journal_block_tag_t`, of which the last word is there with 64bit only.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTag {
    blocknr: U32,
    checksum: U16,
    flags: U16,
}

/// The second half of `journal_block_tag3_t`.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct RawTag3Rest {
    blocknr_high: U32,
    checksum: U32,
}

/// `struct commit_header`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawCommit {
    pub(crate) header: RawHeader, // 0x00
    pub(crate) chksum_type: u8,   // 0x0c
    pub(crate) chksum_size: u8,   // 0x0d
    pub(crate) padding: [u8; 2],  // 0x0e
    pub(crate) chksum: [U32; 8],  // 0x10
    pub(crate) commit_sec: U64,   // 0x30
    pub(crate) commit_nsec: U32,  // 0x38
}

/// Which checksums the log carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogChecksums {
    /// None: a commit block is enough.
    None,
    /// v1: the commit block holds a crc32 over the transaction's blocks.
    Transaction,
    /// v2: crc32c of each block, 16 bits of it in the tag.
    Short(u32),
    /// v3: crc32c of each block, whole in the tag.
    Full(u32),
}

/// What the log's features decide about its blocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogFormat {
    /// Block numbers have 64 bits.
    pub(crate) wide: bool,
    /// A commit block may reach the disk before the blocks it commits.
    pub(crate) async_commit: bool,
    /// Checksums.
    pub(crate) checksums: LogChecksums,
}

/// The facts of the log's superblock, checked.
///
/// # Invariants
/// `first < last <= end <= ` the blocks of the area; `start` is `None` or in `first..last`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogSuperblock {
    /// Layout of blocks.
    pub(crate) format: LogFormat,
    /// The first block of the circular log, counted from the superblock.
    pub(crate) first: u32,
    /// One past the circular log's last block.
    pub(crate) last: u32,
    /// One past the whole area; more than `last` with fast commits, which lie between.
    pub(crate) end: u32,
    /// Whether there may be fast commits in `last + 1..end`.
    pub(crate) fast_commit: bool,
    /// Where recovery begins, or `None` if the log is empty.
    pub(crate) start: Option<u32>,
    /// The transaction expected at `start`.
    pub(crate) sequence: Tid,
    /// The error that stopped the journal's last user, an errno; 0 for none.
    pub(crate) errno: i32,
    /// File systems that use an external log.
    pub(crate) users: u32,
    /// The first of them.
    pub(crate) first_user: [u8; 16],
}

fn field(field: &'static str, value: impl Into<u64>) -> Error {
    Error::corrupt(Place::default(), CorruptKind::JournalField { field, value: value.into() })
}

impl RawJournalSuperblock {
    /// s_checksum as it ought to be.
    pub(crate) fn computed_checksum(&self) -> u32 {
        let mut copy = *self;
        copy.checksum = U32::ZERO;
        crc32c(!0, copy.as_bytes())
    }

    fn check_features(&self) -> Result<()> {
        let unknown = self.feature_incompat.get() & !INCOMPAT_KNOWN;
        if unknown != 0 {
            return Err(field("s_feature_incompat", unknown));
        }
        if self.feature_ro_compat.get() != 0 {
            return Err(field("s_feature_ro_compat", self.feature_ro_compat.get()));
        }
        Ok(())
    }

    fn checksums(&self) -> Result<LogChecksums> {
        let transaction = self.feature_compat.get() & COMPAT_CHECKSUM != 0;
        let short = self.feature_incompat.get() & INCOMPAT_CSUM_V2 != 0;
        let full = self.feature_incompat.get() & INCOMPAT_CSUM_V3 != 0;
        let seed = crc32c(!0, &self.uuid);
        match (transaction, short, full) {
            (false, false, false) => return Ok(LogChecksums::None),
            (true, false, false) => return Ok(LogChecksums::Transaction),
            (false, true, false) | (false, false, true) => {}
            _ => return Err(field("s_feature_incompat", self.feature_incompat.get())),
        }
        if self.checksum_type != CHECKSUM_CRC32C {
            return Err(field("s_checksum_type", self.checksum_type));
        }
        let (stored, computed) = (self.checksum.get(), self.computed_checksum());
        if stored != computed {
            let kind = CorruptKind::JournalSuperblockChecksum { stored, computed };
            return Err(Error::corrupt(Place::default(), kind));
        }
        Ok(if short { LogChecksums::Short(seed) } else { LogChecksums::Full(seed) })
    }

    /// Blocks set aside for fast commits.
    fn fast_commit_blocks(&self) -> u32 {
        match (self.feature_incompat.get() & INCOMPAT_FAST_COMMIT, self.num_fc_blks.get()) {
            (0, _) => 0,
            (_, 0) => DEFAULT_FC_BLOCKS,
            (_, blocks) => blocks,
        }
    }
}

impl LogSuperblock {
    /// Reads the superblock in the first block of an area of `area_blocks` blocks.
    ///
    /// # Errors
    /// [`CorruptKind::JournalField`], [`CorruptKind::JournalSuperblockChecksum`]: what the kernel
    /// does not take either.
    pub(crate) fn parse(bytes: &[u8], block_size: u32, area_blocks: u32) -> Result<Self> {
        let raw: &RawJournalSuperblock = prefix(Place::default(), bytes)?;
        if raw.header.magic.get() != MAGIC {
            return Err(field("h_magic", raw.header.magic.get()));
        }
        if raw.blocksize.get() != block_size {
            return Err(field("s_blocksize", raw.blocksize.get()));
        }
        let old = match raw.header.blocktype.get() {
            3 => true,
            4 => false,
            other => return Err(field("h_blocktype", other)),
        };
        if raw.maxlen.get() > area_blocks {
            return Err(field("s_maxlen", raw.maxlen.get()));
        }
        // The first version knows no features; what stands in their place has no meaning.
        let blank = RawJournalSuperblock {
            feature_compat: U32::ZERO,
            feature_incompat: U32::ZERO,
            feature_ro_compat: U32::ZERO,
            ..*raw
        };
        if old { Self::checked(&blank) } else { Self::checked(raw) }
    }

    fn checked(raw: &RawJournalSuperblock) -> Result<Self> {
        raw.check_features()?;
        let (first, end) = (raw.first.get(), raw.maxlen.get());
        let last = end
            .checked_sub(raw.fast_commit_blocks())
            .filter(|&last| last >= MIN_BLOCKS)
            .ok_or_else(|| field("s_maxlen", end))?;
        if first == 0 || first.saturating_add(MIN_BLOCKS) > last.saturating_add(1) {
            return Err(field("s_first", first));
        }
        let start = raw.start.get();
        if start != 0 && !(first..last).contains(&start) {
            return Err(field("s_start", start));
        }
        let incompat = raw.feature_incompat.get();
        let [first_user, ..] = raw.users;
        let format = LogFormat {
            wide: incompat & INCOMPAT_64BIT != 0,
            async_commit: incompat & INCOMPAT_ASYNC_COMMIT != 0,
            checksums: raw.checksums()?,
        };
        Ok(Self {
            format,
            first,
            last,
            end,
            fast_commit: incompat & INCOMPAT_FAST_COMMIT != 0,
            start: (start != 0).then_some(start),
            sequence: Tid::new(raw.sequence.get()),
            errno: i32::from_be_bytes(raw.errno.get().to_be_bytes()),
            users: raw.nr_users.get(),
            first_user,
        })
    }
}

/// What a log block is, by its header; copies of file system blocks have none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogBlock {
    /// Tags, followed by the blocks they name.
    Descriptor,
    /// The end of a transaction.
    Commit,
    /// Blocks whose older copies do not count.
    Revoke,
    /// Something with the magic that is none of these.
    Other,
}

/// The kind and transaction of a block that has the log's magic.
pub(crate) fn header(bytes: &[u8]) -> Option<(LogBlock, Tid)> {
    let (raw, _) = RawHeader::ref_from_prefix(bytes).ok()?;
    if raw.magic.get() != MAGIC {
        return None;
    }
    let kind = match raw.blocktype.get() {
        1 => LogBlock::Descriptor,
        2 => LogBlock::Commit,
        5 => LogBlock::Revoke,
        _ => LogBlock::Other,
    };
    Some((kind, Tid::new(raw.sequence.get())))
}

/// One tag of a descriptor block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tag {
    /// The file system block that the copy belongs to.
    pub(crate) block: u64,
    /// The copy's first word stands for [`MAGIC`].
    pub(crate) escaped: bool,
    /// The stored checksum (csum v2 and v3), in the width the log has.
    checksum: u32,
}

/// How a commit block's checksum came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Commit {
    /// Whether the checksum, if there is one, matches.
    pub(crate) good: bool,
    /// h_commit_sec: seconds since 1970.
    pub(crate) seconds: u64,
}

impl LogFormat {
    pub(super) fn seed(&self) -> Option<u32> {
        match self.checksums {
            LogChecksums::Short(seed) | LogChecksums::Full(seed) => Some(seed),
            LogChecksums::None | LogChecksums::Transaction => None,
        }
    }

    pub(super) fn tag_bytes(&self) -> usize {
        match (self.checksums, self.wide) {
            (LogChecksums::Full(_), _) => 16,
            (LogChecksums::Short(_), true) => 14,
            (LogChecksums::Short(_), false) => 10,
            (_, true) => 12,
            (_, false) => 8,
        }
    }

    /// The tags of a descriptor block, in order.
    pub(crate) fn tags<'a>(&self, block: &'a [u8]) -> Tags<'a> {
        let tail = if self.seed().is_some() { TAIL } else { 0 };
        let end = block.len().saturating_sub(tail);
        Tags { rest: block.get(HEADER..end).unwrap_or_default(), format: *self }
    }

    fn tag(&self, bytes: &[u8]) -> Option<(Tag, u16)> {
        let (raw, rest) = RawTag::ref_from_prefix(bytes).ok()?;
        let high = RawTag3Rest::ref_from_prefix(rest).ok().map(|(rest, _)| rest);
        let high_word = || U32::ref_from_prefix(rest).map_or(0, |(word, _)| word.get());
        let upper = if self.wide { u64::from(high_word()) << 32 } else { 0 };
        let checksum = match self.checksums {
            LogChecksums::Full(_) => high?.checksum.get(),
            LogChecksums::Short(_) => raw.checksum.get().into(),
            LogChecksums::None | LogChecksums::Transaction => 0,
        };
        let flags = raw.flags.get();
        let block = u64::from(raw.blocknr.get()) | upper;
        Some((Tag { block, escaped: flags & FLAG_ESCAPE != 0, checksum }, flags))
    }

    /// Whether `copy`, as it stands in the log, is what the tag in transaction `tid` promised.
    pub(crate) fn copy_is_good(&self, tag: &Tag, tid: Tid, copy: &[u8]) -> bool {
        let Some(seed) = self.seed() else { return true };
        let computed = crc32c(crc32c(seed, &tid.get().to_be_bytes()), copy);
        match self.checksums {
            LogChecksums::Short(_) => tag.checksum == computed & 0xffff,
            _ => tag.checksum == computed,
        }
    }

    /// Whether a descriptor or revoke block's own checksum matches (true where it has none).
    pub(crate) fn tail_is_good(&self, block: &[u8]) -> bool {
        let Some(seed) = self.seed() else { return true };
        let Some((body, stored)) = block.split_last_chunk::<TAIL>() else { return false };
        u32::from_be_bytes(*stored) == crc32c(crc32c(seed, body), &[0; TAIL])
    }

    /// The blocks a revoke block names, or `None` if its count cannot be.
    pub(crate) fn revoked<'a>(
        &self,
        block: &'a [u8],
    ) -> Option<impl Iterator<Item = u64> + use<'a>> {
        const START: usize = HEADER + 4;
        let tail = if self.seed().is_some() { TAIL } else { 0 };
        let (count, _) = U32::ref_from_prefix(block.get(HEADER..)?).ok()?;
        if u64::from(count.get()) > on_disk(block.len().checked_sub(tail)?) {
            return None;
        }
        let used = usize::try_from(count.get()).ok()?.max(START);
        let records = block.get(START..used)?;
        let width = if self.wide { 8 } else { 4 };
        Some(
            records.chunks_exact(width).map(|record| {
                record.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
            }),
        )
    }

    /// Judges a commit block. `transaction` is the crc32 over the transaction's blocks so far.
    pub(crate) fn commit(&self, block: &[u8], transaction: u32) -> Commit {
        let Ok((raw, _)) = RawCommit::ref_from_prefix(block) else {
            return Commit { good: false, seconds: 0 };
        };
        let [stored, ..] = raw.chksum;
        let good = match self.checksums {
            LogChecksums::None => true,
            LogChecksums::Transaction => {
                let found = (raw.chksum_type, raw.chksum_size, stored.get());
                found == (CHECKSUM_CRC32, 4, transaction) || found == (0, 0, 0)
            }
            LogChecksums::Short(seed) | LogChecksums::Full(seed) => {
                // A commit block of which only the first sector was written is whole enough: the
                // rest is zeros by definition.
                let mut blank = *raw;
                let [first, ..] = &mut blank.chksum;
                *first = U32::ZERO;
                let rest = block.get(size_of::<RawCommit>()..).unwrap_or_default();
                let head = crc32c(seed, blank.as_bytes());
                stored.get() == crc32c(head, rest) || stored.get() == zeros(head, rest.len())
            }
        };
        Commit { good, seconds: raw.commit_sec.get() }
    }

    /// The v1 crc32 carried on over one more block; unchanged where there is none.
    pub(crate) fn transaction_checksum(&self, so_far: u32, block: &[u8]) -> u32 {
        match self.checksums {
            LogChecksums::Transaction => crc32_be(so_far, block),
            _ => so_far,
        }
    }

    /// Whether copies must be read to judge a transaction (v1).
    pub(crate) fn sums_copies(&self) -> bool {
        self.checksums == LogChecksums::Transaction
    }

    /// Whether copies have checksums of their own (v2, v3).
    pub(crate) fn tags_have_checksums(&self) -> bool {
        self.seed().is_some()
    }
}

/// crc32c carried on over `count` zero bytes.
fn zeros(mut crc: u32, mut count: usize) -> u32 {
    const ZEROS: [u8; 1024] = [0; 1024];
    while count > 0 {
        let step = count.min(ZEROS.len());
        crc = crc32c(crc, ZEROS.get(..step).unwrap_or_default());
        count = count.saturating_sub(step);
    }
    crc
}

/// Iterates over the tags of one descriptor block.
pub(crate) struct Tags<'a> {
    rest: &'a [u8],
    format: LogFormat,
}

impl Iterator for Tags<'_> {
    type Item = Tag;

    fn next(&mut self) -> Option<Tag> {
        let size = self.format.tag_bytes();
        let (tag, flags) = self.format.tag(self.rest.get(..size)?)?;
        let uuid = if flags & FLAG_SAME_UUID == 0 { 16 } else { 0 };
        let next = if flags & FLAG_LAST_TAG == 0 { size.saturating_add(uuid) } else { usize::MAX };
        self.rest = self.rest.get(next..).unwrap_or_default();
        Some(tag)
    }
}
