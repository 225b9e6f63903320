//! What an inode is: its kind and its flags.
//! Kernel: include/uapi/linux/stat.h; fs/ext4/ext4.h `EXT4_*_FL`

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

impl FileKind {
    /// S_IF*, the top bits of i_mode.
    #[must_use]
    pub const fn type_bits(self) -> u16 {
        match self {
            Self::Fifo => 0o010_000,
            Self::CharDevice => 0o020_000,
            Self::Directory => 0o040_000,
            Self::BlockDevice => 0o060_000,
            Self::Regular => 0o100_000,
            Self::Symlink => 0o120_000,
            Self::Socket => 0o140_000,
        }
    }
}

/// Set-user-id, in i_mode.
pub(crate) const S_ISUID: u16 = 0o4000;
/// Set-group-id.
pub(crate) const S_ISGID: u16 = 0o2000;
/// The group may execute.
pub(crate) const S_IXGRP: u16 = 0o0010;

/// i_flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct InodeFlags(u32);

impl InodeFlags {
    /// EXT4_SECRM_FL, UNRM and COMPR: known to chattr(1), and without effect.
    pub const WITHOUT_EFFECT: u32 = 0x7;
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
    /// EXT4_NOCOMPR_FL
    pub const NOCOMPR: u32 = 0x400;
    /// EXT4_ENCRYPT_FL
    pub const ENCRYPT: u32 = 0x800;
    /// EXT4_INDEX_FL: the directory has an htree.
    pub const INDEX: u32 = 0x1000;
    /// EXT4_JOURNAL_DATA_FL
    pub const JOURNAL_DATA: u32 = 0x4000;
    /// EXT4_NOTAIL_FL
    pub const NOTAIL: u32 = 0x8000;
    /// EXT4_DIRSYNC_FL
    pub const DIRSYNC: u32 = 0x1_0000;
    /// EXT4_TOPDIR_FL
    pub const TOPDIR: u32 = 0x2_0000;
    /// EXT4_HUGE_FILE_FL: i_blocks counts file system blocks.
    pub const HUGE_FILE: u32 = 0x4_0000;
    /// EXT4_EXTENTS_FL
    pub const EXTENTS: u32 = 0x8_0000;
    /// EXT4_VERITY_FL
    pub const VERITY: u32 = 0x10_0000;
    /// EXT4_EA_INODE_FL: the inode holds an attribute's value.
    pub const EA_INODE: u32 = 0x20_0000;
    /// EXT4_DAX_FL
    pub const DAX: u32 = 0x200_0000;
    /// EXT4_INLINE_DATA_FL
    pub const INLINE_DATA: u32 = 0x1000_0000;
    /// EXT4_PROJINHERIT_FL
    pub const PROJINHERIT: u32 = 0x2000_0000;
    /// EXT4_CASEFOLD_FL
    pub const CASEFOLD: u32 = 0x4000_0000;

    /// EXT4_FL_USER_VISIBLE
    pub const USER_VISIBLE: u32 = 0x725b_dfff;
    /// EXT4_FL_USER_MODIFIABLE
    pub const USER_MODIFIABLE: u32 = 0x624b_c0ff;
    /// EXT4_FL_INHERITED
    const INHERITED: u32 = Self::WITHOUT_EFFECT
        | Self::SYNC
        | Self::NODUMP
        | Self::NOATIME
        | Self::NOCOMPR
        | Self::JOURNAL_DATA
        | Self::NOTAIL
        | Self::DIRSYNC
        | Self::PROJINHERIT
        | Self::CASEFOLD
        | Self::DAX;
    /// What only directories may have (the complement of EXT4_REG_FLMASK).
    const OF_DIRECTORIES: u32 = Self::DIRSYNC | Self::TOPDIR | Self::CASEFOLD | Self::PROJINHERIT;

    /// Takes the bits as they are.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits)
    }

    /// Those that an inode of that kind may have (`ext4_mask_flags`).
    #[must_use]
    pub const fn for_kind(self, kind: FileKind) -> Self {
        Self(match kind {
            FileKind::Directory => self.0,
            FileKind::Regular => self.0 & !Self::OF_DIRECTORIES,
            _ => self.0 & (Self::NODUMP | Self::NOATIME),
        })
    }

    /// What a new inode gets of its directory's flags.
    #[must_use]
    pub const fn inherited(self, kind: FileKind) -> Self {
        Self(self.0 & Self::INHERITED).for_kind(kind)
    }

    /// Whether no bit is set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// With the bits of `mask` set.
    #[must_use]
    pub const fn with(self, mask: u32) -> Self {
        Self(self.0 | mask)
    }

    /// With the bits of `mask` cleared.
    #[must_use]
    pub const fn without(self, mask: u32) -> Self {
        Self(self.0 & !mask)
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
