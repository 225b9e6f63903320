//! One quota file: where entries are, and how it grows.

use std::collections::HashMap;

use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::{Amount, Grace, corrupt};
use crate::alloc::{self, Privilege, Reservation};
use crate::disk::quota::{
    BLOCK, LEVELS, Leaf, MAGICS, Node, ROOT, RawEntry, RawInfo, VERSION, index,
};
use crate::error::{Refusal, Result};
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, InodeNr, LogicalBlock, in_memory};
use crate::inode;
use crate::map::{self, Mapping, State};
use crate::volume::Volume;

/// Clusters that an insertion may take: for each level below the root a block, and the nodes of the
/// file's map.
pub(crate) const GROWTH: u64 = 10;
/// Blocks that an insertion may change: those of the tree, the lists' neighbours, the facts, the
/// file's inode, and each new block with its bitmap, descriptors and place in the map.
pub(crate) const INSERT: Credits = Credits(48);

/// Entries whose place is remembered.
const MOST: usize = 1 << 16;

/// One quota file.
#[derive(Debug)]
pub(super) struct File {
    nr: InodeNr,
    grace: Grace,
    places: HashMap<u32, Spot>,
    /// What is claimed, and not used yet.
    promised: HashMap<u32, Amount>,
}

/// Where an entry is: which block of the quota file, and which entry of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    leaf: u32,
    entry: usize,
}

impl File {
    /// Checks the head of the quota file `nr`; `at` says of which kind it is.
    pub(super) fn open(volume: &Volume, nr: InodeNr, at: usize) -> Result<Self> {
        let (places, promised) = (HashMap::new(), HashMap::new());
        let file = Self { nr, grace: Grace { blocks: 0, inodes: 0 }, places, promised };
        let info: RawInfo = file.read(volume, 0)?;
        if MAGICS.get(at) != Some(&info.magic.get()) {
            return Err(corrupt("its magic number is another one"));
        }
        if info.version.get() != VERSION {
            return Err(corrupt("its version is another one"));
        }
        let grace = Grace { blocks: info.block_grace.get(), inodes: info.inode_grace.get() };
        Ok(Self { grace, ..file })
    }

    /// The entry of `id`, if it has one.
    pub(super) fn entry(&mut self, volume: &Volume, id: u32) -> Result<Option<RawEntry>> {
        let Some(spot) = self.find(volume, id)? else { return Ok(None) };
        let leaf: Leaf = self.read(volume, spot.leaf)?;
        Ok(leaf.entries.get(spot.entry).copied())
    }

    /// Keeps `more` for a claim of `id`. False if there are no limits: then nothing is kept.
    ///
    /// # Errors
    /// [`Refusal::Quota`]; corruption, I/O errors.
    pub(super) fn promise(&mut self, volume: &Volume, id: u32, more: Amount) -> Result<bool> {
        let entry = self.entry(volume, id)?.filter(RawEntry::has_limits);
        let Some(entry) = entry else { return Ok(false) };
        let promised = self.promised.get(&id).copied().unwrap_or_default();
        if !entry.permits(promised, more, super::now()) {
            return Err(Refusal::Quota.into());
        }
        self.promised.insert(id, promised.plus(more));
        Ok(true)
    }

    /// A promise to `id` was used, or is not needed.
    pub(super) fn give_back(&mut self, id: u32, amount: Amount) {
        let Some(promised) = self.promised.get_mut(&id) else { return };
        *promised = promised.minus(amount);
        if *promised == Amount::default() {
            self.promised.remove(&id);
        }
    }

    #[cfg(test)]
    pub(super) fn has_no_promise(&self) -> bool {
        self.promised.is_empty()
    }

    /// Changes the entry of `id`; makes it if it has none.
    pub(super) fn change(
        &mut self,
        handle: &mut Handle<'_>,
        id: u32,
        change: impl FnOnce(&mut RawEntry, Grace),
    ) -> Result<()> {
        let volume = handle.volume();
        let spot = match self.find(volume, id)? {
            Some(spot) => spot,
            None => {
                // Nobody prepared it; with a handle open there is no waiting for space.
                let space = alloc::try_reserve(volume, GROWTH, Privilege::Reserve)?;
                self.insert(handle, id, &mut space.ok_or(Refusal::NoSpace)?)?
            }
        };
        let grace = self.grace;
        self.edit(handle, spot.leaf, |leaf: &mut Leaf| {
            let entry =
                leaf.entries.get_mut(spot.entry).ok_or_else(|| corrupt("an entry is gone"))?;
            change(entry, grace);
            Ok(())
        })
    }

