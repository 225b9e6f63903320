//! Bytes of file blocks go to the device, past the metadata cache, or into the log where a file's
//! data is journalled.
//!
//! What the file has not written in a block is zero on the device too: behind its end, and around
//! what is written into a fresh block. So growing a file never shows what was there before.
//! Kernel: fs/ext4/inode.c `ext4_block_write_begin`, `__ext4_block_zero_page_range`

use crate::alloc;
use crate::error::Result;
use crate::handle::Handle;
use crate::ids::{BlockNr, InodeNr, in_memory, on_disk};
use crate::inode::{Inode, What};
use crate::map::{self, Mapping};
use crate::volume::Volume;

/// Bytes of zeros that are written at a time; a multiple of every block size.
const ZEROS: u64 = 1 << 20;

/// Where bytes go.
pub(super) enum Via<'h, 'v> {
    /// To the device, at once.
    Device(&'v Volume),
    /// Into the running transaction, which needs a credit for each block.
    Log(&'h mut Handle<'v>),
}

impl Via<'_, '_> {
    fn volume(&self) -> &Volume {
        match self {
            Self::Device(volume) => volume,
            Self::Log(handle) => handle.volume(),
        }
    }

    /// Whole blocks from `first` on.
    fn write(&mut self, first: BlockNr, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Device(volume) => volume.write_data(first, bytes),
            Self::Log(handle) => {
                let block_size = in_memory(handle.volume().block_size().into());
                for (index, block) in (0_u64..).zip(bytes.chunks_exact(block_size)) {
                    let nr = BlockNr::new(first.get().saturating_add(index));
                    handle.create(nr, |to| {
                        to.copy_from_slice(block);
                        Ok(())
                    })?;
                }
                Ok(())
            }
        }
    }

    fn read(&self, nr: BlockNr, into: &mut [u8]) -> Result<()> {
        match self {
            Self::Device(volume) => volume.data(nr, 0, into),
            Self::Log(handle) => handle.volume().logged_data(nr, 0, into),
        }
    }
}

/// Writes `bytes` of `file` from `skip` bytes into block `first` on. Of the blocks that they fill in part, the
/// first `kept` bytes (counted from the start of `first`) keep what they have beside them, and the
/// rest becomes zeros; 0 for fresh blocks.
///
/// # Errors
/// [`crate::CorruptKind`] if a map leads to blocks of the file system's own; I/O errors.
pub(super) fn put(
    via: &mut Via<'_, '_>,
    file: InodeNr,
    (first, skip): (BlockNr, u32),
    bytes: &[u8],
    kept: u64,
) -> Result<()> {
    let block_size = in_memory(via.volume().block_size().into());
    let skip = in_memory(skip.into());
    let count = skip.saturating_add(bytes.len()).div_ceil(block_size);
    alloc::check_blocks(via.volume(), file, first, on_disk(count))?;
    if let Via::Log(handle) = &*via {
        let volume = handle.volume();
        volume.changed.note(file, handle.tid(), What::Content, volume.committed_tid());
    }
    let mut rest = bytes;
    let mut block = 0_usize;
    if skip > 0 || rest.len() < block_size {
        let (part, after) = rest.split_at(rest.len().min(block_size.saturating_sub(skip)));
        patch(via, (first, block), skip, part, kept)?;
        (rest, block) = (after, 1);
    }
    let whole = rest.len().checked_div(block_size).unwrap_or(0);
    let (middle, tail) = rest.split_at(whole.saturating_mul(block_size).min(rest.len()));
    if !middle.is_empty() {
        via.write(BlockNr::new(first.get().saturating_add(on_disk(block))), middle)?;
    }
    if tail.is_empty() {
        return Ok(());
    }
    patch(via, (first, block.saturating_add(whole)), 0, tail, kept)
}

/// Writes `part` from byte `skip` of one block on: the `index`th of a run.
fn patch(
    via: &mut Via<'_, '_>,
    (first, index): (BlockNr, usize),
    skip: usize,
    part: &[u8],
    kept: u64,
) -> Result<()> {
    let block_size = in_memory(via.volume().block_size().into());
    let nr = BlockNr::new(first.get().saturating_add(on_disk(index)));
    let kept = in_memory(kept).saturating_sub(index.saturating_mul(block_size)).min(block_size);
    let mut block = vec![0; block_size];
    if kept > 0 && part.len() < block_size {
        via.read(nr, &mut block)?;
        block.get_mut(kept..).unwrap_or_default().fill(0);
    }
    block.iter_mut().skip(skip).zip(part).for_each(|(to, from)| *to = *from);
    via.write(nr, &block)
}

/// Makes `count` blocks from `first` on zeros.
///
/// # Errors
/// As [`put`].
pub(super) fn zero_blocks(
    via: &mut Via<'_, '_>,
    file: InodeNr,
    first: BlockNr,
    count: u32,
) -> Result<()> {
    alloc::check_blocks(via.volume(), file, first, count.into())?;
    let block_size = u64::from(via.volume().block_size());
    let bytes = u64::from(count).saturating_mul(block_size);
    let zeros = vec![0; in_memory(bytes.min(ZEROS))];
    let step = ZEROS.checked_div(block_size).unwrap_or(1).max(1);
    let mut done = 0_u64;
    while done < count.into() {
        let blocks = step.min(u64::from(count).saturating_sub(done));
        let len = in_memory(blocks.saturating_mul(block_size));
        let part = zeros.get(..len).unwrap_or_default();
        via.write(BlockNr::new(first.get().saturating_add(done)), part)?;
        done = done.saturating_add(blocks);
    }
    Ok(())
}

/// Makes the bytes `from..to` zeros on the device where they are written; both are in one block. What
/// is written behind the file's end becomes zero too.
///
/// # Errors
/// Corruption, I/O errors.
pub(super) fn zero(volume: &Volume, inode: &Inode, from: u64, to: u64) -> Result<()> {
    let (at, skip) = super::locate(from, volume.block_size());
    let Mapping::Written { first, .. } = map::lookup(volume, inode, at)? else { return Ok(()) };
    let len = in_memory(to.saturating_sub(from));
    let kept = inode.size.saturating_sub(super::start_of(at, volume.block_size()));
    let zeros = vec![0; len.min(in_memory(volume.block_size().into()))];
    if volume.journals(inode) {
        let mut handle = volume.begin(crate::handle::Credits(1))?;
        put(&mut Via::Log(&mut handle), inode.nr, (first, skip), &zeros, kept)?;
        return handle.stop();
    }
    put(&mut Via::Device(volume), inode.nr, (first, skip), &zeros, kept)
}

/// Makes what lies behind the file's end in its last block zeros, before the end moves.
///
/// # Errors
/// Corruption, I/O errors.
pub(super) fn zero_behind(volume: &Volume, inode: &Inode, size: u64) -> Result<()> {
    let block_size = u64::from(volume.block_size());
    match size.checked_next_multiple_of(block_size) {
        Some(end) if end > size => zero(volume, inode, size, end),
        _ => Ok(()),
    }
}
