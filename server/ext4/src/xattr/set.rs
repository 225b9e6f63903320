//! Setting and removing attributes: first where the value will be, then the changes.
//!
//! The inode is tried first, then the attribute block, then a value inode, as the kernel does.
//! Everything that can be refused is refused before the first change.
//! Kernel: fs/ext4/xattr.c `ext4_xattr_set_handle`, `ext4_xattr_set_entry`

use super::{Change, MAX_VALUE, Mode, Set, block, ea_inode};
use crate::cache::Block;
use crate::disk::xattr::{self, Entry, Value, entry_hash, entry_hashes};
use crate::error::{Place, Refusal, Result};
use crate::features::Incompat;
use crate::geometry::Geometry;
use crate::ids::{InodeNr, in_memory, on_disk};
use crate::inode::{self, Inode};
use crate::quota::Amount;
use crate::volume::Volume;

/// The lists as they will be; `None` for one that stays as it is.
struct Plan<'a> {
    body: Option<Vec<Entry<'a>>>,
    block: Option<Vec<Entry<'a>>>,
    /// The value gets an inode of its own; its number is still missing in its entry.
    outside: bool,
}

/// The lists as they are.
struct Lists<'a> {
    body: Vec<Entry<'a>>,
    block: Vec<Entry<'a>>,
    /// Bytes of the inode's tail.
    tail: usize,
}

