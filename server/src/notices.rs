//! What a person should know about a mount, as lines of the log.

use fuse4fs_ext4::{FastCommitEnd, LogEnd, Notice};
use tracing::Level;

/// How loud, and the sentence.
pub(crate) fn describe(notice: &Notice) -> (Level, String) {
    match notice {
        Notice::Replayed { transactions } => {
            (Level::INFO, format!("recovery complete: {transactions} transactions"))
        }
        Notice::Orphans { freed, cut } => {
            (Level::INFO, format!("{freed} orphan inodes deleted, {cut} truncates cleaned up"))
        }
        Notice::LogEnded { transaction, why } => {
            (Level::WARN, format!("journal ends at transaction {transaction}: {}", log_end(*why)))
        }
        Notice::DamagedCopies { blocks } => (
            Level::WARN,
            format!("journal holds damaged copies of {blocks} blocks, which cannot be read"),
        ),
        Notice::CopiesOutside { copies } => {
            (Level::WARN, format!("journal holds {copies} blocks past the end of the device"))
        }
        Notice::FastCommits { commits } => {
            (Level::INFO, format!("recovery complete: {commits} fast commits"))
        }
        Notice::FastCommitsEnded { why } => {
            (Level::WARN, format!("fast commits end early: {}", fast_commit_end(*why)))
        }
        Notice::JournalError { errno } => (
            Level::WARN,
            format!("an error (errno {}) stopped it last time; run e2fsck", errno.unsigned_abs()),
        ),
        other => (Level::WARN, format!("{other:?}")),
    }
}

fn log_end(why: LogEnd) -> &'static str {
    match why {
        LogEnd::Clean => "nothing follows",
        LogEnd::Unfinished => "it was never committed, so it is left out",
        LogEnd::CommitChecksum => "its commit block has a wrong checksum; run e2fsck",
        LogEnd::BlockChecksum => "its descriptors are damaged; run e2fsck",
    }
}

fn fast_commit_end(why: FastCommitEnd) -> String {
    match why {
        FastCommitEnd::Clean => "nothing follows".into(),
        FastCommitEnd::Unfinished => "the next one is incomplete, so it is left out".into(),
        FastCommitEnd::Features(bits) => format!("they need unknown features ({bits:#x})"),
        FastCommitEnd::TooMany => "there are too many of them".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_log_is_louder_than_a_replayed_one() {
        let replayed = describe(&Notice::Replayed { transactions: 3 });
        assert_eq!(replayed.0, Level::INFO);
        assert!(replayed.1.contains("3 transactions"));
        let ended = Notice::LogEnded { transaction: 9, why: LogEnd::CommitChecksum };
        let (level, text) = describe(&ended);
        assert_eq!(level, Level::WARN);
        assert!(text.contains("transaction 9") && text.contains("e2fsck"), "{text}");
    }
}
