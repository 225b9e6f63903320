//! What a verb answers with, in page-aligned memory that is used again.

use std::io;

use fuser::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::errno::Fail;

/// The page size that buffers are aligned to.
pub(super) const PAGE: usize = 4096;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Page-aligned memory. Pages that were never touched take none.
pub(crate) struct Buffer(Vec<Page>);

impl Buffer {
    /// Room for `len` bytes, rounded up to pages.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let pages = Page::new_vec_zeroed(len.div_ceil(PAGE));
        let mut buffer = Self(pages.map_err(|_| io::ErrorKind::OutOfMemory)?);
        // Aligned memory is zeroed by hand, so all of it was touched.
        buffer.discard();
        Ok(buffer)
    }

    /// All of it.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.0.as_mut_slice().as_mut_bytes()
    }

    /// Gives its memory back until it is used again. Its bytes are zero then, or what they were.
    pub(super) fn discard(&mut self) {
        crate::sys::discard(self.bytes());
    }
}

/// What a verb answers with, built in place: the fixed part of a reply and its data in one piece,
/// without the header, which is the transport's.
pub(crate) struct Output<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    /// Nothing yet, with all of `buffer` as room.
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    /// Appends a message.
    ///
    /// # Errors
    /// EIO when there is no room.
    pub(super) fn put<T: IntoBytes + Immutable>(&mut self, message: &T) -> Result<(), Fail> {
        self.put_bytes(message.as_bytes())
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// EIO when there is no room.
    pub(super) fn put_bytes(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        self.fill(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        })
    }

    /// Lets `write` fill up to `len` bytes and say how many it did.
    ///
    /// # Errors
    /// EIO when there is no room; whatever `write` says.
    pub(super) fn fill(
        &mut self,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> Result<usize, Fail>,
    ) -> Result<(), Fail> {
        let room = self.buffer.get_mut(self.len..).and_then(|rest| rest.get_mut(..len));
        let filled = write(room.ok_or(Errno::EIO)?)?;
        self.len = self.len.saturating_add(filled.min(len));
        Ok(())
    }

    /// Bytes appended so far.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What was appended so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}
