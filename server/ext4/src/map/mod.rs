//! Which block holds which part of a file.
//!
//! Kernel: fs/ext4/inode.c `ext4_map_blocks`, extents.c, indirect.c

use crate::ids::BlockNr;

/// What a run of logical blocks is backed by. `len` is in blocks and at least 1; it may end before
/// the real run does (a caller that wants more asks again).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mapping {
    /// Nothing; reads as zeros.
    Hole {
        /// Blocks of the run.
        len: u32,
    },
    /// Allocated but never written; reads as zeros, SEEK_DATA skips it as the kernel does.
    Unwritten {
        /// Where the run starts.
        first: BlockNr,
        /// Blocks of the run.
        len: u32,
    },
    /// Data.
    Written {
        /// Where the run starts.
        first: BlockNr,
        /// Blocks of the run.
        len: u32,
    },
}
