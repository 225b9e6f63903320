//! READDIR and READDIRPLUS: as many entries as the kernel has room for.

use core::ops::ControlFlow;
use std::sync::Arc;

use fuse4fs_ext4::{DirEntry, Filesystem, Inode};
use zerocopy::IntoBytes;

use super::abi::{Dirent, EntryOut};
use super::attr;
use super::errno::Fail;
use super::nodes::Nodes;
use super::reply::Output;
use crate::device;

/// Inodes that one answer may wait for; whole tables of neighbours come with each. The kernel asks for all
/// attributes unasked, and who lists names on a disk with a slow head must not pay for more.
const WAITS: u32 = 8;
/// Nodes of which the kernel is told unasked, where they have to be counted.
const MOST_NODES: usize = 1 << 20;

/// Entries start at multiples of this.
const ALIGN: usize = 8;

/// Puts out entries of `dir` after `cookie`, `limit` bytes at most; with `plus`, each one with the
/// attributes of its inode.
///
/// # Errors
/// As [`Filesystem::readdir`], unless entries were found first: then those are the answer, and the
/// kernel meets the error when it comes back for more.
pub(super) fn readdir(
    (fs, nodes): (&Filesystem, &Nodes),
    dir: &Inode,
    (cookie, limit, plus): (u64, u32, bool),
    out: &mut Output<'_>,
) -> Result<(), Fail> {
    let limit = usize::try_from(limit).unwrap_or(0);
    let mut found = Vec::new();
    let mut waits = WAITS;
    let fills = plus && nodes.len() < MOST_NODES;
    let result = fs.readdir(dir, cookie, &mut |entry| {
        let inode = if fills { inode(fs, &entry, &mut waits) } else { None };
        let attributes =
            plus.then(|| inode.as_ref().map_or_else(EntryOut::default, |i| attr::entry_out(fs, i)));
        if !append(&entry, attributes.as_ref(), limit, out) {
            return ControlFlow::Break(());
        }
        found.extend(inode);
        ControlFlow::Continue(())
    });
    // Counted all at once, at the end: until then it may turn out that the answer is of no use.
    found.iter().for_each(|inode| nodes.found(inode));
    match result {
        Err(_) if out.len() > 0 => Ok(()),
        result => Ok(result?),
    }
}

/// What LOOKUP would find. Without it node id 0 tells the kernel to ask when it wants to know: for
/// "." and "..", which have nodes of their own already, for an inode that cannot be read, so that
/// one damaged file does not hide its siblings, and for one that is not in memory when there were `waits` others.
fn inode(fs: &Filesystem, entry: &DirEntry<'_>, waits: &mut u32) -> Option<Arc<Inode>> {
    if matches!(entry.name, b"." | b"..") {
        return None;
    }
    if let Some(at_once) = device::without_waiting(|| fs.inode(entry.inode)) {
        return at_once.ok();
    }
    *waits = waits.checked_sub(1)?;
    fs.inode(entry.inode).ok()
}

/// Appends one entry whole, or says that there is no room for it.
fn append(
    entry: &DirEntry<'_>,
    attributes: Option<&EntryOut>,
    limit: usize,
    out: &mut Output<'_>,
) -> bool {
    let fixed = Dirent {
        ino: entry.inode.get().into(),
        off: entry.cookie,
        namelen: u32::try_from(entry.name.len()).unwrap_or(0),
        kind: entry.kind.map_or(0, attr::dirent_type),
    };
    let attributes = attributes.map_or(&[][..], IntoBytes::as_bytes);
    let padding = [0; ALIGN];
    let unaligned = entry.name.len() % ALIGN;
    let padding = padding.get(unaligned..).filter(|_| unaligned != 0).unwrap_or_default();
    let parts = [attributes, fixed.as_bytes(), entry.name, padding];
    let len = parts.iter().fold(out.len(), |sum, part| sum.saturating_add(part.len()));
    len <= limit && parts.iter().all(|part| out.put_bytes(part).is_ok())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::*;
    use fuse4fs_ext4::FileKind;
    use fuse4fs_ext4::ids::InodeNr;

    const ENTRY: DirEntry<'_> = DirEntry {
        inode: InodeNr::new(12),
        kind: Some(FileKind::Regular),
        name: b"hello",
        cookie: 77,
    };

    #[test]
    fn an_entry_is_padded_to_eight_bytes() {
        let mut room = [0xff; 64];
        let mut out = Output::new(&mut room);
        assert!(append(&ENTRY, None, 64, &mut out));
        assert_eq!(out.len(), 24 + 8);
        assert_eq!(room[24..32], *b"hello\0\0\0");
    }

    #[test]
    fn an_entry_that_does_not_fit_leaves_nothing_behind() {
        let mut room = [0; 64];
        let mut out = Output::new(&mut room);
        assert!(append(&ENTRY, None, 32, &mut out));
        assert!(!append(&ENTRY, None, 63, &mut out));
        assert_eq!(out.len(), 32);
    }
}
