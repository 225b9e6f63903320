//! The orphan file: slots that many can take at once, where the list has one head.
//!
//! A full file is no error: the list takes what does not fit.

use super::{Place, State, list};
use crate::disk::checksum::ChecksumSeed;
use crate::disk::orphan as disk;
use crate::error::{CorruptKind, Error, Place as Where, Result};
use crate::features::Compat;
use crate::handle::Handle;
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::{self, FileKind, Inode};
use crate::map::{self, Mapping};
use crate::volume::Volume;

/// The most blocks that an orphan file may have (EXT4_MAX_ORPHAN_FILE_BLOCKS).
const MAX_BLOCKS: u64 = 512;

/// The orphan file's blocks.
#[derive(Debug, Default)]
pub(super) struct File {
    seed: Option<ChecksumSeed>,
    blocks: Vec<Block>,
    /// Where the search for a free slot begins.
    next: usize,
}

#[derive(Debug)]
struct Block {
    nr: BlockNr,
    free: usize,
}

/// A slot: which block of the file, and which word of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    block: usize,
    index: usize,
}

/// Puts `nr` into a free slot, if there is an orphan file and it has one.
pub(super) fn add(handle: &mut Handle<'_>, state: &mut State, nr: InodeNr) -> Result<Option<Slot>> {
    let volume = handle.volume();
    let file = loaded(volume, &mut state.file)?;
    let (Some(seed), count) = (file.seed, file.blocks.len()) else { return Ok(None) };
    let start = file.next;
    let mut order = (start..count).chain(0..start.min(count));
    let found = order.find(|&at| file.blocks.get(at).is_some_and(|block| block.free > 0));
    let Some(at) = found else { return Ok(None) };
    let Some(block) = file.blocks.get_mut(at) else { return Ok(None) };
    let geometry = &volume.geometry;
    let index = handle.edit(block.nr, |bytes| {
        let slots = disk::slots(geometry, seed, block.nr, bytes)?;
        let full = || {
            Error::corrupt(
                Where::block(block.nr),
                CorruptKind::OrphanFile { why: "a block has fewer free slots than were counted" },
            )
        };
        let index = slots.iter().position(|slot| slot.get() == 0).ok_or_else(full)?;
        disk::set(geometry, seed, block.nr, bytes, (index, nr.get()))?;
        Ok(index)
    })?;
    block.free = block.free.saturating_sub(1);
    file.next = at;
    Ok(Some(Slot { block: at, index }))
}

/// Frees a slot.
pub(super) fn remove(handle: &mut Handle<'_>, state: &mut State, slot: Slot) -> Result<()> {
    let geometry = &handle.volume().geometry;
    let Some(file) = &mut state.file else { return Ok(()) };
    let (Some(seed), Some(block)) = (file.seed, file.blocks.get_mut(slot.block)) else {
        return Ok(());
    };
    handle.edit(block.nr, |bytes| disk::set(geometry, seed, block.nr, bytes, (slot.index, 0)))?;
    block.free = block.free.saturating_add(1);
    Ok(())
}

/// Takes up all that the file holds.
pub(super) fn adopt(volume: &Volume, state: &mut State) -> Result<Vec<InodeNr>> {
    let file = loaded(volume, &mut state.file)?;
    let Some(seed) = file.seed else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for (at, block) in file.blocks.iter().enumerate() {
        let bytes = volume.metadata(block.nr)?;
        let slots = disk::slots(&volume.geometry, seed, block.nr, bytes.bytes())?;
        for (index, slot) in slots.iter().enumerate() {
            let nr = InodeNr::new(slot.get());
            if list::may_be_orphan(volume, nr) && !state.places.contains_key(&nr) {
                state.places.insert(nr, Place::File(Slot { block: at, index }));
                found.push(nr);
            } else if nr.get() != 0 {
                let kind = CorruptKind::OrphanList { inode: nr.get() };
                volume.notice(Error::corrupt(Where::block(block.nr), kind));
            }
        }
    }
    Ok(found)
}

/// The file, looked at once.
fn loaded<'s>(volume: &Volume, file: &'s mut Option<File>) -> Result<&'s mut File> {
    if file.is_none() {
        *file = Some(load(volume)?);
    }
    Ok(file.get_or_insert_default())
}

fn load(volume: &Volume) -> Result<File> {
    let [.., nr] = volume.geometry.special_inodes;
    if nr == 0 || !volume.geometry.features.compat.contains(Compat::ORPHAN_FILE) {
        return Ok(File::default());
    }
    let inode = inode::get(volume, InodeNr::new(nr))?;
    let blocks = blocks_of(volume, &inode).map_err(|error| error.at_inode(inode.nr))?;
    Ok(File { seed: Some(inode.checksum_seed), blocks, next: 0 })
}

fn blocks_of(volume: &Volume, inode: &Inode) -> Result<Vec<Block>> {
    let corrupt = |why| Error::corrupt(Where::inode(inode.nr), CorruptKind::OrphanFile { why });
    if inode.kind != FileKind::Regular {
        return Err(corrupt("it is no regular file"));
    }
    let count = inode.size.checked_div(volume.block_size().into()).unwrap_or(0);
    if count > MAX_BLOCKS {
        return Err(corrupt("it is larger than any can be"));
    }
    let mut blocks = Vec::new();
    for at in 0..u32::try_from(count).unwrap_or(0) {
        let Mapping::Written { first, .. } = map::lookup(volume, inode, LogicalBlock::new(at))?
        else {
            return Err(corrupt("it has holes"));
        };
        let bytes = volume.metadata(first)?;
        let slots = disk::slots(&volume.geometry, inode.checksum_seed, first, bytes.bytes())?;
        let free = slots.iter().filter(|slot| slot.get() == 0).count();
        blocks.push(Block { nr: first, free });
    }
    Ok(blocks)
}
