//! The memory that requests of a ring lie in.
//!
//! The kernel writes to it on its own, from the moment an entry is handed over until the completion
//! says that it is back. So an [`Entry`] is a thing that only one party has: whoever holds it may
//! touch its memory, and [`super::ring::Ring`] takes it away and gives it back. The memory is never
//! unmapped, because a ring that is closed may still have reads under way.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// The page size that payloads are aligned to.
const PAGE: usize = 4096;

/// The room for headers that one entry gets: cache lines of its own.
const HEADER_STRIDE: usize = 512;

/// Bytes of a payload whose memory stays: more than what is no file data ever needs.
const KEPT: usize = 128 << 10;
/// After this time without file data, the rest goes back to the kernel.
const IDLE: Duration = Duration::from_secs(1);

/// Whether memory is short, and all of the rest goes back at once.
static SPARE: AtomicBool = AtomicBool::new(false);

/// Has entries keep as little memory as they can, or stop doing so.
pub(crate) fn spare(on: bool) {
    SPARE.store(on, Ordering::Relaxed);
}

/// The memory of one request and its answer.
#[derive(Debug)]
pub(crate) struct Entry {
    index: usize,
    header: NonNull<u8>,
    header_len: usize,
    payload: NonNull<u8>,
    payload_len: usize,
    /// Bytes of the payload that may take memory, if more than [`KEPT`], and when they last were of use.
    grown: Option<(usize, Instant)>,
}

// SAFETY: the pointers are to memory that nobody else holds while there is this value, that is never
// unmapped, and that has no tie to a thread.
unsafe impl Send for Entry {}

impl Entry {
    /// Its number among the entries that were made with it, from 0.
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The header, and the payload, which is aligned to pages.
    pub(crate) fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        // SAFETY: both ranges were mapped for this entry alone, do not overlap and are zeroed at
        // first; the kernel does not write to them now, as the entry is here. The borrow of `self`
        // keeps it here as long as the slices live.
        unsafe {
            (
                std::slice::from_raw_parts_mut(self.header.as_ptr(), self.header_len),
                std::slice::from_raw_parts_mut(self.payload.as_ptr(), self.payload_len),
            )
        }
    }

    /// The header, to be looked at.
    pub(crate) fn header(&self) -> &[u8] {
        // SAFETY: as in `parts`.
        unsafe { std::slice::from_raw_parts(self.header.as_ptr(), self.header_len) }
    }

    /// Gives memory back that was of use while the payload held `used` bytes and is not for the `needed`
    /// bytes that it holds now: at once where memory is short, else when that was some time ago.
    ///
    /// Nobody else could do so later: the kernel may put a request into an entry of its own at any time.
    pub(crate) fn settle(&mut self, used: usize, needed: usize) {
        if used > KEPT {
            let before = self.grown.map_or(0, |(before, _)| before);
            self.grown = Some((before.max(used), Instant::now()));
        }
        let Some((grown, since)) = self.grown.filter(|_| needed <= KEPT) else { return };
        if SPARE.load(Ordering::Relaxed) || since.elapsed() > IDLE {
            let grown = grown.min(self.payload_len);
            if let Some(rest) = self.parts().1.get_mut(KEPT..grown) {
                super::discard(rest);
            }
            self.grown = None;
        }
    }

    /// What the kernel is told when the entry is registered.
    pub(super) fn vectors(&self) -> [libc::iovec; 2] {
        [
            libc::iovec { iov_base: self.header.as_ptr().cast(), iov_len: self.header_len },
            libc::iovec { iov_base: self.payload.as_ptr().cast(), iov_len: self.payload_len },
        ]
    }

    /// Where the kernel shall put `len` bytes from `at` of the payload; `None` when that is outside.
    pub(super) fn room(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        let end = at.checked_add(len)?;
        if end > self.payload_len {
            return None;
        }
        // SAFETY: it stays inside of the mapping.
        Some(unsafe { self.payload.add(at) })
    }
}

/// Maps memory for `count` entries. None of it is touched yet, and a page takes memory only once it
/// was.
///
/// # Errors
/// When there is no room in the address space, or `payload_len` is no multiple of the page size.
pub(crate) fn entries(
    count: usize,
    header_len: usize,
    payload_len: usize,
) -> io::Result<Vec<Entry>> {
    if header_len > HEADER_STRIDE || payload_len == 0 || !payload_len.is_multiple_of(PAGE) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let headers = map(count.checked_mul(HEADER_STRIDE))?;
    let payloads = map(count.checked_mul(payload_len))?;
    let entry = |index: usize| {
        // SAFETY: `index` is less than `count`, so both offsets are inside of their mappings, and
        // their products do not overflow.
        let (header, payload) = unsafe {
            (
                headers.add(index.wrapping_mul(HEADER_STRIDE)),
                payloads.add(index.wrapping_mul(payload_len)),
            )
        };
        Entry { index, header, header_len, payload, payload_len, grown: None }
    };
    Ok((0..count).map(entry).collect())
}

/// Fresh zeroed memory, for ever.
fn map(len: Option<usize>) -> io::Result<NonNull<u8>> {
    let len = len.filter(|len| *len > 0).ok_or(io::ErrorKind::OutOfMemory)?;
    let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
    // SAFETY: at an address of the kernel's choice it replaces no mapping that exists.
    let start =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), len, protection, flags) }?;
    // A huge page would take 2 MiB for the first byte of it. Kernels without them say EINVAL.
    // SAFETY: this advice changes no contents.
    let _ = unsafe { rustix::mm::madvise(start, len, Advice::LinuxNoHugepage) };
    NonNull::new(start.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_do_not_share_memory() {
        let mut all = entries(3, 288, 2 * PAGE).unwrap();
        for (value, entry) in (1..).zip(&mut all) {
            let (header, payload) = entry.parts();
            assert_eq!((header.len(), payload.len()), (288, 2 * PAGE));
            assert!(header.iter().chain(&*payload).all(|byte| *byte == 0));
            header.fill(value);
            payload.fill(value);
        }
        for (value, entry) in (1..).zip(&mut all) {
            let (header, payload) = entry.parts();
            assert!(header.iter().chain(&*payload).all(|byte| *byte == value));
            assert_eq!(payload.as_ptr().addr() % PAGE, 0);
        }
    }

    #[test]
    fn what_large_requests_took_is_given_back_where_memory_is_short() {
        let [mut entry] = entries(1, 288, 2 * KEPT).unwrap().try_into().unwrap();
        let mut after = |used, needed| {
            entry.parts().1.fill(7);
            entry.settle(used, needed);
            entry.parts().1[2 * KEPT - 1]
        };
        // It may be of use soon.
        assert_eq!((after(2 * KEPT, 0), after(0, 0)), (7, 7));
        spare(true);
        assert_eq!((after(2 * KEPT, 2 * KEPT), after(0, KEPT)), (7, 0));
        assert_eq!((after(0, 0), after(KEPT, 0), after(usize::MAX, 0)), (7, 7, 0));
        spare(false);
        assert!(entry.parts().1[..KEPT].iter().all(|byte| *byte == 7));
    }

    #[test]
    fn room_is_inside_of_the_payload() {
        let [entry] = entries(1, 288, PAGE).unwrap().try_into().unwrap();
        assert!(entry.room(0, PAGE).is_some());
        assert!(entry.room(1, PAGE).is_none());
        assert!(entry.room(usize::MAX, 2).is_none());
    }

    #[test]
    fn a_payload_is_whole_pages() {
        assert!(entries(1, 288, PAGE + 1).is_err());
        assert!(entries(1, 288, 0).is_err());
    }
}