    /// Where the entry of `id` is.
    pub(super) fn find(&mut self, volume: &Volume, id: u32) -> Result<Option<Spot>> {
        if let Some(spot) = self.places.get(&id) {
            return Ok(Some(*spot));
        }
        let mut at = ROOT;
        for level in 0..LEVELS {
            let node: Node = self.read(volume, at)?;
            at = node.get(index(id, level)).map_or(0, |next| next.get());
            if at == 0 {
                return Ok(None);
            }
            self.check(volume, at)?;
        }
        let leaf: Leaf = self.read(volume, at)?;
        let is = |entry: &RawEntry| entry.id.get() == id && !entry.is_unused();
        let entry = leaf.entries.iter().position(is);
        let entry = entry.ok_or_else(|| corrupt("its tree leads to a block without the entry"))?;
        Ok(Some(self.remember(id, Spot { leaf: at, entry })))
    }

    fn remember(&mut self, id: u32, spot: Spot) -> Spot {
        if self.places.len() >= MOST {
            self.places.clear();
        }
        self.places.insert(id, spot);
        spot
    }

    /// Makes an entry for `id`, which has none.
    pub(super) fn insert(
        &mut self,
        handle: &mut Handle<'_>,
        id: u32,
        space: &mut Reservation<'_>,
    ) -> Result<Spot> {
        // Others may have made it since.
        if let Some(spot) = self.find(handle.volume(), id)? {
            return Ok(spot);
        }
        let spot = self.take_entry(handle, id, space)?;
        let mut at = ROOT;
        for level in 0..LEVELS {
            let node: Node = self.read(handle.volume(), at)?;
            let slot = index(id, level);
            let mut next = node.get(slot).map_or(0, |next| next.get());
            if next == 0 {
                let last = level.saturating_add(1) == LEVELS;
                next = if last { spot.leaf } else { self.new_block(handle, space)? };
                self.edit(handle, at, |node: &mut Node| {
                    node.get_mut(slot).ok_or_else(|| corrupt("a node is cut"))?.set(next);
                    Ok(())
                })?;
            } else {
                self.check(handle.volume(), next)?;
            }
            at = next;
        }
        if at != spot.leaf {
            return Err(corrupt("two ids share a place in its tree"));
        }
        Ok(self.remember(id, spot))
    }

    /// Takes a free entry for `id`.
    fn take_entry(
        &self,
        handle: &mut Handle<'_>,
        id: u32,
        space: &mut Reservation<'_>,
    ) -> Result<Spot> {
        let info: RawInfo = self.read(handle.volume(), 0)?;
        let mut leaf = info.free_entry.get();
        if leaf == 0 {
            leaf = self.new_block(handle, space)?;
            self.edit(handle, 0, |info: &mut RawInfo| {
                info.free_entry.set(leaf);
                Ok(())
            })?;
        } else {
            self.check(handle.volume(), leaf)?;
        }
        let (entry, full) = self.edit(handle, leaf, |leaf: &mut Leaf| {
            let free = leaf.entries.iter().position(RawEntry::is_unused);
            let at = free.ok_or_else(|| corrupt("a block in its list of free entries has none"))?;
            let count = leaf.head.entries.get().saturating_add(1);
            leaf.head.entries.set(count);
            if let Some(entry) = leaf.entries.get_mut(at) {
                entry.id.set(id);
                entry.mark_used();
            }
            Ok((at, leaf.entries.iter().all(|entry| !entry.is_unused())))
        })?;
        if full {
            self.unlist(handle, leaf)?;
        }
        Ok(Spot { leaf, entry })
    }

    /// Takes a block that became full out of the list of those with room, whose head it is.
    fn unlist(&self, handle: &mut Handle<'_>, leaf: u32) -> Result<()> {
        let next = self.edit(handle, leaf, |leaf: &mut Leaf| {
            let next = leaf.head.next.get();
            (leaf.head.next, leaf.head.previous) = (U32::ZERO, U32::ZERO);
            Ok(next)
        })?;
        if next != 0 {
            self.check(handle.volume(), next)?;
            self.edit(handle, next, |leaf: &mut Leaf| {
                leaf.head.previous = U32::ZERO;
                Ok(())
            })?;
        }
        self.edit(handle, 0, |info: &mut RawInfo| {
            info.free_entry.set(next);
            Ok(())
        })
    }

