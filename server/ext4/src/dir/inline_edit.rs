//! Directories inside their inode are changed, and leave it when they outgrow it.
//!
//! The entries are in two stretches: i_block behind the parent's number, and the value of
//! system.data, which gets all the room there is as soon as it is needed.
//! Kernel: fs/ext4/inline.c `ext4_try_add_inline_entry`, `ext4_try_create_inline_dir`,
//! `ext4_convert_inline_data_nolock`

use super::Wanted;
use super::block::Directory;
use super::grow::put_block;
use super::index;
use super::insert::{Plan, Step};
use crate::alloc::Reservation;
use crate::disk::dirent::edit::{self, NewEntry, Room};
use crate::disk::dirent::{DirLayout, Entries};
use crate::error::{CorruptKind, Error, Place, Result};
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::handle::Handle;
use crate::ids::{InodeNr, LogicalBlock, in_memory, on_disk};
use crate::inode::{Inode, InodeFlags};
use crate::map;
use crate::map::inline::{self, Inline};
use crate::volume::Volume;

/// Bytes of i_block that hold the parent's number.
const PARENT: usize = 4;
/// The least record: less room than this for a value is none.
const LEAST: usize = 12;

/// Bytes of "." and ".." at the start of a block.
const DOTS: usize = 24;

/// One of the two stretches of entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// In i_block.
    Head,
    /// In system.data.
    Value,
}

/// The next thing to do to get a name into an inline directory.
pub(super) enum InlineStep {
    /// Into room that is there.
    Fill { part: Part, room: Room },
    /// Nowhere before system.data has this many bytes.
    Extend { len: usize },
    /// Nowhere before the directory has a block.
    Outgrow,
}

/// Looks for room in the two stretches, and around them.
pub(super) fn plan(dir: &Directory<'_>, wanted: &Wanted<'_>, need: u32) -> Result<Plan> {
    let inside = |step| Ok(Plan { step: Step::Inline(step), blocks: 0 });
    let Inline { head, tail } = content(dir)?;
    let head = head.get(PARENT..).unwrap_or_default();
    for (part, stretch) in [(Part::Head, head), (Part::Value, tail)] {
        let room = edit::find_room(dir.layout, stretch, need, |stored| wanted.matches(stored))?;
        if let Some(room) = room {
            return inside(InlineStep::Fill { part, room });
        }
    }
    if tail.is_empty() {
        let capacity = inline::capacity(&dir.volume.geometry, dir.inode)?;
        let len = in_memory(capacity).saturating_sub(dir.inode.block.len());
        if len > LEAST && on_disk(len) >= u64::from(need) {
            return inside(InlineStep::Extend { len });
        }
    }
    let block = outgrown(dir)?;
    let stretch = edit::stretch(dir.layout, &block);
    let fits = edit::find_room(dir.layout, stretch, need, |_| false)?.is_some();
    let more = match dir.index_version() {
        _ if fits => 0,
        None => 1,
        Some(_) => index::blocks_to_make(dir.layout, &block, need)?,
    };
    let blocks = more.saturating_add(1);
    Ok(Plan { step: Step::Inline(InlineStep::Outgrow), blocks })
}

/// Where `wanted` stands.
pub(super) fn locate(dir: &Directory<'_>, wanted: &Wanted<'_>) -> Result<Option<(Part, u32)>> {
    let Inline { head, tail } = content(dir)?;
    let head = head.get(PARENT..).unwrap_or_default();
    for (part, stretch) in [(Part::Head, head), (Part::Value, tail)] {
        for entry in Entries::new(dir.layout, stretch) {
            let entry = entry.map_err(|error| error.at_inode(dir.inode.nr))?;
            if entry.inode.get() != 0 && wanted.matches(entry.name) {
                return Ok(Some((part, entry.offset)));
            }
        }
    }
    Ok(None)
}

fn content<'a>(dir: &Directory<'a>) -> Result<Inline<'a>> {
    let missing = || dir.corrupt(None, CorruptKind::InlineMissing {});
    inline::of(&dir.volume.geometry, dir.inode)?.ok_or_else(missing)
}

