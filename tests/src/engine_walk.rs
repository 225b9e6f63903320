//! A whole tree as the engine in this process shows it.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Error, FileKind, Filesystem, Inode, MountOptions, Overhead, Refusal, Seek, Timestamp,
    Unobserved, WriteOptions,
};

use crate::content::{self, Content, Summary};
use crate::tree::{Counts, Entry, Tree, attribute};

/// The flags that FS_IOC_GETFLAGS shows on ext4 (EXT4_FL_USER_VISIBLE).
const VISIBLE_FLAGS: u32 = 0x725b_dfff;

/// The options of a plain read-only mount.
#[must_use]
pub fn options() -> MountOptions {
    MountOptions {
        read_only: true,
        noload: false,
        superblock: None,
        journal: None,
        cache_bytes: 16 << 20,
        writing: WriteOptions::default(),
    }
}

/// Mounts the image read-only in this process.
///
/// # Errors
/// The engine's.
pub fn mount(image: &Path) -> Result<Filesystem> {
    let device = Arc::new(FileDevice::new(File::open(image)?)?);
    Ok(Filesystem::mount(device, &options(), &Unobserved)?)
}

/// One name as readdir gives it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// The name.
    pub name: Vec<u8>,
    /// The inode it names.
    pub inode: InodeNr,
    /// What that is, if the directory says.
    pub kind: Option<FileKind>,
    /// Where to go on after it.
    pub cookie: u64,
}

