//! The engine's door to the device: the descriptor that the helper opened.

use std::cell::Cell;
use std::io::{self, IoSlice, IoSliceMut};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::OnceLock;

use fuse4fs_ext4::device::BlockDevice;
use parking_lot::RwLock;
use rustix::fs::{Advice, FallocateFlags, SeekFrom};
use rustix::io::{Errno, ReadWriteFlags};

use crate::sys::begin_writeback;
use crate::sys::ring::drop_files;

/// No device has larger sectors.
const ALIGNMENT: usize = 4096;
const SECTORS: u64 = 4096;

/// What the descriptor was opened for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// O_RDONLY
    Read,
    /// O_RDWR
    Write,
}

/// Whether this thread may wait for the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Patience {
    Waits,
    /// It may not, and did not have to yet.
    Hurries,
    /// It might not, but what it does cannot be done again any more: it waits.
    Decided,
    /// It may not, and would have had to.
    Missed,
}

thread_local! {
    static PATIENCE: Cell<Patience> = const { Cell::new(Patience::Waits) };
}

/// Bytes that a thread in a hurry may write: into the page cache, which takes as long as copying.
const BRIEF: usize = 64 << 10;

/// Bytes of a write that belongs to a long one: the device is to work while the next piece is made, not
/// only once somebody asks for durability.
const STREAMED: usize = 512 << 10;

/// Does `work` with what is in memory, of this process or the kernel. `None`, and no result at all,
/// when a device would have had to be waited for: some of it may have got around the error then, so
/// whatever came out is not what it would be. Once it has decided to change something (see
/// [`BlockDevice::decide`]) it waits, as it cannot be done again. Within another such work it is a part
/// of that, which tells of all that had to be waited for.
pub(crate) fn without_waiting<T>(work: impl FnOnce() -> T) -> Option<T> {
    if hurries() {
        return Some(work());
    }
    let before = PATIENCE.replace(Patience::Hurries);
    let result = work();
    let patience = PATIENCE.replace(before);
    (patience != Patience::Missed).then_some(result)
}

/// Whether this thread may not wait, but would have had to.
pub(crate) fn missed() -> bool {
    PATIENCE.get() == Patience::Missed
}

/// Whether this thread may not wait.
pub(crate) fn hurries() -> bool {
    matches!(PATIENCE.get(), Patience::Hurries | Patience::Missed)
}

/// Whether this thread may wait. If not, it is noted that it had to.
pub(crate) fn may_wait() -> bool {
    let waits = !hurries();
    if !waits {
        PATIENCE.set(Patience::Missed);
    }
    waits
}

fn decide() -> bool {
    if PATIENCE.get() == Patience::Hurries {
        PATIENCE.set(Patience::Decided);
    }
    !missed()
}

/// A block device (or an image file) behind a descriptor that can be closed under the engine.
///
/// # Locking
/// The lock is held shared while the device works and exclusively to close it: when [`Device::close`]
/// returns, nothing of this process keeps the device busy.
pub(crate) struct Device {
    access: Access,
    fd: RwLock<Option<OwnedFd>>,
    /// Rings that have the descriptor among their files.
    rings: Vec<RawFd>,
    /// The same with O_DIRECT, for reads that no cache may answer.
    direct: RwLock<Option<OwnedFd>>,
    before_wait: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Device {
    /// Takes the descriptor.
    pub(crate) fn new(fd: OwnedFd, access: Access) -> Self {
        let (before_wait, rings) = (OnceLock::new(), Vec::new());
        let fd = RwLock::new(Some(fd));
        Self { access, fd, direct: RwLock::default(), rings, before_wait }
    }

    /// Takes the descriptor with O_DIRECT as well.
    pub(crate) fn set_direct(&self, fd: OwnedFd) {
        *self.direct.write() = Some(fd);
    }

    /// Calls `hook` from now on whenever a thread is going to wait for the device.
    pub(crate) fn before_wait(&self, hook: impl Fn() + Send + Sync + 'static) {
        // There is one transport, and so one hook.
        let _ = self.before_wait.set(Box::new(hook));
    }

    /// The same, with rings that read from it on their own.
    pub(crate) fn shared_with(self, rings: impl Iterator<Item = RawFd>) -> Self {
        Self { rings: rings.collect(), ..self }
    }

    /// Closes the descriptor once what is under way is done, and has the rings drop it. All calls
    /// after that fail.
    pub(crate) fn close(&self) {
        *self.direct.write() = None;
        if self.fd.write().take().is_none() {
            return;
        }
        for ring in &self.rings {
            if let Err(error) = drop_files(*ring) {
                tracing::warn!("a ring does not let go of the device: {error}");
            }
        }
    }
}

impl BlockDevice for Device {
    /// Asked anew each time: seeking to the end of a block device tells its size, and as reads
    /// carry their own offset nobody minds where the descriptor stands.
    fn size(&self) -> u64 {
        let fd = self.fd.read();
        fd.as_ref().and_then(|fd| rustix::fs::seek(fd, SeekFrom::End(0)).ok()).unwrap_or(0)
    }

