//! How a mounted file system is doing: what memory holds, what the journal did, what went wrong.

use std::time::Duration;

use crate::cache::CacheLevel;
use crate::filesystem::Filesystem;
use crate::journal::JournalFigures;
use crate::superblock::ErrorRecord;

/// A file system at one moment. Parts are read one after the other, so one may be newer than another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Statistics {
    /// Metadata blocks that are as on the device, and decoded inodes.
    pub cache: CacheLevel,
    /// Metadata blocks that are newer than on their places.
    pub dirty_blocks: u64,
    /// The journal, if changes go through one.
    pub journal: Option<JournalFigures>,
    /// Errors since e2fsck looked, as far as anybody knows.
    pub errors: Errors,
    /// How old a transaction may get before it is committed.
    pub commit_interval: Duration,
    /// The device is flushed where the order of writes matters.
    pub barrier: bool,
}

/// Damage and device errors: those that the superblock knew of, and those since the mount.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Errors {
    /// How many.
    pub count: u32,
    /// The first.
    pub first: Option<ErrorRecord>,
    /// The last.
    pub last: Option<ErrorRecord>,
}

impl Filesystem {
    /// Looks. Waits for no disk and no commit.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        let volume = &self.volume;
        let (cache, dirty_blocks) = volume.blocks().level();
        let seen = volume.superblock.seen();
        Statistics {
            cache,
            dirty_blocks,
            journal: volume.journal().figures(),
            errors: Errors {
                count: self.facts.error_count.saturating_add(seen.count),
                first: self.facts.first_error.clone().or(seen.first),
                last: seen.last.or_else(|| self.facts.last_error.clone()),
            },
            commit_interval: self.writing.commit_interval,
            barrier: self.writing.barrier.unwrap_or(true),
        }
    }
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
