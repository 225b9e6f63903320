//! The verbs, one file each: what a caller may ask of a mounted file system.
//!
//! A verb file reads like the manual page of the call; byte work is one layer below.

mod bmap;
mod getattr;
mod lookup;
mod open;
mod read;
mod readdir;
mod readlink;
mod seek;
mod statfs;
mod xattr;

pub use crate::file::Seek;
pub use readdir::DirEntry;
pub use statfs::{Overhead, StatFs};
