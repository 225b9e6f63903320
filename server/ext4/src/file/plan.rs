//! Where the bytes of a file are, for callers that move them themselves.

use crate::error::Result;
use crate::ids::{in_memory, on_disk};
use crate::inode::Inode;
use crate::map::{self, Mapping, inline};
use crate::volume::Volume;

/// Runs of one plan, at most. A file in more pieces than that is read piece by piece anyway.
const MAX_RUNS: usize = 16;

/// A stretch of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Run {
    /// On the device, as it is.
    Device {
        /// Byte of the device.
        offset: u64,
        /// Bytes.
        len: usize,
    },
    /// Nowhere: reads as zeros.
    Zeros {
        /// Bytes.
        len: usize,
    },
}

/// Puts the runs of `len` bytes from byte `offset` into `runs`, in the order of the file; fewer bytes
/// than asked only at the end of the file. Nothing but the map is read.
///
/// False, with `runs` of no meaning, where the bytes are not plainly on the device (inline data,
/// content that goes through the log, blocks that it has a newer copy of) or in too many places: then [`super::read`] has to get
/// them.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn plan(
    volume: &Volume,
    inode: &Inode,
    (offset, len): (u64, usize),
    runs: &mut Vec<Run>,
) -> Result<bool> {
    runs.clear();
    if volume.journals(inode) || inline::of(&volume.geometry, inode)?.is_some() {
        return Ok(false);
    }
    let left = super::size(volume, inode).saturating_sub(offset).min(on_disk(len));
    plan_blocks(volume, inode, (offset, left), runs).map_err(|error| error.at_inode(inode.nr))
}

fn plan_blocks(
    volume: &Volume,
    inode: &Inode,
    (offset, len): (u64, u64),
    runs: &mut Vec<Run>,
) -> Result<bool> {
    let block_size = volume.block_size();
    let (mut position, mut left) = (offset, len);
    while left > 0 {
        let (at, skip) = super::locate(position, block_size);
        let mapping = map::lookup(volume, inode, at)?;
        let bytes = super::run_bytes(mapping, block_size, skip).min(left);
        let len = in_memory(bytes);
        let run = match mapping {
            Mapping::Written { first, .. } => match volume.place(first, skip, bytes)? {
                Some(offset) => Run::Device { offset, len },
                None => return Ok(false),
            },
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => Run::Zeros { len },
        };
        if !extend(runs.last_mut(), run) {
            if runs.len() == MAX_RUNS {
                return Ok(false);
            }
            runs.push(run);
        }
        position = position.saturating_add(bytes);
        left = left.saturating_sub(bytes);
    }
    Ok(true)
}

/// Makes the run before longer by one that continues it. A hole comes in as many pieces as its map
/// has nodes.
fn extend(before: Option<&mut Run>, run: Run) -> bool {
    match (before, run) {
        (Some(Run::Zeros { len }), Run::Zeros { len: more }) => *len = len.saturating_add(more),
        (Some(Run::Device { offset, len }), Run::Device { offset: next, len: more })
            if offset.checked_add(on_disk(*len)) == Some(next) =>
        {
            *len = len.saturating_add(more);
        }
        _ => return false,
    }
    true
}
