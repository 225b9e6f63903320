//! The engine's door to the device: the descriptor that the helper opened.

use std::io;
use std::os::fd::OwnedFd;

use fuse4fs_ext4::device::BlockDevice;
use parking_lot::RwLock;
use rustix::fs::SeekFrom;
use rustix::io::Errno;

/// A block device (or an image file) behind a descriptor that can be closed under the engine.
///
/// # Locking
/// The lock is held shared while the device works and exclusively to close it: when [`Device::close`]
/// returns, nothing of this process keeps the device busy.
#[derive(Debug)]
pub(crate) struct Device {
    fd: RwLock<Option<OwnedFd>>,
}

impl Device {
    /// Takes the descriptor.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd: RwLock::new(Some(fd)) }
    }

    /// Closes the descriptor once what is under way is done. All calls after that fail.
    pub(crate) fn close(&self) {
        *self.fd.write() = None;
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
        let fd = self.fd.read();
        let fd = fd.as_ref().ok_or_else(closed)?;
        while !into.is_empty() {
            let len = match rustix::io::pread(fd, &mut *into, offset) {
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

    /// The descriptor is open for reading only; this tells so before the kernel does.
    fn write_at(&self, _offset: u64, _from: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
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
        Device::new(File::open(&file).unwrap().into())
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
    fn a_closed_device_answers_nothing() {
        let device = device(b"0123456789");
        device.close();
        assert!(device.read_at(0, &mut [0; 4]).is_err());
        assert_eq!(device.size(), 0);
    }
}
