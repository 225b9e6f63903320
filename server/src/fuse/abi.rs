//! The messages of the FUSE device, as the kernel lays them out, in native byte order.
//!
//! Nothing outside `fuse/` sees these. Source: linux/fuse.h, protocol 7.45.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// FUSE_KERNEL_VERSION
pub(super) const MAJOR: u32 = 7;
/// The newest minor version whose messages are known here.
pub(super) const MINOR: u32 = 45;
/// The oldest one: INIT carries 64 flags since 7.36, which every kernel from 6.1 on speaks.
pub(super) const MINOR_MIN: u32 = 36;

/// Declares messages: plain structs with a size that is checked against the kernel's.
macro_rules! messages {
    ($( $(#[$doc:meta])* $name:ident($size:literal) { $($field:ident: $ty:ty),* $(,)? } )*) => {
        $(
            $(#[$doc])*
            #[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Clone, Copy, Debug, Default)]
            #[repr(C)]
            pub(super) struct $name { $( pub(super) $field: $ty ),* }
            const _: () = assert!(size_of::<$name>() == $size);
        )*
    };
}

/// The numbers of the operations; those that are missing are answered ENOSYS.
pub(super) mod opcode {
    macro_rules! opcodes {
        ($($name:ident = $number:literal),* $(,)?) => {
            $( pub(in crate::fuse) const $name: u32 = $number; )*
        };
    }
    opcodes! {
        LOOKUP = 1, FORGET = 2, GETATTR = 3, SETATTR = 4, READLINK = 5, SYMLINK = 6, MKNOD = 8,
        MKDIR = 9, UNLINK = 10, RMDIR = 11, RENAME = 12, LINK = 13, OPEN = 14, READ = 15,
        WRITE = 16, STATFS = 17, RELEASE = 18, FSYNC = 20, SETXATTR = 21, GETXATTR = 22,
        LISTXATTR = 23, REMOVEXATTR = 24, INIT = 26, OPENDIR = 27, READDIR = 28, RELEASEDIR = 29,
        FSYNCDIR = 30, CREATE = 35, INTERRUPT = 36, BMAP = 37, DESTROY = 38, IOCTL = 39,
        BATCH_FORGET = 42, FALLOCATE = 43, READDIRPLUS = 44, RENAME2 = 45, LSEEK = 46,
        COPY_FILE_RANGE = 47, SYNCFS = 50, TMPFILE = 51, STATX = 52, COPY_FILE_RANGE_64 = 53,
    }
}

messages! {
    /// `struct fuse_in_header`
    InHeader(40) {
        len: u32, opcode: u32, unique: u64, nodeid: u64, uid: u32, gid: u32, pid: u32,
        total_extlen: u16, padding: u16,
    }
    /// `struct fuse_out_header`; `error` is 0 or a negative errno.
    OutHeader(16) { len: u32, error: i32, unique: u64 }

    /// `struct fuse_init_in`
    InitIn(64) {
        major: u32, minor: u32, max_readahead: u32, flags: u32, flags2: u32, unused: [u32; 11],
    }
    /// `struct fuse_init_out`; `request_timeout` in seconds.
    InitOut(64) {
        major: u32, minor: u32, max_readahead: u32, flags: u32, max_background: u16,
        congestion_threshold: u16, max_write: u32, time_gran: u32, max_pages: u16,
        map_alignment: u16, flags2: u32, max_stack_depth: u32, request_timeout: u16,
        unused: [u16; 11],
    }

    /// `struct fuse_attr`; `blocks` in 512-byte units.
    Attr(88) {
        ino: u64, size: u64, blocks: u64, atime: u64, mtime: u64, ctime: u64, atimensec: u32,
        mtimensec: u32, ctimensec: u32, mode: u32, nlink: u32, uid: u32, gid: u32, rdev: u32,
        blksize: u32, flags: u32,
    }
    /// `struct fuse_entry_out`; nodeid 0 says that there is no such name.
    EntryOut(128) {
        nodeid: u64, generation: u64, entry_valid: u64, attr_valid: u64, entry_valid_nsec: u32,
        attr_valid_nsec: u32, attr: Attr,
    }
    /// `struct fuse_getattr_in`
    GetattrIn(16) { getattr_flags: u32, dummy: u32, fh: u64 }
    /// `struct fuse_attr_out`
    AttrOut(104) { attr_valid: u64, attr_valid_nsec: u32, dummy: u32, attr: Attr }

    /// `struct fuse_statx_in`
    StatxIn(24) { getattr_flags: u32, reserved: u32, fh: u64, sx_flags: u32, sx_mask: u32 }
    /// `struct fuse_sx_time`
    StatxTime(16) { sec: i64, nsec: u32, reserved: i32 }
    /// `struct fuse_statx`
    Statx(256) {
        mask: u32, blksize: u32, attributes: u64, nlink: u32, uid: u32, gid: u32, mode: u16,
        spare0: u16, ino: u64, size: u64, blocks: u64, attributes_mask: u64, atime: StatxTime,
        btime: StatxTime, ctime: StatxTime, mtime: StatxTime, rdev_major: u32, rdev_minor: u32,
        dev_major: u32, dev_minor: u32, spare2: [u64; 14],
    }
    /// `struct fuse_statx_out`
    StatxOut(288) {
        attr_valid: u64, attr_valid_nsec: u32, flags: u32, spare: [u64; 2], stat: Statx,
    }

    /// `struct fuse_open_in`
    OpenIn(8) { flags: u32, open_flags: u32 }
    /// `struct fuse_open_out`
    OpenOut(16) { fh: u64, open_flags: u32, backing_id: i32 }
    /// `struct fuse_read_in`
    ReadIn(40) {
        fh: u64, offset: u64, size: u32, read_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    /// `struct fuse_statfs_out`
    StatfsOut(80) {
        blocks: u64, bfree: u64, bavail: u64, files: u64, ffree: u64, bsize: u32, namelen: u32,
        frsize: u32, padding: u32, spare: [u32; 6],
    }
    /// `struct fuse_getxattr_in`; size 0 asks for the size.
    GetxattrIn(8) { size: u32, padding: u32 }
    /// `struct fuse_getxattr_out`
    GetxattrOut(8) { size: u32, padding: u32 }
    /// `struct fuse_lseek_in`
    LseekIn(24) { fh: u64, offset: u64, whence: u32, padding: u32 }
    /// `struct fuse_lseek_out`
    LseekOut(8) { offset: u64 }
    /// `struct fuse_bmap_in`; `block` in units of `blocksize` bytes.
    BmapIn(16) { block: u64, blocksize: u32, padding: u32 }
    /// `struct fuse_bmap_out`
    BmapOut(8) { block: u64 }
    /// `struct fuse_ioctl_in`
    IoctlIn(32) { fh: u64, flags: u32, cmd: u32, arg: u64, in_size: u32, out_size: u32 }
    /// `struct fuse_ioctl_out`
    IoctlOut(16) { result: i32, flags: u32, in_iovs: u32, out_iovs: u32 }
    /// The fixed part of `struct fuse_dirent`; the name follows, padded to 8 bytes.
    Dirent(24) { ino: u64, off: u64, namelen: u32, kind: u32 }
}
