//! The checksums of the log, made right again: those of v2 and v3, of v1, and of fast commits.
//!
//! Source: Documentation/filesystems/ext4/journal.rst

use fuse4fs_ext4::disk::checksum::{crc32_be, crc32c};

use super::overlay::Overlay;

const MAGIC: u32 = 0xc03b_3998;
const DESCRIPTOR: u32 = 1;
const COMMIT: u32 = 2;
const REVOKE: u32 = 5;
/// EXT4_FC_TAG_TAIL.
const FC_TAIL: u16 = 8;

/// Seals the log whose blocks of `size` bytes start at `places`.
pub(super) fn seal(device: &Overlay, places: &[usize], size: usize) {
    let Some(log) = Log::new(device, places, size) else { return };
    log.superblock();
    log.transactions();
    log.fast_commits();
}

struct Log<'a> {
    device: &'a Overlay,
    places: &'a [usize],
    size: usize,
    /// The superblock.
    head: Vec<u8>,
    seed: u32,
    short: bool,
    full: bool,
    wide: bool,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|bytes| bytes.first_chunk());
    word.map_or(0, |word| u32::from_be_bytes(*word))
}

impl<'a> Log<'a> {
    fn new(device: &'a Overlay, places: &'a [usize], size: usize) -> Option<Self> {
        let head = device.bytes(*places.first()?, 1024)?;
        let incompat = be32(&head, 0x28);
        let has = |bit| incompat & bit != 0;
        let seed = crc32c(!0, &head[0x30..0x40]);
        let (wide, short, full) = (has(2), has(8), has(16));
        Some(Self { device, places, size, head, seed, short, full, wide })
    }

    fn block(&self, at: u32) -> Option<(usize, Vec<u8>)> {
        let place = *self.places.get(at as usize)?;
        Some((place, self.device.bytes(place, self.size)?))
    }

    fn superblock(&self) {
        if !(self.short || self.full) {
            return;
        }
        let mut head = self.head.clone();
        head[0xfc..0x100].fill(0);
        let sum = crc32c(!0, &head);
        self.device.edit(self.places[0] + 0xfc, &sum.to_be_bytes());
    }

    /// Blocks at the end for fast commits.
    fn fast_blocks(&self) -> u32 {
        match (be32(&self.head, 0x28) & 0x20, be32(&self.head, 0x54)) {
            (0, _) => 0,
            (_, 0) => 256,
            (_, blocks) => blocks,
        }
    }

    /// Each transaction from the tail on, each block once.
    fn transactions(&self) {
        let (first, end) = (be32(&self.head, 0x14), be32(&self.head, 0x10));
        let last = end.saturating_sub(self.fast_blocks());
        let next = |at: u32| if at + 1 >= last { first } else { at + 1 };
        let (mut at, mut tid) = (be32(&self.head, 0x1c), be32(&self.head, 0x18));
        let mut sum = !0;
        let mut left = self.places.len();
        while at != 0 && left > 0 {
            left -= 1;
            let Some((place, mut block)) = self.block(at) else { return };
            if be32(&block, 0) != MAGIC || be32(&block, 8) != tid {
                return;
            }
            at = next(at);
            match be32(&block, 4) {
                DESCRIPTOR => {
                    sum = crc32_be(sum, &block);
                    for tag in self.tags(&block) {
                        let Some((_, copy)) = self.block(at) else { return };
                        self.tag(&mut block, tag, tid, &copy);
                        sum = crc32_be(sum, &copy);
                        at = next(at);
                        left = left.saturating_sub(1);
                    }
                    self.tail(place, &block);
                }
                REVOKE => self.tail(place, &block),
                COMMIT => {
                    self.commit(place, block, sum);
                    tid = tid.wrapping_add(1);
                    sum = !0;
                }
                _ => return,
            }
        }
    }

    /// Where the tags of a descriptor are in it.
    fn tags(&self, block: &[u8]) -> Vec<usize> {
        let bytes = match (self.full, self.short, self.wide) {
            (true, ..) => 16,
            (_, true, true) => 14,
            (_, true, false) => 10,
            (_, _, true) => 12,
            _ => 8,
        };
        let (mut tags, mut at) = (Vec::new(), 12);
        while at + bytes <= block.len() {
            tags.push(at);
            let flags = block[at + 7];
            at += bytes + if flags & 2 == 0 { 16 } else { 0 };
            if flags & 8 != 0 {
                break;
            }
        }
        tags
    }

    /// Puts the sum of a copy into its tag.
    fn tag(&self, block: &mut [u8], at: usize, tid: u32, copy: &[u8]) {
        let sum = crc32c(crc32c(self.seed, &tid.to_be_bytes()), copy).to_be_bytes();
        if self.full {
            block[at + 12..at + 16].copy_from_slice(&sum);
        } else if self.short {
            block[at + 4..at + 6].copy_from_slice(&sum[2..]);
        }
    }

    /// The sum at the end of a descriptor or revoke block, which is written back.
    fn tail(&self, place: usize, block: &[u8]) {
        let mut block = block.to_vec();
        if self.short || self.full {
            let body = block.len() - 4;
            block[body..].fill(0);
            let sum = crc32c(self.seed, &block).to_be_bytes();
            block[body..].copy_from_slice(&sum);
        }
        self.device.edit(place, &block);
    }

    /// `transaction` is the sum of its descriptors and copies, which v1 has.
    fn commit(&self, place: usize, mut block: Vec<u8>, transaction: u32) {
        let is_first_version = be32(&self.head, 0x24) & 1 != 0;
        block[0x10..0x14].fill(0);
        let sum = match (self.short || self.full, is_first_version) {
            (true, _) => crc32c(self.seed, &block),
            (_, true) => transaction,
            _ => return,
        };
        self.device.edit(place + 0x10, &sum.to_be_bytes());
    }

    /// Fast commits: the sum of each ends it.
    fn fast_commits(&self) {
        let end = be32(&self.head, 0x10);
        let mut sum = 0;
        for at in end.saturating_sub(self.fast_blocks()).saturating_add(1)..end {
            let Some((place, block)) = self.block(at) else { return };
            let mut rest = 0;
            while let Some(&[a, b, c, d]) = block.get(rest..).and_then(|tag| tag.first_chunk()) {
                let (tag, len) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
                let end = rest + 4 + usize::from(len);
                let Some(whole) = block.get(rest..end) else { return };
                if tag == FC_TAIL && whole.len() >= 12 {
                    sum = crc32c(sum, &whole[..8]);
                    self.device.edit(place + rest + 8, &sum.to_le_bytes());
                    sum = 0;
                } else {
                    sum = crc32c(sum, whole);
                }
                rest = end;
            }
        }
    }
}
