//! Where the metadata of an image are, and what each block of them is.
//!
//! A reader of its own, as what the engine reads does not tell what it took it for. The images are made
//! here and sound; whatever it meets, it stays inside of them.

use std::ops::Range;

use anyhow::Result;
use fuse4fs_ext4::Geometry;
use fuse4fs_ext4::device::MemDevice;
use fuse4fs_ext4::features::Incompat;
use fuse4fs_ext4::ids::GroupNr;

/// Levels of an extent tree below the root, at most.
const MAX_DEPTH: usize = 5;
/// Pieces of one image, at most.
const MAX_PIECES: usize = 1 << 16;

/// What a piece of metadata is. Numbers are of groups and inodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The first superblock.
    Superblock,
    /// A block of group descriptors, and the first group in it.
    Descriptors(u32),
    /// A block bitmap.
    BlockBitmap(u32),
    /// An inode bitmap.
    InodeBitmap(u32),
    /// A block of an inode table, and the first inode in it.
    Inodes(u32),
    /// A block of an inode's extent tree.
    Extents(u32),
    /// A block of an inode's pointers.
    Pointers,
    /// A block of a directory.
    Directory(u32),
    /// A block of attributes.
    Attributes,
    /// A block of an attribute's value.
    Value,
    /// The target of a symbolic link.
    Target,
    /// A block of the log.
    Log,
    /// The block of multiple mount protection.
    Mmp,
    /// A block of the orphan file, which is that inode.
    Orphans(u32),
    /// A block of a quota file.
    Quota,
}

/// A piece of metadata.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) place: Range<usize>,
    pub(super) kind: Kind,
}

/// All metadata of an image.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) geometry: Geometry,
    pub(super) pieces: Vec<Piece>,
    /// Where the blocks of the log start, in order; bytes.
    pub(super) log: Vec<usize>,
}

impl Layout {
    /// The layout of a sound image.
    ///
    /// # Errors
    /// The engine's word on the superblock.
    pub(super) fn of(image: &[u8]) -> Result<Self> {
        let geometry = fuse4fs_ext4::probe(&MemDevice::new(image.to_vec()), None)?;
        let mut survey = Survey { image, geometry, pieces: Vec::new(), log: Vec::new() };
        survey.all();
        let Survey { geometry, mut pieces, log, .. } = survey;
        // What a log has never used tells nothing.
        let is_blank = |piece: &Piece| image[piece.place.clone()].iter().all(|byte| *byte == 0);
        pieces
            .retain(|piece| !matches!(piece.kind, Kind::Log | Kind::Inodes(_)) || !is_blank(piece));
        pieces.truncate(MAX_PIECES);
        Ok(Self { geometry, pieces, log })
    }

    /// Where an inode's record is, by the descriptors in `bytes`.
    pub(super) fn inode(
        &self,
        nr: u32,
        bytes: &dyn Fn(usize, usize) -> Option<Vec<u8>>,
    ) -> Option<usize> {
        let (group, index) = self.geometry.group_of_inode(fuse4fs_ext4::ids::InodeNr::new(nr))?;
        let table = bytes(descriptor(&self.geometry, group.get()) + 8, 4)?;
        let table = u32::from_le_bytes(table.try_into().ok()?) as usize;
        let index = index as usize * usize::from(self.geometry.inode_size);
        Some(table * self.geometry.block_size as usize + index)
    }
}

/// Where the descriptor of `group` is; bytes.
pub(super) fn descriptor(geometry: &Geometry, group: u32) -> usize {
    let per_block = geometry.descriptors_per_block();
    let index = group / per_block;
    let is_meta = geometry.features.incompat.contains(Incompat::META_BG);
    let block = if is_meta && index >= geometry.first_meta_bg {
        let first = GroupNr::new(index * per_block);
        geometry.first_block(first).get() + u64::from(geometry.has_super(first))
    } else {
        geometry.superblock_block.get() + 1 + u64::from(index)
    };
    let slot = (group % per_block) as usize * usize::from(geometry.desc_size);
    block as usize * geometry.block_size as usize + slot
}

/// Looks through an image.
struct Survey<'a> {
    image: &'a [u8],
    geometry: Geometry,
    pieces: Vec<Piece>,
    log: Vec<usize>,
}

/// Where a file's blocks are, and those of its map; bytes.
#[derive(Default)]
struct Blocks {
    content: Vec<(u64, usize)>,
    map: Vec<usize>,
}

