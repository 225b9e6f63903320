//! copy_file_range(2) within the file system: bytes go from file to file without leaving the server.

use super::write::{self};
use super::{read, size};
use crate::alloc::Privilege;
use crate::error::Result;
use crate::ids::{in_memory, on_disk};
use crate::inode::Inode;
use crate::volume::Volume;

/// Bytes that are in memory at a time.
const CHUNK: u64 = 1 << 20;

/// Copies up to `len` bytes from byte `from` of `source` to byte `to` of `target`, as far as `source`
/// has them, and returns how many. The caller holds the lock of `source` and, exclusively, that of
/// `target`; ranges of one file do not overlap.
///
/// # Errors
/// As [`write::write`], if nothing could be copied.
pub(crate) fn copy(
    volume: &Volume,
    (source, from): (&Inode, u64),
    (target, to): (&mut Inode, u64),
    len: u64,
    who: Privilege,
) -> Result<u64> {
    let len = len.min(size(volume, source).saturating_sub(from));
    let mut buffer = vec![0; in_memory(len.min(CHUNK))];
    let mut done = 0_u64;
    while done < len {
        let wanted = in_memory(len.saturating_sub(done).min(CHUNK));
        let chunk = buffer.get_mut(..wanted).unwrap_or_default();
        // Of one file the newest version is read: its map changes as it is written.
        let current = if source.nr == target.nr { &*target } else { source };
        let step = read(volume, current, from.saturating_add(done), chunk).and_then(|bytes| {
            let chunk = chunk.get(..bytes).unwrap_or_default();
            write::write(volume, target, who, (to.saturating_add(done), chunk))
        });
        match step {
            Ok(written) if written.bytes > 0 => done = done.saturating_add(on_disk(written.bytes)),
            Err(error) if done == 0 => return Err(error),
            _ => break,
        }
    }
    Ok(done)
}
