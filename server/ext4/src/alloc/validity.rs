//! Which blocks hold the file system's own metadata: superblocks, descriptors and the room for more
//! of them, bitmaps, inode tables, the journal and the block of multi-mount protection.
//!
//! A sorted list of runs, built once when the file system is opened for writing: two or three runs
//! per flexible group. Immutable.
//! Kernel: fs/ext4/block_validity.c

use crate::disk::group_desc::GroupDesc;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::{Compat, Incompat};
use crate::geometry::Geometry;
use crate::ids::{BlockNr, GroupNr, InodeNr, LogicalBlock};
use crate::inode;
use crate::map::{self, Mapping};
use crate::superblock::Facts;
use crate::usage;
use crate::volume::Volume;

/// EXT4_RESIZE_INO, whose blocks are the room for more descriptors.
const RESIZE: InodeNr = InodeNr::new(7);
/// Runs that a journal may be in. mke2fs makes one or a few.
const MAX_JOURNAL_RUNS: usize = 1 << 16;

/// Blocks from `start` to before `end` that only `owner` may map (0: nobody).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Zone {
    start: u64,
    end: u64,
    owner: InodeNr,
}

/// All metadata of the file system.
#[derive(Debug, Default)]
pub(super) struct Zones(Vec<Zone>);

impl Zones {
    /// Takes the metadata of one group.
    ///
    /// # Errors
    /// [`CorruptKind::GroupPlace`].
    pub(super) fn add_group(
        &mut self,
        group: GroupNr,
        desc: &GroupDesc,
        geometry: &Geometry,
    ) -> Result<()> {
        desc.check_bitmaps(group, geometry)?;
        let table = desc.inode_table_in(group, geometry)?;
        self.add(geometry.first_block(group), base(geometry, group), InodeNr::default());
        self.add(desc.block_bitmap, 1, InodeNr::default());
        self.add(desc.inode_bitmap, 1, InodeNr::default());
        self.add(table, geometry.inode_table_blocks().into(), InodeNr::default());
        Ok(())
    }

    /// Takes the journal and the block of multi-mount protection.
    ///
    /// # Errors
    /// [`CorruptKind::JournalMap`]; corruption of the journal's map; I/O errors.
    pub(super) fn add_rest(&mut self, volume: &Volume, facts: &Facts) -> Result<()> {
        let features = volume.geometry.features;
        if features.incompat.contains(Incompat::MMP) && facts.mmp_block != 0 {
            self.add(BlockNr::new(facts.mmp_block), 1, InodeNr::default());
        }
        let inside = facts.journal_inode.filter(|_| features.compat.contains(Compat::HAS_JOURNAL));
        let Some(journal) = inside.map(|nr| inode::get(volume, nr)).transpose()? else {
            return Ok(());
        };
        let blocks = journal.size.checked_div(volume.block_size().into()).unwrap_or(0);
        let blocks = u32::try_from(blocks).unwrap_or(map::LIMIT);
        let (mut at, mut runs) = (0, 0_usize);
        while at < blocks {
            let Mapping::Written { first, len } =
                map::lookup(volume, &journal, LogicalBlock::new(at))?
            else {
                return Err(bad_journal(journal.nr, at));
            };
            runs = runs.saturating_add(1);
            if runs > MAX_JOURNAL_RUNS {
                return Err(bad_journal(journal.nr, at));
            }
            let len = len.clamp(1, blocks.saturating_sub(at));
            self.add(first, len.into(), journal.nr);
            at = at.saturating_add(len);
        }
        Ok(())
    }

    fn add(&mut self, start: BlockNr, blocks: u64, owner: InodeNr) {
        let (start, end) = (start.get(), start.get().saturating_add(blocks));
        let joins = |last: &&mut Zone| last.end == start && last.owner == owner;
        if let Some(last) = self.0.last_mut().filter(joins) {
            last.end = end;
            return;
        }
        if blocks > 0 {
            self.0.push(Zone { start, end, owner });
        }
    }

    /// Sorts and joins what touches.
    ///
    /// # Errors
    /// [`CorruptKind::MetadataOverlap`].
    pub(super) fn finish(mut self) -> Result<Self> {
        self.0.sort_unstable();
        let mut joined: Vec<Zone> = Vec::with_capacity(self.0.len());
        for zone in self.0 {
            match joined.last_mut() {
                Some(last) if zone.start < last.end => {
                    let kind = CorruptKind::MetadataOverlap { block: zone.start };
                    return Err(Error::corrupt(Place::block(BlockNr::new(zone.start)), kind));
                }
                Some(last) if zone.start == last.end && zone.owner == last.owner => {
                    last.end = zone.end;
                }
                _ => joined.push(zone),
            }
        }
        joined.shrink_to_fit();
        Ok(Self(joined))
    }

    /// The parts of metadata within `count` blocks from `first`: start and blocks.
    pub(super) fn within(&self, first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
        let end = first.saturating_add(count);
        let from = self.0.partition_point(|zone| zone.end <= first);
        let zones = self.0.get(from..).unwrap_or_default().iter();
        zones.take_while(move |zone| zone.start < end).map(move |zone| {
            let start = zone.start.max(first);
            (start, zone.end.min(end).saturating_sub(start))
        })
    }

    /// Whether a file with number `owner` may have these blocks.
    pub(super) fn permit(&self, first: BlockNr, count: u64, owner: InodeNr) -> bool {
        let end = first.get().saturating_add(count);
        let from = self.0.partition_point(|zone| zone.end <= first.get());
        let zones = self.0.get(from..).unwrap_or_default().iter();
        owner == RESIZE
            || zones
                .take_while(|zone| zone.start < end)
                .all(|zone| owner != InodeNr::default() && zone.owner == owner)
    }
}

/// Blocks of superblock and descriptors at the start of `group`.
fn base(geometry: &Geometry, group: GroupNr) -> u64 {
    let mut blocks = usage::base_blocks(geometry, group);
    let (index, _) = geometry.descriptor_slot(group);
    let meta_bg = geometry.features.incompat.contains(Incompat::META_BG);
    if geometry.has_super(group) && !(meta_bg && index >= geometry.first_meta_bg) {
        blocks = blocks.saturating_add(geometry.reserved_gdt_blocks.into());
    }
    // With 1 KiB blocks and bigalloc group 0 starts at block 0, its superblock at block 1.
    let boot = group.get() == 0 && geometry.block_size == 1024 && geometry.first_data_block == 0;
    blocks.saturating_add(u64::from(boot))
}

fn bad_journal(journal: InodeNr, logical: u32) -> Error {
    let kind = CorruptKind::JournalMap { logical: logical.into() };
    Error::corrupt(Place::inode(journal), kind)
}

/// Whether the map of `inode` may name these blocks: inside the file system, and none of them its
/// own metadata, unless it is that inode's. Where nothing may be written, only the first is checked.
///
/// # Errors
/// [`CorruptKind::BlockRange`], [`CorruptKind::MetadataBlock`].
pub(crate) fn check_blocks(
    volume: &Volume,
    inode: InodeNr,
    first: BlockNr,
    count: u64,
) -> Result<()> {
    let place = Place { inode: Some(inode), block: Some(first), group: None };
    if !volume.geometry.contains(first, count) {
        let kind = CorruptKind::BlockRange { first: first.get(), count };
        return Err(Error::corrupt(place, kind));
    }
    let permitted = volume.space.get().is_none_or(|space| space.zones.permit(first, count, inode));
    if permitted {
        return Ok(());
    }
    Err(Error::corrupt(place, CorruptKind::MetadataBlock { first: first.get(), count }))
}
