//! Listing in hash order, with cookies that outlive splits and deletions.
//!
//! A cookie is `major(31) minor(16) number(16)`: the upper bits of the entry's two hashes, and its
//! number (plus 3) among the entries that agree in those. So a cookie says where its entry stood even
//! when that is gone, and names of equal hash are told apart, whereas the kernel keeps state for them
//! in the open file. 0, 1 and 2 stand before ".", before ".." and before the first name, as in
//! the kernel; nothing is ever above `i64::MAX`, so seekdir(3) works.
//!
//! One hash range is in memory at a time, and of that at most [`LIMIT`] entries: a range that a
//! hostile index makes long is read again for each part of it.
//! Kernel: fs/ext4/dir.c `ext4_dx_readdir`, `hash2pos`

use core::ops::ControlFlow;
use std::collections::BTreeMap;

use super::block::Directory;
use super::hash::{DirHash, HashVersion, Hasher};
use super::{DirEntry, Emit, is_name, shown};
use crate::disk::checksum::crc32c;
use crate::disk::dirent::{Entries, Entry};
use crate::error::{CorruptKind, Result};
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::FileKind;

/// Entries in memory at a time.
const LIMIT: usize = 4096;
/// Bits of a cookie below the hashes.
const NUMBER_BITS: u32 = 16;
/// The highest hash.
pub(super) const LAST: u32 = u32::MAX - 1;
/// The number of the first entry of a group: 0, 1 and 2 are taken in the first one.
const FIRST_NUMBER: u64 = 3;

/// The order of the listing.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Key {
    hash: DirHash,
    name: Box<[u8]>,
    /// Tells entries of the same name apart, which a corrupt directory may have.
    place: (Option<BlockNr>, u32),
}

/// What stands at a [`Key`].
#[derive(Clone, Copy, Debug)]
struct Found {
    inode: InodeNr,
    kind: Option<FileKind>,
    /// What an encrypted name shows: unlike the key's, never changed to fit the listing.
    hash: DirHash,
}

/// How far a listing has come.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    /// The cookie's upper part.
    group: u64,
    /// Entries of the group up to this number were taken in earlier calls.
    taken: u64,
    /// The number of the group's next entry.
    next: u64,
    /// The last entry met in this call.
    after: Option<Key>,
}

impl Cursor {
    /// Behind the entry that `cookie` came with.
    pub(super) fn new(cookie: u64) -> Self {
        let taken = cookie & ((1 << NUMBER_BITS) - 1);
        Self { group: cookie >> NUMBER_BITS, taken, next: FIRST_NUMBER, after: None }
    }

    /// The hash to start from.
    pub(super) fn major(&self) -> u32 {
        u32::try_from(self.group >> 16 << 1).unwrap_or(u32::MAX)
    }

    /// Passes over the entry at `key`; its cookie, unless it was taken before.
    fn pass(&mut self, dir: &Directory<'_>, key: &Key) -> Result<Option<u64>> {
        let group = group_of(key.hash);
        if group != self.group {
            *self = Self { group, taken: 0, next: FIRST_NUMBER, after: None };
        }
        let number = self.next;
        self.next = number.saturating_add(1);
        if number >> NUMBER_BITS != 0 {
            let kind = CorruptKind::DirTooManyCollisions { hash: key.hash.major };
            return Err(dir.corrupt(key.place.0, kind));
        }
        Ok((number > self.taken).then_some(group << NUMBER_BITS | number))
    }
}

fn group_of(hash: DirHash) -> u64 {
    u64::from(hash.major >> 1) << 16 | u64::from(hash.minor >> 16)
}

/// The lowest entries behind the cursor among those of one hash range.
pub(super) struct Batch<'a> {
    dir: &'a Directory<'a>,
    hasher: &'a Hasher,
    group: u64,
    after: Option<Key>,
    found: BTreeMap<Key, Found>,
    truncated: bool,
}

impl Batch<'_> {
    /// Adds the entries of one leaf whose hashes should lie in `low..=high`. Others are listed at
    /// the nearer bound, so that no name is lost to a hash that disagrees with the index. The rest of
    /// a block after a corrupt entry is skipped, as in the kernel, and noticed.
    pub(super) fn add(
        &mut self,
        entries: Entries<'_>,
        low: u32,
        high: u32,
        block: Option<BlockNr>,
    ) {
        for entry in entries {
            match entry {
                Ok(entry) if entry.name == b"." || entry.name == b".." => {}
                Ok(entry) if is_name(self.dir, &entry, block) => {
                    self.add_entry(&entry, low, high, block);
                }
                Ok(_) => {}
                Err(error) => return self.dir.notice(error, block),
            }
        }
    }

    fn add_entry(&mut self, entry: &Entry<'_>, low: u32, high: u32, block: Option<BlockNr>) {
        let hash = match entry.hash {
            Some((major, minor)) => DirHash { major, minor },
            None => self.dir.hash(self.hasher, entry.name),
        };
        let minor = match self.hasher.version {
            // The legacy hash has no minor one, and too many names share the major one.
            HashVersion::Legacy => crc32c(!0, entry.name),
            _ => hash.minor,
        };
        let key_hash = DirHash { major: hash.major.min(high).max(low) & !1, minor };
        if group_of(key_hash) < self.group {
            return;
        }
        let key = Key { hash: key_hash, name: entry.name.into(), place: (block, entry.offset) };
        if self.after.as_ref().is_some_and(|after| key <= *after) {
            return;
        }
        self.found.insert(key, Found { inode: entry.inode, kind: entry.kind, hash });
        if self.found.len() > LIMIT {
            self.found.pop_last();
            self.truncated = true;
        }
    }
}

