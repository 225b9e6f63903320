//! A device on which writing can be tried: what is written stays in memory.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

use super::BlockDevice;
use crate::ids::{in_memory, on_disk};

/// Bytes of the pieces that are kept.
const PAGE: u64 = 4096;
/// Pieces at most: 512 MiB.
const MAX_PAGES: usize = 131_072;

/// A device, and over it what was written, which it never sees.
pub(crate) struct Rehearsal {
    device: Arc<dyn BlockDevice>,
    pages: RwLock<BTreeMap<u64, Vec<u8>>>,
}

impl Rehearsal {
    pub(crate) fn new(device: Arc<dyn BlockDevice>) -> Self {
        Self { device, pages: RwLock::default() }
    }

    /// What the device holds of a page; zeros behind its end.
    fn page(&self, page: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; in_memory(PAGE)];
        let start = page.saturating_mul(PAGE);
        let there = in_memory(self.size().saturating_sub(start).min(PAGE));
        self.device.read_at(start, bytes.get_mut(..there).unwrap_or_default())?;
        Ok(bytes)
    }
}

/// The part of `len` bytes from `offset` that is in one page: its place there, and in these bytes.
fn overlap(page: u64, offset: u64, len: usize) -> (Range<usize>, Range<usize>) {
    let start = page.saturating_mul(PAGE);
    let end = offset.saturating_add(on_disk(len)).min(start.saturating_add(PAGE));
    let begin = offset.max(start).min(end);
    let of = |from: u64| in_memory(begin.saturating_sub(from))..in_memory(end.saturating_sub(from));
    (of(start), of(offset))
}

/// The pages of `len` bytes from `offset`.
fn pages(offset: u64, len: usize) -> Range<u64> {
    offset / PAGE..offset.saturating_add(on_disk(len)).div_ceil(PAGE)
}

impl BlockDevice for Rehearsal {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let kept = self.pages.read();
        self.device.read_at(offset, into)?;
        for (page, bytes) in kept.range(pages(offset, into.len())) {
            let (from, to) = overlap(*page, offset, into.len());
            if let (Some(from), Some(to)) = (bytes.get(from), into.get_mut(to)) {
                to.copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// # Errors
    /// `StorageFull` if so much is not kept.
    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        if offset.checked_add(on_disk(from.len())).is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut kept = self.pages.write();
        for page in pages(offset, from.len()) {
            let mut bytes = match kept.remove(&page) {
                Some(bytes) => bytes,
                None if kept.len() >= MAX_PAGES => return Err(io::ErrorKind::StorageFull.into()),
                None => self.page(page)?,
            };
            let (to, source) = overlap(page, offset, from.len());
            if let (Some(to), Some(source)) = (bytes.get_mut(to), from.get(source)) {
                to.copy_from_slice(source);
            }
            kept.insert(page, bytes);
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn prefetch(&self, range: Range<u64>) {
        self.device.prefetch(range);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]

    use super::*;
    use crate::device::MemDevice;

    /// Two pages and a half, each byte with a value of its own.
    fn bytes() -> Vec<u8> {
        (0..10_240_u32).map(|byte| u8::try_from(byte % 251).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_stays_in_memory() {
        let device = Arc::new(MemDevice::new(bytes()));
        let rehearsal = Rehearsal::new(device.clone());
        let mut expected = bytes();
        for (offset, len) in [(0, 1024), (4000, 200), (1, 9000), (9216, 1024), (4096, 4096)] {
            let written = vec![255; len];
            rehearsal.write_at(on_disk(offset), &written).unwrap();
            expected[offset..offset + len].copy_from_slice(&written);
            for (offset, len) in [(0, 10_240), (3000, 2000), (8191, 2), (offset, len)] {
                let mut found = vec![0; len];
                rehearsal.read_at(on_disk(offset), &mut found).unwrap();
                assert_eq!(found, expected[offset..offset + len], "{offset}");
            }
        }
        assert_eq!(device.contents(), bytes());
    }

    #[test]
    fn nothing_is_written_beyond_the_end() {
        let rehearsal = Rehearsal::new(Arc::new(MemDevice::new(bytes())));
        for offset in [9217, 10_240, u64::MAX] {
            let error = rehearsal.write_at(offset, &[0; 1024]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
        assert!(rehearsal.pages.read().is_empty());
    }
}
