//! Loop devices. Source: include/uapi/linux/loop.h; drivers/block/loop.c.
#![allow(unsafe_code, reason = "ioctls that rustix does not know")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::ioctl::{Getter, NoArg, Opcode, Setter, ioctl};

use super::open::well_known;

const LOOP_CLR_FD: Opcode = 0x4C01;
const LOOP_GET_STATUS64: Opcode = 0x4C05;
const LOOP_CONFIGURE: Opcode = 0x4C0A;
const LOOP_CTL_GET_FREE: Opcode = 0x4C82;

const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;
const LO_FLAGS_DIRECT_IO: u32 = 16;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    sizelimit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

/// What a loop device shows: which part of which file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Backing {
    /// `st_dev` of the file.
    pub(crate) device: u64,
    /// `st_ino` of the file.
    pub(crate) inode: u64,
    /// First byte.
    pub(crate) offset: u64,
    /// Bytes; 0 for the rest of the file.
    pub(crate) sizelimit: u64,
}

impl Backing {
    /// Whether both show bytes of the same file in common.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let end = |backing: &Self| match backing.sizelimit {
            0 => u64::MAX,
            limit => backing.offset.saturating_add(limit),
        };
        self.device == other.device
            && self.inode == other.inode
            && self.offset < end(other)
            && other.offset < end(self)
    }
}

/// An open loop device; while it is open it is not cleared.
#[derive(Debug)]
pub(crate) struct LoopDevice {
    pub(crate) fd: OwnedFd,
    pub(crate) number: u32,
}

impl LoopDevice {
    pub(crate) fn path(&self) -> String {
        path(self.number)
    }

    /// What it shows now; ENXIO when nothing.
    pub(crate) fn backing(&self) -> io::Result<Backing> {
        // SAFETY: LOOP_GET_STATUS64 writes one struct loop_info64, whose layout is LoopInfo's.
        let info = unsafe { ioctl(&self.fd, Getter::<LOOP_GET_STATUS64, LoopInfo>::new()) }?;
        Ok(Backing {
            device: info.device,
            inode: info.inode,
            offset: info.offset,
            sizelimit: info.sizelimit,
        })
    }

    /// Detaches the file, at the latest when everyone has closed the device.
    pub(crate) fn clear(self) {
        // SAFETY: LOOP_CLR_FD takes no argument.
        let _ = unsafe { ioctl(&self.fd, NoArg::<LOOP_CLR_FD>::new()) };
    }
}

fn path(number: u32) -> String {
    format!("/dev/loop{number}")
}

/// Loop device `number`, if it has a node in /dev.
pub(crate) fn open(number: u32) -> io::Result<LoopDevice> {
    open_for(number, OFlags::RDONLY)
}

fn open_for(number: u32, flags: OFlags) -> io::Result<LoopDevice> {
    let fd = well_known(&path(number), flags)?;
    Ok(LoopDevice { fd, number })
}

/// Numbers of the loop devices that show a file now.
pub(crate) fn bound() -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir("/sys/block")? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("loop")?.parse().ok());
        if let Some(number) = number
            && entry.path().join("loop").exists()
        {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Shows `backing` of `file` on a free loop device that clears itself on last close.
///
/// The descriptor that it gives can only read: one that writes would be in the way of a mount where
/// the kernel keeps mounted devices from being written.
///
/// Direct I/O is a wish: the driver goes without where the file cannot do it.
///
/// # Errors
/// ENOENT: the machine or container has no loop devices. EBUSY: another one took the free device.
pub(crate) fn configure(
    file: BorrowedFd<'_>,
    backing: &Backing,
    read_only: bool,
) -> io::Result<LoopDevice> {
    let control = well_known("/dev/loop-control", OFlags::RDWR)?;
    // The driver makes it read-only unless both the file and this are open for writing.
    let (mode, flag) =
        if read_only { (OFlags::RDONLY, LO_FLAGS_READ_ONLY) } else { (OFlags::RDWR, 0) };
    let device = open_for(free_number(control.as_fd())?, mode)?;
    let config = LoopConfig {
        fd: u32::try_from(file.as_raw_fd()).map_err(io::Error::other)?,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: backing.offset,
            sizelimit: backing.sizelimit,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: flag | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: LOOP_CONFIGURE reads one struct loop_config, whose layout is LoopConfig's.
    unsafe { ioctl(&device.fd, Setter::<LOOP_CONFIGURE, LoopConfig>::new(config)) }?;
    if read_only { Ok(device) } else { open(device.number) }
}

fn free_number(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: no pointer is passed; the answer is a number.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE.into()) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Whether the error of [`configure`] means that there are no loop devices to be had here.
pub(crate) fn are_missing(error: &io::Error) -> bool {
    [Errno::NOENT, Errno::NXIO, Errno::NODEV, Errno::PERM, Errno::ACCESS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
