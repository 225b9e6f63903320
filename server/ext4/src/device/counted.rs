//! A device that counts what is written to it, for s_kbytes_written, and knows whether it was flushed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::BlockDevice;
use crate::ids::on_disk;

/// A device and how many bytes were written to it.
pub(crate) struct Counted {
    device: Arc<dyn BlockDevice>,
    bytes: AtomicU64,
    unflushed: AtomicBool,
    /// A flush has failed.
    failed: Mutex<bool>,
}

impl Counted {
    pub(crate) fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self {
            device,
            bytes: AtomicU64::new(0),
            unflushed: AtomicBool::new(false),
            failed: Mutex::new(false),
        }
    }

    /// Bytes so far.
    pub(crate) fn written(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether something was written and not flushed since.
    pub(crate) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Acquire)
    }

    fn count(&self, bytes: usize) {
        self.bytes.fetch_add(on_disk(bytes), Ordering::Relaxed);
    }
}

impl BlockDevice for Counted {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, into)
    }

    fn read_through(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.device.read_through(offset, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.count(from.len());
        let result = self.device.write_at(offset, from);
        self.unflushed.store(true, Ordering::Release);
        result
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.count(from.len());
        self.device.write_through(offset, from)
    }

    /// One at a time, and never again after one that failed. The kernel tells an error of writing to one
    /// of those who flush at that time; whose data it was, nobody knows.
    fn flush(&self) -> io::Result<()> {
        if !self.device.may_wait() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut failed = self.failed.lock();
        if *failed {
            return Err(io::Error::other("what was written before may be lost"));
        }
        // What is written from here on may be too late for this one.
        let unflushed = self.unflushed.swap(false, Ordering::AcqRel);
        let result = self.device.flush();
        if result.is_err() {
            *failed = true;
            self.unflushed.fetch_or(unflushed, Ordering::AcqRel);
        }
        result
    }

    fn prefetch(&self, range: Range<u64>) {
        self.device.prefetch(range);
    }

    fn may_wait(&self) -> bool {
        self.device.may_wait()
    }

    fn decide(&self) -> bool {
        self.device.decide()
    }

    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        self.device.discard(range)
    }
}

impl core::fmt::Debug for Counted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Counted").field("bytes", &self.written()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its first flush fails.
    struct Once(AtomicBool);

    impl BlockDevice for Once {
        fn size(&self) -> u64 {
            0
        }

        fn read_at(&self, _: u64, _: &mut [u8]) -> io::Result<()> {
            Ok(())
        }

        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            let first = !self.0.swap(true, Ordering::Relaxed);
            if first { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }
    }

    #[test]
    fn after_a_flush_that_failed_nobody_is_told_that_all_is_well() {
        let device = Counted::new(Arc::new(Once(AtomicBool::new(false))));
        device.write_at(0, b"somebody's").unwrap();
        assert_eq!(device.flush().unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert!(device.flush().is_err() && device.is_unflushed());
    }
}
