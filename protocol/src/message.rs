//! The messages, one enum per direction.

use serde::{Deserialize, Serialize};

use crate::fds::FdList;
use crate::options::{EngineOptions, ServingOptions};
use crate::report::{CheckRequest, Report};
use crate::text::Text;
use crate::version::{Hello, Welcome};

/// What the helper says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToServer {
    /// First.
    Hello(Hello),
    /// Second and last; carries the file descriptors.
    Mount(MountRequest),
    /// The same, where nothing is to be mounted.
    Check(CheckRequest),
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToHelper {
    /// First.
    Welcome(Welcome),
    /// Any number of times between `Mount` or `Check` and the end; each one resets the helper's deadline.
    Progress {
        /// What takes the time.
        phase: Phase,
        /// Units done, 0..=total.
        done: u64,
        /// Units in all; 0 when unknown.
        total: u64,
    },
    /// Last: the mount answers requests.
    Serving {
        /// The server tightened a read-write request to read-only.
        read_only: bool,
    },
    /// Last: there will be no mount, or no report.
    Refused {
        /// What kind of reason.
        kind: RefusalKind,
        /// A sentence for a person.
        text: Text,
    },
    /// Last, after `Check`: what was found.
    Report(Box<Report>),
}

/// One mount, as decided by the helper.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MountRequest {
    /// Roles of the descriptors that come along.
    pub fds: FdList,
    /// Name of the device in log lines, for example `sdb1`.
    pub device_name: Text,
    /// The server's process number where the helper is, for its status; 0 if it is not known.
    pub server_pid: u32,
    /// The mount is read-only.
    pub read_only: bool,
    /// Seconds after which the kernel gives up on a request and aborts the connection; 0 for never.
    pub request_timeout: u32,
    /// How much is logged.
    pub log_level: LogLevel,
    /// For the front end.
    pub serving: ServingOptions,
    /// For the engine.
    pub engine: EngineOptions,
}

/// How much the server logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum LogLevel {
    /// Failures.
    Error,
    /// And suspicious things.
    Warn,
    /// And mounts and unmounts.
    #[default]
    Info,
    /// And decisions.
    Debug,
    /// And every request.
    Trace,
}

/// What a long mount is busy with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Phase {
    /// Entering the sandbox and reading the superblock.
    Starting,
    /// Waiting to see whether another node has the file system (MMP).
    MultiMountProtection,
    /// Reading the journal.
    Replay,
    /// Finishing deletions and truncations that a crash interrupted.
    Orphans,
}

/// Kinds of refusal, for the exit code and for scripts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum RefusalKind {
    /// No ext file system there.
    NotExt4,
    /// Features or a revision that this version does not know.
    Unsupported,
    /// Damaged beyond mounting.
    Corrupt,
    /// The device failed.
    Io,
    /// In use elsewhere.
    Busy,
    /// The options do not fit the file system.
    BadOption,
    /// The server failed for its own reasons.
    Internal,
}