    fn read_at(&self, mut offset: u64, mut into: &mut [u8]) -> io::Result<()> {
        if let Some(before_wait) = self.before_wait.get() {
            before_wait();
        }
        let fd = self.fd.read();
        let fd = fd.as_ref().ok_or_else(closed)?;
        while !into.is_empty() {
            let len = match read(fd, &mut *into, offset) {
                Err(Errno::AGAIN) if !may_wait() => return Err(io::ErrorKind::WouldBlock.into()),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            into = into.get_mut(len..).unwrap_or_default();
            let step = u64::try_from(len).unwrap_or(u64::MAX);
            offset = offset.checked_add(step).ok_or(io::ErrorKind::InvalidInput)?;
        }
        Ok(())
    }

    /// Where the helper could not open the device with O_DIRECT it is an image file, which has one
    /// cache only.
    fn read_through(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let direct = self.direct.read();
        let Some(fd) = direct.as_ref() else {
            drop(direct);
            return self.read_at(offset, into);
        };
        // Offset, length and memory have to be multiples of the device's sectors.
        let skip = usize::try_from(offset.checked_rem(SECTORS).unwrap_or(0)).unwrap_or(0);
        let start = offset.saturating_sub(offset.checked_rem(SECTORS).unwrap_or(0));
        let len = skip.saturating_add(into.len()).next_multiple_of(ALIGNMENT);
        let mut buffer = vec![0; len.saturating_add(ALIGNMENT)];
        let at = buffer.as_ptr().align_offset(ALIGNMENT);
        let aligned = at.checked_add(len).and_then(|end| buffer.get_mut(at..end));
        let aligned = aligned.ok_or(io::ErrorKind::OutOfMemory)?;
        let read = loop {
            match rustix::io::pread(fd, &mut *aligned, start) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        let found = aligned.get(..read).and_then(|read| read.get(skip..));
        let found = found.and_then(|found| found.get(..into.len()));
        into.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    /// On a read-only mount the descriptor is open for reading only; this tells so before the kernel
    /// does.
    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write(offset, from, ReadWriteFlags::empty())
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write(offset, from, ReadWriteFlags::DSYNC)
    }

    fn flush(&self) -> io::Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        if !may_wait() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let fd = self.fd.read();
        Ok(rustix::fs::fdatasync(fd.as_ref().ok_or_else(closed)?)?)
    }

    /// By fallocate(2), which on a block device is a discard that must zero: where the device cannot
    /// do that, nothing happens.
    fn discard(&self, range: Range<u64>) -> io::Result<()> {
        if self.access == Access::Read {
            return Ok(());
        }
        let fd = self.fd.read();
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let len = range.end.saturating_sub(range.start);
        Ok(rustix::fs::fallocate(fd.as_ref().ok_or_else(closed)?, flags, range.start, len)?)
    }

    /// By fadvise(2). Not by who may not wait: the device's queue may be full.
    fn prefetch(&self, range: Range<u64>) {
        if hurries() {
            return;
        }
        let fd = self.fd.read();
        let len = NonZeroU64::new(range.end.saturating_sub(range.start));
        if let (Some(fd), Some(len)) = (fd.as_ref(), len) {
            // No more than a wish.
            let _ = rustix::fs::fadvise(fd, range.start, Some(len), Advice::WillNeed);
        }
    }

    fn may_wait(&self) -> bool {
        may_wait()
    }

    fn decide(&self) -> bool {
        decide()
    }
}

impl Device {
    fn write(&self, mut offset: u64, mut from: &[u8], flags: ReadWriteFlags) -> io::Result<()> {
        if self.access == Access::Read {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let is_brief = flags.is_empty() && from.len() <= BRIEF && !missed();
        if !is_brief && !may_wait() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(before_wait) = self.before_wait.get() {
            before_wait();
        }
        let fd = self.fd.read();
        let fd = fd.as_ref().ok_or_else(closed)?;
        let (start, whole) = (offset, from.len());
        while !from.is_empty() {
            let len = match rustix::io::pwritev2(fd, &[IoSlice::new(from)], offset, flags) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => len,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            from = from.get(len..).unwrap_or_default();
            let step = u64::try_from(len).unwrap_or(u64::MAX);
            offset = offset.checked_add(step).ok_or(io::ErrorKind::InvalidInput)?;
        }
        if whole >= STREAMED {
            begin_writeback(fd, start, whole);
        }
        Ok(())
    }
}

/// One read. In a thread that may not wait, of the kernel's page cache only: EAGAIN where that lacks
/// the bytes, which has begun to get them then.
fn read(fd: &OwnedFd, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
    if !hurries() {
        return rustix::io::pread(fd, into, offset);
    }
    let parts = &mut [IoSliceMut::new(into)];
    match rustix::io::preadv2(fd, parts, offset, ReadWriteFlags::NOWAIT) {
        // A device whose driver cannot tell whether it would wait.
        Err(Errno::OPNOTSUPP) => Err(Errno::AGAIN),
        result => result,
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the device was closed at unmount")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn device(bytes: &[u8]) -> Device {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        Device::new(File::open(&file).unwrap().into(), Access::Read)
    }

    #[test]
    fn reads_what_is_there_and_refuses_to_read_past_the_end() {
        let device = device(b"0123456789");
        let mut four = [0; 4];
        device.read_at(3, &mut four).unwrap();
        assert_eq!(four, *b"3456");
        let error = device.read_at(8, &mut four).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(device.size(), 10);
    }

    #[test]
    fn what_is_in_memory_needs_no_waiting() {
        let device = device(b"0123456789");
        let mut four = [0; 4];
        let read = without_waiting(|| device.read_at(3, &mut four)).expect("no wait");
        read.unwrap();
        assert_eq!(four, *b"3456");
    }

    /// Dropping the page cache of a file leaves it to be read from where it is stored.
    #[test]
    fn what_is_not_in_memory_has_no_result_at_all() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("image");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        let device = Device::new(file.into(), Access::Read);
        let mut four = [0; 4];
        // As a verb does that gets around an error.
        let hurried = without_waiting(|| device.read_at(0, &mut four).is_ok());
        assert_eq!(hurried, None);
        device.read_at(0, &mut four).unwrap();
        assert_eq!(four, [7; 4]);
    }

