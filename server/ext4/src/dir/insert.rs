//! Names are put into directories.
//!
//! What has to be done is found out first, without a change ([`plan`]); then it is done in steps of
//! which each leaves a sound directory: most often one, into room that is there.
//! # Locking
//! The caller holds the directory's inode lock exclusively.
//! Kernel: fs/ext4/namei.c `ext4_add_entry`, `add_dirent_to_buf`

use super::Wanted;
use super::block::Directory;
use super::grow::{append, put_block};
use super::hash::HashVersion;
use super::index::{self, Growth};
use super::inline_edit::{self, InlineStep};
use super::linear::Walk;
use crate::alloc::{self, Reservation};
use crate::cache::Block;
use crate::disk::dirent::DirLayout;
use crate::disk::dirent::edit::{self, NewEntry, Piece, Room};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::features::Compat;
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::{FileKind, Inode, InodeFlags};
use crate::map;
use crate::volume::Volume;

/// The longest name, in bytes.
const NAME_MAX: usize = 255;
/// More steps than the deepest index, grown out of an inode, can need.
const STEPS: usize = 12;

/// The next thing to do to get a name in.
pub(super) enum Step {
    /// Into the inode itself, or out of it.
    Inline(InlineStep),
    /// Into room that is there.
    Fill { block: BlockNr, room: Room },
    /// Into a leaf that has the room in pieces.
    Repack { leaf: BlockNr, pieces: Vec<Piece> },
    /// Into a block where the directory has a hole.
    FillHole { at: LogicalBlock },
    /// Into a new last block.
    Append,
    /// Nowhere before the only block has become a leaf of an index.
    MakeIndex { block: BlockNr, version: u8 },
    /// Nowhere before the index has grown.
    Grow(Growth),
}

/// What inserting a name takes.
pub(super) struct Plan {
    pub(super) step: Step,
    /// Blocks that all steps together add to the directory.
    pub(super) blocks: u64,
}

/// What a change may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Needs {
    /// Clusters to reserve.
    pub(crate) clusters: u64,
    /// Blocks that it may change, the directory's inode not counted.
    pub(crate) credits: Credits,
}

/// Puts `name` into `dir` for inode `target`. Changes `dir`'s map, size and flags, but neither times
/// nor link count. The caller has seen that `name` is not there, and has reserved what it [`needs`].
///
/// # Errors
/// Before any change: [`Refusal::NoKey`] in an encrypted directory, [`Refusal::Invalid`] for a name
/// that a strict encoding refuses, [`Refusal::NameTooLong`], [`Refusal::NoSpace`] for a directory
/// that can take no more, [`Refusal::Exists`] if the name was met on the way; corruption. Later: I/O
/// errors.
pub(crate) fn insert(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    name: &[u8],
    (target, kind): (InodeNr, FileKind),
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    let new = NewEntry { inode: target, kind, name };
    let volume = handle.volume();
    if !volume.geometry.features.compat.contains(Compat::DIR_INDEX) {
        // An index that is not kept up must never be believed again (`ext4_update_dx_flag`).
        dir.flags = dir.flags.without(InodeFlags::INDEX);
    }
    for _ in 0..STEPS {
        let step = plan(volume, dir, name).map_err(|error| error.at_inode(dir.nr))?.step;
        if step.take(handle, dir, &new, reservation).map_err(|error| error.at_inode(dir.nr))? {
            return Ok(());
        }
    }
    Err(Error::corrupt(Place::inode(dir.nr), CorruptKind::DxOrder {}))
}

