//! Sizes and free space.

use crate::error::Result;
use crate::filesystem::Filesystem;

/// How statfs counts the metadata's own space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Overhead {
    /// `bsddf`: left out of the total.
    Subtract,
    /// `minixdf`: part of the total.
    Include,
}

/// The answer of statfs(2); counts are in blocks of `block_size` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatFs {
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Free blocks less the reserve.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

impl Filesystem {
    /// Sizes and free space, as the kernel's ext4 counts them.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn statfs(&self, overhead: Overhead) -> Result<StatFs> {
        let _ = overhead;
        unimplemented!()
    }
}