/// Emits the entries of one hash range, which `gather` adds to the batch it is given, as often as it
/// is asked to.
pub(super) fn list(
    dir: &Directory<'_>,
    hasher: &Hasher,
    cursor: &mut Cursor,
    emit: &mut Emit<'_>,
    gather: &mut dyn FnMut(&mut Batch<'_>) -> Result<()>,
) -> Result<ControlFlow<()>> {
    loop {
        let (group, after) = (cursor.group, cursor.after.take());
        let found = BTreeMap::new();
        let mut batch = Batch { dir, hasher, group, after, found, truncated: false };
        gather(&mut batch)?;
        let Batch { found, truncated, .. } = batch;
        for (key, Found { inode, kind, hash }) in found {
            let cookie = cursor.pass(dir, &key)?;
            if let Some(cookie) = cookie
                && let Some(name) = shown(dir, &key.name, hash)
                && emit(DirEntry { inode, kind, name: &name, cookie }).is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
            cursor.after = Some(key);
        }
        if !truncated {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// Emits "." and ".." from a directory's first block of entries.
pub(super) fn list_dots(
    entries: &Entries<'_>,
    cookie: u64,
    emit: &mut Emit<'_>,
) -> ControlFlow<()> {
    for (before, name) in [(0, b".".as_slice()), (1, b"..")] {
        let named = |entry: &Entry<'_>| entry.name == name && entry.inode.get() != 0;
        let entry = entries.clone().map_while(Result::ok).find(named);
        if let Some(Entry { inode, kind, .. }) = entry.filter(|_| cookie <= before) {
            emit(DirEntry { inode, kind, name, cookie: before.saturating_add(1) })?;
        }
    }
    ControlFlow::Continue(())
}

/// Emits the entries of a directory of one block, which has no index yet. The order is that of an
/// index all the same (as in the kernel), so that cookies stay good when the directory grows one.
pub(super) fn iterate_block(
    dir: &Directory<'_>,
    hasher: &Hasher,
    cookie: u64,
    emit: &mut Emit<'_>,
) -> Result<()> {
    let block = dir.block_or_hole_error(LogicalBlock::new(0))?;
    dir.verify_entries(&block)?;
    let entries = Entries::new(dir.layout, block.bytes());
    if list_dots(&entries, cookie, emit).is_break() {
        return Ok(());
    }
    let mut cursor = Cursor::new(cookie);
    list(dir, hasher, &mut cursor, emit, &mut |batch| {
        batch.add(entries.clone(), 0, LAST, Some(block.nr()));
        Ok(())
    })
    .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inode::InodeFlags;
    use crate::testing::{Image, inode, kind};

    fn key(hash: DirHash) -> Key {
        Key { hash, name: Box::default(), place: (None, 0) }
    }

    #[test]
    fn cookies_count_the_names_of_one_hash_and_start_again_with_the_next() {
        let volume = Image::new(16).volume();
        let inode = inode(InodeFlags::INDEX);
        let dir = Directory::new(&volume, &inode);
        let one = key(DirHash { major: 2, minor: 0x1_0000 });
        let two = key(DirHash { major: 0xffff_fffc, minor: 0xffff_ffff });
        let mut cursor = Cursor::new(0);
        assert_eq!(cursor.pass(&dir, &one).unwrap(), Some(0x1_0001_0003));
        assert_eq!(cursor.pass(&dir, &one).unwrap(), Some(0x1_0001_0004));
        assert_eq!(cursor.pass(&dir, &two).unwrap(), Some(0x7fff_fffe_ffff_0003));
        let mut resumed = Cursor::new(0x1_0001_0003);
        assert_eq!(resumed.major(), 2);
        assert_eq!(resumed.pass(&dir, &one).unwrap(), None);
        assert_eq!(resumed.pass(&dir, &one).unwrap(), Some(0x1_0001_0004));
        assert_eq!(Cursor::new(i64::MAX.cast_unsigned()).major(), LAST);
    }

    #[test]
    fn more_names_of_one_hash_than_cookies_can_tell_are_an_error() {
        let volume = Image::new(16).volume();
        let inode = inode(InodeFlags::INDEX);
        let dir = Directory::new(&volume, &inode);
        let mut cursor = Cursor::new(0);
        let key = key(DirHash::default());
        for _ in FIRST_NUMBER..1 << NUMBER_BITS {
            cursor.pass(&dir, &key).unwrap();
        }
        let expected = CorruptKind::DirTooManyCollisions { hash: 0 };
        assert_eq!(kind(cursor.pass(&dir, &key)), expected);
    }
}
