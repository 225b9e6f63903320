//! Bytes of a file, a device read per run of neighbouring blocks.

use crate::error::Result;
use crate::ids::{in_memory, on_disk};
use crate::inode::Inode;
use crate::map::{self, Mapping, inline};
use crate::volume::Volume;

/// Fills `into` from byte `offset` and returns how much of it: less than asked only at the end of the
/// file. What is neither mapped nor written reads as zeros. Bytes come as they are on the disk, so
/// an encrypted file's are cipher text. A verity file's hash tree lies past its size and is not seen.
///
/// # Errors
/// Corruption, I/O errors.
pub(crate) fn read(volume: &Volume, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<usize> {
    let left = super::size(volume, inode).saturating_sub(offset);
    let wanted = in_memory(left.min(on_disk(into.len())));
    let into = into.get_mut(..wanted).unwrap_or_default();
    match inline::of(&volume.geometry, inode)? {
        Some(inline) => inline.read(offset, into),
        None => {
            read_blocks(volume, inode, offset, into).map_err(|error| error.at_inode(inode.nr))?
        }
    }
    Ok(wanted)
}

fn read_blocks(volume: &Volume, inode: &Inode, offset: u64, into: &mut [u8]) -> Result<()> {
    let block_size = volume.block_size();
    let mut position = offset;
    let mut rest = into;
    while !rest.is_empty() {
        let (at, skip) = super::locate(position, block_size);
        let mapping = map::lookup(volume, inode, at)?;
        let bytes = super::run_bytes(mapping, block_size, skip).min(on_disk(rest.len()));
        let Some((part, after)) = rest.split_at_mut_checked(in_memory(bytes)) else { break };
        match mapping {
            Mapping::Written { first, .. } if volume.journals(inode) => {
                volume.logged_data(first, skip, part)?;
            }
            Mapping::Written { first, .. } => volume.data(first, skip, part)?,
            Mapping::Hole { .. } | Mapping::Unwritten { .. } => part.fill(0),
        }
        position = position.saturating_add(bytes);
        rest = after;
    }
    Ok(())
}
