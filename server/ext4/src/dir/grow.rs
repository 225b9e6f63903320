//! Blocks for directories that grow.
//!
//! Kernel: fs/ext4/namei.c `ext4_append`

use super::block::Directory;
use crate::alloc::Reservation;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::features::Incompat;
use crate::handle::Handle;
use crate::ids::LogicalBlock;
use crate::inode::Inode;
use crate::map::{self, Mapping, State};

/// The first block that an index cannot name.
const INDEX_LIMIT: u64 = 1 << 28;

impl Directory<'_> {
    /// Whether the directory may have `more` blocks: its size has 32 bits without large_dir, and the
    /// block numbers of an index have 28.
    ///
    /// # Errors
    /// [`Refusal::NoSpace`], as in the kernel for a full index, and by `max_dir_size_kb`.
    pub(super) fn check_growth(&self, more: u64) -> Result<()> {
        let blocks = u64::from(self.blocks()).saturating_add(more);
        let large = self.volume.geometry.features.incompat.contains(Incompat::LARGEDIR);
        let bytes = blocks.saturating_mul(self.layout.block_size.into());
        let fits = (large || bytes <= u32::MAX.into())
            && blocks <= if self.has_dir_index() { INDEX_LIMIT } else { map::LIMIT.into() };
        // As in the kernel, of the size before.
        let kib = u64::from(self.blocks()).saturating_mul(self.layout.block_size.into()) / 1024;
        let limit = u64::from(self.volume.rules.max_dir_size_kb);
        let fits = fits && (limit == 0 || kib < limit);
        if fits { Ok(()) } else { Err(Refusal::NoSpace.into()) }
    }
}

/// Adds a block behind the last one, filled by `fill` from zeros on. Its place in the directory.
///
/// # Errors
/// [`CorruptKind::DirBlockBeyond`] if something is mapped there already; what the map and `fill`
/// may fail with.
pub(super) fn append(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    reservation: &mut Reservation<'_>,
    fill: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<LogicalBlock> {
    let at = LogicalBlock::new(Directory::new(handle.volume(), dir).blocks());
    put_block(handle, dir, at, reservation, fill)?;
    let blocks = u64::from(at.get()).saturating_add(1);
    dir.size = blocks.saturating_mul(handle.volume().block_size().into());
    Ok(at)
}

/// Puts a block where the directory has none, filled by `fill` from zeros on.
///
/// # Errors
/// As [`append`].
pub(super) fn put_block(
    handle: &mut Handle<'_>,
    dir: &mut Inode,
    at: LogicalBlock,
    reservation: &mut Reservation<'_>,
    fill: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    let beyond = CorruptKind::DirBlockBeyond { block: at.get() };
    let beyond = Error::corrupt(Place::inode(dir.nr), beyond);
    if !matches!(map::lookup(handle.volume(), dir, at)?, Mapping::Hole { .. }) {
        return Err(beyond);
    }
    match map::allocate(handle, dir, (at, 1), State::Written, reservation)? {
        Mapping::Written { first, .. } => handle.create(first, fill),
        Mapping::Hole { .. } | Mapping::Unwritten { .. } => Err(beyond),
    }
}
