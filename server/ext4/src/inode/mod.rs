//! Inodes in memory: decoded once, immutable, cached by number.
//!
//! Kernel: fs/ext4/inode.c · Documentation/filesystems/ext4/inodes.rst

use crate::disk::checksum::ChecksumSeed;
use crate::ids::{BlockNr, InodeNr};

/// What an inode is, from the top bits of i_mode.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum FileKind {
    /// S_IFIFO.
    Fifo,
    /// S_IFCHR.
    CharDevice,
    /// S_IFDIR.
    Directory,
    /// S_IFBLK.
    BlockDevice,
    /// S_IFREG.
    Regular,
    /// S_IFLNK.
    Symlink,
    /// S_IFSOCK.
    Socket,
}

/// A point in time: seconds since 1970 (34 bits, signed) and nanoseconds (0..1_000_000_000).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds of the second.
    pub nanoseconds: u32,
}

/// i_flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InodeFlags(u32);

impl InodeFlags {
    /// EXT4_SYNC_FL
    pub const SYNC: u32 = 0x8;
    /// EXT4_IMMUTABLE_FL
    pub const IMMUTABLE: u32 = 0x10;
    /// EXT4_APPEND_FL
    pub const APPEND: u32 = 0x20;
    /// EXT4_NODUMP_FL
    pub const NODUMP: u32 = 0x40;
    /// EXT4_NOATIME_FL
    pub const NOATIME: u32 = 0x80;
    /// EXT4_ENCRYPT_FL
    pub const ENCRYPT: u32 = 0x800;
    /// EXT4_INDEX_FL: the directory has an htree.
    pub const INDEX: u32 = 0x1000;
    /// EXT4_JOURNAL_DATA_FL
    pub const JOURNAL_DATA: u32 = 0x4000;
    /// EXT4_DIRSYNC_FL
    pub const DIRSYNC: u32 = 0x1_0000;
    /// EXT4_HUGE_FILE_FL: i_blocks counts file system blocks.
    pub const HUGE_FILE: u32 = 0x4_0000;
    /// EXT4_EXTENTS_FL
    pub const EXTENTS: u32 = 0x8_0000;
    /// EXT4_VERITY_FL
    pub const VERITY: u32 = 0x10_0000;
    /// EXT4_EA_INODE_FL: the inode holds an attribute's value.
    pub const EA_INODE: u32 = 0x20_0000;
    /// EXT4_INLINE_DATA_FL
    pub const INLINE_DATA: u32 = 0x1000_0000;
    /// EXT4_PROJINHERIT_FL
    pub const PROJINHERIT: u32 = 0x2000_0000;
    /// EXT4_CASEFOLD_FL
    pub const CASEFOLD: u32 = 0x4000_0000;

    /// Takes the bits as they are.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// The raw bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether any bit of `mask` is set.
    #[must_use]
    pub const fn has(self, mask: u32) -> bool {
        self.0 & mask != 0
    }
}

/// One inode, decoded and checked.
#[derive(Clone, Debug)]
pub struct Inode {
    /// Its number.
    pub nr: InodeNr,
    /// i_generation.
    pub generation: u32,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits with set-id and sticky, 0..=0o7777.
    pub permissions: u16,
    /// Owner, both halves.
    pub uid: u32,
    /// Group, both halves.
    pub gid: u32,
    /// i_projid; 0 where absent.
    pub project: u32,
    /// i_links_count as stored (a directory past dir_nlink's limit shows 1).
    pub links: u16,
    /// Bytes.
    pub size: u64,
    /// Space used, in 512-byte units.
    pub blocks512: u64,
    /// i_flags.
    pub flags: InodeFlags,
    /// Last access.
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of the inode.
    pub ctime: Timestamp,
    /// Creation, where the inode is large enough to hold it.
    pub crtime: Option<Timestamp>,
    /// Device number (major, minor) of a device node, else zeros.
    pub rdev: (u32, u32),
    /// i_file_acl: the block of extended attributes.
    pub xattr_block: Option<BlockNr>,
    /// i_block: extent root, block pointers, a fast symlink's target, or inline data.
    pub(crate) block: [u8; 60],
    /// The space behind the fixed fields (after 128 + i_extra_isize) for in-inode attributes;
    /// empty in 128-byte inodes.
    pub(crate) tail: Box<[u8]>,
    /// The seed of checksums over this inode's own blocks: fs seed + number + generation.
    pub(crate) checksum_seed: ChecksumSeed,
}

impl Inode {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.kind == FileKind::Directory
    }
}