/// Sets or removes an attribute. `space` holds as many clusters as [`needs`] says; changes up to
/// [`super::credits`] blocks. The caller stores the inode.
///
/// # Errors
/// [`Refusal::NoData`], `Exists`; `NoSpace` for what fits nowhere, or if a value inode is needed and
/// there is none: all before the first change. Corruption, I/O errors.
pub(crate) fn set(set: &mut Set<'_, '_, '_>, change: Change<'_>) -> Result<()> {
    let volume = set.handle.volume();
    let tail = set.inode.tail.clone();
    let loaded = block::load(volume, set.inode)?;
    let lists = Lists::of(volume, set.inode.nr, &tail, loaded.as_deref())?;
    let Some(mut plan) = lists.decide(&volume.geometry, change)? else { return Ok(()) };
    let old = lists.find(change);
    let fresh = match change.value.filter(|_| plan.outside) {
        Some(value) => Some(ea_inode::take(set, value)?),
        None => None,
    };
    if let Some((nr, hash)) = fresh {
        plan.fill_in(change, nr, hash);
    }
    let added = change.value.filter(|_| plan.outside).map(<[u8]>::len);
    ea_inode::charge(set.handle, set.inode, old.and_then(outside), added)?;
    let fresh = fresh.map(|(nr, _)| nr);
    let gone = |list: &[Entry<'_>]| find(list, change).and_then(outside).map(|(nr, _)| nr);
    if let Some(list) = &plan.body {
        set.inode.tail = xattr::to_inode(list, lists.tail)?;
        // Users that are in a block are counted with it.
        if let Some(gone) = gone(&lists.body) {
            ea_inode::give_back(set.handle, gone)?;
        }
    }
    if let Some(list) = &plan.block {
        let fresh = fresh.filter(|_| find(list, change).is_some());
        block::replace(set, list, block::Users { fresh, gone: gone(&lists.block) })?;
    }
    if change.value.is_some() {
        volume.superblock.note_attributes();
    }
    Ok(())
}

/// The value inode that `entry` names, and the bytes of its value.
pub(super) fn outside(entry: Entry<'_>) -> Option<(InodeNr, u32)> {
    match entry.value {
        Value::Inode { nr, size } => Some((nr, size)),
        Value::Here(_) => None,
    }
}

impl<'a> Lists<'a> {
    fn of(volume: &Volume, nr: InodeNr, tail: &'a [u8], block: Option<&'a Block>) -> Result<Self> {
        let (geometry, place) = (&volume.geometry, Place::inode(nr));
        Ok(Self {
            body: xattr::in_inode(geometry, place, tail)?,
            block: match block {
                Some(block) => xattr::in_block(geometry, place, block.bytes())?,
                None => Vec::new(),
            },
            tail: tail.len(),
        })
    }

    /// What is to be done, or `None` if all is as it should be.
    ///
    /// # Errors
    /// [`Refusal::NoData`], `Exists`, `NoSpace`.
    fn decide<'b>(&self, geometry: &Geometry, change: Change<'b>) -> Result<Option<Plan<'b>>>
    where
        'a: 'b,
    {
        match (self.find(change), change.mode) {
            (None, Mode::Replace) => Err(Refusal::NoData.into()),
            (None, _) if change.value.is_none() => Ok(None),
            (Some(_), Mode::Create) => Err(Refusal::Exists.into()),
            (Some(old), _) if change.value.is_some_and(|value| old.value == Value::Here(value)) => {
                Ok(None)
            }
            _ => self.plan(geometry, change).map(Some),
        }
    }

    fn find(&self, change: Change<'_>) -> Option<Entry<'a>> {
        find(&self.body, change).or_else(|| find(&self.block, change))
    }

    /// # Errors
    /// [`Refusal::NoSpace`].
    fn plan<'b>(&self, geometry: &Geometry, change: Change<'b>) -> Result<Plan<'b>>
    where
        'a: 'b,
    {
        let Some(value) = change.value else {
            let in_body = find(&self.body, change).is_some();
            let in_block = find(&self.block, change).is_some();
            return Ok(Plan {
                body: in_body.then(|| with(&self.body, change, None, false)),
                block: in_block.then(|| with(&self.block, change, None, true)),
                outside: false,
            });
        };
        // The VFS stops them before; nobody could read them.
        if on_disk(value.len()) > u64::from(MAX_VALUE) {
            return Err(Refusal::NoSpace.into());
        }
        let can = geometry.features.incompat.contains(Incompat::EA_INODE) && !value.is_empty();
        let large = value.len().next_multiple_of(4) > large_value(geometry);
        let places: &[bool] = match (can, large) {
            (true, true) => &[true],
            (true, false) => &[false, true],
            (false, _) => &[false],
        };
        for &outside in places {
            let size = u32::try_from(value.len()).map_err(|_| Refusal::NoSpace)?;
            let stored = if outside {
                Value::Inode { nr: InodeNr::new(0), size }
            } else {
                Value::Here(value)
            };
            if let Some(plan) = self.try_value(geometry, change, stored) {
                return Ok(plan);
            }
        }
        Err(Refusal::NoSpace.into())
    }

    /// The plan with `stored` in the inode if it fits there, else in the block.
    fn try_value<'b>(
        &self,
        geometry: &Geometry,
        change: Change<'b>,
        stored: Value<'b>,
    ) -> Option<Plan<'b>>
    where
        'a: 'b,
    {
        let outside = matches!(stored, Value::Inode { .. });
        let in_body = find(&self.body, change).is_some();
        let in_block = find(&self.block, change).is_some();
        let entry = Entry { index: change.index, name: change.name, hash: 0, value: stored };
        let body = with(&self.body, change, Some(entry), false);
        if xattr::needed(&body) <= xattr::room_in_inode(self.tail) {
            let block = in_block.then(|| with(&self.block, change, None, true));
            return Some(Plan { body: Some(body), block, outside });
        }
        let hash = match stored {
            Value::Here(value) => entry_hash(change.name, value),
            Value::Inode { .. } => 0,
        };
        let block = with(&self.block, change, Some(Entry { hash, ..entry }), true);
        fits_in_block(geometry, &block, stored).then(|| Plan {
            body: in_body.then(|| with(&self.body, change, None, false)),
            block: Some(block),
            outside,
        })
    }
}

impl Plan<'_> {
    /// The value's inode is known now.
    fn fill_in(&mut self, change: Change<'_>, nr: InodeNr, value_hash: u32) {
        let [hash, _] = entry_hashes(change.name, value_hash);
        let lists = [&mut self.body, &mut self.block];
        for entry in lists.into_iter().flatten().flatten().filter(|entry| is(entry, change)) {
            if let Value::Inode { nr: unknown, .. } = &mut entry.value {
                *unknown = nr;
                entry.hash = hash;
            }
        }
    }
}

fn find<'a>(list: &[Entry<'a>], change: Change<'_>) -> Option<Entry<'a>> {
    list.iter().find(|entry| is(entry, change)).copied()
}

