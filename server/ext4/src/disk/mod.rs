//! The on-disk layouts, and the only place where bytes become values.
//!
//! A layout is a `#[repr(C)]` zerocopy struct with the kernel's field names less their prefix; its
//! `parse` checks magic, length, checksum and range once, so that code above need not. Everything is
//! little-endian except jbd2's structures, which are big-endian.
//! Source: Documentation/filesystems/ext4/, "Data Structures and Algorithms".

pub(crate) mod bitmap;
pub mod checksum;
pub(crate) mod dirent;
pub(crate) mod dx;
pub(crate) mod extent;
pub(crate) mod fast_commit;
pub mod group_desc;
pub mod inode;
pub(crate) mod jbd2;
pub(crate) mod log_blocks;
pub(crate) mod mmp;
pub(crate) mod orphan;
pub(crate) mod quota;
pub mod superblock;
pub(crate) mod xattr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::error::{CorruptKind, Error, Place, Result};

/// Reads a `T` from the start of `bytes`.
///
/// # Errors
/// [`CorruptKind::Truncated`] if `bytes` is shorter.
pub(crate) fn prefix<T>(place: Place, bytes: &[u8]) -> Result<&T>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_prefix(bytes).map(|(value, _)| value).map_err(|_| {
        let kind = CorruptKind::Truncated { needed: size_of::<T>(), have: bytes.len() };
        Error::corrupt(place, kind)
    })
}

/// A `T` at the start of `bytes`, to be changed, and what is behind it.
///
/// # Errors
/// As [`prefix`].
pub(crate) fn split_mut<T>(place: Place, bytes: &mut [u8]) -> Result<(&mut T, &mut [u8])>
where
    T: FromBytes + IntoBytes + KnownLayout + Unaligned,
{
    let kind = CorruptKind::Truncated { needed: size_of::<T>(), have: bytes.len() };
    T::mut_from_prefix(bytes).map_err(|_| Error::corrupt(place, kind))
}
