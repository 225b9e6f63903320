//! A whole tree as a mounted path shows it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, SeekFrom, StatxFlags};
use rustix::io::Errno;

use crate::content::{self, Content};
use crate::engine_walk::join;
use crate::sys;
use crate::tree::{Counts, Entry, Tree, attribute};

/// The whole tree below `root`, which is itself `.`.
///
/// # Errors
/// Any, with the path.
pub fn walk(root: &Path) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut seen: HashMap<u64, Entry> = HashMap::new();
    tree.entries.insert(b".".to_vec(), describe(root, &root.symlink_metadata()?)?);
    let mut pending = vec![Vec::new()];
    while let Some(directory) = pending.pop() {
        let place = root.join(OsStr::from_bytes(&directory));
        for listed in std::fs::read_dir(&place).with_context(|| place.display().to_string())? {
            let listed = listed?;
            let path = join(&directory, listed.file_name().as_bytes());
            let metadata = listed.metadata().with_context(|| format!("{:?}", listed.path()))?;
            let inode = metadata.ino();
            let agrees = listed.file_type()? == metadata.file_type();
            ensure!(agrees, "{:?}: readdir and stat differ in its type", listed.path());
            let entry = match seen.get(&inode) {
                Some(entry) => entry.clone(),
                None => describe(&listed.path(), &metadata)
                    .with_context(|| format!("{:?}", listed.path()))?,
            };
            if metadata.is_dir() {
                pending.push(path.clone());
            } else if metadata.nlink() > 1 {
                seen.insert(inode, entry.clone());
            }
            tree.entries.insert(path, entry);
        }
    }
    Ok(tree)
}

/// statfs(2).
///
/// # Errors
/// The kernel's.
pub fn counts(root: &Path) -> Result<Counts> {
    let stat = rustix::fs::statvfs(root)?;
    Ok(Counts {
        block_size: stat.f_bsize,
        blocks: stat.f_blocks,
        free: stat.f_bfree,
        available: stat.f_bavail,
        files: stat.f_files,
        files_free: stat.f_ffree,
    })
}

/// Opens for reading without following links or waiting for a peer.
///
/// # Errors
/// The kernel's.
pub fn open(path: &Path) -> Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> Option<i128> {
    Some(i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds))
}

fn kind(metadata: &Metadata) -> &'static str {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => "file",
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_char_device() => "chr",
        () if kind.is_block_device() => "blk",
        () if kind.is_fifo() => "fifo",
        () => "sock",
    }
}

fn describe(path: &Path, metadata: &Metadata) -> Result<Entry> {
    let kind = kind(metadata);
    let mut entry = Entry {
        kind: kind.to_owned(),
        inode: Some(metadata.ino()),
        mode: Some(metadata.mode() & 0o7777),
        uid: Some(metadata.uid()),
        gid: Some(metadata.gid()),
        links: Some(metadata.nlink()),
        size: Some(metadata.size()),
        blocks512: Some(metadata.blocks()),
        atime: nanoseconds(metadata.atime(), metadata.atime_nsec()),
        mtime: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        btime: btime(path)?,
        xattrs: Some(xattrs(path)?),
        ..Entry::default()
    };
    match kind {
        "symlink" => {
            let target = std::fs::read_link(path)?;
            entry.target = Some(target.as_os_str().as_bytes().to_vec());
        }
        "chr" | "blk" => {
            let device = metadata.rdev();
            entry.rdev = Some((rustix::fs::major(device), rustix::fs::minor(device)));
        }
        "dir" | "file" => {
            let file = open(path)?;
            entry.flags = Some(rustix::fs::ioctl_getflags(&file)?.bits());
            entry.project = Some(sys::fs_xattr(&file)?.project);
            if kind == "file" {
                let summary = content::summarize(&MountedFile { file, size: metadata.size() })?;
                entry.content = summary.content;
                entry.segments = Some(summary.segments);
            }
        }
        _ => (),
    }
    Ok(entry)
}

fn btime(path: &Path) -> Result<Option<i128>> {
    let stat = rustix::fs::statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BTIME)?;
    if stat.stx_mask & StatxFlags::BTIME.bits() == 0 {
        return Ok(None);
    }
    Ok(nanoseconds(stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec.into()))
}

fn xattrs(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list)?;
    list.truncate(length);
    let mut map = BTreeMap::new();
    let mut value = vec![0; 1 << 16];
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, name, &mut value)?;
        let text = attribute(value.get(..length).unwrap_or_default());
        map.insert(String::from_utf8(name.to_vec())?, text);
    }
    Ok(map)
}

struct MountedFile {
    file: File,
    size: u64,
}

impl Content for MountedFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        Ok(self.file.read_at(into, offset)?)
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        match rustix::fs::seek(&self.file, SeekFrom::Data(offset)) {
            Ok(data) => Ok(Some(data)),
            Err(Errno::NXIO) => Ok(None),
            // What the kernel's ext4 says of some files that it keeps inline: there are no holes.
            Err(Errno::NOENT) => Ok(Some(offset)),
            Err(error) => Err(error.into()),
        }
    }

    fn seek_hole(&self, offset: u64) -> Result<u64> {
        match rustix::fs::seek(&self.file, SeekFrom::Hole(offset)) {
            Err(Errno::NOENT) => Ok(self.size),
            found => Ok(found?),
        }
    }
}
