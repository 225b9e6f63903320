//! Surgery on a stretch of entries: a block less its checksum's entry, or a part of an inline
//! directory. Every function leaves entries that fill the stretch.
//!
//! Kernel: fs/ext4/namei.c `ext4_find_dest_de`, `ext4_insert_dentry`, `ext4_generic_delete_entry`,
//! `dx_pack_dirents`, `ext4_init_dirblock`

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, IntoBytes};

use super::{DirLayout, Entries, Entry, HEADER, RawDirEntry, RawDirTail, TAIL, TAIL_FILE_TYPE};
use crate::disk::checksum::ChecksumSeed;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::ids::{InodeNr, in_memory};
use crate::kind::FileKind;

/// A name to put into a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewEntry<'a> {
    pub(crate) inode: InodeNr,
    pub(crate) kind: FileKind,
    /// 1..=255 bytes.
    pub(crate) name: &'a [u8],
}

impl NewEntry<'_> {
    /// Bytes of the least record that holds it.
    pub(crate) fn rec_len(&self) -> u32 {
        DirLayout::min_rec_len(u8::try_from(self.name.len()).unwrap_or(u8::MAX), false)
    }
}

/// Where a new entry can go: behind the used part of an entry, or in its place if that is unused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    /// The entry that gives the room.
    at: u32,
    /// Bytes of it that stay.
    used: u32,
    /// Its end.
    end: u32,
}

/// An entry that is kept when its stretch is packed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u32,
    /// Bytes in use.
    pub(crate) len: u32,
}

impl Piece {
    /// The used part of a live entry.
    pub(crate) fn of(entry: &Entry<'_>) -> Self {
        Self { offset: entry.offset, len: used(entry) }
    }
}

/// Bytes of an entry that hold something.
fn used(entry: &Entry<'_>) -> u32 {
    if entry.inode.get() == 0 {
        return 0;
    }
    let name_len = u8::try_from(entry.name.len()).unwrap_or(u8::MAX);
    DirLayout::min_rec_len(name_len, entry.hash.is_some())
}

/// The first room for `need` bytes.
///
/// # Errors
/// [`Refusal::Exists`] if `same` holds for a name on the way; corruption.
pub(crate) fn find_room(
    layout: DirLayout,
    stretch: &[u8],
    need: u32,
    same: impl Fn(&[u8]) -> bool,
) -> Result<Option<Room>> {
    for entry in Entries::new(layout, stretch) {
        let entry = entry?;
        if entry.inode.get() != 0 && same(entry.name) {
            return Err(Refusal::Exists.into());
        }
        let used = used(&entry);
        let room = Room { at: entry.offset, used, end: entry.next };
        if room.end.saturating_sub(room.at).saturating_sub(used) >= need {
            return Ok(Some(room));
        }
    }
    Ok(None)
}

impl Room {
    /// Puts `new` here. The room must be one that [`find_room`] found in this stretch.
    ///
    /// # Errors
    /// [`CorruptKind::Truncated`] if it is not.
    pub(crate) fn fill(
        self,
        layout: DirLayout,
        stretch: &mut [u8],
        new: &NewEntry<'_>,
    ) -> Result<()> {
        if self.used > 0 {
            header(stretch, self.at)?.rec_len = layout.stored_rec_len(self.used);
        }
        put(layout, stretch, self.at.saturating_add(self.used), self.end, new)
    }
}

/// Writes an entry over the bytes from `at` to `end`.
fn put(layout: DirLayout, stretch: &mut [u8], at: u32, end: u32, new: &NewEntry<'_>) -> Result<()> {
    let record = slice(stretch, at, at.saturating_add(new.rec_len()).min(end))?;
    record.fill(0);
    let body = record.get_mut(HEADER..).unwrap_or_default();
    body.iter_mut().zip(new.name).for_each(|(to, from)| *to = *from);
    *header(stretch, at)? = RawDirEntry {
        inode: U32::new(new.inode.get()),
        rec_len: layout.stored_rec_len(end.saturating_sub(at)),
        name_len: u8::try_from(new.name.len()).unwrap_or(u8::MAX),
        file_type: layout.file_type(new.kind),
    };
    Ok(())
}

