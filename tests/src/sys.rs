//! The ioctls and mappings that no library wraps; the only unsafe code of the tests.
#![allow(unsafe_code, reason = "ioctls whose results the kernel writes, and mappings")]

use std::os::fd::AsFd;

use fuse4fs_protocol::{IOC_SET_READ_ONLY, SET_READ_ONLY_BYTES, SetReadOnly};
use rustix::io::Result;
use rustix::ioctl::{Getter, Opcode, Setter, Updater, ioctl, opcode};

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FsXattr {
    /// fsx_xflags.
    pub xflags: u32,
    /// fsx_extsize.
    pub extsize: u32,
    /// fsx_nextents.
    pub nextents: u32,
    /// fsx_projid.
    pub project: u32,
    /// fsx_cowextsize.
    pub cowextsize: u32,
    padding: [u8; 8],
}

const FSGETXATTR: Opcode = opcode::read::<FsXattr>(b'X', 31);
const GETVERSION: Opcode = opcode::read::<std::ffi::c_long>(b'v', 1);
/// `_IO(0x00, 1)`: without a size in it, although an int goes in and out.
const FIBMAP: Opcode = 1;
const GETFSLABEL: Opcode = opcode::read::<[u8; 256]>(0x94, 49);
const SETFSLABEL: Opcode = opcode::write::<[u8; 256]>(0x94, 50);
const SETVERSION: Opcode = opcode::write::<std::ffi::c_long>(b'v', 2);
const CHECKPOINT: Opcode = opcode::write::<u32>(b'f', 43);

/// FS_IOC_FSGETXATTR.
///
/// # Errors
/// The kernel's.
pub fn fs_xattr(fd: impl AsFd) -> Result<FsXattr> {
    // SAFETY: the kernel writes exactly one struct fsxattr, of plain integers.
    unsafe { ioctl(fd, Getter::<FSGETXATTR, FsXattr>::new()) }
}

/// FS_IOC_GETVERSION: the inode's generation.
///
/// # Errors
/// The kernel's.
pub fn version(fd: impl AsFd) -> Result<u32> {
    // SAFETY: the size in the opcode is a long's, so no file system writes more than that.
    let value = unsafe { ioctl(fd, Getter::<GETVERSION, [u32; 2]>::new()) }?;
    Ok(value[0])
}

