//! A name in a directory.

use std::sync::Arc;

use crate::dir;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::ids::InodeNr;
use crate::inode::Inode;

/// EXT4_NAME_LEN.
const NAME_MAX: usize = 255;

impl Filesystem {
    /// The inode that `name` (1..=255 bytes; "." and ".." included) names in `dir`.
    ///
    /// # Errors
    /// [`crate::Refusal::NotFound`], `NotDirectory`, `NameTooLong`; `Invalid` for a name that is not
    /// UTF-8 in a strictly encoded casefolded directory; corruption and I/O errors.
    pub fn lookup(&self, dir: &Inode, name: &[u8]) -> Result<Arc<Inode>> {
        if !dir.is_directory() {
            return Err(Refusal::NotDirectory.into());
        }
        if name.len() > NAME_MAX {
            return Err(Refusal::NameTooLong.into());
        }
        if name == b"." {
            return self.inode(dir.nr);
        }
        let found = dir::find(&self.volume, dir, name)?.ok_or(Refusal::NotFound)?;
        self.target(dir, name, found)
    }

    /// The inode `found`, which the entry `name` of `dir` names.
    ///
    /// # Errors
    /// Corruption, where it is none that a directory may name; I/O errors.
    pub(super) fn target(&self, dir: &Inode, name: &[u8], found: InodeNr) -> Result<Arc<Inode>> {
        self.check_target(dir, name, found)?;
        match self.inode(found) {
            // The name exists, so its inode has no right to be free.
            Err(Error::Refused(Refusal::Stale)) => {
                Err(corrupt(dir, CorruptKind::DirInodeDeleted { inode: found.get() }))
            }
            result => result,
        }
    }

    fn check_target(&self, dir: &Inode, name: &[u8], found: InodeNr) -> Result<()> {
        let geometry = &self.volume.geometry;
        let usable = found == InodeNr::ROOT || found.get() >= geometry.first_inode;
        if !usable || found.get() > geometry.inodes_count {
            return Err(corrupt(dir, CorruptKind::DirInodeBad { inode: found.get() }));
        }
        if found == dir.nr && name != b".." {
            return Err(corrupt(dir, CorruptKind::DirLinkedToItself { inode: found.get() }));
        }
        Ok(())
    }
}

fn corrupt(dir: &Inode, kind: CorruptKind) -> Error {
    Error::corrupt(Place::inode(dir.nr), kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Image, filesystem, inode, kind};

    #[test]
    fn entries_that_name_what_no_directory_may_are_corrupt() {
        let fs = filesystem(Image::new(64).volume());
        let dir = inode(0);
        let check = |nr| fs.check_target(&dir, b"name", InodeNr::new(nr));
        assert_eq!(kind(check(1)), CorruptKind::DirInodeBad { inode: 1 });
        assert_eq!(kind(check(8)), CorruptKind::DirInodeBad { inode: 8 });
        assert_eq!(kind(check(2000)), CorruptKind::DirInodeBad { inode: 2000 });
        let itself = dir.nr.get();
        assert_eq!(kind(check(itself)), CorruptKind::DirLinkedToItself { inode: itself });
        check(2).unwrap();
        fs.check_target(&dir, b"..", dir.nr).unwrap();
    }

    #[test]
    fn a_file_is_no_directory_and_256_bytes_are_no_name() {
        let fs = filesystem(Image::new(64).volume());
        let mut dir = inode(0);
        let answer = fs.lookup(&dir, b"name");
        assert!(matches!(answer, Err(Error::Refused(Refusal::NotDirectory))));
        dir.kind = crate::inode::FileKind::Directory;
        let answer = fs.lookup(&dir, &[b'n'; 256]);
        assert!(matches!(answer, Err(Error::Refused(Refusal::NameTooLong))));
        let answer = fs.lookup(&dir, b"absent");
        assert!(matches!(answer, Err(Error::Refused(Refusal::NotFound))));
    }
}
