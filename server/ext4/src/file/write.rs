//! Bytes into a file: over what is there, into preallocated blocks, and into holes.
//!
//! Data is on its way to the device before the handle that maps it stops, and a commit flushes the
//! device before its record: no crash shows a block with what it held before. An overwrite needs no
//! handle at all.
//! Kernel: fs/ext4/file.c, inode.c `ext4_map_blocks`, `ext4_write_begin`

use super::data::{self, Via};
use super::{inline, largest};
use crate::alloc::{Privilege, Reservation};
use crate::error::{Error, Refusal, Result};
use crate::handle::Credits;
use crate::ids::{BlockNr, LogicalBlock, in_memory, on_disk};
use crate::inode::{self, Inode};
use crate::map::{self, Mapping, State};
use crate::quota::{self, Claim};
use crate::volume::Volume;

/// Blocks of journalled data that one handle takes.
const JOURNALLED: u32 = 64;

/// Bytes of a preallocated run that is written at once (s_extent_max_zeroout_kb).
const ZERO_OUT: u64 = 32 << 10;

/// What a write did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Written {
    /// Bytes, fewer than given if space or the device ended.
    pub(crate) bytes: usize,
    /// The inode was stored, with all that the caller has changed in it.
    pub(crate) stored: bool,
}

/// One write in progress.
struct Write<'v, 'i> {
    volume: &'v Volume,
    inode: &'i mut Inode,
    who: Privilege,
    stored: bool,
}

/// Writes `data` from byte `offset` on. The file grows where they end past its end. `inode` is what
/// is stored by then; the caller holds its lock exclusively.
///
/// # Errors
/// [`Refusal::TooBig`]; [`Refusal::NoSpace`] or `Quota` if not even one byte could be written;
/// corruption; I/O errors.
pub(crate) fn write(
    volume: &Volume,
    inode: &mut Inode,
    who: Privilege,
    (offset, data): (u64, &[u8]),
) -> Result<Written> {
    let room = largest(volume, inode).checked_sub(offset).filter(|room| *room > 0);
    let room = room.ok_or(Refusal::TooBig)?;
    let data = data.get(..in_memory(room.min(on_disk(data.len())))).unwrap_or_default();
    if data.is_empty() {
        return Ok(Written::default());
    }
    if inline::write(volume, inode, who, (offset, data))? {
        return Ok(Written { bytes: data.len(), stored: true });
    }
    if offset > inode.size {
        data::zero_behind(volume, inode, inode.size)?;
    }
    let nr = inode.nr;
    let mut write = Write { volume, inode, who, stored: false };
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        match write.step(offset.saturating_add(on_disk(done)), rest) {
            Ok(bytes) => done = done.saturating_add(bytes),
            Err(error) if done == 0 => return Err(error.at_inode(nr)),
            Err(_) => break,
        }
    }
    Ok(Written { bytes: done, stored: write.stored })
}

/// Whether the `len` bytes from `offset` on only replace written blocks as a whole: then
/// [`overwrite`] may run beside others, under the inode's shared lock.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn can_overwrite(volume: &Volume, inode: &Inode, offset: u64, len: u64) -> Result<bool> {
    let block_size = volume.block_size();
    let end = offset.saturating_add(len);
    let aligned = offset.is_multiple_of(block_size.into()) && len.is_multiple_of(block_size.into());
    let inside = end <= super::size(volume, inode);
    if !aligned || !inside || volume.journals(inode) || inline::is_inline(inode) {
        return Ok(false);
    }
    let mut position = offset;
    while position < end {
        let (at, _) = super::locate(position, block_size);
        match map::lookup(volume, inode, at)? {
            Mapping::Written { len, .. } => {
                position = position.saturating_add(bytes_of(volume, len));
            }
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => return Ok(false),
        }
    }
    Ok(true)
}

/// Writes `data` over blocks of which [`can_overwrite`] was told under the same lock.
///
/// # Errors
/// Corruption, I/O errors; [`Refusal::Invalid`] if they are not all written.
pub(crate) fn overwrite(volume: &Volume, inode: &Inode, offset: u64, data: &[u8]) -> Result<()> {
    let (mut position, mut rest) = (offset, data);
    while !rest.is_empty() {
        let (at, skip) = super::locate(position, volume.block_size());
        let Mapping::Written { first, len } = map::lookup(volume, inode, at)? else {
            return Err(Refusal::Invalid.into());
        };
        let most = in_memory(bytes_of(volume, len).saturating_sub(skip.into()));
        let (part, after) = rest.split_at(rest.len().min(most));
        data::put(&mut Via::Device(volume), inode.nr, (first, skip), part, u64::MAX)?;
        position = position.saturating_add(on_disk(part.len()));
        rest = after;
    }
    Ok(())
}

