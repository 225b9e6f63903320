//! Why a mount is refused: sentences for a person, with what to do.

use thiserror::Error;

use super::CorruptKind;

/// Why a mount is refused although nothing needs to be broken. The text is what a person reads.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum Unmountable {
    /// No ext magic at the superblock's place.
    #[error("not an ext2, ext3 or ext4 file system")]
    NotExt4,
    /// The device ends inside the superblock.
    #[error("too small for a file system ({device} bytes)")]
    DeviceTooSmall {
        /// Bytes of the device.
        device: u64,
    },
    /// The primary superblock is damaged or gone, but a backup of it is sound.
    #[error(
        "{}; there is a backup: look through it with -o ro,noload,sb={backup}, or repair with \
         e2fsck -b {} -B {block_size}",
        describe(damage.as_ref()),
        backup.saturating_mul(1024).checked_div((*block_size).into()).unwrap_or(0)
    )]
    SuperblockDamaged {
        /// What is wrong with it; `None` if nothing there looks like a superblock.
        damage: Option<CorruptKind>,
        /// Where the backup is, in 1 KiB units, as the option `sb=` takes it.
        backup: u64,
        /// Bytes of a block, for e2fsck, which counts in blocks.
        block_size: u32,
    },
    /// The superblock names more blocks than the device has.
    #[error("file system needs {needed} bytes but the device has {device}; was it cut short?")]
    Truncated {
        /// Bytes the file system needs.
        needed: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// Incompatible features this engine does not know; the names, comma separated.
    #[error("uses features this version does not know: {names}")]
    UnknownFeatures {
        /// For example `0x80000,encrypt`.
        names: String,
    },
    /// The revision of the format is newer than 1.
    #[error("format revision {revision} is newer than this version knows")]
    UnknownRevision {
        /// s_rev_level.
        revision: u32,
    },
    /// The journal is on another device and none was given.
    #[error(
        "its journal is on another device; name that with -o journal_path=DEVICE, or use \
         -o ro,noload to mount without it"
    )]
    ExternalJournalMissing,
    /// The external journal given is not this file system's.
    #[error("the journal device given does not belong to it: {why}")]
    ExternalJournalWrong {
        /// What does not match.
        why: &'static str,
    },
    /// The journal is damaged or not known, so what it holds cannot be told.
    #[error(
        "its journal cannot be used: {why}; check it with e2fsck, or use -o ro,noload to mount \
         without it"
    )]
    JournalUnusable {
        /// What was found.
        why: String,
    },
    /// The device is a jbd2 journal, not a file system.
    #[error("an external journal, not a file system; mount its file system instead")]
    IsJournalDevice,
    /// More block groups than can be kept in memory for writing.
    #[error("has {groups} block groups, more than the {limit} that can be written; use -o ro")]
    TooManyGroups {
        /// Block groups.
        groups: u32,
        /// The most.
        limit: u32,
    },
    /// It can be read, but has features that this engine cannot write; the names.
    #[error("uses features that this version can only read: {names}; mount it with -o ro")]
    ReadOnlyFeatures {
        /// For example `replica,0x80000`.
        names: String,
    },
    /// Another node has it mounted (multiple mount protection).
    #[error(
        "in use by node {node} as {device}; unmount it there, or, if that node is gone for good, say so \
         with tune2fs -f -E clear_mmp"
    )]
    InUse {
        /// The other node's name, printable.
        node: String,
        /// What it calls the device.
        device: String,
    },
    /// e2fsck has it (multiple mount protection).
    #[error(
        "being checked by e2fsck on node {node}; if that was cut off, say so with \
         tune2fs -f -E clear_mmp"
    )]
    BeingChecked {
        /// That node's name, printable.
        node: String,
    },
    /// Telling whether another node has it would take too long.
    #[error(
        "its multiple mount protection has an interval of {seconds} s, more than the 300 there may be"
    )]
    MmpInterval {
        /// Seconds.
        seconds: u16,
    },
    /// data= where there is no journal.
    #[error("has no journal, so data= says nothing about it: leave that out")]
    DataWithoutJournal,
    /// It cannot be written before its log is replayed, and that was not wanted.
    #[error("its journal must be replayed before it is written: leave out -o noload")]
    NeedsReplay,
    /// Its log holds what a read-only mount can show around and a replay must not bring home.
    #[error(
        "its journal cannot be replayed: {why}; repair it with e2fsck, or look at it with -o ro"
    )]
    ReplayDamaged {
        /// What was found.
        why: &'static str,
    },
}

impl Unmountable {
    /// Whether a read-only mount may do.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        matches!(self, Self::ReadOnlyFeatures { .. } | Self::ReplayDamaged { .. })
    }
}

fn describe(damage: Option<&CorruptKind>) -> String {
    match damage {
        Some(kind) => format!("{kind} [{}]", kind.code()),
        None => "no ext4 superblock where it should be".to_owned(),
    }
}
