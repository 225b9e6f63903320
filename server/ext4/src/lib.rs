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

mod cache;
mod crypt;
mod dir;
mod edits;
mod file;
mod filesystem;
mod geometry;
mod group;
mod inode;
mod journal;
mod kind;
mod map;
mod mount;
mod notices;
mod observer;
mod ops;
mod recover;
mod source;
mod superblock;
#[cfg(test)]
mod testing;
mod usage;
mod volume;
mod xattr;

pub use error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
pub use filesystem::{Filesystem, MountOptions};
pub use geometry::Geometry;
pub use inode::{Inode, Timestamp};
pub use journal::{FastCommitEnd, LogEnd};
pub use kind::{FileKind, InodeFlags};
pub use map::Mapping;
pub use mount::probe;
pub use observer::{Notice, Observer, Unobserved};
pub use ops::{DirEntry, Overhead, Seek, StatFs};
pub use superblock::{ErrorRecord, Facts};
