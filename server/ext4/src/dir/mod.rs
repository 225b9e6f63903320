//! Directories: a name to its inode, and all names in a stable order.
//!
//! | file | what |
//! |---|---|
//! | `block` | a directory's blocks, checked |
//! | `linear` | blocks in order: directories without an index, and the way out when it is broken |
//! | `htree` | through the hash index |
//! | `order` | listing in hash order, and its cookies |
//! | `hash` | the hashes |
//! | `inline` | directories inside their inode |
//! | `casefold` | names that differ in case only |
//! | `edited` | all of it, as fast commits left it |
//! | `insert` | a name is put in: what it takes, step by step |
//! | `index` | indexes are made, and grow |
//! | `grow` | directories get blocks |
//! | `remove` | a name is taken out, or names another inode |
//! | `inline_edit` | the same for directories inside their inode |
//! | `fresh` | directories begin, are empty, count their links |
//!
//! A directory is listed in hash order if it has an index, and also if it has none yet but may grow
//! one while it is read: one block, or inline, on a file system with dir_index. The others are listed
//! in disk order. "." and ".." always come first.
//! Kernel: fs/ext4/dir.c, namei.c, hash.c, inline.c · Documentation/filesystems/ext4/directory.rst

mod block;
mod casefold;
mod edited;
mod fresh;
mod grow;
mod hash;
mod htree;
mod index;
mod inline;
mod inline_edit;
mod insert;
mod linear;
mod order;
mod remove;
#[cfg(test)]
mod tests;
mod unicode_12_1;
#[cfg(test)]
mod write_tests;

use core::ops::ControlFlow;
use std::borrow::Cow;

pub(crate) use edited::{find, iterate, key};
pub(crate) use fresh::{add_link, check_links, drop_link, init, init_needs, is_empty};
pub(crate) use insert::{Needs, insert, needs};
pub(crate) use remove::{remove, replace, set_parent};

use block::{Directory, Found};
use hash::{DirHash, HashVersion, Hasher};
use htree::Root;
use inline::InlineDir;

use crate::crypt::{self, NoKeyName};
use crate::disk::dirent::Entry;
use crate::error::{CorruptKind, Error, Refusal, Result};
use crate::ids::{BlockNr, InodeNr};
use crate::inode::{FileKind, Inode};
use crate::volume::Volume;

/// One name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirEntry<'a> {
    /// The inode it names.
    pub inode: InodeNr,
    /// What that is, if the directory says (filetype).
    pub kind: Option<FileKind>,
    /// 1..=255 bytes.
    pub name: &'a [u8],
    /// Where to go on after this entry: stable while the entry's neighbours come and go.
    pub cookie: u64,
}

/// Takes entries until it breaks.
type Emit<'a> = dyn FnMut(DirEntry<'_>) -> ControlFlow<()> + 'a;

