//! What whoever asks by ioctl hears of a mount: see `fuse4fs_protocol::Status`. Nothing of it is
//! secret, and none of it waits for a disk.

use fuse4fs_ext4::{
    Atime, CacheLevel, DataMode, ErrorPolicy, ErrorRecord, Filesystem, JournalFigures, Rules,
    Statistics,
};
use fuse4fs_protocol::{
    CacheStatus, ErrorStatus, ErrorsStatus, FilesystemStatus, JournalStatus, Operations,
    ServerStatus, Status, Text,
};
use fuser::Errno;

use super::abi::IoctlOut;
use super::errno::Fail;
use super::reply::Output;
use super::serve::{Answer, Frontend};

impl Frontend {
    /// Answers IOC_STATUS.
    pub(super) fn tell_status(&self, fs: &Filesystem, out: &mut Output<'_>) -> Answer {
        match self.put_status(fs, out) {
            Ok(()) => Answer::Reply,
            Err(_) => Answer::Error(Errno::EIO),
        }
    }

    fn put_status(&self, fs: &Filesystem, out: &mut Output<'_>) -> Result<(), Fail> {
        // Its texts are too short to be too long.
        let bytes = self.status(fs).to_bytes().map_err(|_| Errno::EIO)?;
        out.put(&IoctlOut::default())?;
        out.put_bytes(&bytes)
    }

    fn status(&self, fs: &Filesystem) -> Status {
        let process = &self.settings.process;
        Status {
            device: text(&self.settings.device_name),
            uptime: self.since.elapsed().as_secs(),
            server: ServerStatus {
                version: text(env!("CARGO_PKG_VERSION")),
                pid: process.pid,
                surroundings: process.surroundings,
                landlock: process.landlock,
                memory_limit: process.memory_limit,
                io_uring: self.uses_rings(),
                request_timeout: self.settings.request_timeout,
                nodes: count(self.nodes.len()),
                open_files: count(self.handles.len()),
            },
            filesystem: self.filesystem_status(fs, fs.statistics()),
            // What is read there is in order.
            operations: Operations::try_from(self.operations.read()).unwrap_or_default(),
        }
    }

    fn filesystem_status(&self, fs: &Filesystem, found: Statistics) -> FilesystemStatus {
        let geometry = fs.geometry();
        let features = geometry.features;
        let sets = [
            features.compat.to_string(),
            features.incompat.to_string(),
            features.ro_compat.to_string(),
        ];
        let named: Vec<String> = sets.into_iter().filter(|names| !names.is_empty()).collect();
        FilesystemStatus {
            uuid: geometry.uuid,
            label: text(&String::from_utf8_lossy(&geometry.label)),
            features: text(&named.join(",")),
            options: text(&options(fs, &found)),
            block_size: geometry.block_size,
            writable: fs.is_writable(),
            shut_down: self.control.is_down(),
            cache: cache(found.cache),
            dirty_blocks: found.dirty_blocks,
            journal: found.journal.map(journal),
            errors: ErrorsStatus {
                count: found.errors.count,
                first: found.errors.first.map(error),
                last: found.errors.last.map(error),
            },
        }
    }
}

fn text(text: &str) -> Text {
    Text::lossy(text)
}

fn count(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn cache(level: CacheLevel) -> CacheStatus {
    let CacheLevel { bytes, budget, entries, hits, misses } = level;
    CacheStatus { bytes, budget, entries, hits, misses }
}

fn journal(figures: JournalFigures) -> JournalStatus {
    JournalStatus {
        blocks: figures.blocks,
        free_blocks: figures.free_blocks,
        head: figures.head,
        running: figures.running,
        committed: figures.committed,
        unwritten: figures.unwritten,
        commits: figures.commits,
        logged_blocks: figures.logged_blocks,
        since_commit: figures
            .since_commit
            .map(|since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        aborted: figures.aborted,
    }
}

fn error(record: ErrorRecord) -> ErrorStatus {
    ErrorStatus {
        time: record.time,
        inode: record.inode,
        block: record.block,
        code: record.code,
        what: text(&String::from_utf8_lossy(&record.function)),
    }
}

/// Options in force, as mount(8) takes them.
fn options(fs: &Filesystem, found: &Statistics) -> String {
    let rules = fs.rules();
    let mut words = vec![
        match fs.error_policy() {
            ErrorPolicy::Continue => "errors=continue",
            ErrorPolicy::ReadOnly => "errors=remount-ro",
            ErrorPolicy::Panic => "errors=panic",
        }
        .to_owned(),
    ];
    if found.journal.is_some() {
        let data = match fs.data_mode() {
            DataMode::Journal => "data=journal",
            DataMode::Ordered => "data=ordered",
            DataMode::Writeback => "data=writeback",
        };
        words.extend([data.to_owned(), format!("commit={}", found.commit_interval.as_secs())]);
        words.push(if found.barrier { "barrier" } else { "nobarrier" }.to_owned());
    }
    words.extend(of_verbs(rules).map(str::to_owned));
    if rules.max_dir_size_kb > 0 {
        words.push(format!("max_dir_size_kb={}", rules.max_dir_size_kb));
    }
    words.join(",")
}

/// Those of verbs, without the usual ones but `acl` and `user_xattr`.
fn of_verbs(rules: &Rules) -> impl Iterator<Item = &'static str> + use<> {
    let atime = match rules.atime {
        Atime::Relative => "relatime",
        Atime::Never => "noatime",
        Atime::Always => "strictatime",
    };
    let unusual = [
        (rules.no_directory_atime, "nodiratime"),
        (rules.lazytime, "lazytime"),
        (rules.sync, "sync"),
        (rules.dirsync, "dirsync"),
        (rules.grpid == Some(true), "grpid"),
        (rules.discard == Some(true), "discard"),
    ];
    [
        if rules.acl { "acl" } else { "noacl" },
        if rules.user_xattr { "user_xattr" } else { "nouser_xattr" },
        atime,
    ]
    .into_iter()
    .chain(unusual.into_iter().filter(|(is_set, _)| *is_set).map(|(_, word)| word))
}
