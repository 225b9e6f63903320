//! The block of multiple mount protection: who has the file system, and that it is alive.
//!
//! Source: Documentation/filesystems/ext4/mmp.rst.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::ChecksumSeed;
use crate::error::{CorruptKind, Error, Place, Result};

/// Bytes of the structure at the start of its block.
pub(crate) const SIZE: usize = 1024;
/// EXT4_MMP_MAGIC
const MAGIC: u32 = 0x004d_4d50;
/// EXT4_MMP_SEQ_CLEAN: nobody has it.
pub(crate) const CLEAN: u32 = 0xff4d_4d50;
/// EXT4_MMP_SEQ_FSCK: e2fsck has it.
pub(crate) const FSCK: u32 = 0xe24d_4d50;
/// EXT4_MMP_SEQ_MAX
pub(crate) const MAX_SEQ: u32 = 0xe24d_4d4f;

/// `struct mmp_struct`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RawMmp {
    magic: U32,
    pub(crate) seq: U32,
    pub(crate) time: U64,
    pub(crate) nodename: [u8; 64],
    pub(crate) bdevname: [u8; 32],
    pub(crate) check_interval: U16,
    pad1: U16,
    pad2: [U32; 226],
    checksum: U32,
}

const _: () = assert!(size_of::<RawMmp>() == SIZE);

impl core::fmt::Debug for RawMmp {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RawMmp").field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl RawMmp {
    /// Checks what was read from `place`; `seed`: with metadata_csum.
    ///
    /// # Errors
    /// [`CorruptKind::MmpMagic`], [`CorruptKind::MmpChecksum`].
    pub(crate) fn parse(
        bytes: &[u8; SIZE],
        seed: Option<ChecksumSeed>,
        place: Place,
    ) -> Result<Self> {
        let raw: &Self = super::prefix(place, bytes)?;
        if raw.magic.get() != MAGIC {
            return Err(Error::corrupt(place, CorruptKind::MmpMagic { magic: raw.magic.get() }));
        }
        let (stored, computed) = (raw.checksum.get(), seed.map(|seed| raw.computed_checksum(seed)));
        if let Some(computed) = computed.filter(|&computed| computed != stored) {
            return Err(Error::corrupt(place, CorruptKind::MmpChecksum { stored, computed }));
        }
        Ok(*raw)
    }

    /// Makes the checksum right.
    pub(crate) fn seal(&mut self, seed: ChecksumSeed) {
        self.checksum = self.computed_checksum(seed).into();
    }

    fn computed_checksum(&self, seed: ChecksumSeed) -> u32 {
        seed.of(self.as_bytes().split_at(SIZE - 4).0)
    }
}
