//! A part of a device, to be looked at: what `offset=` and `sizelimit=` say. Mounts have a loop device
//! for that.

use std::io;
use std::ops::Range;

use fuse4fs_ext4::device::BlockDevice;

/// Bytes of a device from a place on, for reading.
pub(crate) struct Window<D> {
    device: D,
    offset: u64,
    sizelimit: u64,
}

impl<D: BlockDevice> Window<D> {
    /// `sizelimit` bytes from byte `offset`, or all that follow it if 0.
    pub(crate) const fn new(device: D, offset: u64, sizelimit: u64) -> Self {
        Self { device, offset, sizelimit }
    }
}

impl<D: BlockDevice> BlockDevice for Window<D> {
    fn size(&self) -> u64 {
        let rest = self.device.size().saturating_sub(self.offset);
        if self.sizelimit == 0 { rest } else { rest.min(self.sizelimit) }
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let len = u64::try_from(into.len()).unwrap_or(u64::MAX);
        if offset.checked_add(len).is_none_or(|end| end > self.size()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.device.read_at(self.offset.saturating_add(offset), into)
    }

    fn write_at(&self, _offset: u64, _from: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn prefetch(&self, range: Range<u64>) {
        let end = range.end.min(self.size());
        let place = |byte: u64| self.offset.saturating_add(byte);
        if range.start < end {
            self.device.prefetch(place(range.start)..place(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fuse4fs_ext4::device::MemDevice;

    fn read(window: &Window<MemDevice>, offset: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        window.read_at(offset, &mut bytes).ok().map(|()| bytes)
    }

    #[test]
    fn nothing_outside_is_seen() {
        let device = || MemDevice::new((0..10).collect());
        let window = Window::new(device(), 2, 5);
        assert_eq!(window.size(), 5);
        assert_eq!(read(&window, 1, 4), Some(vec![3, 4, 5, 6]));
        assert_eq!([read(&window, 1, 5), read(&window, u64::MAX, 1)], [None, None]);
        assert_eq!(Window::new(device(), 2, 0).size(), 8);
        assert_eq!(Window::new(device(), 2, 99).size(), 8);
        assert_eq!(Window::new(device(), 11, 0).size(), 0);
        assert!(window.write_at(0, &[1]).is_err());
    }
}