    #[test]
    fn an_error_is_a_result_and_the_next_work_starts_afresh() {
        let device = device(b"0123456789");
        assert_eq!(without_waiting(|| device.may_wait()), None);
        assert_eq!(without_waiting(|| device.read_at(8, &mut [0; 4]).is_err()), Some(true));
        assert!(device.may_wait());
    }

    #[test]
    fn a_thread_that_may_not_wait_writes_little_and_nothing_through() {
        let file = tempfile::tempfile().unwrap();
        let device = Device::new(file.into(), Access::Write);
        let much = vec![1; BRIEF + 1];
        assert_eq!(without_waiting(|| device.write_at(0, &much).is_ok()), None);
        assert_eq!(without_waiting(|| device.write_through(0, b"x").is_ok()), None);
        assert_eq!(without_waiting(|| device.flush().is_ok()), None);
        assert_eq!(device.size(), 0);
        assert_eq!(without_waiting(|| device.write_at(0, b"x").is_ok()), Some(true));
        device.write_at(0, &much).unwrap();
        assert_eq!(device.size(), u64::try_from(much.len()).unwrap());
    }

    #[test]
    fn who_has_decided_waits_and_who_had_to_wait_does_not_decide() {
        let file = tempfile::tempfile().unwrap();
        let device = Device::new(file.into(), Access::Write);
        let decided = without_waiting(|| {
            assert!(hurries() && device.decide() && !hurries());
            device.flush().is_ok() && device.may_wait() && device.decide()
        });
        assert_eq!(decided, Some(true));
        let missed = without_waiting(|| {
            assert!(!device.may_wait());
            assert!(!device.decide(), "its verb is to be called again");
        });
        assert_eq!(missed, None);
        assert!(device.decide() && device.may_wait());
    }

    #[test]
    fn hurried_work_within_other_such_work_is_a_part_of_it() {
        let device = device(b"0123456789");
        let whole = without_waiting(|| {
            assert_eq!(without_waiting(|| device.may_wait()), Some(false));
        });
        assert_eq!(whole, None);
        let decided = without_waiting(|| {
            assert!(decide());
            assert_eq!(without_waiting(|| device.may_wait()), None);
            device.may_wait()
        });
        assert_eq!(decided, Some(true));
    }

    #[test]
    fn a_closed_device_answers_nothing() {
        let device = device(b"0123456789");
        device.close();
        assert!(device.read_at(0, &mut [0; 4]).is_err());
        assert_eq!(device.size(), 0);
    }
}
