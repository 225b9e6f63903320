//! Where blocks come from: the device, seen through the journal's overlay when there is one.
//!
//! On a read-only mount of a dirty file system the newest committed copy of a block lies in the log.
//! The overlay maps block → log block; contents are read from the log on demand, so memory holds
//! only the map and not a byte of the device is written.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::{Error, IoOp, Place, Result};
use crate::ids::{BlockNr, on_disk};
use crate::journal::Overlay;

/// The device with the journal's overlay on top.
pub(crate) struct Source {
    device: Arc<dyn BlockDevice>,
    overlay: Overlay,
    block_size: u32,
}

impl Source {
    /// A source without a log.
    pub(crate) fn new(device: Arc<dyn BlockDevice>, block_size: u32) -> Self {
        Self { device, overlay: Overlay::empty(), block_size }
    }

    /// The same device seen through `overlay`.
    pub(crate) fn with_overlay(self, overlay: Overlay) -> Self {
        Self { overlay, ..self }
    }

    pub(crate) fn block_size(&self) -> u32 {
        self.block_size
    }

    pub(crate) fn device(&self) -> &Arc<dyn BlockDevice> {
        &self.device
    }

    /// The byte of the device that is `skip` bytes into `first`, unless the log holds a newer copy of
    /// one of the `count` blocks from there.
    pub(crate) fn place(&self, first: BlockNr, skip: u32, count: u64) -> Option<u64> {
        if self.overlay.holds(first.get(), count) {
            return None;
        }
        first.get().checked_mul(self.block_size.into())?.checked_add(skip.into())
    }

    /// Has the device begin to read `count` blocks from `first` on.
    pub(crate) fn prefetch(&self, first: BlockNr, count: u64) {
        let size = u64::from(self.block_size);
        let start = first.get().saturating_mul(size);
        self.device.prefetch(start..start.saturating_add(count.saturating_mul(size)));
    }

    /// Reads `into.len()` bytes starting `skip` bytes into `first`, across as many blocks as it
    /// takes; parts that the log holds come from there. The caller has checked the range.
    pub(crate) fn read(&self, first: BlockNr, skip: u32, into: &mut [u8]) -> Result<()> {
        let fail = |source| Error::Io { op: IoOp::Read, place: Place::block(first), source };
        let too_far = || fail(std::io::ErrorKind::UnexpectedEof.into());
        let start = first
            .get()
            .checked_mul(self.block_size.into())
            .and_then(|byte| byte.checked_add(skip.into()))
            .ok_or_else(too_far)?;
        start.checked_add(on_disk(into.len())).ok_or_else(too_far)?;
        if self.overlay.is_empty() {
            return self.device.read_at(start, into).map_err(fail);
        }
        self.overlay.read(&*self.device, start, into)
    }
}

impl core::fmt::Debug for Source {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Source").field("block_size", &self.block_size).finish_non_exhaustive()
    }
}
