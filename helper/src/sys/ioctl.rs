//! ioctls that rustix does not know. Source: include/uapi/linux/fs.h; `fuse4fs_protocol::ioctl`.
#![allow(unsafe_code, reason = "ioctls that rustix does not know")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use fuse4fs_protocol::{
    IOC_GET_READ_ONLY, IOC_SET_READ_ONLY, IOC_STATUS, KEY_BYTES, KEY_XATTR, SET_READ_ONLY_BYTES,
    STATUS_BYTES, SetReadOnly,
};
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl};

use super::open::again;

/// `_IO(0x12, 94)`
const BLKROGET: Opcode = 0x125E;

/// Whether a block device is write-protected.
pub(crate) fn is_write_protected(device: impl AsFd) -> io::Result<bool> {
    // SAFETY: BLKROGET writes one int.
    let answer = unsafe { ioctl(device, Getter::<BLKROGET, libc::c_int>::new()) }?;
    Ok(answer != 0)
}

/// Tells the server of the mount whose root is `root` that it becomes read-only or read-write; back
/// when that is done.
///
/// # Errors
/// EROFS: it cannot be read-write. ENOTTY: the server does not know the request.
pub(crate) fn set_read_only(root: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    const NUMBER: Opcode = IOC_SET_READ_ONLY;
    let directory = again(root, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut key = [0; KEY_BYTES];
    match rustix::fs::fgetxattr(&directory, KEY_XATTR, &mut key) {
        Ok(KEY_BYTES) => {}
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => return Err(Errno::NOTTY.into()),
        Err(error) => return Err(error.into()),
    }
    let asked = SetReadOnly { key, read_only }.to_bytes();
    // SAFETY: IOC_SET_READ_ONLY reads SET_READ_ONLY_BYTES bytes.
    match unsafe { ioctl(&directory, Setter::<NUMBER, [u8; SET_READ_ONLY_BYTES]>::new(asked)) } {
        // Where a server answers no ioctl at all.
        Err(Errno::NOSYS) => Err(Errno::NOTTY.into()),
        result => Ok(result?),
    }
}

/// Whether the server of the mount whose root is `root` writes nothing. May hang.
///
/// # Errors
/// ENOTTY: the server does not know the request.
pub(crate) fn is_read_only(root: BorrowedFd<'_>) -> io::Result<bool> {
    const NUMBER: Opcode = IOC_GET_READ_ONLY;
    let directory = again(root, OFlags::RDONLY | OFlags::DIRECTORY)?;
    // SAFETY: IOC_GET_READ_ONLY writes one u32.
    let answer = unsafe { ioctl(&directory, Getter::<NUMBER, u32>::new()) }?;
    Ok(answer != 0)
}

/// What the server of the mount whose root is `root` tells of it: a `fuse4fs_protocol::Status`, if it
/// is honest. May hang.
///
/// # Errors
/// ENOTTY, ENOSYS: the server does not know the request. EACCES: the root may not be read.
pub(crate) fn status(root: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    const NUMBER: Opcode = IOC_STATUS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK;
    let directory = again(root, flags)?;
    // The kernel writes as much of it as the server answers.
    let mut bytes = [0; STATUS_BYTES];
    // SAFETY: IOC_STATUS writes STATUS_BYTES bytes at most.
    unsafe { ioctl(&directory, Updater::<NUMBER, [u8; STATUS_BYTES]>::new(&mut bytes)) }?;
    Ok(bytes.to_vec())
}
