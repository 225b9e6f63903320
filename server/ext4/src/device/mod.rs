//! The door to the device: five calls, no caching words.

mod file;
mod mem;

use std::io;
use std::ops::Range;

pub use file::FileDevice;
pub use mem::MemDevice;

/// A device or image that holds a file system. Offsets and lengths are bytes.
///
/// Implementations are called from several threads at once.
pub trait BlockDevice: Send + Sync {
    /// The size in bytes; may shrink or grow while mounted.
    fn size(&self) -> u64;

    /// Fills `into` from `offset`.
    ///
    /// # Errors
    /// Any device error; `UnexpectedEof` if the device ends before `into` is full.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;

    /// Writes all of `from` at `offset`.
    ///
    /// # Errors
    /// Any device error; `PermissionDenied` on a read-only device.
    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// All earlier writes are durable when this returns.
    ///
    /// # Errors
    /// Any device error.
    fn flush(&self) -> io::Result<()>;

    /// Tells the device that a range holds nothing of value. Advice only.
    ///
    /// # Errors
    /// Any device error.
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }
}
