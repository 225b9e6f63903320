//! Which images the targets stand on and where inputs go.
//!
//! Places are found by watching what the engine reads of the untouched image while it does what the
//! target is about, less what it reads anyway.

use std::ops::Range;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, MountOptions, Seek, Unobserved};

use super::stage::{Stage, Use, places_read};
use crate::command;
use crate::engine_walk::{self, names, options};
use crate::shared::Golden;

type Bytes = Arc<[u8]>;

/// A golden image as it is.
fn golden(name: &str) -> Result<Bytes> {
    let directory = tempfile::tempdir()?;
    Ok(std::fs::read(Golden::named(name)?.unpack(directory.path())?)?.into())
}

/// A golden image without metadata checksums, so that an input gets past them.
fn without_checksums(name: &str) -> Result<Bytes> {
    let directory = tempfile::tempdir()?;
    let image = Golden::named(name)?.unpack(directory.path())?;
    let mut tune2fs = std::process::Command::new("tune2fs");
    command::succeed(tune2fs.args(["-f", "-O", "^metadata_csum"]).arg(&image))?;
    Ok(std::fs::read(&image)?.into())
}

fn mount(device: Arc<dyn BlockDevice>, options: &MountOptions) -> Result<Filesystem> {
    Ok(Filesystem::mount(device, options, &Unobserved)?)
}

/// The inode at `path` in the untouched image.
fn find(fs: &Filesystem, path: &str) -> Result<InodeNr> {
    let mut inode = fs.inode(InodeNr::ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        inode = fs.lookup(&inode, name.as_bytes()).with_context(|| path.to_owned())?;
    }
    Ok(inode.nr)
}

/// What `act` reads of `image` besides what mounting and finding the inode read.
fn read_by(
    image: &Bytes,
    path: &str,
    act: impl FnOnce(&Filesystem, InodeNr) -> Result<()>,
) -> Result<(InodeNr, Vec<Range<usize>>)> {
    let mut outcome = Ok(InodeNr::ROOT);
    let before = places_read(image, |device| {
        outcome = mount(device, &options()).and_then(|fs| {
            let nr = find(&fs, path)?;
            fs.inode(nr)?;
            Ok(nr)
        });
    });
    let nr = outcome?;
    let mut done = Ok(());
    let mut all = places_read(image, |device| {
        done = mount(device, &options()).and_then(|fs| {
            find(&fs, path)?;
            act(&fs, nr)
        });
    });
    done?;
    all.retain(|place| !before.contains(place));
    ensure!(!all.is_empty(), "nothing is read for {path}");
    Ok((nr, all))
}

fn list_all(fs: &Filesystem, nr: InodeNr) -> Result<()> {
    let dir = fs.inode(nr)?;
    for name in names(fs, &dir, 0, usize::MAX)? {
        fs.lookup(&dir, &name.name)?;
    }
    Ok(())
}

fn seek_all(fs: &Filesystem, nr: InodeNr) -> Result<()> {
    let inode = fs.inode(nr)?;
    let mut offset = 0;
    while let Ok(data) = fs.seek(&inode, offset, Seek::Data) {
        offset = fs.seek(&inode, data, Seek::Hole)?;
    }
    Ok(())
}

fn attributes_all(fs: &Filesystem, nr: InodeNr) -> Result<()> {
    let inode = fs.inode(nr)?;
    let names = fs.xattr_names(&inode)?;
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        fs.xattr(&inode, name)?;
    }
    Ok(())
}

pub(super) fn superblock() -> Result<Stage> {
    let image = without_checksums("ext4-1k")?;
    let place = Range { start: 1024, end: 2048 };
    Ok(Stage::new(image, Vec::from([place]), Use::Inodes(vec![InodeNr::ROOT])))
}

