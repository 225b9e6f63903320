//! A block of the orphan file: inode numbers, 0 for a free slot, and a tail.
//!
//! Source: Documentation/filesystems/ext4/orphan.rst

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::checksum::ChecksumSeed;
use crate::error::{CorruptKind, Error, Place, Result};
use crate::geometry::Geometry;
use crate::ids::BlockNr;

/// EXT4_ORPHAN_BLOCK_MAGIC.
const MAGIC: u32 = 0x0b10_ca04;

/// `struct ext4_orphan_block_tail`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
struct RawTail {
    magic: U32,
    checksum: U32,
}

/// The slots of the block `nr` of an orphan file whose inode has `seed`, magic and checksum checked.
///
/// # Errors
/// [`CorruptKind::OrphanMagic`], [`CorruptKind::OrphanChecksum`].
pub(crate) fn slots<'a>(
    geometry: &Geometry,
    seed: ChecksumSeed,
    nr: BlockNr,
    block: &'a [u8],
) -> Result<&'a [U32]> {
    let (body, tail) = parts(block)?;
    let corrupt = |kind| Err(Error::corrupt(Place::block(nr), kind));
    let magic = tail.magic.get();
    if magic != MAGIC {
        return corrupt(CorruptKind::OrphanMagic { magic });
    }
    let (stored, computed) = (tail.checksum.get(), checksum(seed, nr, body));
    if geometry.features.metadata_csum() && stored != computed {
        return corrupt(CorruptKind::OrphanChecksum { stored, computed });
    }
    <[U32]>::ref_from_bytes(body).map_err(|_| cut(block))
}

/// Sets one slot and makes the checksum right.
///
/// # Errors
/// [`CorruptKind::Truncated`] for a slot that the block does not have.
pub(crate) fn set(
    geometry: &Geometry,
    seed: ChecksumSeed,
    nr: BlockNr,
    block: &mut [u8],
    (slot, inode): (usize, u32),
) -> Result<()> {
    let short = cut(block);
    let Ok((body, tail)) = RawTail::mut_from_suffix(block) else { return Err(short) };
    let Ok((slots, _)) = <[U32]>::mut_from_prefix_with_elems(body, body.len() / 4) else {
        return Err(short);
    };
    slots.get_mut(slot).ok_or(short)?.set(inode);
    if geometry.features.metadata_csum() {
        tail.checksum.set(checksum(seed, nr, body));
    }
    Ok(())
}

fn parts(block: &[u8]) -> Result<(&[u8], &RawTail)> {
    RawTail::ref_from_suffix(block).map_err(|_| cut(block))
}

fn cut(block: &[u8]) -> Error {
    let kind = CorruptKind::Truncated { needed: size_of::<RawTail>(), have: block.len() };
    Error::corrupt(Place::default(), kind)
}

fn checksum(seed: ChecksumSeed, nr: BlockNr, slots: &[u8]) -> u32 {
    seed.chain(U64::new(nr.get()).as_bytes()).of(slots)
}