/// Changes one stretch of `dir`.
pub(super) fn change<T>(
    geometry: &Geometry,
    dir: &mut Inode,
    part: Part,
    edit: impl FnOnce(&mut [u8]) -> Result<T>,
) -> Result<T> {
    match part {
        Part::Head => edit(dir.block.get_mut(PARENT..).unwrap_or_default()),
        Part::Value => {
            let Some(Inline { tail, .. }) = inline::of(geometry, dir)? else {
                let kind = CorruptKind::InlineMissing {};
                return Err(Error::corrupt(Place::inode(dir.nr), kind));
            };
            let mut value = tail.to_vec();
            let changed = edit(&mut value)?;
            set_value(geometry, dir, &value)?;
            Ok(changed)
        }
    }
}

impl InlineStep {
    /// Does it; whether `new` is in now.
    pub(super) fn take(
        self,
        handle: &mut Handle<'_>,
        dir: &mut Inode,
        new: &NewEntry<'_>,
        reservation: &mut Reservation<'_>,
    ) -> Result<bool> {
        let geometry = &handle.volume().geometry;
        let layout = DirLayout::of(geometry, dir.flags);
        match self {
            Self::Fill { part, room } => {
                change(geometry, dir, part, |stretch| room.fill(layout, stretch, new))?;
                return Ok(true);
            }
            Self::Extend { len } => {
                let mut value = vec![0; len];
                edit::stretch_last(layout, &mut value, 0)?;
                set_value(geometry, dir, &value)?;
                dir.size = on_disk(dir.block.len()).saturating_add(on_disk(len));
            }
            Self::Outgrow => outgrow(handle, dir, reservation)?,
        }
        Ok(false)
    }
}

/// The block that an inline directory becomes. Entries keep their distances, and so their cookies in
/// disk order.
fn outgrown(dir: &Directory<'_>) -> Result<Vec<u8>> {
    let Inline { head, tail } = content(dir)?;
    let (parent, first) = head.split_first_chunk().unwrap_or((&[0; PARENT], &[]));
    let parent = InodeNr::new(u32::from_le_bytes(*parent));
    let mut block = vec![0; in_memory(dir.layout.block_size.into())];
    let place = block.get_mut(..DOTS).unwrap_or_default();
    edit::put_dots(dir.layout, place, dir.inode.nr, parent)?;
    let all = [first, tail].concat();
    let old = DOTS.saturating_add(all.len());
    let stretch = edit::stretch_mut(dir.layout, &mut block);
    let Some(place) = stretch.get_mut(DOTS..old) else {
        return Err(dir.corrupt(None, CorruptKind::Truncated { needed: old, have: stretch.len() }));
    };
    place.copy_from_slice(&all);
    edit::stretch_last(dir.layout, stretch, old)?;
    edit::seal(dir.layout, dir.inode.checksum_seed, &mut block);
    Ok(block)
}

fn outgrow(handle: &mut Handle<'_>, dir: &mut Inode, reservation: &mut Reservation) -> Result<()> {
    let volume = handle.volume();
    let block = outgrown(&Directory::new(volume, dir))?;
    inline::clear(&volume.geometry, dir)?;
    map::init(dir, &volume.geometry);
    dir.size = volume.block_size().into();
    put_block(handle, dir, LogicalBlock::new(0), reservation, |bytes| {
        bytes.iter_mut().zip(&block).for_each(|(to, from)| *to = *from);
        Ok(())
    })
}

fn set_value(geometry: &Geometry, dir: &mut Inode, value: &[u8]) -> Result<()> {
    let all = [&dir.block[..], value].concat();
    inline::set(geometry, dir, &all)
}

/// Whether a new directory can begin inside its inode.
pub(super) fn can_begin(volume: &Volume, new: &Inode) -> bool {
    let geometry = &volume.geometry;
    geometry.features.incompat.contains(Incompat::INLINE_DATA)
        && inline::capacity(geometry, new).is_ok_and(|bytes| bytes >= on_disk(new.block.len()))
}

/// Makes `new`, which has no map, an empty inline directory.
pub(super) fn begin(volume: &Volume, new: &mut Inode, parent: InodeNr) -> Result<()> {
    let layout = DirLayout::of(&volume.geometry, new.flags);
    let mut content = [0; 60];
    content.iter_mut().zip(parent.get().to_le_bytes()).for_each(|(to, from)| *to = from);
    edit::stretch_last(layout, content.get_mut(PARENT..).unwrap_or_default(), 0)?;
    new.flags = new.flags.without(InodeFlags::EXTENTS);
    inline::set(&volume.geometry, new, &content)?;
    new.size = on_disk(content.len());
    Ok(())
}