/// Takes the entry at `offset` away; its name is wiped. What it named.
///
/// # Errors
/// Corruption; no live entry at `offset` counts as that.
pub(crate) fn remove(layout: DirLayout, stretch: &mut [u8], offset: u32) -> Result<InodeNr> {
    let (before, entry) = find(layout, stretch, offset)?;
    let (inode, next) = (entry.inode, entry.next);
    let kept = *header(stretch, offset)?;
    slice(stretch, offset, next)?.fill(0);
    match before {
        Some(before) => {
            let rec_len = layout.stored_rec_len(next.saturating_sub(before));
            header(stretch, before)?.rec_len = rec_len;
        }
        None => header(stretch, offset)?.rec_len = kept.rec_len,
    }
    Ok(inode)
}

/// Makes the entry at `offset` name another inode. What it named before.
///
/// # Errors
/// As [`remove`].
pub(crate) fn set_target(
    layout: DirLayout,
    stretch: &mut [u8],
    offset: u32,
    (inode, kind): (InodeNr, FileKind),
) -> Result<InodeNr> {
    let (_, entry) = find(layout, stretch, offset)?;
    let old = entry.inode;
    let header = header(stretch, offset)?;
    header.inode.set(inode.get());
    header.file_type = layout.file_type(kind);
    Ok(old)
}

/// The live entry at `offset`, and the place of the one before it.
fn find(layout: DirLayout, stretch: &[u8], offset: u32) -> Result<(Option<u32>, Entry<'_>)> {
    let mut before = None;
    for entry in Entries::new(layout, stretch) {
        let entry = entry?;
        if entry.offset == offset && entry.inode.get() != 0 {
            return Ok((before, entry));
        }
        before = Some(entry.offset);
    }
    let inode = 0;
    Err(Error::corrupt(Place::default(), CorruptKind::DirInodeRange { offset, inode }))
}

/// Fills `into` with the `pieces` of `from`, in their order; the last one gets the rest.
///
/// # Errors
/// [`CorruptKind::Truncated`] if they do not fit.
pub(crate) fn pack(
    layout: DirLayout,
    from: &[u8],
    pieces: &[Piece],
    into: &mut [u8],
) -> Result<()> {
    into.fill(0);
    let end = u32::try_from(into.len()).unwrap_or(u32::MAX);
    let mut at = 0_u32;
    let mut last = 0_u32;
    for piece in pieces {
        let next = at.saturating_add(piece.len);
        let source = in_memory(piece.offset.into())..;
        let source = from.get(source).unwrap_or_default();
        let target = slice(into, at, next)?;
        target.iter_mut().zip(source).for_each(|(to, from)| *to = *from);
        header(into, at)?.rec_len = layout.stored_rec_len(piece.len);
        (last, at) = (at, next);
    }
    header(into, last)?.rec_len = layout.stored_rec_len(end.saturating_sub(last));
    Ok(())
}

/// Makes the last entry of `stretch` end where the stretch does; the first `old` bytes of it are
/// entries, or there are none yet.
///
/// # Errors
/// Corruption of the entries.
pub(crate) fn stretch_last(layout: DirLayout, stretch: &mut [u8], old: usize) -> Result<()> {
    let mut last = 0;
    for entry in Entries::new(layout, stretch.get(..old).unwrap_or_default()) {
        last = entry?.offset;
    }
    let end = u32::try_from(stretch.len()).unwrap_or(u32::MAX);
    header(stretch, last)?.rec_len = layout.stored_rec_len(end.saturating_sub(last));
    Ok(())
}

/// Fills a stretch of zeros with "." and "..".
///
/// # Errors
/// [`CorruptKind::Truncated`] if it is too short.
pub(crate) fn put_dots(
    layout: DirLayout,
    stretch: &mut [u8],
    dir: InodeNr,
    parent: InodeNr,
) -> Result<()> {
    let end = u32::try_from(stretch.len()).unwrap_or(u32::MAX);
    let dot = NewEntry { inode: dir, kind: FileKind::Directory, name: b"." };
    put(layout, stretch, 0, dot.rec_len(), &dot)?;
    let dotdot = NewEntry { inode: parent, name: b"..", ..dot };
    put(layout, stretch, dot.rec_len(), end, &dotdot)
}

