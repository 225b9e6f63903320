//! Directories that begin, and those that may end; how many links one can have.
//!
//! Kernel: fs/ext4/namei.c `ext4_init_new_dir`, `ext4_empty_dir`, `ext4_inc_count`

use super::block::Directory;
use super::grow::append;
use super::index::check_dots;
use super::inline::InlineDir;
use super::inline_edit;
use super::insert::Needs;
use super::linear::Walk;
use crate::alloc::{self, Reservation};
use crate::disk::dirent::edit;
use crate::disk::dirent::{DirLayout, Entries};
use crate::error::{Refusal, Result};
use crate::features::RoCompat;
use crate::handle::{Credits, Handle};
use crate::ids::{InodeNr, LogicalBlock};
use crate::inode::Inode;
use crate::map;
use crate::volume::Volume;

/// EXT4_LINK_MAX.
const LINK_MAX: u16 = 65000;

/// What [`init`] takes at most: one block, if the directory does not begin in its inode.
pub(crate) fn init_needs(volume: &Volume) -> Needs {
    let clusters = alloc::clusters_spanned(&volume.geometry, LogicalBlock::new(0), 1);
    Needs { clusters, credits: Credits(map::CHANGE.saturating_add(1)) }
}

/// Makes `new`, which has no map yet, an empty directory with 2 links: inline if the file system keeps such and the inode
/// has room, else with one block.
///
/// # Errors
/// I/O errors; what the map may fail with.
pub(crate) fn init(
    handle: &mut Handle<'_>,
    new: &mut Inode,
    parent: InodeNr,
    reservation: &mut Reservation<'_>,
) -> Result<()> {
    new.links = 2;
    if inline_edit::can_begin(handle.volume(), new) {
        return inline_edit::begin(handle.volume(), new, parent);
    }
    new.size = 0;
    map::init(new, &handle.volume().geometry);
    let layout = DirLayout::of(&handle.volume().geometry, new.flags);
    let (nr, seed) = (new.nr, new.checksum_seed);
    append(handle, new, reservation, |bytes| {
        edit::put_dots(layout, edit::stretch_mut(layout, bytes), nr, parent)?;
        edit::seal(layout, seed, bytes);
        Ok(())
    })
    .map(drop)
}

