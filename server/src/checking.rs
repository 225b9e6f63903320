//! From a request to look at a device to a report, inside the sandbox.

use std::io;
use std::sync::Arc;

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::{
    Error, ErrorRecord, Found, Holder, Inspection, MountOptions, Notice, Verdict, WriteOptions,
    features, inspect,
};
use fuse4fs_protocol::{
    self as protocol, CacheSize, CheckRequest, ErrorStatus, ErrorsStatus, FeaturesReport,
    FilesystemReport, Generation, JournalPlace, JournalReport, OrphansReport, Phase, Protection,
    Report, Text,
};

use crate::device::{Access, Device};
use crate::mounting::reason;
use crate::progress::Progress;
use crate::sandbox::Confined;
use crate::session::{Conversation, Devices, SessionError};
use crate::window::Window;

/// Bits of s_state.
const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;

/// Looks, and tells the helper.
///
/// # Errors
/// A helper that is gone.
pub(crate) fn check(
    _confined: &Confined,
    conversation: Conversation,
    request: &CheckRequest,
    devices: Devices,
) -> Result<(), SessionError> {
    conversation.progress(Phase::Starting, 0, 0);
    let device = Device::new(devices.device, Access::Read);
    let device: Arc<dyn BlockDevice> =
        Arc::new(Window::new(device, request.offset, request.sizelimit));
    let journal = devices
        .journal
        .map(|fd| -> Arc<dyn BlockDevice> { Arc::new(Device::new(fd, Access::Read)) });
    let options = MountOptions {
        read_only: false,
        noload: request.noload,
        superblock: request.superblock,
        journal,
        cache_bytes: CacheSize::default().most,
        writing: WriteOptions::default(),
    };
    let progress = Progress::new(&conversation, request.device_name.as_str());
    let inspection = inspect(&device, &options, &progress);
    #[cfg(feature = "test-hooks")]
    inspection.found.iter().for_each(|found| progress.hold(&found.label));
    conversation.report(report(inspection))
}

fn report(inspection: Inspection) -> Report {
    let Inspection { found, notices, verdict } = inspection;
    Report {
        verdict: match &verdict {
            Verdict::Writable => protocol::Verdict::ReadWrite,
            Verdict::ReadOnly(error) => protocol::Verdict::ReadOnly {
                why: text(&why(error)),
                by_itself: matches!(error, Error::Unmountable(why) if why.is_readable()),
            },
            Verdict::Unmountable(error) => {
                protocol::Verdict::Unmountable { why: text(&reason(error).1) }
            }
        },
        filesystem: found.map(|found| {
            let tried = matches!(verdict, Verdict::Writable);
            filesystem(found, &notices, tried)
        }),
    }
}

/// What is in the way of writing.
fn why(error: &Error) -> String {
    match error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            "its journal changes more than is tried in memory, so only a mount tells whether it can be \
             written"
                .to_owned()
        }
        error => reason(error).1,
    }
}

/// `tried`: a mount for writing came to its end.
fn filesystem(found: Found, notices: &[Notice], tried: bool) -> FilesystemReport {
    let facts = &found.facts;
    FilesystemReport {
        generation: generation(&found.features),
        uuid: found.uuid,
        label: bytes(&found.label),
        block_size: found.block_size,
        blocks: found.blocks,
        features: names(&found.features),
        // With a journal, drivers leave the mark of a clean one while it is mounted.
        clean: facts.state & STATE_VALID != 0 && !needs_recovery(&found.features),
        failed: facts.state & STATE_ERROR != 0,
        errors: ErrorsStatus {
            count: facts.error_count,
            first: facts.first_error.as_ref().map(error),
            last: facts.last_error.as_ref().map(error),
        },
        made: facts.made,
        mounted: facts.mounted,
        last_mounted: bytes(&facts.last_mounted),
        checked: facts.checked,
        mount_count: facts.mount_count,
        max_mount_count: facts.max_mount_count,
        journal: journal(&found, notices),
        orphans: tried.then(|| orphans(notices)),
        protection: found.holder.map(protection),
        quota: found.facts.quota_inodes.map(|nr| nr.is_some()),
    }
}

/// As blkid(8) calls it.
fn generation(features: &features::Features) -> Generation {
    use features::{Compat, Incompat, RoCompat};
    let old = Incompat::FILETYPE.union(Incompat::RECOVER).union(Incompat::META_BG);
    let old_ro = RoCompat::SPARSE_SUPER.union(RoCompat::LARGE_FILE).union(RoCompat::BTREE_DIR);
    let is_old =
        features.incompat.without(old).is_empty() && features.ro_compat.without(old_ro).is_empty();
    match (is_old, features.compat.contains(Compat::HAS_JOURNAL)) {
        (true, false) => Generation::Ext2,
        (true, true) => Generation::Ext3,
        (false, _) => Generation::Ext4,
    }
}

