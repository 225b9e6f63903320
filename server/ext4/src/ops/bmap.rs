//! Where on the device a block of a file is (FIBMAP).

use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::LogicalBlock;
use crate::inode::Inode;
use crate::map::{self, Mapping, inline};

impl Filesystem {
    /// The device block that holds block `at` of a regular file, or 0 where nothing is written. Both
    /// count in units of `unit` bytes, which need not be the file system's block size; a unit that
    /// is not in one piece at a multiple of its size is nowhere, so 0.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for inline data, a `unit` that is no power of two or less than 512;
    /// `NoKey`, `IsDirectory`; corruption and I/O errors.
    pub fn bmap(&self, inode: &Inode, at: u64, unit: u32) -> Result<u64> {
        let (_lock, inode) = self.newest(inode)?;
        self.open_regular(&inode)?;
        if !unit.is_power_of_two() || unit < 512 {
            return Err(Refusal::Invalid.into());
        }
        if inline::of(&self.volume.geometry, &inode)?.is_some() {
            return Err(Refusal::Invalid.into());
        }
        let byte = at.checked_mul(unit.into()).ok_or(Refusal::Invalid)?;
        if self.volume.journals(&inode) {
            // Whoever asks may go to the device, where it has to be by then.
            self.volume.write_home()?;
        }
        let place = self.device_byte(&inode, byte, unit.into())?;
        Ok(place
            .filter(|place| place.is_multiple_of(unit.into()))
            .map_or(0, |place| place >> unit.ilog2()))
    }

    /// The byte of the device where `len` bytes of the file from `byte` are, if they are written and
    /// in one piece.
    fn device_byte(&self, inode: &Inode, byte: u64, len: u64) -> Result<Option<u64>> {
        let block_size = u64::from(self.volume.block_size());
        let skip = byte.checked_rem(block_size).unwrap_or(0);
        let Some(at) = byte.checked_div(block_size).and_then(|at| u32::try_from(at).ok()) else {
            return Ok(None);
        };
        let Mapping::Written { first, len: blocks } =
            map::lookup(&self.volume, inode, LogicalBlock::new(at))?
        else {
            return Ok(None);
        };
        let run = u64::from(blocks).saturating_mul(block_size).saturating_sub(skip);
        let start = first.get().saturating_mul(block_size).saturating_add(skip);
        Ok(Some(start).filter(|_| run >= len))
    }
}