fn is(entry: &Entry<'_>, change: Change<'_>) -> bool {
    entry.index == change.index && entry.name == change.name
}

/// `list` with the attribute replaced, added or removed. Blocks are sorted; in inodes the newest is
/// the last.
fn with<'b>(
    list: &[Entry<'b>],
    change: Change<'_>,
    entry: Option<Entry<'b>>,
    sorted: bool,
) -> Vec<Entry<'b>> {
    let mut list = list.to_vec();
    let found = list.iter().position(|old| is(old, change));
    match (found, entry) {
        (Some(at), Some(entry)) => {
            if let Some(old) = list.get_mut(at) {
                *old = entry;
            }
        }
        (Some(at), None) => {
            list.remove(at);
        }
        (None, Some(entry)) => {
            let before = list.iter().position(|old| sorted && old.key() > entry.key());
            list.insert(before.unwrap_or(list.len()), entry);
        }
        (None, None) => {}
    }
    list
}

/// Bytes above which a value gets an inode in any case (EXT4_XATTR_MIN_LARGE_EA_SIZE).
fn large_value(geometry: &Geometry) -> usize {
    // A block less its header, an entry with a name of three bytes, and the mark.
    in_memory(geometry.block_size.into()).saturating_sub(32 + 20 + 4)
}

/// Whether `list`, to which `stored` is added, fits into a block. Where values can have inodes, the
/// values leave some of the block to the names (EXT4_XATTR_BLOCK_RESERVE).
fn fits_in_block(geometry: &Geometry, list: &[Entry<'_>], stored: Value<'_>) -> bool {
    let size = in_memory(geometry.block_size.into());
    let can = geometry.features.incompat.contains(Incompat::EA_INODE);
    let kept = match stored {
        Value::Here([_, ..]) if can => (size / 8).min(1024),
        _ => 0,
    };
    xattr::needed(list) <= xattr::room_in_block(size)
        && xattr::needed_by_values(list) <= size.saturating_sub(kept)
}

/// What [`set`] takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Needs {
    /// At most, and exactly if the value gets no inode: a full disk refuses nothing that needs none.
    pub(crate) clusters: u64,
    /// What owners are charged, before they are given back what goes.
    pub(crate) charged: Amount,
}

/// What [`set`] will take.
///
/// # Errors
/// All that [`set`] refuses; corruption, I/O errors.
pub(crate) fn needs(volume: &Volume, inode: &Inode, change: Change<'_>) -> Result<Needs> {
    let loaded = block::load(volume, inode)?;
    let lists = Lists::of(volume, inode.nr, &inode.tail, loaded.as_deref())?;
    let geometry = &volume.geometry;
    let Some(plan) = lists.decide(geometry, change)? else { return Ok(Needs::default()) };
    let block = match (&plan.block, &loaded) {
        (None, _) => 0,
        (Some(list), _) if list.is_empty() => 0,
        (Some(_), Some(old)) => u64::from(!block::is_own(old)?),
        (Some(_), None) => 1,
    };
    let own = Amount::clusters(geometry, block);
    let Some(value) = change.value.filter(|_| plan.outside) else {
        return Ok(Needs { clusters: block, charged: own });
    };
    let len = on_disk(value.len());
    // A map of so few blocks has one node at most, or two of pointers.
    let blocks = len.div_ceil(volume.block_size().into()).saturating_add(2);
    let bytes = ea_inode::blocks512(geometry, len).saturating_mul(512);
    let charged = own.plus(Amount { bytes, inodes: 1 });
    Ok(Needs { clusters: blocks.saturating_add(block), charged })
}

/// Whether a new inode holds all that `changes` set.
pub(crate) fn fit_in_inode<'a>(
    geometry: &Geometry,
    changes: impl Iterator<Item = Change<'a>>,
) -> bool {
    let entry = |change: Change<'a>| {
        let value = Value::Here(change.value?);
        Some(Entry { index: change.index, name: change.name, hash: 0, value })
    };
    let list: Vec<_> = changes.filter_map(entry).collect();
    list.is_empty() || xattr::needed(&list) <= xattr::room_in_inode(inode::tail_of_new(geometry))
}