pub(super) fn group_desc() -> Result<Stage> {
    let image = without_checksums("ext4-metabg")?;
    let mut places = places_read(&image, |device| {
        let _ = mount(device, &options()).map(|fs| engine_walk::walk(&fs));
    });
    // Of all that is read, descriptors are what mounting alone already reads.
    let by_mounting = places_read(&image, |device| {
        let _ = mount(device, &options());
    });
    places.retain(|place| by_mounting.contains(place) && place.start != 1024);
    ensure!(!places.is_empty(), "mounting reads no descriptors");
    let nr = find(&mount(device_of(&image), &options())?, "links/target")?;
    Ok(Stage::new(image, places, Use::Inodes(vec![InodeNr::ROOT, nr])))
}

fn device_of(image: &Bytes) -> Arc<dyn BlockDevice> {
    Arc::new(fuse4fs_ext4::device::MemDevice::new(image.to_vec()))
}

pub(super) fn inode() -> Result<Stage> {
    let image = without_checksums("ext4-eainode-inline")?;
    let fs = mount(device_of(&image), &options())?;
    let mut used = vec![InodeNr::ROOT];
    for path in [
        "edges/s59",
        "edges/s1",
        "empty",
        "links/good",
        "special/chr",
        "xattr/inline_full",
        "xattr/huge",
        "data/frag",
        "dir_types",
    ] {
        used.push(find(&fs, path)?);
    }
    let find_only = |fs: &Filesystem, used: &[InodeNr]| {
        for nr in used {
            let _ = fs.inode(*nr);
        }
    };
    let mounting = places_read(&image, |device| {
        let _ = mount(device, &options());
    });
    let mut places = places_read(&image, |device| {
        let _ = mount(device, &options()).map(|fs| find_only(&fs, &used));
    });
    places.retain(|place| !mounting.contains(place));
    ensure!(!places.is_empty(), "no inode table blocks are read");
    Ok(Stage::new(image, places, Use::Inodes(used)))
}

fn one_file(
    image: Bytes,
    path: &str,
    act: fn(&Filesystem, InodeNr) -> Result<()>,
) -> Result<Stage> {
    let (nr, places) = read_by(&image, path, act)?;
    Ok(Stage::new(image, places, Use::Inodes(vec![nr])))
}

pub(super) fn extent_node() -> Result<Stage> {
    one_file(without_checksums("ext4-1k")?, "data/frag", seek_all)
}

pub(super) fn indirect_block() -> Result<Stage> {
    one_file(golden("ext2-1k")?, "data/sparse", seek_all)
}

pub(super) fn dir_block() -> Result<Stage> {
    one_file(golden("ext2-1k")?, "dir_types", list_all)
}

pub(super) fn dx_node() -> Result<Stage> {
    one_file(without_checksums("ext4-1k")?, "htree_holes", list_all)
}

pub(super) fn xattr_block() -> Result<Stage> {
    let image = without_checksums("ext4-eainode")?;
    let mut places = Vec::new();
    let mut used = Vec::new();
    for path in ["xattr/block", "xattr/huge", "xattr/shared0", "xattr/acl"] {
        // Attributes that fit the inode read nothing more.
        if let Ok((nr, read)) = read_by(&image, path, attributes_all) {
            used.push(nr);
            places.extend(read);
        }
    }
    ensure!(used.len() > 1, "no attribute blocks are read");
    Ok(Stage::new(image, places, Use::Inodes(used)))
}

/// What a replay reads that a mount with noload does not: the log.
fn log_of(image: &Bytes) -> Result<Vec<Range<usize>>> {
    let noload = MountOptions { noload: true, ..options() };
    let without = places_read(image, |device| {
        let _ = mount(device, &noload);
    });
    let mut log = places_read(image, |device| {
        let _ = mount(device, &options());
    });
    log.retain(|place| !without.contains(place));
    ensure!(!log.is_empty(), "mounting reads no log");
    Ok(log)
}

pub(super) fn jbd2() -> Result<Stage> {
    let image = golden("dj-ext4-1k-nocsum-64")?;
    let places = log_of(&image)?;
    Ok(Stage::new(image, places, Use::Inodes(vec![InodeNr::ROOT])))
}

pub(super) fn fast_commit() -> Result<Stage> {
    let image = golden("dj-ext4-1k-fc")?;
    let places = log_of(&image)?;
    Ok(Stage::new(image, places, Use::Everything))
}