/// Whether `dir` holds nothing but "." and "..".
///
/// # Errors
/// Corruption, of which "." and ".." that are not there is a case; I/O errors.
pub(crate) fn is_empty(volume: &Volume, dir: &Inode) -> Result<bool> {
    let dir = Directory::new(volume, dir);
    if let Some(inline) = InlineDir::of(&dir)? {
        return inline.is_empty();
    }
    check_dots(&dir, &*dir.block_or_hole_error(LogicalBlock::new(0))?)?;
    let mut walk = Walk::new(&dir, 0);
    while let Some((at, block)) = walk.next_block()? {
        dir.verify_entries_or_index(at, &block)?;
        let skipped = if at.get() == 0 { 2 } else { 0 };
        for entry in Entries::new(dir.layout, block.bytes()).skip(skipped) {
            if entry.map_err(|error| dir.located(error, &block))?.inode.get() != 0 {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Whether `dir` may get another subdirectory.
///
/// # Errors
/// [`Refusal::TooManyLinks`].
pub(crate) fn check_links(volume: &Volume, dir: &Inode) -> Result<()> {
    let uncounted = volume.geometry.features.ro_compat.contains(RoCompat::DIR_NLINK)
        && Directory::new(volume, dir).is_indexed();
    if dir.links >= LINK_MAX && !uncounted { Err(Refusal::TooManyLinks.into()) } else { Ok(()) }
}

/// Counts another subdirectory of `dir`: past [`LINK_MAX`] an indexed directory has 1 link for good,
/// which stands for "not counted".
pub(crate) fn add_link(volume: &Volume, dir: &mut Inode) {
    let indexed = Directory::new(volume, dir).is_indexed();
    dir.links = dir.links.saturating_add(1);
    if indexed && (dir.links > LINK_MAX || dir.links == 2) {
        dir.links = 1;
    }
}

/// Counts a subdirectory less. A directory keeps its own two links, or the one of [`add_link`].
pub(crate) fn drop_link(dir: &mut Inode) {
    if dir.links > 2 {
        dir.links = dir.links.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{find, insert, needs, remove, set_parent};
    use super::*;
    use crate::caller::Caller;
    use crate::handle::Credits;
    use crate::inode::{self, Birth, FileKind, Timestamp};
    use crate::testing::{fsck, mkfs, volume_on};

    fn make(handle: &mut Handle<'_>, parent: &Inode, kind: FileKind) -> Inode {
        let new = alloc::allocate_inode(handle, parent, kind, b"new").unwrap();
        let (nr, generation) = (new.nr, new.generation);
        let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
        let caller = &Caller { uid: 0, gid: 0, group: None, umask: 0, now };
        let (permissions, rdev) = (0o755, (0, 0));
        let birth = Birth { nr, generation, parent, kind, permissions, rdev, caller };
        inode::init(handle, &birth).unwrap()
    }

    fn put(handle: &mut Handle<'_>, dir: &mut Inode, name: &[u8], what: &Inode) {
        let volume = handle.volume();
        let clusters = needs(volume, dir, name).unwrap().clusters;
        let mut space = alloc::reserve(volume, clusters, alloc::Privilege::Reserve).unwrap();
        insert(handle, dir, name, (what.nr, what.kind), &mut space).unwrap();
        if what.is_directory() {
            add_link(volume, dir);
        }
    }

    fn make_directory(handle: &mut Handle<'_>, parent: &mut Inode, name: &[u8]) -> Inode {
        let mut new = make(handle, parent, FileKind::Directory);
        let clusters = init_needs(handle.volume()).clusters;
        let who = alloc::Privilege::Reserve;
        let mut space = alloc::reserve(handle.volume(), clusters, who).unwrap();
        init(handle, &mut new, parent.nr, &mut space).unwrap();
        put(handle, parent, name, &new);
        new
    }

    #[test]
    fn a_directory_begins_empty_and_can_be_moved_with_or_without_an_index() {
        let cases: [&[&str]; 4] = [
            &["-t", "ext4", "-b", "1024"],
            &["-t", "ext2", "-b", "1024", "-I", "128"],
            &["-t", "ext4", "-b", "4096", "-O", "inline_data"],
            &["-t", "ext4", "-b", "4096", "-O", "bigalloc,^metadata_csum"],
        ];
        for (case, names) in cases.into_iter().flat_map(|case| [(case, 0_u16), (case, 300)]) {
            let device = mkfs(32768, case);
            let volume = volume_on(&device);
            let mut root = (*inode::get(&volume, InodeNr::ROOT).unwrap()).clone();
            let mut handle = volume.begin(Credits(2000)).unwrap();
            let mut moved = make_directory(&mut handle, &mut root, b"moved");
            let mut other = make_directory(&mut handle, &mut root, b"other");
            assert!(is_empty(&volume, &moved).unwrap() && is_empty(&volume, &other).unwrap());
            if names > 0 {
                let mut file = make(&mut handle, &root, FileKind::Regular);
                map::init(&mut file, &volume.geometry);
                for number in 0..names {
                    put(&mut handle, &mut moved, format!("name {number}").as_bytes(), &file);
                }
                file.links = names;
                inode::store(&mut handle, &file).unwrap();
                assert!(!is_empty(&volume, &moved).unwrap());
            }
            assert_eq!(remove(&mut handle, &mut root, b"moved").unwrap(), moved.nr);
            drop_link(&mut root);
            put(&mut handle, &mut other, b"moved", &moved);
            set_parent(&mut handle, &mut moved, other.nr).unwrap();
            assert_eq!(find(&volume, &moved, b"..").unwrap(), Some(other.nr));
            assert!(!is_empty(&volume, &other).unwrap());
            for inode in [&root, &moved, &other] {
                inode::store(&mut handle, inode).unwrap();
            }
            handle.stop().unwrap();
            fsck(&volume, &device);
        }
    }
}