/// At most `limit` names of `dir` after `cookie`.
///
/// # Errors
/// The engine's.
pub fn names(fs: &Filesystem, dir: &Inode, cookie: u64, limit: usize) -> Result<Vec<Name>> {
    let mut names = Vec::new();
    fs.readdir(dir, cookie, &mut |entry| {
        names.push(Name {
            name: entry.name.to_vec(),
            inode: entry.inode,
            kind: entry.kind,
            cookie: entry.cookie,
        });
        if names.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(names)
}

/// What a walk calls on each directory: its inode, path and names.
pub type OnDirectory<'a> = dyn FnMut(&Inode, &[u8], &[Name]) -> Result<()> + 'a;

/// Calls `on_directory` on each directory, the root first; the root's path is empty.
///
/// # Errors
/// The engine's and `on_directory`'s, with the path.
pub fn for_each_directory(fs: &Filesystem, on_directory: &mut OnDirectory<'_>) -> Result<()> {
    let mut pending = vec![(Vec::new(), fs.inode(InodeNr::ROOT)?)];
    while let Some((path, dir)) = pending.pop() {
        let mut visit = || -> Result<()> {
            let listed = names(fs, &dir, 0, usize::MAX)?;
            on_directory(&dir, &path, &listed)?;
            for name in listed {
                if name.name == b"." || name.name == b".." {
                    continue;
                }
                let inode = fs.inode(name.inode)?;
                if inode.is_directory() {
                    pending.push((join(&path, &name.name), inode));
                }
            }
            Ok(())
        };
        visit().with_context(|| format!("directory {:?}", path.escape_ascii().to_string()))?;
    }
    Ok(())
}

/// How the content of a file is summed up.
type Summarize = fn(&dyn Content) -> Result<Summary>;

/// The whole tree.
///
/// # Errors
/// The engine's, with the path.
pub fn walk(fs: &Filesystem) -> Result<Tree> {
    walk_with(fs, content::summarize)
}

/// As [`walk`], to be compared with trees of the same process only, in less time.
///
/// # Errors
/// As [`walk`].
pub fn walk_to_compare(fs: &Filesystem) -> Result<Tree> {
    walk_with(fs, content::compare)
}

fn walk_with(fs: &Filesystem, summarize: Summarize) -> Result<Tree> {
    let mut tree = Tree::default();
    let mut seen: HashMap<InodeNr, Entry> = HashMap::new();
    let root = fs.inode(InodeNr::ROOT)?;
    tree.entries.insert(b".".to_vec(), describe(fs, &root, summarize)?);
    for_each_directory(fs, &mut |_, path, names| {
        for name in names.iter().filter(|name| name.name != b"." && name.name != b"..") {
            let entry = match seen.get(&name.inode) {
                Some(entry) => entry.clone(),
                None => fs
                    .inode(name.inode)
                    .map_err(anyhow::Error::from)
                    .and_then(|inode| describe(fs, &inode, summarize))
                    .with_context(|| name.name.escape_ascii().to_string())?,
            };
            if entry.links != Some(1) {
                seen.insert(name.inode, entry.clone());
            }
            let path = join(path, &name.name);
            ensure!(tree.entries.insert(path, entry).is_none(), "a name is listed twice");
        }
        Ok(())
    })?;
    Ok(tree)
}

/// What statfs(2) would say.
///
/// # Errors
/// The engine's.
pub fn counts(fs: &Filesystem) -> Result<Counts> {
    let stat = fs.statfs(Overhead::Subtract)?;
    Ok(Counts {
        block_size: stat.block_size.into(),
        blocks: stat.blocks,
        free: stat.free,
        available: stat.available,
        files: stat.inodes,
        files_free: stat.inodes_free,
    })
}

/// `name` below `dir`.
#[must_use]
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The word of the truth files.
#[must_use]
pub fn kind_name(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Fifo => "fifo",
        FileKind::CharDevice => "chr",
        FileKind::Directory => "dir",
        FileKind::BlockDevice => "blk",
        FileKind::Regular => "file",
        FileKind::Symlink => "symlink",
        FileKind::Socket => "sock",
    }
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

fn describe(fs: &Filesystem, inode: &Inode, summarize: Summarize) -> Result<Entry> {
    let is = |kind| inode.kind == kind;
    let shows_flags = is(FileKind::Regular) || is(FileKind::Directory);
    let has_device = is(FileKind::CharDevice) || is(FileKind::BlockDevice);
    let summary =
        is(FileKind::Regular).then(|| summarize(&EngineFile { fs, inode })).transpose()?;
    let (content, segments) = summary.map_or((None, None), |s| (s.content, Some(s.segments)));
    Ok(Entry {
        kind: kind_name(inode.kind).to_owned(),
        inode: Some(inode.nr.get().into()),
        mode: Some(inode.permissions.into()),
        uid: Some(inode.uid),
        gid: Some(inode.gid),
        links: Some(inode.links.into()),
        size: Some(inode.size),
        blocks512: Some(inode.shown_blocks512()),
        atime: Some(nanoseconds(inode.atime)),
        mtime: Some(nanoseconds(inode.mtime)),
        ctime: Some(nanoseconds(inode.ctime)),
        btime: inode.crtime.map(nanoseconds),
        rdev: has_device.then_some(inode.rdev),
        target: is(FileKind::Symlink).then(|| fs.readlink(inode)).transpose()?,
        flags: shows_flags.then_some(inode.flags.bits() & VISIBLE_FLAGS),
        project: shows_flags.then_some(inode.project),
        xattrs: Some(xattrs(fs, inode)?),
        content,
        segments,
    })
}

fn xattrs(fs: &Filesystem, inode: &Inode) -> Result<BTreeMap<String, String>> {
    let list = fs.xattr_names(inode)?;
    let mut map = BTreeMap::new();
    let Some(list) = list.strip_suffix(b"\0") else {
        ensure!(list.is_empty(), "a list of names that does not end in NUL");
        return Ok(map);
    };
    for name in list.split(|byte| *byte == 0) {
        let value = fs.xattr(inode, name)?;
        let text = String::from_utf8(name.to_vec())?;
        ensure!(map.insert(text, attribute(&value)).is_none(), "an attribute is listed twice");
    }
    Ok(map)
}

struct EngineFile<'a> {
    fs: &'a Filesystem,
    inode: &'a Inode,
}

impl Content for EngineFile<'_> {
    fn size(&self) -> u64 {
        self.inode.size
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize> {
        Ok(self.fs.read(self.inode, offset, into)?)
    }

    fn seek_data(&self, offset: u64) -> Result<Option<u64>> {
        match self.fs.seek(self.inode, offset, Seek::Data) {
            Ok(data) => Ok(Some(data)),
            Err(Error::Refused(Refusal::PastEnd)) => Ok(None),
            Err(error) => bail!(error),
        }
    }

    fn seek_hole(&self, offset: u64) -> Result<u64> {
        Ok(self.fs.seek(self.inode, offset, Seek::Hole)?)
    }
}
