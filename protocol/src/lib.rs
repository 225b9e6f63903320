//! The conversation between the mount helper (root) and the server (contained).
//!
//! One SEQPACKET packet holds one message. The helper speaks first:
//! `Hello` → `Welcome`, `Mount` (with fds) → `Progress`* → `Serving` or `Refused`, then the helper
//! hangs up; or `Check` (with fds) → `Progress`* → `Report` or `Refused`. There is no message by which a
//! server asks for anything.
//! Neither side trusts the other: [`decode`] bounds sizes and strings and refuses trailing bytes.
#![forbid(unsafe_code)]

mod codec;
mod fds;
mod ioctl;
mod limits;
mod message;
mod operations;
mod options;
mod report;
mod status;
mod text;
mod version;

pub use codec::{CodecError, decode, encode};
pub use fds::{FdList, FdRole};
pub use ioctl::{
    IOC_GET_READ_ONLY, IOC_SET_READ_ONLY, IOC_STATUS, KEY_BYTES, KEY_XATTR, SET_READ_ONLY_BYTES,
    STATUS_BYTES, SetReadOnly,
};
pub use limits::{
    MAX_BUSY_POLL, MAX_CACHE, MAX_FDS, MAX_MESSAGE, MAX_TEXT, MAX_THREADS, MIN_CACHE,
};
pub use message::{LogLevel, MountRequest, Phase, RefusalKind, ToHelper, ToServer};
pub use operations::{
    LATENCY_BUCKETS, OPCODES, Operation, Operations, bucket_end, bucket_of, operation_name,
};
pub use options::{
    Atime, CacheSize, Cpus, DataMode, EngineOptions, ErrorsPolicy, ServingOptions, Switch,
};
pub use report::{
    CheckRequest, FeaturesReport, FilesystemReport, Generation, JournalPlace, JournalReport,
    OrphansReport, Protection, Report, Verdict,
};
pub use status::{
    CacheStatus, ErrorStatus, ErrorsStatus, FilesystemStatus, JournalStatus, STATUS_VERSION,
    ServerStatus, Status, StatusError, Surroundings,
};
pub use text::{Text, TextError};
pub use version::{Features, Hello, MAGIC, VERSION_MAX, VERSION_MIN, VersionError, Welcome};
