//! Targets of symbolic links.

use crate::crypt;
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::file;
use crate::filesystem::Filesystem;
use crate::ids::{LogicalBlock, in_memory, on_disk};
use crate::inode::{FileKind, Inode, InodeFlags};
use crate::map::{self, Mapping};

impl Filesystem {
    /// The target of a symbolic link, without a NUL. An encrypted one is shown as the kernel shows
    /// it without its key; its length is then not the inode's size, and is what stat(2) should tell.
    ///
    /// # Errors
    /// [`crate::Refusal::Invalid`] if `inode` is no symbolic link; corruption and I/O errors.
    pub fn readlink(&self, inode: &Inode) -> Result<Vec<u8>> {
        if inode.kind != FileKind::Symlink {
            return Err(Refusal::Invalid.into());
        }
        if inode.flags.has(InodeFlags::ENCRYPT) {
            return self.encrypted_target(inode);
        }
        if inode.has_fast_target(&self.volume.geometry) {
            return fast_target(inode);
        }
        // The kernel keeps the target in one block, with a NUL.
        if inode.size == 0 || inode.size >= self.volume.block_size().into() {
            return Err(bad_size(inode));
        }
        let mut target = self.stored_target(inode, inode.size)?;
        // Past a NUL the kernel sees nothing; a hole in place of the block shows as one, too.
        let end = target.iter().position(|byte| *byte == 0).unwrap_or(target.len());
        target.truncate(end);
        if target.is_empty() {
            return Err(corrupt(inode, CorruptKind::SymlinkEmpty {}));
        }
        Ok(target)
    }

    /// What stat(2) tells as the size: i_size, but of an encrypted symlink the length of the target
    /// that it shows.
    ///
    /// # Errors
    /// As [`Filesystem::readlink`].
    pub fn stat_size(&self, inode: &Inode) -> Result<u64> {
        if inode.kind == FileKind::Symlink && inode.flags.has(InodeFlags::ENCRYPT) {
            return Ok(on_disk(self.encrypted_target(inode)?.len()));
        }
        Ok(inode.size)
    }

    /// The first `size` bytes of a target that is not in i_block. Its block is metadata, and may not
    /// have reached the device yet.
    fn stored_target(&self, inode: &Inode, size: u64) -> Result<Vec<u8>> {
        let mut target = vec![0; in_memory(size)];
        if inode.flags.has(InodeFlags::INLINE_DATA) {
            file::read(&self.volume, inode, 0, &mut target)?;
        } else if let Mapping::Written { first, .. } =
            map::lookup(&self.volume, inode, LogicalBlock::new(0))?
        {
            let block = self.volume.metadata(first).map_err(|error| error.at_inode(inode.nr))?;
            target.iter_mut().zip(block.bytes()).for_each(|(to, from)| *to = *from);
        }
        Ok(target)
    }

    fn encrypted_target(&self, inode: &Inode) -> Result<Vec<u8>> {
        let stored = if inode.has_fast_target(&self.volume.geometry) {
            inode.block.to_vec()
        } else {
            let whole = inode.size.min(self.volume.block_size().into());
            self.stored_target(inode, whole)?
        };
        crypt::no_key_target(&stored)
            .ok_or_else(|| corrupt(inode, CorruptKind::SymlinkEncrypted { size: inode.size }))
    }
}

fn fast_target(inode: &Inode) -> Result<Vec<u8>> {
    let size = in_memory(inode.size);
    // A NUL must follow, and none come before.
    match inode.block.get(..size) {
        Some(target) if !target.is_empty() && size < inode.block.len() && !target.contains(&0) => {
            Ok(target.to_vec())
        }
        _ => Err(bad_size(inode)),
    }
}

fn bad_size(inode: &Inode) -> Error {
    corrupt(inode, CorruptKind::SymlinkSize { size: inode.size })
}

fn corrupt(inode: &Inode, kind: CorruptKind) -> Error {
    Error::corrupt(Place::inode(inode.nr), kind)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]
    use super::*;
    use crate::features::Incompat;
    use crate::testing::{self, Image, inode_with, kind, words};

    /// A file system whose block 40 starts with `bytes`.
    fn filesystem(bytes: &[u8]) -> Filesystem {
        let volume = Image::new(64)
            .with(|geometry| geometry.features.incompat = Incompat::default())
            .put(40, bytes)
            .volume();
        testing::filesystem(volume)
    }

    fn symlink(flags: u32, size: u64, block: &[u8], blocks512: u64) -> Inode {
        let mut inode = inode_with(flags, block);
        inode.kind = FileKind::Symlink;
        inode.size = size;
        inode.blocks512 = blocks512;
        inode
    }

    #[test]
    fn a_short_target_is_read_from_the_inode() {
        let fs = filesystem(b"");
        assert_eq!(fs.readlink(&symlink(0, 6, b"target", 0)).unwrap(), b"target");
        let mut with_xattrs = symlink(0, 6, b"target", 2);
        with_xattrs.xattr_block = Some(testing::block(50));
        assert_eq!(fs.readlink(&with_xattrs).unwrap(), b"target");
    }

    #[test]
    fn a_short_target_of_another_length_is_corrupt() {
        let fs = filesystem(b"");
        for size in [0, 5, 7, 60, u64::MAX] {
            let mut inode = symlink(0, size, b"target", 0);
            inode.block[5] = if size == 5 { b't' } else { 0 };
            inode.block[3] = if size == 5 { 0 } else { b'g' };
            assert_eq!(kind(fs.readlink(&inode)), CorruptKind::SymlinkSize { size });
        }
    }

    #[test]
    fn a_long_target_is_read_from_its_block_up_to_a_nul() {
        let fs = filesystem(&[b't'; 300]);
        assert_eq!(fs.readlink(&symlink(0, 200, &words([40]), 2)).unwrap(), [b't'; 200]);
        assert_eq!(fs.readlink(&symlink(0, 400, &words([40]), 2)).unwrap(), [b't'; 300]);
    }

    #[test]
    fn a_target_of_a_block_or_more_or_of_nothing_is_corrupt() {
        let fs = filesystem(&[b't'; 1024]);
        for size in [0, 1024, 1 << 40] {
            let found = kind(fs.readlink(&symlink(0, size, &words([40]), 2)));
            assert_eq!(found, CorruptKind::SymlinkSize { size });
        }
    }

    #[test]
    fn a_hole_in_place_of_the_target_is_corrupt() {
        let found = kind(filesystem(b"").readlink(&symlink(0, 100, &words([0]), 2)));
        assert_eq!(found, CorruptKind::SymlinkEmpty {});
    }

    #[test]
    fn an_encrypted_target_shows_with_a_size_of_its_own() {
        let fs = filesystem(&[&[32, 0][..], &[7; 32]].concat());
        let inode = symlink(InodeFlags::ENCRYPT, 34, &words([40]), 2);
        let shown = fs.readlink(&inode).unwrap();
        assert_eq!(shown.len(), 54);
        assert_eq!(fs.stat_size(&inode).unwrap(), 54);
        let short = symlink(InodeFlags::ENCRYPT, 34, &[8, 0, 1, 1], 0);
        assert_eq!(kind(fs.readlink(&short)), CorruptKind::SymlinkEncrypted { size: 34 });
    }

    #[test]
    fn only_symlinks_have_targets() {
        let mut inode = symlink(0, 6, b"target", 0);
        inode.kind = FileKind::Regular;
        let answer = filesystem(b"").readlink(&inode);
        assert!(matches!(answer, Err(Error::Refused(Refusal::Invalid))));
    }
}