impl<'v> Write<'v, '_> {
    /// Writes the beginning of `rest` at `position`, as far as one run goes. Returns how many bytes.
    fn step(&mut self, position: u64, rest: &[u8]) -> Result<usize> {
        let (at, skip) = super::locate(position, self.volume.block_size());
        let mapping = map::lookup(self.volume, self.inode, at)?;
        let touched = on_disk(rest.len()).saturating_add(skip.into());
        let touched = touched.div_ceil(self.volume.block_size().into());
        let touched = u32::try_from(touched).unwrap_or(u32::MAX);
        let most = if self.volume.journals(self.inode) { JOURNALLED } else { u32::MAX };
        let blocks = touched.min(mapping.blocks()).min(most);
        let fits = in_memory(bytes_of(self.volume, blocks).saturating_sub(skip.into()));
        let part = rest.get(..fits).unwrap_or(rest);
        let end = position.saturating_add(on_disk(part.len()));
        let place = Part { at, skip, bytes: part, end };
        match mapping {
            Mapping::Written { .. } => self.over_written(mapping, place),
            Mapping::Unwritten { .. } => self.over_unwritten(mapping, place),
            Mapping::Hole { .. } => self.fill_hole(blocks, place),
        }
    }

    fn over_written(&mut self, mapping: Mapping, part: Part<'_>) -> Result<usize> {
        let Mapping::Written { first, .. } = mapping else { return Ok(0) };
        let start = super::start_of(part.at, self.volume.block_size());
        let kept = self.inode.size.saturating_sub(start);
        let journalled = self.volume.journals(self.inode);
        if !journalled {
            data::put(
                &mut Via::Device(self.volume),
                self.inode.nr,
                (first, part.skip),
                part.bytes,
                kept,
            )?;
        }
        let grows = part.end > self.inode.size;
        if journalled || grows {
            let mut handle = self.volume.begin(self.credits(1))?;
            if journalled {
                let via = &mut Via::Log(&mut handle);
                data::put(via, self.inode.nr, (first, part.skip), part.bytes, kept)?;
            }
            if grows {
                let mut next = self.inode.clone();
                next.size = part.end;
                inode::store(&mut handle, &next)?;
                (*self.inode, self.stored) = (next, true);
            }
            handle.stop()?;
        }
        Ok(part.bytes.len())
    }

    /// Writes into preallocated blocks, then says that they are written.
    fn over_unwritten(&mut self, mapping: Mapping, part: Part<'_>) -> Result<usize> {
        let Mapping::Unwritten { first, .. } = mapping else { return Ok(0) };
        let (range, (claim, mut reservation)) = self.to_convert(&part, first)?;
        let (nr, journalled) = (self.inode.nr, self.volume.journals(self.inode));
        if !journalled {
            let via = &mut Via::Device(self.volume);
            data::put(via, nr, (first, part.skip), part.bytes, 0)?;
        }
        let mut handle = self.volume.begin(self.credits(map::CHANGE))?.with(claim);
        if journalled {
            data::put(&mut Via::Log(&mut handle), nr, (first, part.skip), part.bytes, 0)?;
        }
        let mut next = self.inode.clone();
        let state = State::Written;
        let blocks = map::convert(&mut handle, &mut next, range, state, &mut reservation)?;
        let converted = range.0.get().saturating_add(blocks).saturating_sub(part.at.get());
        let bytes = part.cut(self.volume, converted);
        self.finish(handle, next, &part, bytes)
    }

    /// Which blocks are to become written with those of `part`, at `first`, and what splitting their
    /// run takes. A short run becomes written as a whole, with zeros around the part, and so does one
    /// that there is no space to split, unless it reaches past the file's end: what is written there
    /// would be taken for content.
    fn to_convert(
        &self,
        part: &Part<'_>,
        first: BlockNr,
    ) -> Result<((LogicalBlock, u32), Room<'v>)> {
        let range = (part.at, part.blocks(self.volume));
        let whole = map::run_around(self.volume, self.inode, part.at)?;
        let size = self.inode.size.max(part.end).div_ceil(self.volume.block_size().into());
        let inside = u64::from(whole.0.get()).saturating_add(whole.1.into()) <= size;
        if !inside || bytes_of(self.volume, whole.1) > ZERO_OUT {
            let cost = map::split_cost(self.volume, self.inode, part.at)?;
            match quota::reserve(self.volume, self.inode, cost, self.who.with_reserve()) {
                Err(Error::Refused(Refusal::NoSpace | Refusal::Quota)) if inside => {}
                reserved => return Ok((range, reserved?)),
            }
        }
        let before = part.at.get().saturating_sub(whole.0.get());
        let after = whole.1.saturating_sub(before).saturating_sub(range.1);
        let start = BlockNr::new(first.get().saturating_sub(before.into()));
        let behind = BlockNr::new(first.get().saturating_add(range.1.into()));
        self.zero_blocks(start, before)?;
        self.zero_blocks(behind, after)?;
        Ok((whole, quota::reserve(self.volume, self.inode, 0, self.who)?))
    }

    /// Makes `count` blocks zeros that nobody reads yet.
    fn zero_blocks(&self, first: BlockNr, count: u32) -> Result<()> {
        let nr = self.inode.nr;
        if !self.volume.journals(self.inode) {
            return data::zero_blocks(&mut Via::Device(self.volume), nr, first, count);
        }
        // Through the log as well: what it holds of them is older and may be written home later.
        let mut done = 0;
        while done < count {
            let step = count.saturating_sub(done).min(JOURNALLED);
            let start = BlockNr::new(first.get().saturating_add(done.into()));
            let mut handle = self.volume.begin(Credits(JOURNALLED))?;
            data::zero_blocks(&mut Via::Log(&mut handle), nr, start, step)?;
            handle.stop()?;
            done = done.saturating_add(step);
        }
        Ok(())
    }

    /// `map` credits, and those for journalled data.
    fn credits(&self, map: u32) -> Credits {
        Credits(if self.volume.journals(self.inode) { map.saturating_add(JOURNALLED) } else { map })
    }

    fn fill_hole(&mut self, blocks: u32, part: Part<'_>) -> Result<usize> {
        let ((quota, mut reservation), blocks) =
            reserve_for(self.volume, self.inode, (part.at, blocks), self.who)?;
        let mut next = self.inode.clone();
        let mut handle = self.volume.begin(self.credits(map::CHANGE))?.with(quota);
        let claim = map::claim(&mut handle, &mut next, (part.at, blocks), &mut reservation)?;
        let bytes = part.cut(self.volume, claim.len);
        let filled = part.bytes.get(..bytes).unwrap_or_default();
        if self.volume.journals(&next) {
            data::put(
                &mut Via::Log(&mut handle),
                self.inode.nr,
                (claim.first, part.skip),
                filled,
                0,
            )?;
        } else {
            let via = &mut Via::Device(self.volume);
            if let Err(error) = data::put(via, self.inode.nr, (claim.first, part.skip), filled, 0) {
                map::unclaim(&mut handle, &mut next, claim)?;
                handle.stop()?;
                return Err(error);
            }
        }
        map::fill(&mut handle, &mut next, claim, State::Written, &mut reservation)?;
        self.finish(handle, next, &part, bytes)
    }

    /// Stores the new version of the inode, in which the first `bytes` of `part` are mapped.
    fn finish(
        &mut self,
        mut handle: crate::handle::Handle<'_>,
        mut next: Inode,
        part: &Part<'_>,
        bytes: usize,
    ) -> Result<usize> {
        let missing = on_disk(part.bytes.len().saturating_sub(bytes));
        next.size = next.size.max(part.end.saturating_sub(missing));
        inode::store(&mut handle, &next)?;
        handle.stop()?;
        (*self.inode, self.stored) = (next, true);
        Ok(bytes)
    }
}

