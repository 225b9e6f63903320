//! The verbs, one file each: what a caller may ask of a mounted file system.
//!
//! A verb file reads like the manual page of the call; byte work is one layer below.

mod accessed;
mod admin;
mod bmap;
mod change;
mod copy;
mod create;
mod fallocate;
mod flags;
mod forget;
mod getattr;
mod link;
mod locking;
mod lookup;
mod open;
mod plan;
mod read;
mod readdir;
mod readlink;
mod rename;
#[cfg(test)]
mod rules_tests;
mod seek;
mod setattr;
mod statfs;
mod statistics;
mod sync;
mod truncate;
mod unlink;
mod write;
mod xattr;

pub use crate::file::{KeepSize, Run, Seek};
pub use admin::Trim;
pub use create::NewInode;
pub use fallocate::Fallocate;
pub use open::Open;
pub use plan::Hold;
pub use readdir::DirEntry;
pub use rename::{Named, Rename};
pub use setattr::{SetAttr, SetTime};
pub use statfs::{Overhead, StatFs};
pub use statistics::{Errors, Statistics};
pub use unlink::Unlinked;
pub use write::WriteKind;