/// FS_IOC_GETFSLABEL, up to its NUL.
///
/// # Errors
/// The kernel's.
pub fn label(fd: impl AsFd) -> Result<Vec<u8>> {
    // SAFETY: the kernel writes FSLABEL_MAX = 256 bytes.
    let bytes = unsafe { ioctl(fd, Getter::<GETFSLABEL, [u8; 256]>::new()) }?;
    Ok(bytes.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
}

/// FS_IOC_SETFSLABEL.
///
/// # Errors
/// The kernel's.
pub fn set_label(fd: impl AsFd, label: &[u8]) -> Result<()> {
    let mut bytes = [0; 256];
    bytes.iter_mut().zip(label).for_each(|(to, from)| *to = *from);
    // SAFETY: the kernel reads FSLABEL_MAX = 256 bytes.
    unsafe { ioctl(fd, Setter::<SETFSLABEL, [u8; 256]>::new(bytes)) }
}

/// FS_IOC_SETVERSION.
///
/// # Errors
/// The kernel's.
pub fn set_version(fd: impl AsFd, generation: u32) -> Result<()> {
    // SAFETY: the size in the opcode is a long's, so no file system reads more than that.
    unsafe { ioctl(fd, Setter::<SETVERSION, [u32; 2]>::new([generation, 0])) }
}

/// EXT4_IOC_CHECKPOINT.
///
/// # Errors
/// The kernel's.
pub fn checkpoint(fd: impl AsFd, flags: u32) -> Result<()> {
    // SAFETY: the kernel reads one u32.
    unsafe { ioctl(fd, Setter::<CHECKPOINT, u32>::new(flags)) }
}

/// Asks a server of ours to make its mount read-only or read-write.
///
/// # Errors
/// The server's.
pub fn turn(fd: impl AsFd, asked: SetReadOnly) -> Result<()> {
    type Bytes = [u8; SET_READ_ONLY_BYTES];
    // SAFETY: the kernel reads as many bytes as the opcode says.
    unsafe { ioctl(fd, Setter::<IOC_SET_READ_ONLY, Bytes>::new(asked.to_bytes())) }
}

/// FIBMAP: the device block of block `at` of a file, 0 in a hole.
///
/// # Errors
/// The kernel's.
pub fn fibmap(fd: impl AsFd, at: i32) -> Result<u32> {
    let mut block = at;
    // SAFETY: the kernel reads and writes one int.
    unsafe { ioctl(fd, Updater::<FIBMAP, i32>::new(&mut block)) }?;
    Ok(block.cast_unsigned())
}

/// `struct fscrypt_add_key_arg` with a raw key of 64 bytes behind it.
#[repr(C)]
struct AddKey {
    descriptor_type: u32,
    reserved: u32,
    identifier: [u8; 32],
    raw_size: u32,
    key_id: u32,
    reserved2: [u32; 8],
    raw: [u8; 64],
}

/// `struct fscrypt_remove_key_arg`.
#[repr(C)]
struct RemoveKey {
    descriptor_type: u32,
    reserved: u32,
    identifier: [u8; 32],
    status: u32,
    reserved2: [u32; 5],
}

/// FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER.
const BY_IDENTIFIER: u32 = 2;
const ADD_ENCRYPTION_KEY: Opcode = 0xc050_6617;
const REMOVE_ENCRYPTION_KEY: Opcode = 0xc040_6618;
const SET_ENCRYPTION_POLICY: Opcode = 0x800c_6613;

/// An fscrypt master key that a file system knows.
#[derive(Clone, Copy, Debug)]
pub struct EncryptionKey([u8; 16]);

impl EncryptionKey {
    /// FS_IOC_ADD_ENCRYPTION_KEY, of a fixed key.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add(filesystem: impl AsFd) -> Result<Self> {
        let mut add = AddKey {
            descriptor_type: BY_IDENTIFIER,
            reserved: 0,
            identifier: [0; 32],
            raw_size: 64,
            key_id: 0,
            reserved2: [0; 8],
            raw: std::array::from_fn(|index| index as u8),
        };
        // SAFETY: the kernel reads the struct and the raw_size bytes behind it, and writes only the
        // identifier.
        unsafe { ioctl(filesystem, Updater::<ADD_ENCRYPTION_KEY, AddKey>::new(&mut add)) }?;
        Ok(Self(std::array::from_fn(|index| add.identifier[index])))
    }

    /// FS_IOC_REMOVE_ENCRYPTION_KEY.
    ///
    /// # Errors
    /// The kernel's.
    pub fn remove(self, filesystem: impl AsFd) -> Result<()> {
        let mut identifier = [0; 32];
        identifier[..16].copy_from_slice(&self.0);
        let mut remove = RemoveKey {
            descriptor_type: BY_IDENTIFIER,
            reserved: 0,
            identifier,
            status: 0,
            reserved2: [0; 5],
        };
        // SAFETY: the kernel reads the struct and writes only its status.
        unsafe { ioctl(filesystem, Updater::<REMOVE_ENCRYPTION_KEY, RemoveKey>::new(&mut remove)) }
    }

    /// FS_IOC_SET_ENCRYPTION_POLICY: version 2, AES-256, names padded to `4 << padding` bytes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn protect(self, directory: impl AsFd, padding: u8) -> Result<()> {
        let mut policy = [0; 24];
        policy[..4].copy_from_slice(&[2, 1, 4, padding]);
        policy[8..].copy_from_slice(&self.0);
        // SAFETY: the kernel reads 24 bytes, as version 2 says, and writes none.
        unsafe { ioctl(directory, Updater::<SET_ENCRYPTION_POLICY, [u8; 24]>::new(&mut policy)) }
    }
}

/// What a private mapping of the first `len` bytes shows.
///
/// # Errors
/// The kernel's.
pub fn mapped(fd: impl AsFd, len: usize) -> Result<Vec<u8>> {
    use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
    // SAFETY: a fresh mapping at an address of the kernel's choice, of `len` bytes that nobody
    // shortens meanwhile (the file system is read-only), and not used after munmap.
    unsafe {
        let start = mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::PRIVATE, fd, 0)?;
        let bytes = std::slice::from_raw_parts(start.cast::<u8>(), len).to_vec();
        munmap(start, len)?;
        Ok(bytes)
    }
}

/// Writes `bytes` at the start of a file through a shared mapping, and msync(2)s it.
///
/// The file must be that long, and nobody may shorten it meanwhile. Where the file system is taken
/// away, the process ends by SIGBUS.
///
/// # Errors
/// The kernel's.
pub fn store_mapped(fd: impl AsFd, bytes: &[u8]) -> Result<()> {
    use rustix::mm::{MapFlags, MsyncFlags, ProtFlags, mmap, msync, munmap};
    let (len, access) = (bytes.len(), ProtFlags::READ | ProtFlags::WRITE);
    // SAFETY: a fresh mapping at an address of the kernel's choice, `len` bytes long, written once
    // from memory that cannot overlap it, and not used after munmap.
    unsafe {
        let start = mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, fd, 0)?;
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>(), len);
        let synced = msync(start, len, MsyncFlags::SYNC);
        munmap(start, len)?;
        synced
    }
}

const SHUTDOWN: Opcode = opcode::read::<u32>(b'X', 125);
/// Nothing more is written, the journal neither.
const SHUTDOWN_NOLOGFLUSH: u32 = 2;

/// FS_IOC_SHUTDOWN: what a crash of the machine would be to the kernel's file system.
///
/// # Errors
/// The kernel's.
pub fn shut_down(fd: impl AsFd) -> Result<()> {
    let mut how = SHUTDOWN_NOLOGFLUSH;
    // SAFETY: the kernel reads one u32.
    unsafe { ioctl(fd, Updater::<SHUTDOWN, u32>::new(&mut how)) }
}