/// A name that is looked for.
enum Wanted<'a> {
    /// These bytes.
    Exact(&'a [u8]),
    /// Anything that folds to the same.
    Folded { name: &'a [u8], folded: Vec<u8> },
    /// The encrypted name that shows as this without its key.
    NoKey(NoKeyName),
}

impl<'a> Wanted<'a> {
    /// What to look for in `dir`.
    ///
    /// # Errors
    /// [`Refusal::Invalid`] for a name without a meaning in the directory's (strict) encoding,
    /// [`Refusal::NotFound`] for one that no encrypted name shows as.
    fn new(dir: &Directory<'_>, name: &'a [u8]) -> Result<Self> {
        if name == b".." {
            return Ok(Self::Exact(name));
        }
        if dir.is_encrypted() {
            return Ok(Self::NoKey(NoKeyName::decode(name).ok_or(Refusal::NotFound)?));
        }
        if !dir.is_casefolded() {
            return Ok(Self::Exact(name));
        }
        match casefold::fold(name) {
            Some(folded) => Ok(Self::Folded { name, folded }),
            None if dir.is_strictly_encoded() => Err(Refusal::Invalid.into()),
            None => Ok(Self::Exact(name)),
        }
    }

    fn matches(&self, stored: &[u8]) -> bool {
        match self {
            Self::Exact(wanted) => *wanted == stored,
            Self::Folded { name, folded } => {
                *name == stored || casefold::fold(stored).is_some_and(|stored| stored == *folded)
            }
            Self::NoKey(wanted) => wanted.matches(stored),
        }
    }

    fn hash(&self, dir: &Directory<'_>, hasher: &Hasher) -> DirHash {
        match self {
            Self::Exact(name) => hasher.hash(name),
            Self::Folded { folded, .. } => hasher.hash(folded),
            Self::NoKey(name) => match name.complete() {
                Some(stored) if !dir.layout.hash_in_dirent => hasher.hash(stored),
                _ => {
                    let (major, minor) = name.hash();
                    DirHash { major, minor }
                }
            },
        }
    }
}

/// The inode that `name` names in `dir`, if any. The number is as the disk has it.
///
/// # Errors
/// Those of [`Wanted::new`]; corruption that may hide the name; I/O errors.
fn find_on_disk(volume: &Volume, dir: &Inode, name: &[u8]) -> Result<Option<InodeNr>> {
    let dir = Directory::new(volume, dir);
    let wanted = Wanted::new(&dir, name)?;
    if let Some(inline) = InlineDir::of(&dir)? {
        return if name == b".." { Ok(Some(inline.parent())) } else { inline.find(&wanted) };
    }
    Ok(find_in_blocks(&dir, &wanted, name)?.map(|found| found.inode))
}

/// Where `name`, as `wanted`, stands in a directory that has blocks.
fn find_in_blocks(dir: &Directory<'_>, wanted: &Wanted<'_>, name: &[u8]) -> Result<Option<Found>> {
    // ".." is in the first block, which the linear search starts with and no index knows.
    if dir.is_indexed() && name != b".." {
        match htree::find(dir, wanted) {
            // The kernel's folding changed once (6.12), and indexes made by it may disagree with ours.
            Ok(None) if dir.is_casefolded() && dir.allows_compat_search() => {}
            Err(error @ Error::Corrupt { .. }) => dir.notice(error, None),
            result => return result,
        }
    }
    linear::find(dir, wanted)
}

/// Emits the entries of `dir` after `cookie` until `emit` breaks.
///
/// # Errors
/// Corruption that ends the listing; I/O errors.
fn iterate_on_disk(volume: &Volume, dir: &Inode, cookie: u64, emit: &mut Emit<'_>) -> Result<()> {
    let dir = Directory::new(volume, dir);
    let hasher = dir.default_hasher();
    if let Some(inline) = InlineDir::of(&dir)? {
        return inline.iterate(hasher, cookie, emit);
    }
    if dir.is_indexed() {
        match Root::read(&dir) {
            Ok(root) => return htree::iterate(&dir, &root, cookie, emit),
            Err(error @ Error::Corrupt { .. }) => dir.notice(error, None),
            Err(error) => return Err(error),
        }
    } else if let Some(hasher) = hasher
        && dir.blocks() == 1
    {
        return order::iterate_block(&dir, &hasher, cookie, emit);
    }
    linear::iterate(&dir, cookie, emit)
}

impl Directory<'_> {
    /// The hash of an entry's name as stored in this directory.
    fn hash(&self, hasher: &Hasher, stored: &[u8]) -> DirHash {
        if self.is_casefolded()
            && !self.is_encrypted()
            && let Some(folded) = casefold::fold(stored)
        {
            return hasher.hash(&folded);
        }
        hasher.hash(stored)
    }

    /// The hash that orders a directory without an index of its own, with dir_index.
    fn default_hasher(&self) -> Option<Hasher> {
        let geometry = &self.volume.geometry;
        let version = HashVersion::from_disk(geometry.default_hash_version)?;
        self.has_dir_index().then(|| Hasher::new(geometry, version))
    }
}

/// Whether `entry` is a name to list. One that no path can hold is noticed.
fn is_name(dir: &Directory<'_>, entry: &Entry<'_>, block: Option<BlockNr>) -> bool {
    let Entry { offset, inode, name, .. } = *entry;
    if inode.get() == 0 {
        return false;
    }
    let possible = !name.is_empty() && (dir.is_encrypted() || !name.contains(&b'/'));
    if !possible {
        dir.notice(dir.corrupt(block, CorruptKind::DirNameImpossible { offset }), block);
    }
    possible
}

/// A stored name as a reader sees it; `None` (noticed) for an encrypted name that cannot be one.
fn shown<'a>(dir: &Directory<'_>, stored: &'a [u8], hash: DirHash) -> Option<Cow<'a, [u8]>> {
    if !dir.is_encrypted() || stored == b"." || stored == b".." {
        return Some(Cow::Borrowed(stored));
    }
    let shown = crypt::no_key_name((hash.major, hash.minor), stored);
    if shown.is_none() {
        let kind = CorruptKind::CryptNameShort { len: stored.len() };
        dir.notice(dir.corrupt(None, kind), None);
    }
    shown.map(Cow::Owned)
}
