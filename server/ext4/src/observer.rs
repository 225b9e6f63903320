//! Who hears what a mount is doing while it is made.

use std::sync::Arc;
use std::time::Duration;

use crate::journal::{FastCommitEnd, LogEnd};
use crate::mmp::Guard;

/// Hears what a mount is doing. Called from the mounting thread.
pub trait Observer: Sync {
    /// Recovery has looked at `done` of `total` log blocks.
    fn replay(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// What a crash left without a name, or half cut, is being finished with: `done` of `total` are, which
    /// grows where a list tells one after the other.
    fn orphans(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// Called for each of `total` seconds in which another node could show that it has the file system
    /// (multiple mount protection), after `done` of them: returns when the second is over.
    fn await_other_node(&self, done: u64, total: u64) {
        let _ = (done, total);
        std::thread::sleep(Duration::from_secs(1));
    }

    /// The file system is claimed by `guard`: a thread is to [`Guard::run`] it from now on.
    fn guarded(&self, guard: &Arc<Guard>) {
        let _ = guard;
    }

    /// Something a person should know although the mount goes on.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// An observer that listens to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// What a person should know about a mount that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The log was replayed: this many transactions, of which the last was complete.
    Replayed {
        /// Committed transactions.
        transactions: u32,
    },
    /// Orphans of the mount before were finished with.
    Orphans {
        /// Inodes without a name that were freed.
        freed: u32,
        /// Files that were cut to their size.
        cut: u32,
    },
    /// The log did not end where a clean one does.
    LogEnded {
        /// The first transaction that was left out.
        transaction: u32,
        /// Why.
        why: LogEnd,
    },
    /// Newest copies in the log that are damaged: reading these blocks fails.
    DamagedCopies {
        /// How many blocks.
        blocks: u32,
    },
    /// The log holds copies of blocks past the end of the device, which were left out.
    CopiesOutside {
        /// How many copies.
        copies: u32,
    },
    /// Fast commits were replayed on top of the log.
    FastCommits {
        /// Complete fast commits.
        commits: u32,
    },
    /// Fast commits were left out.
    FastCommitsEnded {
        /// Why.
        why: FastCommitEnd,
    },
    /// The file system was stopped by an error the last time it was mounted.
    JournalError {
        /// Its errno, positive or negative.
        errno: i32,
    },
}

impl core::fmt::Display for Notice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Orphans { freed, cut } => {
                write!(f, "{freed} orphan inodes deleted, {cut} truncates cleaned up")
            }
            Self::Replayed { transactions } => {
                write!(f, "replayed {transactions} transactions of the journal")
            }
            Self::LogEnded { transaction, why } => {
                let (why, hint) = match why {
                    LogEnd::Clean => ("it is not there", ""),
                    LogEnd::Unfinished => ("it was not finished", ""),
                    LogEnd::CommitChecksum => ("its commit block is damaged", CHECK),
                    LogEnd::BlockChecksum => ("a block of it is damaged", CHECK),
                };
                write!(f, "replay ended before transaction {transaction}: {why}{hint}")
            }
            Self::DamagedCopies { blocks } => {
                write!(f, "the journal's copies of {blocks} blocks are damaged{CHECK}")
            }
            Self::CopiesOutside { copies } => {
                write!(f, "{copies} blocks in the journal are outside the device{CHECK}")
            }
            Self::FastCommits { commits } => {
                write!(f, "replayed {commits} fast commits")
            }
            Self::FastCommitsEnded { why } => match why {
                FastCommitEnd::Clean | FastCommitEnd::Unfinished => {
                    write!(f, "fast commits were left out: the first is not complete")
                }
                FastCommitEnd::Features(bits) => {
                    write!(f, "fast commits were left out: unknown features {bits:#x}")
                }
                FastCommitEnd::TooMany => {
                    write!(f, "the last fast commits were left out: there are too many")
                }
            },
            Self::JournalError { errno } => {
                write!(f, "an error (errno {}) was recorded before{CHECK}", errno.unsigned_abs())
            }
        }
    }
}

/// What to do about damage.
const CHECK: &str = "; check the file system with e2fsck";
