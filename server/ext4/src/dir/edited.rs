//! Directories as fast commits left them: names taken away from the disk, and names added.
//!
//! Added names are listed after all others, with cookies that no name on the disk has.

use core::ops::ControlFlow;
use std::borrow::Cow;

use super::block::Directory;
use super::hash::DirHash;
use super::{DirEntry, Emit, Wanted, casefold, find_on_disk, iterate_on_disk, shown};
use crate::edits::is_past_disk;
use crate::error::Result;
use crate::ids::InodeNr;
use crate::inode::Inode;
use crate::volume::Volume;

/// What two names of `dir` have in common if only one of them can be there.
pub(crate) fn key<'a>(volume: &Volume, dir: &Inode, name: &'a [u8]) -> Cow<'a, [u8]> {
    let dir = Directory::new(volume, dir);
    let folds = dir.is_casefolded() && !dir.is_encrypted();
    match folds.then(|| casefold::fold(name)).flatten() {
        Some(folded) => Cow::Owned(folded),
        None => Cow::Borrowed(name),
    }
}

/// The inode that `name` names in `dir`, if any. The number is as the disk (or the log) has it.
///
/// # Errors
/// Refusals of names that the directory cannot have; corruption that may hide the name; I/O errors.
pub(crate) fn find(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Option<InodeNr>> {
    let Some(names) = volume.edits().names(dir.nr) else {
        return find_on_disk(volume, dir, name);
    };
    let directory = Directory::new(volume, dir);
    let wanted = Wanted::new(&directory, name)?;
    if let Wanted::NoKey(_) = wanted {
        // Stored names cannot be told from the one shown, so all are compared.
        let added = names.after(0).find(|added| wanted.matches(&added.name));
        if let Some(added) = added {
            return Ok(Some(added.inode));
        }
    }
    let key = key(volume, dir, name);
    if let Some(inode) = names.get(&key) {
        return Ok(Some(inode));
    }
    if names.is_fresh() || names.is_removed(&key) {
        return Ok(None);
    }
    find_on_disk(volume, dir, name)
}

/// Emits the entries of `dir` after `cookie` until `emit` breaks.
///
/// # Errors
/// Corruption that ends the listing; I/O errors.
pub(crate) fn iterate(
    volume: &Volume,
    dir: &Inode,
    cookie: u64,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let Some(names) = volume.edits().names(dir.nr) else {
        return iterate_on_disk(volume, dir, cookie, emit);
    };
    if !names.is_fresh() && !is_past_disk(cookie) {
        let mut broke = false;
        iterate_on_disk(volume, dir, cookie, &mut |entry: DirEntry<'_>| {
            if names.is_removed(&key(volume, dir, entry.name)) {
                return ControlFlow::Continue(());
            }
            let flow = emit(entry);
            broke = flow.is_break();
            flow
        })?;
        if broke {
            return Ok(());
        }
    }
    let directory = Directory::new(volume, dir);
    for added in names.after(cookie) {
        let Some(name) = shown(&directory, &added.name, DirHash::default()) else { continue };
        let (inode, kind) = (added.inode, Some(added.kind));
        if emit(DirEntry { inode, kind, name: &name, cookie: added.cookie }).is_break() {
            break;
        }
    }
    Ok(())
}
