//! What can go wrong, with the place where it did.
//!
//! Lower code fills in what it knows of the [`Place`]; the inode layer adds [`Error::at_inode`]; the
//! frontend chooses errno and log line once. Nothing in the engine formats messages or logs.
//! A new check on disk data is one row in [`CorruptKind`]'s table and one test that builds it.

mod unmountable;

pub use unmountable::Unmountable;

use core::fmt;
use std::io;

use crate::ids::{BlockNr, GroupNr, InodeNr};

/// The engine's result.
pub type Result<T, E = Error> = core::result::Result<T, E>;

/// Why a verb or a mount did not succeed.
#[derive(Debug)]
pub enum Error {
    /// An expected answer, never logged (ENOENT, ENODATA, ...).
    Refused(Refusal),
    /// The disk holds something that cannot be right. EUCLEAN, or EBADMSG for a bad checksum.
    Corrupt {
        /// Which check failed.
        kind: CorruptKind,
        /// Where.
        place: Place,
    },
    /// The device failed. EIO.
    Io {
        /// What was asked of the device.
        op: IoOp,
        /// Where.
        place: Place,
        /// The device's answer.
        source: io::Error,
    },
    /// The file system cannot be mounted like this; the text tells a person why and what to do.
    Unmountable(Unmountable),
}

/// Expected answers of verbs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// No such name. ENOENT.
    NotFound,
    /// Inode number is reserved, free or of another generation. ESTALE.
    Stale,
    /// Not a directory. ENOTDIR.
    NotDirectory,
    /// A directory where a file is needed. EISDIR.
    IsDirectory,
    /// Not a symbolic link, or an argument out of range. EINVAL.
    Invalid,
    /// Name longer than 255 bytes. ENAMETOOLONG.
    NameTooLong,
    /// No such attribute. ENODATA.
    NoData,
    /// Buffer too small for the value. ERANGE.
    Range,
    /// SEEK_DATA or SEEK_HOLE past the end. ENXIO.
    PastEnd,
    /// Encrypted, and the key is not here. ENOKEY.
    NoKey,
    /// Encrypted no-key name does not name anything, or creation under one. ENOENT/ENOKEY by verb.
    NotSupported,
    /// The file system is mounted read-only, or became so after an error. EROFS.
    ReadOnly,
    /// The name exists already. EEXIST.
    Exists,
    /// The directory holds names. ENOTEMPTY.
    NotEmpty,
    /// No block or inode is free for this caller. ENOSPC.
    NoSpace,
    /// A quota limit is reached. EDQUOT.
    Quota,
    /// The inode or directory can take no more links. EMLINK.
    TooManyLinks,
    /// Immutable or append-only, or not the caller's to do. EPERM.
    NotPermitted,
    /// Past the largest size of a file. EFBIG.
    TooBig,
    /// In use in a way that excludes this. EBUSY.
    Busy,
    /// The other project's tree. EXDEV.
    CrossDevice,
    /// The journal has stopped after an error. EIO.
    Aborted,
}

/// What was asked of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoOp {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A read of a file's content, which says nothing of the file system.
    ReadData,
    /// A write of a file's content, likewise.
    WriteData,
    /// A cache flush.
    Flush,
}

/// Where on the disk something was met. All parts are optional; lower layers fill what they know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The inode whose data or metadata was followed.
    pub inode: Option<InodeNr>,
    /// The file system block.
    pub block: Option<BlockNr>,
    /// The block group.
    pub group: Option<GroupNr>,
}

impl Place {
    /// A place known by its block.
    #[must_use]
    pub const fn block(block: BlockNr) -> Self {
        Self { inode: None, block: Some(block), group: None }
    }

    /// A place known by its inode.
    #[must_use]
    pub const fn inode(inode: InodeNr) -> Self {
        Self { inode: Some(inode), block: None, group: None }
    }

