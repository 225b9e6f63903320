//! Requests in, replies out: page-aligned buffers that are used again and one syscall each way.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;

use fuser::Errno;
use rustix::io::Errno as SysError;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use super::abi::OutHeader;
use super::errno::Fail;

/// Bytes of file content in one message, at most.
pub(super) const MAX_PAYLOAD: usize = 1 << 20;
/// Bytes of a request, at most: its content and what is in front of it.
pub(super) const MAX_REQUEST: usize = MAX_PAYLOAD + PAGE;
/// The page size that buffers are aligned to.
pub(super) const PAGE: usize = 4096;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(4096))]
struct Page([u8; PAGE]);

/// Page-aligned memory. Pages that were never touched take none.
pub(super) struct Buffer(Vec<Page>);

impl Buffer {
    /// Room for `len` bytes, rounded up to pages.
    ///
    /// # Errors
    /// When there is no memory.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let pages = Page::new_vec_zeroed(len.div_ceil(PAGE));
        pages.map(Self).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }

    /// All of it.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        self.0.as_mut_slice().as_mut_bytes()
    }
}

/// What a verb answers with, built in place.
pub(super) struct Output<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Output<'a> {
    /// Nothing yet, with all of `buffer` as room.
    pub(super) fn new(buffer: &'a mut [u8]) -> Self {
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
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}

/// One descriptor that speaks FUSE. Replies must go where their request came from.
#[derive(Debug)]
pub(super) struct Channel(OwnedFd);

impl Channel {
    /// A channel over a /dev/fuse descriptor (or, in tests, a SOCK_SEQPACKET socket).
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Waits for a request; `None` when the kernel has hung up.
    ///
    /// # Errors
    /// Anything that waiting again would not cure.
    pub(super) fn receive<'b>(&self, buffer: &'b mut Buffer) -> io::Result<Option<&'b [u8]>> {
        let room = buffer.bytes();
        let len = loop {
            match rustix::io::read(&self.0, &mut *room) {
                // A request that was interrupted before it could be read leaves ENOENT.
                Err(SysError::INTR | SysError::AGAIN | SysError::NOENT) => {}
                Err(SysError::NODEV | SysError::CONNABORTED | SysError::CONNRESET) | Ok(0) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
                Ok(len) => break len,
            }
        };
        Ok(Some(room.get(..len).unwrap_or_default()))
    }

    /// Answers with what the verb has put out.
    pub(super) fn answer(&self, unique: u64, output: &Output<'_>) {
        self.send(unique, 0, output.bytes());
    }

    /// Answers with an errno.
    pub(super) fn fail(&self, unique: u64, errno: Errno) {
        self.send(unique, errno.code().saturating_neg(), &[]);
    }

    /// A reply that the kernel does not take is for a request that is gone: nobody waits for it.
    fn send(&self, unique: u64, error: i32, payload: &[u8]) {
        let len = size_of::<OutHeader>().saturating_add(payload.len());
        let header = OutHeader { len: u32::try_from(len).unwrap_or(0), error, unique };
        let parts = [IoSlice::new(header.as_bytes()), IoSlice::new(payload)];
        if let Err(error) = rustix::io::writev(&self.0, &parts) {
            tracing::debug!("reply to request {unique} was not taken: {error}");
        }
    }
}
