//! Which images mount and which are refused, with the reason.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Error, Filesystem, MountOptions, Unmountable, Unobserved};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::tree::expect_equal;
use fuse4fs_tests::{engine_walk, trial};
use libtest_mimic::Trial;

/// Byte offsets of the primary superblock and of fields in it (super.rst).
const SUPERBLOCK: u64 = 1024;
const MAGIC: u64 = SUPERBLOCK + 0x38;
const REVISION: u64 = SUPERBLOCK + 0x4c;
const INODE_SIZE: u64 = SUPERBLOCK + 0x58;
const FEATURE_INCOMPAT: u64 = SUPERBLOCK + 0x60;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("a backup superblock stands in for a lost primary one", a_backup_stands_in),
        trial::test("noload shows a dirty image without its log", noload_shows_it_unreplayed),
        trial::test("an image without the magic nor backups is not ext4", || {
            let blank = |image: &Path| Ok(std::fs::write(image, vec![0; 16 << 20])?);
            refused(blank, |why| *why == Unmountable::NotExt4)
        }),
        trial::test("an image without the magic is told where its backup is", || {
            refused(
                |image| write(image, MAGIC, &[0; 2]),
                |why| {
                    let found = Unmountable::SuperblockDamaged {
                        damage: None,
                        backup: 8193,
                        block_size: 1024,
                    };
                    *why == found && why.to_string().contains("-o ro,noload,sb=8193")
                },
            )
        }),
        trial::test("a damaged field is named, and where the backup is", || {
            refused(
                |image| write(image, INODE_SIZE, &[129, 0]),
                |why| why.to_string().contains("s_inode_size is 129, which cannot be [sb-field]"),
            )
        }),
        trial::test("an unknown incompatible feature is named", || {
            refused(
                |image| write(image, FEATURE_INCOMPAT + 3, &[0x80]),
                |why| why.to_string().contains("0x80"),
            )
        }),
        trial::test("a newer revision is refused", || {
            refused(
                |image| write(image, REVISION, &[2]),
                |why| matches!(why, Unmountable::UnknownRevision { revision: 2 }),
            )
        }),
        trial::test("an image that was cut short is refused", || {
            refused(
                |image| Ok(OpenOptions::new().write(true).open(image)?.set_len(6 << 20)?),
                |why| matches!(why, Unmountable::Truncated { device: 0x60_0000, .. }),
            )
        }),
        trial::test("an image that ends inside the superblock is refused", || {
            refused(
                |image| Ok(OpenOptions::new().write(true).open(image)?.set_len(1500)?),
                |why| *why == Unmountable::DeviceTooSmall { device: 1500 },
            )
        }),
    ]
}

fn write(image: &Path, offset: u64, bytes: &[u8]) -> Result<()> {
    Ok(OpenOptions::new().write(true).open(image)?.write_all_at(bytes, offset)?)
}

/// An image without metadata checksums, so that one changed field is all that is wrong.
fn refused(edit: fn(&Path) -> Result<()>, expected: fn(&Unmountable) -> bool) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = Golden::named("ext2-1k")?.unpack(directory.path())?;
    edit(&image)?;
    let device = Arc::new(FileDevice::new(std::fs::File::open(&image)?)?);
    match Filesystem::mount(device, &engine_walk::options(), &Unobserved) {
        Ok(_) => bail!("mounted"),
        Err(Error::Unmountable(why)) if expected(&why) => Ok(()),
        Err(error) => bail!("refused for another reason: {error}"),
    }
}

fn mount_with(image: &Path, options: &MountOptions) -> Result<Filesystem> {
    let device = Arc::new(FileDevice::new(std::fs::File::open(image)?)?);
    Ok(Filesystem::mount(device, options, &Unobserved)?)
}

fn a_backup_stands_in() -> Result<()> {
    for (name, place) in [("ext4-1k", 8193), ("ext2-1k", 8193), ("ext4-metabg", 257)] {
        let directory = tempfile::tempdir()?;
        let golden = Golden::named(name)?;
        let image = golden.unpack(directory.path())?;
        write(&image, SUPERBLOCK, &[0; 1024])?;
        ensure!(engine_walk::mount(&image).is_err(), "{name} mounts without its superblock");
        let options = MountOptions { superblock: Some(place), ..engine_walk::options() };
        let found = engine_walk::walk(&mount_with(&image, &options)?)?;
        expect_equal(&golden.truth()?.tree.differences(&found))?;
    }
    Ok(())
}

fn noload_shows_it_unreplayed() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let golden = Golden::named("dj-db-none-64")?;
    let image = golden.unpack(directory.path())?;
    let options = MountOptions { noload: true, ..engine_walk::options() };
    let found = engine_walk::walk(&mount_with(&image, &options)?)?;
    let differences = golden.truth()?.tree.differences(&found);
    ensure!(!differences.is_empty(), "the tree is as after a replay");
    Ok(())
}