    /// A place known by its block group.
    #[must_use]
    pub const fn group(group: GroupNr) -> Self {
        Self { inode: None, block: None, group: Some(group) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(inode) = self.inode {
            write!(f, "inode #{inode}: ")?;
        }
        if let Some(group) = self.group {
            write!(f, "group {group}: ")?;
        }
        if let Some(block) = self.block {
            write!(f, "block {block}: ")?;
        }
        Ok(())
    }
}

impl Error {
    /// Corruption found at `place`.
    #[must_use]
    pub const fn corrupt(place: Place, kind: CorruptKind) -> Self {
        Self::Corrupt { kind, place }
    }

    /// Whether something is wrong with the file system itself, which `errors=` is about and the
    /// superblock counts: damage, and failures of the device but with the content of files.
    #[must_use]
    pub const fn is_recorded(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Io { op, .. } => !matches!(op, IoOp::ReadData | IoOp::WriteData),
            Self::Refused(_) | Self::Unmountable(_) => false,
        }
    }

    /// Adds the inode, unless a lower layer named one already.
    #[must_use]
    pub fn at_inode(mut self, inode: InodeNr) -> Self {
        if let Self::Corrupt { place, .. } | Self::Io { place, .. } = &mut self {
            place.inode.get_or_insert(inode);
        }
        self
    }

    /// Adds the block, unless a lower layer named one already.
    #[must_use]
    pub fn at_block(mut self, block: BlockNr) -> Self {
        if let Self::Corrupt { place, .. } | Self::Io { place, .. } = &mut self {
            place.block.get_or_insert(block);
        }
        self
    }

