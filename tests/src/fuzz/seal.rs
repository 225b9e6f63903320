//! Makes the checksums of metadata right again after they were edited, so that what is behind the
//! comparison of checksums is met.
//!
//! Source: Documentation/filesystems/ext4/checksums.rst

use std::collections::BTreeSet;

use fuse4fs_ext4::disk::checksum::{ChecksumSeed, crc16, crc32c};
use fuse4fs_ext4::features::{Incompat, RoCompat};

use super::layout::{Kind, Layout, descriptor};
use super::overlay::Overlay;
use super::seal_log;

/// EXT4_BG_INODE_UNINIT, EXT4_BG_BLOCK_UNINIT: there is no bitmap to sum.
const INODE_UNINIT: u16 = 1;
const BLOCK_UNINIT: u16 = 2;

impl Layout {
    /// Makes the checksums of the pieces `touched` right, and those that cover them.
    pub(super) fn seal(&self, device: &Overlay, touched: &BTreeSet<usize>) {
        let sealer = Sealer { layout: self, device };
        let kinds: Vec<_> = touched.iter().filter_map(|index| self.pieces.get(*index)).collect();
        if kinds.iter().any(|piece| piece.kind == Kind::Log) {
            seal_log::seal(device, &self.log, self.geometry.block_size as usize);
        }
        if !self.geometry.features.group_checksums() {
            return;
        }
        // The sums of bitmaps are in descriptors, which are summed after them.
        let mut groups = BTreeSet::new();
        for piece in &kinds {
            groups.extend(sealer.piece(piece.kind, piece.place.start));
        }
        groups.iter().for_each(|group| sealer.descriptor(*group));
    }
}

struct Sealer<'a> {
    layout: &'a Layout,
    device: &'a Overlay,
}