    /// An empty block of the quota file: a free one, or a new one at its end.
    fn new_block(&self, handle: &mut Handle<'_>, space: &mut Reservation<'_>) -> Result<u32> {
        let info: RawInfo = self.read(handle.volume(), 0)?;
        let free = info.free_block.get();
        if free != 0 {
            self.check(handle.volume(), free)?;
            let next = self.edit(handle, free, |leaf: &mut Leaf| {
                let next = leaf.head.next.get();
                leaf.zero();
                Ok(next)
            })?;
            self.edit(handle, 0, |info: &mut RawInfo| {
                info.free_block.set(next);
                Ok(())
            })?;
            return Ok(free);
        }
        let new = info.blocks.get();
        self.grow(handle, new, space)?;
        self.edit(handle, 0, |info: &mut RawInfo| {
            info.blocks.set(new.saturating_add(1));
            Ok(())
        })?;
        self.edit(handle, new, |leaf: &mut Leaf| {
            leaf.zero();
            Ok(())
        })?;
        Ok(new)
    }

    /// Makes the file long enough for its block `new`.
    fn grow(&self, handle: &mut Handle<'_>, new: u32, space: &mut Reservation<'_>) -> Result<()> {
        let volume = handle.volume();
        let mut inode = (*inode::get(volume, self.nr)?).clone();
        let end = u64::from(new).saturating_add(1).saturating_mul(BLOCK_BYTES);
        let (at, _) = self.at(volume, new);
        if let Mapping::Hole { .. } = map::lookup(volume, &inode, at)? {
            let mapped = map::allocate(handle, &mut inode, (at, 1), State::Written, space)?;
            if let Mapping::Written { first, .. } = mapped {
                handle.create(first, |_| Ok(()))?;
            }
        }
        inode.size = inode.size.max(end);
        inode::store(handle, &inode)
    }

    /// A number from the file must name a block of the tree.
    fn check(&self, volume: &Volume, at: u32) -> Result<()> {
        let info: RawInfo = self.read(volume, 0)?;
        if at > ROOT && at < info.blocks.get() {
            Ok(())
        } else {
            Err(corrupt("it leads out of itself"))
        }
    }

    fn read<T>(&self, volume: &Volume, at: u32) -> Result<T>
    where
        T: FromBytes + KnownLayout + Immutable,
    {
        let (nr, skip) = self.place(volume, at)?;
        let block = volume.metadata(nr)?;
        let bytes = block.bytes().get(skip..skip.saturating_add(BLOCK)).unwrap_or_default();
        T::read_from_prefix(bytes).map(|(value, _)| value).map_err(|_| corrupt("it is cut"))
    }

    pub(super) fn edit<T, R>(
        &self,
        handle: &mut Handle<'_>,
        at: u32,
        edit: impl FnOnce(&mut T) -> Result<R>,
    ) -> Result<R>
    where
        T: FromBytes + IntoBytes + KnownLayout,
    {
        let (nr, skip) = self.place(handle.volume(), at)?;
        handle.edit(nr, |block| {
            let bytes = block.get_mut(skip..skip.saturating_add(BLOCK)).unwrap_or_default();
            let (value, _) = T::mut_from_prefix(bytes).map_err(|_| corrupt("it is cut"))?;
            edit(value)
        })
    }

    /// Where block `at` of the quota file is on the device: the block, and the byte in it.
    fn place(&self, volume: &Volume, at: u32) -> Result<(BlockNr, usize)> {
        let inode = inode::get(volume, self.nr)?;
        let (logical, skip) = self.at(volume, at);
        match map::lookup(volume, &inode, logical)? {
            Mapping::Written { first, .. } => Ok((first, skip)),
            _ => Err(corrupt("it has holes").at_inode(self.nr)),
        }
    }

    /// The block of the file that its quota block `at` is in, and the byte in it.
    fn at(&self, volume: &Volume, at: u32) -> (LogicalBlock, usize) {
        let per_block = (volume.block_size() / 1024).max(1);
        let logical = at.checked_div(per_block).unwrap_or(0);
        let rest = at.checked_rem(per_block).unwrap_or(0);
        (LogicalBlock::new(logical), in_memory(u64::from(rest).saturating_mul(BLOCK_BYTES)))
    }
}

const BLOCK_BYTES: u64 = 1024;
