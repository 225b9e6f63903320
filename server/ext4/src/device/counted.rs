//! A device that counts what is written to it, for s_kbytes_written, and knows whether it was flushed.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::BlockDevice;
use crate::ids::on_disk;

/// A device and how many bytes were written to it.
pub(crate) struct Counted {
    device: Arc<dyn BlockDevice>,
    bytes: AtomicU64,
    unflushed: AtomicBool,
}

impl Counted {
    pub(crate) fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, bytes: AtomicU64::new(0), unflushed: AtomicBool::new(false) }
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

    fn flush(&self) -> io::Result<()> {
        // What is written from here on may be too late for this one.
        let unflushed = self.unflushed.swap(false, Ordering::AcqRel);
        let result = self.device.flush();
        if result.is_err() && unflushed {
            self.unflushed.store(true, Ordering::Release);
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