/// What [`insert`] of `name` into `dir` takes at most; no cluster where none is needed.
///
/// # Errors
/// Those of [`insert`] before any change.
pub(crate) fn needs(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Needs> {
    let at_dir = |error: Error| error.at_inode(dir.nr);
    let Plan { step, blocks } = plan(volume, dir, name).map_err(at_dir)?;
    if blocks == 0 {
        return Ok(Needs { clusters: 0, credits: Credits(1) });
    }
    let count = u32::try_from(blocks).unwrap_or(u32::MAX);
    let last = LogicalBlock::new(Directory::new(volume, dir).blocks());
    let clusters = match step {
        // A map that begins holds these without nodes.
        Step::Inline(_) => alloc::clusters_spanned(&volume.geometry, LogicalBlock::new(0), count),
        Step::FillHole { at } => map_cost(volume, dir, (at, count)).map_err(at_dir)?,
        _ => map_cost(volume, dir, (last, count)).map_err(at_dir)?,
    };
    // A leaf and the nodes above it change; each new block, as the map says.
    let credits = map::CHANGE.saturating_add(1).saturating_mul(count).saturating_add(4);
    Ok(Needs { clusters, credits: Credits(credits) })
}

/// Clusters that `count` more blocks take, each of which may be a run of its own.
fn map_cost(volume: &Volume, dir: &Inode, (at, count): (LogicalBlock, u32)) -> Result<u64> {
    let data = map::hole_cost(volume, dir, (at, count))?;
    Ok(data.saturating_add(map::runs_cost(volume, dir, (at, count))?))
}

/// Finds out what has to be done first.
fn plan(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Plan> {
    let dir = Directory::new(volume, dir);
    match name {
        b"" | b"." | b".." => return Err(Refusal::Invalid.into()),
        _ if name.len() > NAME_MAX => return Err(Refusal::NameTooLong.into()),
        _ if dir.is_encrypted() => return Err(Refusal::NoKey.into()),
        _ => {}
    }
    let wanted = Wanted::new(&dir, name)?;
    let need = DirLayout::min_rec_len(u8::try_from(name.len()).unwrap_or(u8::MAX), false);
    let plan = if dir.inode.flags.has(InodeFlags::INLINE_DATA) {
        inline_edit::plan(&dir, &wanted, need)?
    } else if dir.is_indexed() {
        index::plan(&dir, &wanted, need)?
    } else {
        plan_linear(&dir, &wanted, need)?
    };
    if plan.blocks > 0 {
        dir.check_growth(plan.blocks)?;
    }
    Ok(plan)
}

/// Looks for room in every block.
fn plan_linear(dir: &Directory<'_>, wanted: &Wanted<'_>, need: u32) -> Result<Plan> {
    let mut expected = 0;
    let mut hole = None;
    let mut only = None;
    let mut walk = Walk::new(dir, 0);
    while let Some((at, block)) = walk.next_block()? {
        if at.get() != expected {
            hole.get_or_insert(expected);
        }
        expected = at.get().saturating_add(1);
        dir.verify_entries_or_index(at, &block)?;
        if let Some(room) = room_in(dir, &block, wanted, need)? {
            return Ok(Plan { step: Step::Fill { block: block.nr(), room }, blocks: 0 });
        }
        only = Some(block);
    }
    if expected != dir.blocks() {
        hole.get_or_insert(expected);
    }
    if let Some(at) = hole {
        return Ok(Plan { step: Step::FillHole { at: LogicalBlock::new(at) }, blocks: 1 });
    }
    match only {
        None => Err(dir.corrupt(None, CorruptKind::DirHole { block: 0 })),
        Some(block) => match dir.index_version().filter(|_| dir.blocks() == 1) {
            Some(version) => {
                index::check_dots(dir, &block)?;
                let blocks = index::blocks_to_make(dir.layout, block.bytes(), need)
                    .map_err(|error| dir.located(error, &block))?;
                Ok(Plan { step: Step::MakeIndex { block: block.nr(), version }, blocks })
            }
            None => Ok(Plan { step: Step::Append, blocks: 1 }),
        },
    }
}

/// Room for `need` bytes in a checked block of entries.
pub(super) fn room_in(
    dir: &Directory<'_>,
    block: &Block,
    wanted: &Wanted<'_>,
    need: u32,
) -> Result<Option<Room>> {
    let stretch = edit::stretch(dir.layout, block.bytes());
    edit::find_room(dir.layout, stretch, need, |stored| wanted.matches(stored))
        .map_err(|error| dir.located(error, block))
}

impl Directory<'_> {
    /// The hash of an index that this directory would get.
    pub(super) fn index_version(&self) -> Option<u8> {
        let version = self.volume.geometry.default_hash_version;
        let known = HashVersion::from_disk(version)?;
        (self.has_dir_index() && known != HashVersion::Siphash).then_some(version)
    }
}

impl Step {
    /// Does it; whether `new` is in now.
    fn take(
        self,
        handle: &mut Handle<'_>,
        dir: &mut Inode,
        new: &NewEntry<'_>,
        reservation: &mut Reservation<'_>,
    ) -> Result<bool> {
        let layout = DirLayout::of(&handle.volume().geometry, dir.flags);
        let seed = dir.checksum_seed;
        match self {
            Self::Inline(step) => return step.take(handle, dir, new, reservation),
            Self::Grow(growth) => return growth.take(handle, dir, new, reservation),
            Self::MakeIndex { block, version } => {
                index::make(handle, dir, (block, version), reservation)?;
                return Ok(false);
            }
            Self::Fill { block, room } => handle.edit(block, |bytes| {
                room.fill(layout, edit::stretch_mut(layout, bytes), new)?;
                edit::seal(layout, seed, bytes);
                Ok(())
            })?,
            Self::Repack { leaf, pieces } => handle.edit(leaf, |bytes| {
                let old = bytes.to_vec();
                edit::pack(layout, &old, &pieces, edit::stretch_mut(layout, bytes))?;
                put_into_packed(layout, bytes, new)?;
                edit::seal(layout, seed, bytes);
                Ok(())
            })?,
            Self::FillHole { at } => {
                put_block(handle, dir, at, reservation, |bytes| fresh(layout, seed, bytes, new))?;
            }
            Self::Append => {
                append(handle, dir, reservation, |bytes| fresh(layout, seed, bytes, new))?;
            }
        }
        Ok(true)
    }
}

/// A block of one entry.
fn fresh(
    layout: DirLayout,
    seed: crate::disk::checksum::ChecksumSeed,
    bytes: &mut [u8],
    new: &NewEntry<'_>,
) -> Result<()> {
    edit::stretch_last(layout, edit::stretch_mut(layout, bytes), 0)?;
    put_into_packed(layout, bytes, new)?;
    edit::seal(layout, seed, bytes);
    Ok(())
}

/// Puts `new` behind the last entry of a block that was packed so that it has room there.
pub(super) fn put_into_packed(
    layout: DirLayout,
    bytes: &mut [u8],
    new: &NewEntry<'_>,
) -> Result<()> {
    let stretch = edit::stretch_mut(layout, bytes);
    let room = edit::find_room(layout, stretch, new.rec_len(), |_| false)?;
    let (needed, have) = (new.name.len(), 0);
    let none = || Error::corrupt(Place::default(), CorruptKind::Truncated { needed, have });
    room.ok_or_else(none)?.fill(layout, stretch, new)
}