    /// Adds the block group, unless a lower layer named one already.
    #[must_use]
    pub fn at_group(mut self, group: GroupNr) -> Self {
        if let Self::Corrupt { place, .. } | Self::Io { place, .. } = &mut self {
            place.group.get_or_insert(group);
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => write!(f, "{refusal:?}"),
            Self::Corrupt { kind, place } => write!(f, "{place}{kind} [{}]", kind.code()),
            Self::Io { op, place, source } => {
                let op = match op {
                    IoOp::Read => "read",
                    IoOp::Write => "write",
                    IoOp::ReadData => "read of data",
                    IoOp::WriteData => "write of data",
                    IoOp::Flush => "flush",
                };
                write!(f, "{place}device {op} failed: {source}")
            }
            Self::Unmountable(why) => why.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Unmountable> for Error {
    fn from(why: Unmountable) -> Self {
        Self::Unmountable(why)
    }
}

macro_rules! corrupt_kinds {
    ($( $code:literal $name:ident { $($field:ident : $ty:ty),* } $text:literal; )*) => {
        /// Every check on disk data, one variant each. The code is stable: scripts and the manual
        /// page fuse4fs-errors(7) name it.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[expect(missing_docs, reason = "the row's text says what was found")]
        #[non_exhaustive]
        pub enum CorruptKind {
            $( #[doc = $text] $name { $($field: $ty),* }, )*
        }

        impl CorruptKind {
            /// All codes with their message templates, in table order.
            pub const TABLE: &[(&str, &str)] = &[ $( ($code, $text) ),* ];

            /// The stable code, as printed in brackets after the message.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self { $( Self::$name { .. } => $code, )* }
            }
        }

        impl fmt::Display for CorruptKind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self { $( Self::$name { $($field),* } => write!(f, $text), )* }
            }
        }
    };
}

corrupt_kinds! {
    // any structure
    "truncated" Truncated { needed: usize, have: usize }
        "structure needs {needed} bytes but only {have} are there";
    "block-range" BlockRange { first: u64, count: u64 }
        "blocks {first}+{count} are outside the file system";

    // superblock
    "sb-checksum" SuperblockChecksum { stored: u32, computed: u32 }
        "superblock checksum {stored:#010x} does not match {computed:#010x}";
    "sb-field" SuperblockField { field: &'static str, value: u64 }
        "superblock field {field} is {value}, which cannot be";

    // multiple mount protection
    "mmp-block" MmpBlock { block: u64 }
        "multiple mount protection is at block {block}, outside the file system";
    "mmp-magic" MmpMagic { magic: u32 }
        "multiple mount protection magic {magic:#010x} is not 0x004d4d50";
    "mmp-checksum" MmpChecksum { stored: u32, computed: u32 }
        "multiple mount protection checksum {stored:#010x} does not match {computed:#010x}";
    "mmp-taken" MmpTaken {}
        "another node has written to the block of multiple mount protection";

    // block groups
    "group-checksum" GroupChecksum { stored: u16, computed: u16 }
        "group descriptor checksum {stored:#06x} does not match {computed:#06x}";
    "group-place" GroupPlace { what: &'static str, block: u64 }
        "{what} at block {block} lies where it cannot be";

    "metadata-overlap" MetadataOverlap { block: u64 }
        "two structures of the file system's own metadata claim block {block}";
    "metadata-block" MetadataBlock { first: u64, count: u64 }
        "blocks {first}+{count} are not a file's: the file system's own metadata is there";
    "bitmap-checksum" BitmapChecksum { what: &'static str, stored: u32, computed: u32 }
        "{what} checksum {stored:#010x} does not match {computed:#010x}";
    "bitmap-metadata" BitmapMetadata { block: u64 }
        "block bitmap shows block {block} as free, which holds the file system's own metadata";
    "bitmap-count" BitmapCount { what: &'static str, counted: u32, recorded: u32 }
        "{what} shows {counted} free but the group descriptor {recorded}";
    "bitmap-free" BitmapFree { what: &'static str, nr: u64 }
        "{what} {nr} is to be freed, but is free already";
    "free-count" FreeCount { what: &'static str }
        "no {what} is free although the counters promise some";

    // inodes
    "inode-number" InodeNumber { nr: u32 }
        "inode number {nr} names no inode";
    "inode-checksum" InodeChecksum { stored: u32, computed: u32 }
        "inode checksum {stored:#010x} does not match {computed:#010x}";
    "inode-extra-size" InodeExtraSize { extra_isize: u16 }
        "i_extra_isize {extra_isize} does not fit the inode";
    "inode-mode" InodeMode { mode: u16 }
        "i_mode {mode:#o} is no kind of file";
    "inode-size" InodeSize { size: u64 }
        "i_size {size} is more than a file can have";
    "inode-flags" InodeFlags { flags: u32, why: &'static str }
        "i_flags {flags:#x}: {why}";
    "inode-xattr-block" InodeXattrBlock { block: u64 }
        "i_file_acl {block} is outside the file system";
    "root-inode" RootInode {}
        "the root inode is not a directory";

    // block maps: extents, indirect blocks, inline data
    "extent-magic" ExtentMagic { magic: u16 }
        "extent header magic {magic:#06x} is not 0xf30a";
    "extent-depth" ExtentDepth { depth: u16, expected: u16 }
        "extent node has depth {depth} where its parent needs {expected}";
    "extent-too-deep" ExtentTooDeep { depth: u16, max: u16 }
        "extent tree is {depth} levels deep, more than {max}";
    "extent-max" ExtentMax { max: u16, room: usize }
        "extent node claims room for {max} entries but has room for {room}";
    "extent-entries" ExtentEntries { entries: u16, max: u16 }
        "extent node holds {entries} of {max} entries";
    "extent-empty" ExtentEmpty { depth: u16 }
        "extent index node of depth {depth} holds no entries";
    "extent-checksum" ExtentChecksum { stored: u32, computed: u32 }
        "extent node checksum {stored:#010x} does not match {computed:#010x}";
    "extent-order" ExtentOrder { first: u32, previous_end: u64 }
        "extent entry at logical block {first} begins before {previous_end}, where its predecessor ends";
    "extent-length" ExtentLength { first: u32, len: u32 }
        "extent at logical block {first} has the impossible length {len}";
    "extent-key" ExtentKey { key: u32, first: u32 }
        "extent index names logical block {key} but the node begins with {first}";
    "extent-bounds" ExtentBounds { end: u64, limit: u32 }
        "extent reaches logical block {end}, past {limit} where the next index entry begins";
    "inline-missing" InlineMissing {}
        "inline data flag is set but there is no system.data attribute";
    "inline-mixed" InlineMixed {}
        "inline data and extents flags are both set";
    "inline-external" InlineExternal { inode: u32 }
        "inline data continues in attribute inode {inode} instead of in the inode";

    // directories
    "dir-rec-len" DirRecLenSmall { offset: u32, rec_len: u32 }
        "directory entry at byte {offset}: rec_len {rec_len} is smaller than minimal";
    "dir-rec-align" DirRecLenUnaligned { offset: u32, rec_len: u32 }
        "directory entry at byte {offset}: rec_len {rec_len} is not a multiple of 4";
    "dir-name-len" DirNameTooLong { offset: u32, rec_len: u32, name_len: u8 }
        "directory entry at byte {offset}: rec_len {rec_len} is too small for a name of {name_len} bytes";
    "dir-overrun" DirEntryOverrun { offset: u32, rec_len: u32 }
        "directory entry at byte {offset}: rec_len {rec_len} runs past the block's end";
    "dir-near-end" DirEntryNearEnd { offset: u32, rec_len: u32 }
        "directory entry at byte {offset}: rec_len {rec_len} leaves too little before the block's end";
    "dir-inode-range" DirInodeRange { offset: u32, inode: u32 }
        "directory entry at byte {offset}: inode {inode} is out of bounds";
    "dir-dot-last" DirDotLast { offset: u32 }
        "directory entry at byte {offset}: '.' is the last in its block";
    "dir-tail" DirTailMissing {}
        "directory block has no room for a checksum";
    "dir-checksum" DirChecksum { stored: u32, computed: u32 }
        "directory block checksum {stored:#010x} does not match {computed:#010x}";
    "dir-hole" DirHole { block: u32 }
        "directory contains a hole at its block {block}";
    "dir-block-beyond" DirBlockBeyond { block: u32 }
        "directory has something mapped at its block {block}, past its end";
    "dir-dots" DirDots {}
        "directory does not begin with '.' and '..' in their places";
    "dir-blocks" DirTooManyBlocks { blocks: u32 }
        "directory of {blocks} blocks maps more blocks than there can be";
    "dir-name" DirNameImpossible { offset: u32 }
        "directory entry at byte {offset}: no path can have its name";
    "dir-collisions" DirTooManyCollisions { hash: u32 }
        "directory has too many names of hash {hash:#010x}";
    "dir-crypt-name" CryptNameShort { len: usize }
        "encrypted name of {len} bytes, which is too short for any cipher";
    "dx-root" DxRootField { field: &'static str, value: u32 }
        "directory index field {field} is {value}, which cannot be";
    "dx-hash-version" DxHashVersion { version: u8 }
        "directory index uses hash {version}, which does not fit the directory";
    "dx-limit" DxLimit { limit: u16, expected: u64 }
        "directory index node has limit {limit} instead of {expected}";
    "dx-count" DxCount { count: u16, limit: u16 }
        "directory index node has {count} entries of at most {limit}";
    "dx-order" DxOrder {}
        "directory index node is not in hash order";
    "dx-cycle" DxCycle { block: u32 }
        "directory index leads to block {block} again";
    "dx-checksum" DxChecksum { stored: u32, computed: u32 }
        "directory index checksum {stored:#010x} does not match {computed:#010x}";
    "symlink-size" SymlinkSize { size: u64 }
        "symbolic link of {size} bytes does not hold a target of that length";
    "symlink-empty" SymlinkEmpty {}
        "symbolic link has no target";
    "symlink-crypt" SymlinkEncrypted { size: u64 }
        "encrypted symbolic link of {size} bytes holds no encrypted target";
    "dir-inode-bad" DirInodeBad { inode: u32 }
        "directory entry names inode {inode}, which no directory may";
    "dir-inode-deleted" DirInodeDeleted { inode: u32 }
        "directory entry names inode {inode}, which is free";
    "dir-self" DirLinkedToItself { inode: u32 }
        "directory entry names the directory itself, inode {inode}";

    // extended attributes
    "xattr-magic" XattrMagic { magic: u32 }
        "attribute block magic {magic:#010x} is not 0xea020000";
    "xattr-blocks" XattrBlocks { blocks: u32 }
        "attribute block claims to be {blocks} blocks instead of one";
    "xattr-checksum" XattrChecksum { stored: u32, computed: u32 }
        "attribute block checksum {stored:#010x} does not match {computed:#010x}";
    "xattr-names" XattrNames { offset: usize }
        "attribute entry at byte {offset} runs past the end of the list";
    "xattr-name" XattrName { offset: usize }
        "attribute entry at byte {offset} has a NUL in its name";
    "xattr-value-range" XattrValueRange { offset: usize, size: usize }
        "attribute value at {offset}+{size} overlaps the names or the end";
    "xattr-value-size" XattrValueSize { size: u32 }
        "attribute value of {size} bytes is larger than any attribute can be";
    "xattr-inode" XattrInode { inode: u32 }
        "attribute value claims to be in inode {inode}, which cannot hold it";
    "xattr-inode-size" XattrInodeSize { size: u64, expected: u64 }
        "attribute value inode has {size} bytes instead of {expected}";
    "xattr-inode-flag" XattrInodeFlag {}
        "attribute value inode is not marked as one";
    "xattr-inode-attributes" XattrInodeAttributes {}
        "attribute value inode has attributes itself";
    "xattr-value-hash" XattrValueHash { stored: u32, computed: u32 }
        "attribute value hash {stored:#010x} does not match {computed:#010x}";
    "xattr-entry-hash" XattrEntryHash { stored: u32, computed: u32 }
        "attribute entry hash {stored:#010x} does not match {computed:#010x}";
    "acl-version" AclVersion { version: u32 }
        "access control list has version {version} instead of 1";
    "acl-size" AclSize { size: usize }
        "access control list of {size} bytes ends inside an entry";
    "acl-tag" AclTag { tag: u16 }
        "access control list entry has the unknown tag {tag:#06x}";

    // orphans
    "orphan-magic" OrphanMagic { magic: u32 }
        "orphan file block has magic {magic:#010x}";
    "orphan-checksum" OrphanChecksum { stored: u32, computed: u32 }
        "orphan file block checksum {stored:#010x} does not match {computed:#010x}";
    "orphan-file" OrphanFile { why: &'static str }
        "the orphan file cannot be used: {why}";
    "orphan-list" OrphanList { inode: u32 }
        "the list of orphans leads to inode {inode}, which cannot be one";

    // quotas
    "quota-file" QuotaFile { why: &'static str }
        "the quota file cannot be used: {why}";

    // journal
    "journal-field" JournalField { field: &'static str, value: u64 }
        "journal superblock field {field} is {value:#x}, which cannot be";
    "journal-sb-checksum" JournalSuperblockChecksum { stored: u32, computed: u32 }
        "journal superblock checksum {stored:#010x} does not match {computed:#010x}";
    "journal-inode" JournalInode { field: &'static str, value: u64 }
        "the journal's inode has {field} {value:#x}, which cannot be";
    "journal-map" JournalMap { logical: u64 }
        "block {logical} of the journal has no place, or shares it";
    "journal-copy-checksum" JournalCopyChecksum { copy: u32 }
        "the newest copy, block {copy} of the journal, has a wrong checksum";
}

impl CorruptKind {
    /// True for a mismatching checksum, which answers EBADMSG instead of EUCLEAN.
    #[must_use]
    pub fn is_checksum(&self) -> bool {
        self.code().ends_with("-checksum")
    }
}