/// The part of a block that entries fill.
pub(crate) fn stretch_mut(layout: DirLayout, block: &mut [u8]) -> &mut [u8] {
    let len = layout.stretch_len().min(block.len());
    block.get_mut(..len).unwrap_or_default()
}

/// As [`stretch_mut`], to read.
pub(crate) fn stretch(layout: DirLayout, block: &[u8]) -> &[u8] {
    let len = layout.stretch_len().min(block.len());
    block.get(..len).unwrap_or_default()
}

/// Writes the checksum's entry, if there is one in this layout. The last step of every change.
pub(crate) fn seal(layout: DirLayout, seed: ChecksumSeed, block: &mut [u8]) {
    if !layout.metadata_csum {
        return;
    }
    let covered = layout.stretch_len();
    let Some((entries, tail)) = block.split_at_mut_checked(covered) else { return };
    let sealed = RawDirTail {
        reserved_zero1: U32::ZERO,
        rec_len: U16::new(u16::try_from(TAIL).unwrap_or(0)),
        reserved_zero2: 0,
        reserved_ft: TAIL_FILE_TYPE,
        checksum: U32::new(seed.of(entries)),
    };
    tail.iter_mut().zip(sealed.as_bytes()).for_each(|(to, from)| *to = *from);
}

fn slice(stretch: &mut [u8], from: u32, to: u32) -> Result<&mut [u8]> {
    let (have, needed) = (stretch.len(), in_memory(to.into()));
    let truncated = || Error::corrupt(Place::default(), CorruptKind::Truncated { needed, have });
    stretch.get_mut(in_memory(from.into())..needed).ok_or_else(truncated)
}

