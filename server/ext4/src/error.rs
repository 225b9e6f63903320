//! What can go wrong, with the place where it did.
//!
//! Lower code fills in what it knows of the [`Place`]; the inode layer adds [`Error::at_inode`]; the
//! frontend chooses errno and log line once. Nothing in the engine formats messages or logs.
//! A new check on disk data is one row in [`CorruptKind`]'s table and one test that builds it.

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
    /// The file system is mounted read-only. EROFS.
    ReadOnly,
}

/// What was asked of the device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IoOp {
    /// A read.
    Read,
    /// A write.
    Write,
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

/// Why a mount is refused although nothing needs to be broken. The text is what a person reads.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Unmountable {
    /// No ext magic at the superblock's place.
    NotExt4,
    /// The device ends inside the superblock.
    DeviceTooSmall {
        /// Bytes of the device.
        device: u64,
    },
    /// The superblock names more blocks than the device has.
    Truncated {
        /// Bytes the file system needs.
        needed: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// Incompatible features this engine does not know; the names, comma separated.
    UnknownFeatures {
        /// For example `0x80000,encrypt`.
        names: String,
    },
    /// The revision of the format is newer than 1.
    UnknownRevision {
        /// s_rev_level.
        revision: u32,
    },
    /// The journal is on another device and none was given.
    ExternalJournalMissing,
    /// The external journal given is not this file system's.
    ExternalJournalWrong {
        /// What does not match.
        why: &'static str,
    },
    /// The device is a jbd2 journal, not a file system.
    IsJournalDevice,
}

impl fmt::Display for Unmountable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotExt4 => write!(f, "not an ext2, ext3 or ext4 file system"),
            Self::DeviceTooSmall { device } => {
                write!(f, "too small for a file system ({device} bytes)")
            }
            Self::Truncated { needed, device } => write!(
                f,
                "file system needs {needed} bytes but the device has {device}; was it cut short?"
            ),
            Self::UnknownFeatures { names } => {
                write!(f, "uses features this version does not know: {names}")
            }
            Self::UnknownRevision { revision } => {
                write!(f, "format revision {revision} is newer than this version knows")
            }
            Self::ExternalJournalMissing => write!(
                f,
                "its journal is on another device; name that with -o journal_path=DEVICE, \
                 or use -o ro,noload to mount without it"
            ),
            Self::ExternalJournalWrong { why } => {
                write!(f, "the journal device given does not belong to it: {why}")
            }
            Self::IsJournalDevice => {
                write!(f, "an external journal, not a file system; mount its file system instead")
            }
        }
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

    // block groups

    // inodes

    // block maps: extents, indirect blocks, inline data

    // directories

    // extended attributes

    // journal
}

impl CorruptKind {
    /// True for a mismatching checksum, which answers EBADMSG instead of EUCLEAN.
    #[must_use]
    pub fn is_checksum(&self) -> bool {
        self.code().ends_with("-checksum")
    }
}