impl Survey<'_> {
    fn all(&mut self) {
        self.pieces.push(Piece { place: 1024..2048, kind: Kind::Superblock });
        for group in 0..self.geometry.group_count {
            self.group(group);
        }
        let mmp = self.le32(1024 + 0x168) as usize;
        if self.geometry.features.incompat.contains(Incompat::MMP) {
            self.add(mmp * self.block_size(), Kind::Mmp);
        }
        for nr in 1..=self.geometry.inodes_count {
            self.inode(nr);
        }
    }

    fn group(&mut self, group: u32) {
        let (at, block_size) = (descriptor(&self.geometry, group), self.block_size());
        if at % block_size == 0 {
            self.add(at, Kind::Descriptors(group));
        }
        let block = |offset: usize| self.le32(at + offset) as usize * block_size;
        let (blocks, inodes, table) = (block(0), block(4), block(8));
        self.add(blocks, Kind::BlockBitmap(group));
        self.add(inodes, Kind::InodeBitmap(group));
        let per_block = block_size / usize::from(self.geometry.inode_size);
        for index in 0..self.geometry.inode_table_blocks() as usize {
            let first = group * self.geometry.inodes_per_group + (index * per_block) as u32 + 1;
            self.add(table + index * block_size, Kind::Inodes(first));
        }
    }

    fn inode(&mut self, nr: u32) {
        let group = (nr - 1) / self.geometry.inodes_per_group;
        let index = ((nr - 1) % self.geometry.inodes_per_group) as usize;
        let table = self.le32(descriptor(&self.geometry, group) + 8) as usize * self.block_size();
        let at = table + index * usize::from(self.geometry.inode_size);
        let (mode, flags) = (self.le16(at), self.le32(at + 0x20));
        if mode == 0 && !self.is_special(nr) {
            return;
        }
        let attributes = self.le32(at + 0x68) as usize * self.block_size();
        if attributes != 0 {
            self.add(attributes, Kind::Attributes);
        }
        let is_inline = flags & 0x1000_0000 != 0;
        let is_device = matches!(mode & 0xf000, 0x1000 | 0x2000 | 0x6000 | 0xc000);
        let is_fast_link = mode & 0xf000 == 0xa000 && self.le32(at + 4) < 60;
        if is_inline || is_device || is_fast_link {
            return;
        }
        let has_extents = flags & 0x8_0000 != 0;
        let mut blocks = Blocks::default();
        if has_extents {
            self.extents(at + 0x28, MAX_DEPTH, &mut blocks);
        } else {
            self.pointers(at + 0x28, &mut blocks);
        }
        for place in blocks.map {
            self.add(place, if has_extents { Kind::Extents(nr) } else { Kind::Pointers });
        }
        self.content(nr, (mode, flags), blocks.content);
    }

    /// Adds an inode's content, if it is metadata.
    fn content(&mut self, nr: u32, (mode, flags): (u16, u32), mut blocks: Vec<(u64, usize)>) {
        let superblock = |offset: usize| self.le32(1024 + offset);
        let quotas = [superblock(0x240), superblock(0x244), superblock(0x26c)];
        let kind = match mode & 0xf000 {
            _ if nr == superblock(0xe0) => Kind::Log,
            _ if quotas.contains(&nr) => Kind::Quota,
            _ if nr == superblock(0x280) => Kind::Orphans(nr),
            0x4000 => Kind::Directory(nr),
            0xa000 => Kind::Target,
            _ if flags & 0x20_0000 != 0 => Kind::Value,
            _ => return,
        };
        blocks.sort_unstable();
        for (_, place) in blocks {
            self.add(place, kind);
            if kind == Kind::Log {
                self.log.push(place);
            }
        }
    }

    fn is_special(&self, nr: u32) -> bool {
        self.geometry.is_special(fuse4fs_ext4::ids::InodeNr::new(nr))
    }

    /// The extents of the node at `node`.
    fn extents(&self, node: usize, depth: usize, found: &mut Blocks) {
        let (entries, level) = (self.le16(node + 2), self.le16(node + 6));
        if self.le16(node) != 0xf30a || usize::from(level) > depth {
            return;
        }
        for entry in (1..=usize::from(entries)).map(|index| node + 12 * index) {
            let logical = u64::from(self.le32(entry));
            if level > 0 {
                let child = self.le32(entry + 4) as usize * self.block_size();
                found.map.push(child);
                self.extents(child, depth.saturating_sub(1), found);
                continue;
            }
            let stored = u64::from(self.le16(entry + 4));
            let len = if stored > 0x8000 { stored - 0x8000 } else { stored };
            let first = self.le32(entry + 8) as usize;
            let run = (0..len).map(|at| (logical + at, (first + at as usize) * self.block_size()));
            found.content.extend(run);
        }
    }

    /// The blocks that the pointers in the inode at `block` lead to.
    fn pointers(&self, block: usize, found: &mut Blocks) {
        for index in 0..12 {
            self.pointer(self.le32(block + 4 * index), 0, found);
        }
        for level in 1..=3 {
            self.pointer(self.le32(block + 4 * (11 + level)), level, found);
        }
    }

    fn pointer(&self, block: u32, level: usize, found: &mut Blocks) {
        if block == 0 || found.map.len() > MAX_PIECES {
            return;
        }
        let place = block as usize * self.block_size();
        if level == 0 {
            found.content.push((found.content.len() as u64, place));
            return;
        }
        found.map.push(place);
        for at in (place..place + self.block_size()).step_by(4) {
            self.pointer(self.le32(at), level - 1, found);
        }
    }

    fn add(&mut self, at: usize, kind: Kind) {
        let place = at..at + self.block_size();
        let is_known = |piece: &Piece| piece.kind == Kind::Attributes && piece.place == place;
        if self.image.get(place.clone()).is_some() && !self.pieces.iter().any(is_known) {
            self.pieces.push(Piece { place, kind });
        }
    }

    fn block_size(&self) -> usize {
        self.geometry.block_size as usize
    }

    fn le16(&self, at: usize) -> u16 {
        let bytes = self.image.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u16::from_le_bytes(*bytes))
    }

    fn le32(&self, at: usize) -> u32 {
        let bytes = self.image.get(at..).and_then(|bytes| bytes.first_chunk());
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}
