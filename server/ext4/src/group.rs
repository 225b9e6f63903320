//! Block group descriptors, read when they are needed.
//!
//! As for the kernel on a read-only mount, a wrong checksum is told and not believed: inodes have
//! checksums of their own. A table that lies where it cannot be fences its own group only.
//! Kernel: fs/ext4/super.c `descriptor_loc`, `ext4_check_descriptors`

use crate::disk::group_desc::GroupDesc;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::handle::Handle;
use crate::ids::{GroupNr, in_memory};
use crate::volume::Volume;

/// The descriptor of `group`, which must exist.
pub(crate) fn descriptor(volume: &Volume, group: GroupNr) -> Result<GroupDesc> {
    let geometry = &volume.geometry;
    let (index, slot) = geometry.descriptor_slot(group);
    let block = volume.metadata(geometry.descriptor_block(index))?;
    let size = usize::from(geometry.desc_size);
    let start = in_memory(slot.into()).saturating_mul(size);
    let bytes = block.bytes().get(start..start.saturating_add(size)).unwrap_or_default();
    let locate = |error: Error| error.at_block(block.nr());
    if let Err(error) = GroupDesc::check_checksum(group, bytes, geometry) {
        volume.notice(locate(error));
    }
    GroupDesc::parse(group, bytes).map_err(locate)
}

/// Changes the descriptor of `group`, whose lock the caller holds. Costs one credit.
///
/// # Errors
/// Those of `change` (nothing has changed then); corruption and I/O errors.
pub(crate) fn edit<T>(
    handle: &mut Handle<'_>,
    group: GroupNr,
    change: impl FnOnce(&mut GroupDesc) -> Result<T>,
) -> Result<T> {
    let geometry = &handle.volume().geometry;
    let (index, slot) = geometry.descriptor_slot(group);
    let size = usize::from(geometry.desc_size);
    let start = in_memory(slot.into()).saturating_mul(size);
    handle.edit(geometry.descriptor_block(index), |block| {
        let (needed, have) = (start.saturating_add(size), block.len());
        let short = || Error::corrupt(Place::group(group), CorruptKind::Truncated { needed, have });
        let bytes = block.get_mut(start..needed).ok_or_else(short)?;
        let mut desc = GroupDesc::parse(group, bytes)?;
        let value = change(&mut desc)?;
        desc.put(group, bytes, geometry)?;
        Ok(value)
    })
}

/// Calls `each` for every group in order with its descriptor and the bytes of it, past the cache: one
/// block of descriptors is in memory at a time. For what comes before the first change only.
pub(crate) fn for_each(
    volume: &Volume,
    mut each: impl FnMut(GroupNr, &GroupDesc, &[u8]) -> Result<()>,
) -> Result<()> {
    let geometry = &volume.geometry;
    let size = usize::from(geometry.desc_size);
    let mut block = vec![0; in_memory(geometry.block_size.into())];
    let mut group = 0;
    for index in 0..geometry.descriptor_blocks() {
        let nr = geometry.descriptor_block(index);
        volume.check_range(nr, 1)?;
        volume.source().read(nr, 0, &mut block)?;
        for bytes in block.chunks_exact(size) {
            if group == geometry.group_count {
                break;
            }
            let nr = GroupNr::new(group);
            each(nr, &GroupDesc::parse(nr, bytes)?, bytes)?;
            group = group.saturating_add(1);
        }
    }
    Ok(())
}
