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
mod filesystem;
mod geometry;
mod inode;
mod journal;
mod map;
mod mount;
mod ops;
mod source;
mod volume;

pub use error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
pub use filesystem::{Filesystem, MountOptions, Notice, Observer, Unobserved};
pub use geometry::Geometry;
pub use inode::{FileKind, Inode, InodeFlags, Timestamp};
pub use map::Mapping;
pub use mount::probe;
pub use ops::{DirEntry, Overhead, Seek, StatFs};