/// Bytes for a run of blocks.
struct Part<'a> {
    /// The first block.
    at: LogicalBlock,
    /// Bytes of it that come before.
    skip: u32,
    bytes: &'a [u8],
    /// The byte of the file behind them.
    end: u64,
}

impl Part<'_> {
    /// Blocks that the bytes touch.
    fn blocks(&self, volume: &Volume) -> u32 {
        let bytes = on_disk(self.bytes.len()).saturating_add(self.skip.into());
        u32::try_from(bytes.div_ceil(volume.block_size().into())).unwrap_or(u32::MAX)
    }

    /// How many of the bytes fit into the first `blocks` blocks.
    fn cut(&self, volume: &Volume, blocks: u32) -> usize {
        let fits = bytes_of(volume, blocks).saturating_sub(self.skip.into());
        in_memory(fits).min(self.bytes.len())
    }
}

/// Bytes of `blocks` blocks.
pub(super) fn bytes_of(volume: &Volume, blocks: u32) -> u64 {
    u64::from(blocks).saturating_mul(volume.block_size().into())
}

/// What one step may add to its file.
type Room<'v> = (Claim<'v>, Reservation<'v>);

/// Room for filling a part of the hole at `at`, and how large that part may be: as much as quotas
/// permit and there is space for, at least one block.
pub(super) fn reserve_for<'v>(
    volume: &'v Volume,
    inode: &Inode,
    (at, blocks): (LogicalBlock, u32),
    who: Privilege,
) -> Result<(Room<'v>, u32)> {
    let mut blocks = blocks;
    loop {
        let cost = map::fill_cost(volume, inode, (at, blocks))?;
        match quota::reserve(volume, inode, cost, who) {
            Ok(room) => return Ok((room, blocks)),
            Err(Error::Refused(Refusal::NoSpace | Refusal::Quota)) if blocks > 1 => blocks /= 2,
            Err(error) => return Err(error),
        }
    }
}
