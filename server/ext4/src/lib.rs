//! The ext4 engine: a block device in, POSIX-like verbs out.
//!
//! Start at [`Filesystem::mount`]; each verb is one file in `ops/`. No syscalls, no FUSE, no logging:
//! those are the server's. Layers and lock ranks are in ARCHITECTURE.md.
#![forbid(unsafe_code)]

pub mod device;
pub mod disk;
pub mod error;
pub mod features;
pub mod ids;

mod alloc;
mod cache;
mod caller;
#[cfg(test)]
mod crash_tests;
mod crypt;
mod dir;
mod edits;
mod evict;
mod file;
mod filesystem;
mod geometry;
mod group;
mod handle;
mod inode;
mod inspect;
mod journal;
mod kind;
mod map;
mod mmp;
mod mount;
mod notices;
mod observer;
mod ops;
mod orphan;
mod quota;
mod recover;
mod rules;
mod sharing;
mod source;
mod superblock;
mod sync;
#[cfg(test)]
mod testing;
mod usage;
mod volume;
mod xattr;

pub use cache::CacheLevel;
pub use caller::Caller;
pub use error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
pub use evict::Orphaned;
pub use filesystem::{DataMode, ErrorPolicy, Filesystem, MountOptions, WriteOptions};
pub use geometry::Geometry;
pub use inode::{Inode, Timestamp};
pub use inspect::{Found, Inspection, Verdict, inspect};
pub use journal::{FastCommitEnd, JournalFigures, LogEnd};
pub use kind::{FileKind, InodeFlags};
pub use map::Mapping;
pub use mmp::{Guard, Holder, NodeName};
pub use mount::probe;
pub use observer::{Notice, Observer, Unobserved};
pub use ops::{
    DirEntry, Errors, Fallocate, Hold, KeepSize, Named, NewInode, Open, Overhead, Rename, Run,
    Seek, SetAttr, SetTime, StatFs, Statistics, Trim, Unlinked, WriteKind,
};
pub use rules::{Atime, Rules};
pub use superblock::{ErrorRecord, Facts};
pub use xattr::Mode as XattrMode;
