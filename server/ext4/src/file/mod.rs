//! The content of files: bytes, and where they are.
//!
//! Data goes past the metadata cache: the kernel's page cache is above us and keeps it.
//! Kernel: fs/ext4/file.c, inode.c, inline.c

mod read;
mod seek;
#[cfg(test)]
mod tests;

use crate::ids::LogicalBlock;
use crate::inode::Inode;
use crate::map;
use crate::volume::Volume;

pub(crate) use read::read;
pub use seek::Seek;
pub(crate) use seek::seek;

/// Bytes that can be read: i_size, cut where block numbers end (the kernel's s_maxbytes).
fn size(volume: &Volume, inode: &Inode) -> u64 {
    inode.size.min(start_of(LogicalBlock::new(map::LIMIT), volume.block_size()))
}

/// The byte where block `at` of a file starts.
fn start_of(at: LogicalBlock, block_size: u32) -> u64 {
    u64::from(at.get()).saturating_mul(block_size.into())
}

/// The block that byte `position` lies in, and how many bytes of that block come before it.
/// Positions past the last block are taken as its start: [`size`] keeps callers from them.
fn locate(position: u64, block_size: u32) -> (LogicalBlock, u32) {
    let block_size = u64::from(block_size);
    let at = position.checked_div(block_size).unwrap_or(0);
    let skip = position.checked_rem(block_size).unwrap_or(0);
    match (u32::try_from(at), u32::try_from(skip)) {
        (Ok(at), Ok(skip)) => (LogicalBlock::new(at), skip),
        _ => (LogicalBlock::new(map::LIMIT), 0),
    }
}
