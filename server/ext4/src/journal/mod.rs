//! jbd2: the log, its recovery, what recovery leaves for a read-only mount, and the transactions of a
//! writable one.
//!
//! Nothing here knows inodes or directories; the log's blocks come as a flat list of runs.
//! Kernel: fs/jbd2/, fs/ext4/fast_commit.c · Documentation/filesystems/ext4/journal.rst

mod area;
mod fast_commit;
mod live;
mod log;
mod overlay;
mod recovery;
#[cfg(test)]
pub(crate) mod testing;
mod transactions;
mod unlogged;

pub(crate) use area::{Area, MAX_BLOCKS as MAX_LOG_BLOCKS, Runs};
pub use fast_commit::FastCommitEnd;
pub(crate) use fast_commit::{FastCommitArea, FastCommits};
pub(crate) use live::{Checkpoint, IDLE, Journal};
#[cfg(test)]
pub(crate) use log::Fault;
pub(crate) use log::Log;
pub(crate) use overlay::Overlay;
pub use recovery::LogEnd;
pub(crate) use recovery::{Recovered, recover};
pub(crate) use transactions::{Begun, Changes};

pub(crate) use crate::disk::jbd2::LogSuperblock;
