//! What a device holds, and whether it can be mounted: asked by `fuse4fs check`, answered by a server
//! that looks at it in its sandbox.
//!
//! Whoever reads a report believes none of it, as the device may have taken the server over.

use serde::{Deserialize, Serialize};

use crate::fds::FdList;
use crate::message::LogLevel;
use crate::status::ErrorsStatus;
use crate::text::Text;

/// What is to be looked at. Nothing of it is written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CheckRequest {
    /// Roles of the descriptors that come along: a device, perhaps its journal, both O_RDONLY.
    pub fds: FdList,
    /// Name of the device in log lines, for example `sdb1`.
    pub device_name: Text,
    /// How much is logged.
    pub log_level: LogLevel,
    /// `offset=`: the first byte of the file system.
    pub offset: u64,
    /// `sizelimit=`: bytes of the file system; 0 for the rest of the device.
    pub sizelimit: u64,
    /// `sb=`: the superblock's place in 1 KiB units.
    pub superblock: Option<u64>,
    /// `noload`, `norecovery`: do not look at the journal.
    pub noload: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Report {
    /// What the superblock says, if one is there at all. It may be damaged.
    pub filesystem: Option<FilesystemReport>,
    /// Whether it can be mounted.
    pub verdict: Verdict,
}

/// Whether a device can be mounted.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// For writing.
    ReadWrite,
    /// For reading only.
    ReadOnly {
        /// What is in the way of writing, and what to do about it.
        why: Text,
        /// A mount for writing becomes read-only by itself; else it fails without `-o ro`.
        by_itself: bool,
    },
    /// Not at all.
    Unmountable {
        /// What is in the way, and what to do about it.
        why: Text,
    },
}

/// A file system, by its superblock and its journal. Times are seconds since 1970, 0 for never.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FilesystemReport {
    /// What its features make it.
    pub generation: Generation,
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its label.
    pub label: Text,
    /// Bytes of a block; 0 if the superblock makes no sense there.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Names of its features.
    pub features: FeaturesReport,
    /// It was unmounted in order.
    pub clean: bool,
    /// s_state: errors were seen.
    pub failed: bool,
    /// Errors that drivers recorded.
    pub errors: ErrorsStatus,
    /// When it was made.
    pub made: u64,
    /// When it was mounted last for writing.
    pub mounted: u64,
    /// Where it was mounted last.
    pub last_mounted: Text,
    /// When it was checked last.
    pub checked: u64,
    /// Mounts since then.
    pub mount_count: u16,
    /// Mounts after which a check is due; negative or 0 for never.
    pub max_mount_count: i16,
    /// Its journal.
    pub journal: JournalReport,
    /// What a crash left half deleted, if a mount for writing came so far when it was tried in memory.
    pub orphans: Option<OrphansReport>,
    /// Multiple mount protection, where it has that.
    pub protection: Option<Protection>,
    /// Quota files for users, groups and projects.
    pub quota: [bool; 3],
}

/// The name that goes with a set of features.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Generation {
    /// Without a journal.
    Ext2,
    /// With one.
    Ext3,
    /// With anything that the two do not know.
    Ext4,
}

/// Features by what this version does with them: names as dumpe2fs(8) has them, separated by commas.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FeaturesReport {
    /// Read and written.
    pub written: Text,
    /// Read, but in the way of writing.
    pub read: Text,
    /// In the way of any mount.
    pub refused: Text,
}

/// A journal, and what a mount would do with it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalReport {
    /// Where it is.
    pub place: JournalPlace,
    /// It holds what is not in its place yet: it was not unmounted in order, or is mounted at this moment.
    pub needs_recovery: bool,
    /// Transactions that a mount replays, if it came so far.
    pub transactions: Option<u32>,
    /// Fast commits that it replays after these.
    pub fast_commits: u32,
    /// What else is to be known of it, as sentences; empty if nothing is.
    pub remarks: Text,
}

/// Where a journal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JournalPlace {
    /// There is none.
    None,
    /// In the file system.
    Internal,
    /// On another device, which has this UUID.
    External([u8; 16]),
}

/// What a crash left for the next mount to finish with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct OrphansReport {
    /// Inodes without a name, to be freed.
    pub freed: u32,
    /// Files to be cut to their size.
    pub cut: u32,
}

/// Who has a file system, as the block of multiple mount protection says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protection {
    /// Nobody.
    Free,
    /// e2fsck(8) on a node.
    Checked {
        /// The node's name.
        node: Text,
    },
    /// A mount on a node, unless that is gone.
    Mounted {
        /// The node's name.
        node: Text,
        /// What the device is called there.
        device: Text,
        /// When the node wrote last, by its own clock.
        time: u64,
    },
    /// It cannot be told.
    Unknown {
        /// What is wrong with the block.
        why: Text,
    },
}
