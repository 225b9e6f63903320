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
            pub(crate) struct $name { $( pub(crate) $field: $ty ),* }
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
        LISTXATTR = 23, REMOVEXATTR = 24, FLUSH = 25, INIT = 26, OPENDIR = 27, READDIR = 28,
        RELEASEDIR = 29, FSYNCDIR = 30, GETLK = 31, SETLK = 32, SETLKW = 33, ACCESS = 34,
        CREATE = 35, INTERRUPT = 36, BMAP = 37, DESTROY = 38, IOCTL = 39, POLL = 40,
        NOTIFY_REPLY = 41, BATCH_FORGET = 42, FALLOCATE = 43, READDIRPLUS = 44, RENAME2 = 45,
        LSEEK = 46, COPY_FILE_RANGE = 47, SYNCFS = 50, TMPFILE = 51, STATX = 52,
        COPY_FILE_RANGE_64 = 53,
    }
}

/// FATTR_*: which fields of [`SetattrIn`] mean something.
pub(super) mod fattr {
    pub(in crate::fuse) const MODE: u32 = 1;
    pub(in crate::fuse) const UID: u32 = 1 << 1;
    pub(in crate::fuse) const GID: u32 = 1 << 2;
    pub(in crate::fuse) const SIZE: u32 = 1 << 3;
    pub(in crate::fuse) const ATIME: u32 = 1 << 4;
    pub(in crate::fuse) const MTIME: u32 = 1 << 5;
    pub(in crate::fuse) const FH: u32 = 1 << 6;
    pub(in crate::fuse) const ATIME_NOW: u32 = 1 << 7;
    pub(in crate::fuse) const MTIME_NOW: u32 = 1 << 8;
    pub(in crate::fuse) const CTIME: u32 = 1 << 10;
    pub(in crate::fuse) const KILL_SUIDGID: u32 = 1 << 11;
    /// All of them.
    pub(in crate::fuse) const ALL: u32 = (1 << 12) - 1;
}

/// FUSE_NOTIFY_INVAL_INODE
pub(super) const NOTIFY_INVAL_INODE: i32 = 2;
/// FUSE_NOTIFY_PRUNE
pub(super) const NOTIFY_PRUNE: i32 = 9;
/// The first minor version that knows it (Linux 6.18).
pub(super) const MINOR_OF_PRUNE: u32 = 45;
/// FUSE_OPEN_KILL_SUIDGID
pub(super) const OPEN_KILL_SUIDGID: u32 = 1;
/// FUSE_WRITE_CACHE
pub(super) const WRITE_CACHE: u32 = 1;
/// FUSE_WRITE_KILL_SUIDGID
pub(super) const WRITE_KILL_SUIDGID: u32 = 1 << 2;
/// FUSE_FSYNC_FDATASYNC
pub(super) const FSYNC_FDATASYNC: u32 = 1;
/// FUSE_SETXATTR_ACL_KILL_SGID
pub(super) const SETXATTR_ACL_KILL_SGID: u32 = 1;
/// FUSE_MAX_NR_SECCTX: extensions of a type up to this are security contexts, and the type is
/// their number.
pub(super) const MAX_SECURITY_CONTEXTS: u32 = 31;
/// FUSE_EXT_GROUPS
pub(super) const EXT_GROUPS: u32 = 32;

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

    /// `struct fuse_setattr_in`; which fields count is in `valid`.
    SetattrIn(88) {
        valid: u32, padding: u32, fh: u64, size: u64, lock_owner: u64, atime: u64, mtime: u64,
        ctime: u64, atimensec: u32, mtimensec: u32, ctimensec: u32, mode: u32, unused4: u32,
        uid: u32, gid: u32, unused5: u32,
    }
    /// `struct fuse_forget_in`
    ForgetIn(8) { nlookup: u64 }
    /// `struct fuse_forget_one`
    ForgetOne(16) { nodeid: u64, nlookup: u64 }
    /// `struct fuse_batch_forget_in`; that many [`ForgetOne`] follow.
    BatchForgetIn(8) { count: u32, dummy: u32 }
    /// `struct fuse_mknod_in`
    MknodIn(16) { mode: u32, rdev: u32, umask: u32, padding: u32 }
    /// `struct fuse_mkdir_in`
    MkdirIn(8) { mode: u32, umask: u32 }
    /// `struct fuse_rename_in`
    RenameIn(8) { newdir: u64 }
    /// `struct fuse_rename2_in`
    Rename2In(16) { newdir: u64, flags: u32, padding: u32 }
    /// `struct fuse_link_in`
    LinkIn(8) { oldnodeid: u64 }
    /// `struct fuse_create_in`
    CreateIn(16) { flags: u32, mode: u32, umask: u32, open_flags: u32 }
    /// `struct fuse_ext_header`, `struct fuse_secctx_header`: `size` with this header.
    ExtHeader(8) { size: u32, kind: u32 }
    /// `struct fuse_secctx`; a name and `size` bytes of context follow.
    Secctx(8) { size: u32, padding: u32 }

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
    /// `struct fuse_write_in`
    WriteIn(40) {
        fh: u64, offset: u64, size: u32, write_flags: u32, lock_owner: u64, flags: u32,
        padding: u32,
    }
    /// `struct fuse_write_out`
    WriteOut(8) { size: u32, padding: u32 }
    /// `struct fuse_release_in`
    ReleaseIn(24) { fh: u64, flags: u32, release_flags: u32, lock_owner: u64 }
    /// `struct fuse_flush_in`
    FlushIn(24) { fh: u64, unused: u32, padding: u32, lock_owner: u64 }
    /// `struct fuse_fsync_in`
    FsyncIn(16) { fh: u64, fsync_flags: u32, padding: u32 }
    /// `struct fuse_syncfs_in`
    SyncfsIn(8) { padding: u64 }
    /// `struct fuse_fallocate_in`
    FallocateIn(32) { fh: u64, offset: u64, length: u64, mode: u32, padding: u32 }
    /// `struct fuse_copy_file_range_in`
    CopyFileRangeIn(56) {
        fh_in: u64, off_in: u64, nodeid_out: u64, fh_out: u64, off_out: u64, len: u64, flags: u64,
    }
    /// `struct fuse_copy_file_range_out`: the reply of the 64-bit form
    CopyFileRangeOut(8) { bytes_copied: u64 }
    /// `struct fuse_access_in`
    AccessIn(8) { mask: u32, padding: u32 }
    /// `struct fuse_interrupt_in`
    InterruptIn(8) { unique: u64 }
    /// `struct fuse_poll_in`
    PollIn(24) { fh: u64, kh: u64, flags: u32, events: u32 }
    /// `struct fuse_lk_in`
    LkIn(48) {
        fh: u64, owner: u64, start: u64, end: u64, kind: u32, pid: u32, lk_flags: u32,
        padding: u32,
    }
    /// `struct fuse_setxattr_in` before SETXATTR_EXT
    SetxattrInCompat(8) { size: u32, flags: u32 }
    /// `struct fuse_setxattr_in`
    SetxattrIn(16) { size: u32, flags: u32, setxattr_flags: u32, padding: u32 }
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
    /// `struct fuse_notify_inval_inode_out`
    InvalInodeOut(24) { ino: u64, off: i64, len: i64 }
    /// `struct fuse_notify_prune_out`; as many node ids follow, of 64 bits each.
    PruneOut(16) { count: u32, padding: u32, spare: u64 }
    /// The fixed part of `struct fuse_dirent`; the name follows, padded to 8 bytes.
    Dirent(24) { ino: u64, off: u64, namelen: u32, kind: u32 }
}