fn names(features: &features::Features) -> FeaturesReport {
    use features::{Incompat, RoCompat};
    let refused = features.incompat.without(Incompat::KNOWN);
    let read = features.ro_compat.without(RoCompat::KNOWN);
    let written = [
        features.compat.to_string(),
        features.incompat.without(refused).to_string(),
        features.ro_compat.without(read).to_string(),
    ];
    let written: Vec<String> = written.into_iter().filter(|names| !names.is_empty()).collect();
    FeaturesReport {
        written: text(&written.join(",")),
        read: text(&read.to_string()),
        refused: text(&refused.to_string()),
    }
}

const fn needs_recovery(features: &features::Features) -> bool {
    features.incompat.contains(features::Incompat::RECOVER)
}

fn journal(found: &Found, notices: &[Notice]) -> JournalReport {
    use features::Compat;
    let facts = &found.facts;
    let place = match (found.features.compat.contains(Compat::HAS_JOURNAL), facts.journal_inode) {
        (false, _) => JournalPlace::None,
        (true, Some(_)) => JournalPlace::Internal,
        (true, None) => JournalPlace::External(facts.journal_uuid),
    };
    let mut report = JournalReport {
        place,
        needs_recovery: needs_recovery(&found.features),
        transactions: None,
        fast_commits: 0,
        remarks: Text::default(),
    };
    let mut remarks = Vec::new();
    for notice in notices {
        match notice {
            Notice::Replayed { transactions } => report.transactions = Some(*transactions),
            Notice::FastCommits { commits } => report.fast_commits = *commits,
            Notice::Orphans { .. } => {}
            other => remarks.push(other.to_string()),
        }
    }
    report.remarks = text(&remarks.join("; "));
    report
}

fn orphans(notices: &[Notice]) -> OrphansReport {
    let told = notices.iter().find_map(|notice| match notice {
        Notice::Orphans { freed, cut } => Some(OrphansReport { freed: *freed, cut: *cut }),
        _ => None,
    });
    told.unwrap_or_default()
}

fn protection(holder: fuse4fs_ext4::Result<Holder>) -> Protection {
    match holder {
        Ok(Holder::Nobody) => Protection::Free,
        Ok(Holder::Fsck { node }) => Protection::Checked { node: text(&node) },
        Ok(Holder::Node { node, device, time }) => {
            Protection::Mounted { node: text(&node), device: text(&device), time }
        }
        Err(error) => Protection::Unknown { why: text(&error.to_string()) },
    }
}

fn error(record: &ErrorRecord) -> ErrorStatus {
    ErrorStatus {
        time: record.time,
        inode: record.inode,
        block: record.block,
        code: record.code,
        what: bytes(&record.function),
    }
}

fn text(text: &str) -> Text {
    Text::lossy(text)
}

fn bytes(bytes: &[u8]) -> Text {
    Text::lossy(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use features::{Compat, Features, Incompat, RoCompat};

    #[test]
    fn features_tell_the_generation() {
        let of = |compat, incompat, ro_compat| {
            let (incompat, ro_compat) = (Incompat::new(incompat), RoCompat::new(ro_compat));
            generation(&Features { compat, incompat, ro_compat })
        };
        let journal = Compat::HAS_JOURNAL;
        assert_eq!(of(Compat::default(), 0x2, 0x3), Generation::Ext2);
        assert_eq!(of(journal, 0x6, 0x3), Generation::Ext3);
        assert_eq!(of(journal, 0x42, 0x3), Generation::Ext4);
        assert_eq!(of(Compat::default(), 0x2, 0x8), Generation::Ext4);
    }

    #[test]
    fn features_are_sorted_by_what_becomes_of_them() {
        let incompat = Incompat::EXTENTS.union(Incompat::DIRDATA);
        let ro_compat = RoCompat::VERITY.union(RoCompat::new(0x8000_0000));
        let report = names(&Features { compat: Compat::FAST_COMMIT, incompat, ro_compat });
        assert_eq!(report.written.as_str(), "fast_commit,extent,verity");
        assert_eq!((report.read.as_str(), report.refused.as_str()), ("0x80000000", "dirdata"));
    }
}
