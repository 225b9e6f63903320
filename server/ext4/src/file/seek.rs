//! Where data and holes are, by whole blocks.
//!
//! Unwritten extents are holes, as they are for the kernel while it holds no pages of them.
//! Kernel: fs/iomap/seek.c, fs/ext4/inode.c `ext4_iomap_begin_report`

use crate::error::{Refusal, Result};
use crate::ids::LogicalBlock;
use crate::inode::Inode;
use crate::map::{self, Mapping, inline};
use crate::volume::Volume;

/// What lseek(2) looks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seek {
    /// SEEK_DATA.
    Data,
    /// SEEK_HOLE; the end of the file is one.
    Hole,
}

/// The first byte at or after `offset` that is `what`; the end of the file is a hole. Inline data is
/// data from the first byte to the last.
///
/// # Errors
/// [`Refusal::PastEnd`] if `offset` is not inside the file, or no data follows; corruption, I/O
/// errors.
pub(crate) fn seek(volume: &Volume, inode: &Inode, offset: u64, what: Seek) -> Result<u64> {
    let size = super::size(volume, inode);
    if offset >= size {
        return Err(Refusal::PastEnd.into());
    }
    let found = match inline::of(&volume.geometry, inode)? {
        Some(_) => Some(offset).filter(|_| what == Seek::Data),
        None => seek_blocks(volume, inode, offset..size, what)?,
    };
    match (found, what) {
        (Some(found), _) => Ok(found),
        (None, Seek::Hole) => Ok(size),
        (None, Seek::Data) => Err(Refusal::PastEnd.into()),
    }
}

fn seek_blocks(
    volume: &Volume,
    inode: &Inode,
    range: core::ops::Range<u64>,
    what: Seek,
) -> Result<Option<u64>> {
    let block_size = volume.block_size();
    let (mut at, _) = super::locate(range.start, block_size);
    let mut position = range.start;
    while position < range.end {
        let mapping = map::lookup(volume, inode, at)?;
        let is = match mapping {
            Mapping::Written { .. } => Seek::Data,
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => Seek::Hole,
        };
        if is == what {
            return Ok(Some(position));
        }
        let next = at.get().saturating_add(mapping.blocks());
        at = LogicalBlock::new(next);
        position = super::start_of(at, block_size);
    }
    Ok(None)
}
