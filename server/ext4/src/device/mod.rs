//! The door to the device: a few calls, no caching words.

mod counted;
mod file;
mod mem;
mod recording;
mod rehearsal;

use std::io;
use std::ops::Range;

use crate::error::{Error, IoOp, Place, Result};

pub(crate) use counted::Counted;
pub use file::FileDevice;
pub use mem::MemDevice;
pub use recording::{CrashImage, History, Part, Recording, Sampling};
pub(crate) use rehearsal::Rehearsal;

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

    /// As [`BlockDevice::read_at`], past every cache of the host: what the device holds now, whoever
    /// wrote it.
    ///
    /// # Errors
    /// As [`BlockDevice::read_at`].
    fn read_through(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_at(offset, into)
    }

    /// Writes all of `from` at `offset`.
    ///
    /// # Errors
    /// Any device error; `PermissionDenied` on a read-only device.
    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()>;

    /// As [`BlockDevice::write_at`], and durable when this returns (FUA where the device has it).
    /// Says nothing of earlier writes.
    ///
    /// # Errors
    /// Any device error.
    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write_at(offset, from)?;
        self.flush()
    }

    /// All earlier writes are durable when this returns.
    ///
    /// # Errors
    /// Any device error.
    fn flush(&self) -> io::Result<()>;

    /// Tells the device that a range will be read soon. Advice only: it is not waited for, and no error is
    /// told.
    fn prefetch(&self, range: Range<u64>) {
        let _ = range;
    }

    /// Whether the calling thread may wait: for another one that reads the device at this moment or
    /// holds a lock while it does, or for a note of damage to be written. Asked when it would have to.
    /// If not, the verb fails with `WouldBlock`, as it does where [`BlockDevice::read_at`] says so, or
    /// its answer is of no use; it is to be called again by a thread that may.
    fn may_wait(&self) -> bool {
        true
    }

    /// Asked by a verb that is about to change something, and so cannot be called again: a thread that
    /// might not wait so far may do so from now on, until the verb has ended. False if it had to wait
    /// already: then it must not begin.
    fn decide(&self) -> bool {
        true
    }

    /// Tells the device that a range holds nothing of value. Advice only.
    ///
    /// # Errors
    /// Any device error.
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        let _ = range;
        Ok(())
    }
}

/// A lock, by `attempt` if that got it, else by `wait` if this thread may.
///
/// # Errors
/// `WouldBlock`, see [`BlockDevice::may_wait`].
pub(crate) fn acquire<G>(
    device: &dyn BlockDevice,
    attempt: Option<G>,
    wait: impl FnOnce() -> G,
) -> Result<G> {
    match attempt {
        Some(guard) => Ok(guard),
        None if device.may_wait() => Ok(wait()),
        None => Err(would_wait()),
    }
}

/// What a verb fails with in a thread that may not wait.
pub(crate) fn would_wait() -> Error {
    let source = io::ErrorKind::WouldBlock.into();
    Error::Io { op: IoOp::Read, place: Place::default(), source }
}