fn header(stretch: &mut [u8], at: u32) -> Result<&mut RawDirEntry> {
    let (have, needed) = (stretch.len(), in_memory(at.into()).saturating_add(HEADER));
    let truncated = || Error::corrupt(Place::default(), CorruptKind::Truncated { needed, have });
    let rest = stretch.get_mut(in_memory(at.into())..).unwrap_or_default();
    RawDirEntry::mut_from_prefix(rest).map(|(header, _)| header).map_err(|_| truncated())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LAYOUT: DirLayout = DirLayout {
        block_size: 1024,
        inodes_count: 1024,
        metadata_csum: true,
        filetype: true,
        hash_in_dirent: false,
    };

    fn new(inode: u32, name: &[u8]) -> NewEntry<'_> {
        NewEntry { inode: InodeNr::new(inode), kind: FileKind::Regular, name }
    }

    fn insert(stretch: &mut [u8], entry: &NewEntry<'_>) -> Option<Room> {
        let same = |name: &[u8]| name == entry.name;
        let room = find_room(LAYOUT, stretch, entry.rec_len(), same).unwrap();
        if let Some(room) = room {
            room.fill(LAYOUT, stretch, entry).unwrap();
        }
        room
    }

    fn names(stretch: &[u8]) -> Vec<(u32, Vec<u8>)> {
        Entries::new(LAYOUT, stretch)
            .map(Result::unwrap)
            .filter(|entry| entry.inode.get() != 0)
            .map(|entry| (entry.inode.get(), entry.name.to_vec()))
            .collect()
    }

    #[test]
    fn a_name_goes_into_the_first_room_and_its_removal_makes_room_again() {
        let mut block = [0; 1024];
        let stretch = stretch_mut(LAYOUT, &mut block);
        put_dots(LAYOUT, stretch, InodeNr::new(12), InodeNr::new(2)).unwrap();
        assert!(insert(stretch, &new(20, b"one")).is_some());
        assert!(insert(stretch, &new(21, &[b'x'; 255])).is_some());
        assert!(insert(stretch, &new(22, b"two")).is_some());
        assert_eq!(remove(LAYOUT, stretch, 36).unwrap(), InodeNr::new(21));
        let room = insert(stretch, &new(23, b"three")).unwrap();
        assert_eq!((room.at, room.used), (24, 12));
        let expected: [(u32, &[u8]); 5] =
            [(12, b"."), (2, b".."), (20, b"one"), (23, b"three"), (22, b"two")];
        assert_eq!(names(stretch), expected.map(|(nr, name)| (nr, name.to_vec())));
        let again = new(24, b"two");
        let refused = find_room(LAYOUT, stretch, 900, |name| name == again.name);
        assert!(matches!(refused, Err(Error::Refused(Refusal::Exists))));
        assert!(!block.windows(9).any(|bytes| bytes == [b'x'; 9]), "removed names are wiped");
    }

    #[test]
    fn the_first_entry_of_a_block_stays_as_unused_space() {
        let mut stretch = [0; 1012];
        stretch_last(LAYOUT, &mut stretch, 0).unwrap();
        insert(&mut stretch, &new(20, b"first")).unwrap();
        insert(&mut stretch, &new(21, b"second")).unwrap();
        remove(LAYOUT, &mut stretch, 0).unwrap();
        assert_eq!(names(&stretch), [(21, b"second".to_vec())]);
        assert_eq!(insert(&mut stretch, &new(22, b"third")).unwrap().at, 0);
        assert!(remove(LAYOUT, &mut stretch, 4).is_err(), "there is no entry");
    }

    #[test]
    fn packing_drops_the_gaps_and_gives_the_rest_to_the_last() {
        let mut from = [0; 1012];
        stretch_last(LAYOUT, &mut from, 0).unwrap();
        for number in 0..50 {
            insert(&mut from, &new(20 + number, format!("name{number:02}").as_bytes())).unwrap();
        }
        let pieces: Vec<_> = Entries::new(LAYOUT, &from)
            .map(Result::unwrap)
            .filter(|entry| entry.inode.get() % 2 == 1)
            .map(|entry| Piece::of(&entry))
            .collect();
        let mut into = [0xff; 1012];
        pack(LAYOUT, &from, &pieces, &mut into).unwrap();
        assert_eq!(names(&into).len(), 25);
        pack(LAYOUT, &from, &[], &mut into).unwrap();
        assert_eq!(names(&into).len(), 0);
        let mut short = [0; 100];
        assert!(pack(LAYOUT, &from, &pieces, &mut short).is_err());
    }

    #[test]
    fn blocks_of_64_kib_can_be_filled_and_emptied() {
        let layout = DirLayout { block_size: 65536, metadata_csum: false, ..LAYOUT };
        let mut block = vec![0; 65536];
        stretch_last(layout, &mut block, 0).unwrap();
        assert_eq!(block[4..6], [0xff, 0xff]);
        let entry = new(20, b"only");
        let room = find_room(layout, &block, 12, |_| false).unwrap().unwrap();
        room.fill(layout, &mut block, &entry).unwrap();
        remove(layout, &mut block, 0).unwrap();
        let entries: Vec<_> = Entries::new(layout, &block).map(Result::unwrap).collect();
        assert_eq!((entries.len(), entries[0].next), (1, 65536));
    }

    proptest! {
        #[test]
        fn any_inserts_and_removals_leave_the_names_that_were_not_removed(
            steps in prop::collection::vec((any::<bool>(), 1_u8..=60), 0..300),
        ) {
            let mut block = [0; 1024];
            let stretch = stretch_mut(LAYOUT, &mut block);
            stretch_last(LAYOUT, stretch, 0).unwrap();
            let mut model: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
            for (index, (inserts, len)) in steps.into_iter().enumerate() {
                let name = vec![b'a' + len % 26; len.into()];
                let nr = 20 + index as u32;
                if !inserts {
                    let mut entries = Entries::new(LAYOUT, stretch).map(Result::unwrap);
                    let found = entries.find(|entry| entry.inode.get() != 0 && entry.name == name);
                    prop_assert_eq!(found.is_some(), model.contains_key(&name));
                    if let Some(offset) = found.map(|entry| entry.offset) {
                        let removed = remove(LAYOUT, stretch, offset).unwrap();
                        prop_assert_eq!(Some(removed.get()), model.remove(&name));
                    }
                } else if !model.contains_key(&name) && insert(stretch, &new(nr, &name)).is_some() {
                    model.insert(name, nr);
                }
                let mut listed = names(stretch);
                listed.sort_by(|(_, a), (_, b)| a.cmp(b));
                let expected: Vec<_> = model.iter().map(|(name, nr)| (*nr, name.clone())).collect();
                prop_assert_eq!(listed, expected);
            }
        }
    }
}
