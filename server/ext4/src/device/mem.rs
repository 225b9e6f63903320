//! A device in memory, for tests, fuzzers and crash enumeration.

use std::io;

use parking_lot::RwLock;

use super::BlockDevice;
use crate::ids::in_memory;

/// A device in memory.
#[derive(Debug, Default)]
pub struct MemDevice {
    bytes: RwLock<Vec<u8>>,
}

impl MemDevice {
    /// A device that holds `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { bytes: RwLock::new(bytes) }
    }

    /// All bytes as they are now.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.bytes.read().clone()
    }

    fn range(offset: u64, len: usize) -> io::Result<std::ops::Range<usize>> {
        let start = in_memory(offset);
        let end = start.checked_add(len).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(start..end)
    }
}

impl BlockDevice for MemDevice {
    fn size(&self) -> u64 {
        crate::ids::on_disk(self.bytes.read().len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let range = Self::range(offset, into.len())?;
        let bytes = self.bytes.read();
        into.copy_from_slice(bytes.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        let range = Self::range(offset, from.len())?;
        let mut bytes = self.bytes.write();
        bytes.get_mut(range).ok_or(io::ErrorKind::UnexpectedEof)?.copy_from_slice(from);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