impl Sealer<'_> {
    /// Seals one piece; the groups whose descriptors have to be sealed for it.
    fn piece(&self, kind: Kind, at: usize) -> Vec<u32> {
        let geometry = &self.layout.geometry;
        match kind {
            Kind::Descriptors(first) => {
                let end = (first + geometry.descriptors_per_block()).min(geometry.group_count);
                return (first..end).collect();
            }
            _ if !geometry.features.metadata_csum() => {}
            Kind::BlockBitmap(group) => {
                self.bitmap(group, (at, geometry.clusters_per_group()), (BLOCK_UNINIT, 0x18, 0x38));
                return vec![group];
            }
            Kind::InodeBitmap(group) => {
                self.bitmap(group, (at, geometry.inodes_per_group), (INODE_UNINIT, 0x1a, 0x3a));
                return vec![group];
            }
            Kind::Superblock => self.sum_before(at, 1020, !0),
            Kind::Mmp => self.sum_before(at, 1020, geometry.checksum_seed.get()),
            Kind::Inodes(first) => self.inodes(first, at),
            Kind::Extents(owner) => self.extents(owner, at),
            Kind::Directory(owner) => self.directory(owner, at),
            Kind::Attributes => self.attributes(at),
            Kind::Orphans(owner) => self.orphans(owner, at),
            Kind::Log | Kind::Quota | Kind::Pointers | Kind::Value | Kind::Target => {}
        }
        Vec::new()
    }

    fn bytes(&self, at: usize, len: usize) -> Vec<u8> {
        self.device.bytes(at, len).unwrap_or_default()
    }

    fn block(&self, at: usize) -> Vec<u8> {
        self.bytes(at, self.layout.geometry.block_size as usize)
    }

    fn le16(&self, at: usize) -> u16 {
        self.bytes(at, 2).try_into().map_or(0, u16::from_le_bytes)
    }

    /// The sum of `len` bytes, stored behind them.
    fn sum_before(&self, at: usize, len: usize, seed: u32) {
        let sum = crc32c(seed, &self.bytes(at, len));
        self.device.edit(at + len, &sum.to_le_bytes());
    }

    fn bitmap(&self, group: u32, (at, bits): (usize, u32), (flag, low, high): (u16, usize, usize)) {
        let geometry = &self.layout.geometry;
        let desc = descriptor(geometry, group);
        if self.le16(desc + 0x12) & flag != 0 {
            return;
        }
        let sum = geometry.checksum_seed.of(&self.bytes(at, bits as usize / 8)).to_le_bytes();
        self.device.edit(desc + low, &sum[..2]);
        if geometry.desc_size >= 64 {
            self.device.edit(desc + high, &sum[2..]);
        }
    }

    fn descriptor(&self, group: u32) {
        let geometry = &self.layout.geometry;
        let (at, number) = (descriptor(geometry, group), group.to_le_bytes());
        let bytes = self.bytes(at, geometry.desc_size.into());
        let Some((before, after)) = bytes.split_at_checked(30) else { return };
        let after = &after[2..];
        let sum = if geometry.features.ro_compat.contains(RoCompat::METADATA_CSUM) {
            geometry.checksum_seed.chain(&number).chain(before).chain(&[0, 0]).of(after) as u16
        } else {
            let head = crc16(crc16(crc16(!0, &geometry.uuid), &number), before);
            let is_wide = geometry.features.incompat.contains(Incompat::BIT64);
            if is_wide { crc16(head, after) } else { head }
        };
        self.device.edit(at + 30, &sum.to_le_bytes());
    }

    /// The seed of what belongs to inode `nr`.
    fn seed(&self, nr: u32) -> ChecksumSeed {
        let at = self.layout.inode(nr, &|at, len| self.device.bytes(at, len));
        let generation = at.map_or_else(Vec::new, |at| self.bytes(at + 0x64, 4));
        self.layout.geometry.checksum_seed.chain(&nr.to_le_bytes()).chain(&generation)
    }

    fn inodes(&self, first: u32, at: usize) {
        let size = usize::from(self.layout.geometry.inode_size);
        for (nr, record) in (first..).zip(self.block(at).chunks_exact(size)) {
            let at = at + (nr - first) as usize * size;
            if record.iter().any(|byte| *byte != 0) {
                self.inode(nr, at, record.to_vec());
            }
        }
    }

    fn inode(&self, nr: u32, at: usize, mut record: Vec<u8>) {
        let seed = self.layout.geometry.checksum_seed.chain(&nr.to_le_bytes());
        let seed = seed.chain(&record[0x64..0x68]);
        let is_wide = record.len() > 128 && u16::from_le_bytes([record[128], record[129]]) >= 4;
        record[0x7c..0x7e].fill(0);
        if is_wide {
            record[0x82..0x84].fill(0);
        }
        let sum = seed.of(&record).to_le_bytes();
        self.device.edit(at + 0x7c, &sum[..2]);
        if is_wide {
            self.device.edit(at + 0x82, &sum[2..]);
        }
    }

    /// Behind as many entries as the header says there may be.
    fn extents(&self, owner: u32, at: usize) {
        let len = 12 + 12 * usize::from(self.le16(at + 4));
        if len + 4 <= self.layout.geometry.block_size as usize {
            self.sum_before(at, len, self.seed(owner).get());
        }
    }

    /// A leaf has its sum in an entry without a name at its end, a block of the index behind its
    /// entries. Which it is, the first lengths tell: there are names in no block of the index.
    fn directory(&self, owner: u32, at: usize) {
        let block = self.block(at);
        let Some(body) = block.len().checked_sub(12) else { return };
        let word = |at: usize| usize::from(u16::from_le_bytes([block[at], block[at + 1]]));
        let entries = if word(4) == block.len() {
            8
        } else if word(4) == 12 && word(16) == body {
            32
        } else {
            let sum = self.seed(owner).of(&block[..body]);
            return self.device.edit(at + body + 8, &sum.to_le_bytes());
        };
        let (limit, count) = (word(entries), word(entries + 2));
        let tail = entries + 8 * limit;
        if tail + 8 > block.len() {
            return;
        }
        let seed = self.seed(owner).chain(&block[..(entries + 8 * count).min(tail)]);
        let sum = seed.chain(&block[tail..tail + 4]).of(&[0; 4]);
        self.device.edit(at + tail + 4, &sum.to_le_bytes());
    }

    fn attributes(&self, at: usize) {
        let mut block = self.block(at);
        let Some(field) = block.get_mut(16..20) else { return };
        field.fill(0);
        let geometry = &self.layout.geometry;
        let number = (at / geometry.block_size as usize) as u64;
        let sum = geometry.checksum_seed.chain(&number.to_le_bytes()).of(&block);
        self.device.edit(at + 16, &sum.to_le_bytes());
    }

    fn orphans(&self, owner: u32, at: usize) {
        let block = self.block(at);
        let Some(body) = block.len().checked_sub(8) else { return };
        let number = (at / self.layout.geometry.block_size as usize) as u64;
        let sum = self.seed(owner).chain(&number.to_le_bytes()).of(&block[..body]);
        self.device.edit(at + body + 4, &sum.to_le_bytes());
    }
}
