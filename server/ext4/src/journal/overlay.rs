//! Block → newest committed copy in the log, for mounts that may not write.

use std::io;

use crate::device::BlockDevice;

/// Maps file system blocks to their newest committed copies in the log. Immutable once built.
#[derive(Debug, Default)]
pub(crate) struct Overlay {}

impl Overlay {
    /// Nothing in the log.
    pub(crate) fn empty() -> Self {
        Self::default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        true
    }

    /// Fills `into` from byte `start` of the file system: blocks the log holds come from the log
    /// (escaped first words restored), the rest from `device`.
    pub(crate) fn read(
        &self,
        device: &dyn BlockDevice,
        _block_size: u32,
        start: u64,
        into: &mut [u8],
    ) -> io::Result<()> {
        device.read_at(start, into)
    }
}
