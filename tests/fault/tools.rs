//! What verbs are made of: short names for calls below the root.

use anyhow::{Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Caller, Error, FileKind, Filesystem, Named, NewInode, Refusal, Rename, Timestamp, WriteKind,
    XattrMode,
};

pub(crate) const ROOT: InodeNr = InodeNr::ROOT;

/// The engine's answer.
pub(crate) type Answer<T = ()> = fuse4fs_ext4::Result<T>;

/// An access list of a named user: user::rwx user:1000:rw- group::r-x mask::rwx other::r--.
pub(crate) const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 6, 0, 232, 3, 0, 0, 4, 0, 5, 0, 255, 255,
    255, 255, 16, 0, 7, 0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
];

/// Root.
pub(crate) fn caller() -> Caller {
    user(0)
}

/// An ordinary user, or root.
pub(crate) fn user(uid: u32) -> Caller {
    let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Caller { uid, gid: uid, group: None, umask: 0o022, now }
}

/// What has the path `path` below the root.
pub(crate) fn at(fs: &Filesystem, path: &str) -> Answer<InodeNr> {
    let mut inode = fs.inode(ROOT)?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        inode = fs.lookup(&inode, name.as_bytes())?;
    }
    Ok(inode.nr)
}

/// The directory of `path` and the name in it.
fn split(path: &str) -> (&str, &[u8]) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parent, name.as_bytes())
}

pub(crate) fn make(fs: &Filesystem, path: &str, kind: FileKind, target: &str) -> Answer<InodeNr> {
    make_as(fs, &caller(), path, kind, target)
}

pub(crate) fn make_as(
    fs: &Filesystem,
    who: &Caller,
    path: &str,
    kind: FileKind,
    target: &str,
) -> Answer<InodeNr> {
    let (parent, name) = split(path);
    Ok(fs.create(who, at(fs, parent)?, name, &new(kind, target))?.nr)
}

pub(crate) fn new(kind: FileKind, target: &str) -> NewInode<'_> {
    let target = target.as_bytes();
    NewInode { kind, permissions: 0o755, rdev: (300, 70_000), target, label: None }
}

/// An empty regular file.
pub(crate) fn file(fs: &Filesystem, path: &str) -> Answer<InodeNr> {
    make(fs, path, FileKind::Regular, "")
}

/// A regular file of `len` bytes `byte`.
pub(crate) fn filled(fs: &Filesystem, path: &str, len: usize, byte: u8) -> Answer<InodeNr> {
    let nr = file(fs, path)?;
    write(fs, nr, 0, len, byte)?;
    Ok(nr)
}

pub(crate) fn dir(fs: &Filesystem, path: &str) -> Answer<InodeNr> {
    make(fs, path, FileKind::Directory, "")
}

/// Writes all of it, or says why not.
pub(crate) fn write(fs: &Filesystem, nr: InodeNr, at: u64, len: usize, byte: u8) -> Answer {
    write_as(fs, &caller(), nr, (at, len), byte)
}

pub(crate) fn write_as(
    fs: &Filesystem,
    who: &Caller,
    nr: InodeNr,
    (at, len): (u64, usize),
    byte: u8,
) -> Answer {
    let data = vec![byte; len];
    let kind = WriteKind::Direct { kill_set_id: who.uid != 0 };
    let mut done = 0;
    // As write(2) in a loop: a short write is followed by one that says why.
    while done < len {
        done += fs.write(who, nr, kind, (at + done as u64, &data[done..]))?;
    }
    Ok(())
}

pub(crate) fn unlink(fs: &Filesystem, path: &str) -> Answer {
    let (parent, name) = split(path);
    let gone = fs.unlink(&caller(), at(fs, parent)?, name)?;
    fs.forget(gone.inode, caller().now)
}

pub(crate) fn rmdir(fs: &Filesystem, path: &str) -> Answer {
    let (parent, name) = split(path);
    let gone = fs.rmdir(&caller(), at(fs, parent)?, name)?;
    fs.forget(gone.inode, caller().now)
}

pub(crate) fn link(fs: &Filesystem, from: &str, to: &str) -> Answer {
    let (parent, name) = split(to);
    fs.link(&caller(), at(fs, from)?, at(fs, parent)?, name).map(drop)
}

pub(crate) fn rename(fs: &Filesystem, from: &str, to: &str, how: Rename) -> Answer {
    let (parents, names) = (split(from), split(to));
    let from = Named { parent: at(fs, parents.0)?, name: parents.1 };
    let to = Named { parent: at(fs, names.0)?, name: names.1 };
    match fs.rename(&caller(), from, to, how)? {
        Some(gone) if gone.last => fs.forget(gone.inode, caller().now),
        _ => Ok(()),
    }
}

pub(crate) fn set(fs: &Filesystem, path: &str, name: &str, value: &[u8]) -> Answer {
    let pair = (name.as_bytes(), value);
    fs.set_xattr(&caller(), at(fs, path)?, pair, XattrMode::Any, false).map(drop)
}

/// Whether there is something at `path`.
pub(crate) fn exists(fs: &Filesystem, path: &str) -> Result<bool> {
    match at(fs, path) {
        Ok(_) => Ok(true),
        Err(Error::Refused(Refusal::NotFound)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

pub(crate) fn is_there(fs: &Filesystem, path: &str) -> Result<()> {
    ensure!(exists(fs, path)?, "no {path}");
    Ok(())
}

pub(crate) fn is_gone(fs: &Filesystem, path: &str) -> Result<()> {
    ensure!(!exists(fs, path)?, "{path} is there");
    Ok(())
}

pub(crate) fn content(fs: &Filesystem, path: &str) -> Result<Vec<u8>> {
    let inode = fs.inode(at(fs, path)?)?;
    let mut bytes = vec![0; usize::try_from(inode.size)?];
    let read = fs.read(&inode, 0, &mut bytes)?;
    ensure!(read == bytes.len(), "{read} of {} bytes of {path}", bytes.len());
    Ok(bytes)
}

/// Whether the file at `path` consists of these runs of bytes.
pub(crate) fn holds(fs: &Filesystem, path: &str, runs: &[(usize, u8)]) -> Result<()> {
    let wanted: Vec<u8> = runs.iter().flat_map(|&(len, byte)| vec![byte; len]).collect();
    let found = content(fs, path)?;
    ensure!(found.len() == wanted.len(), "{path} has {} bytes", found.len());
    let wrong = found.iter().zip(&wanted).position(|(found, wanted)| found != wanted);
    ensure!(wrong.is_none(), "byte {wrong:?} of {path} is wrong");
    Ok(())
}

/// Whether the attribute of `path` has this value.
pub(crate) fn has(fs: &Filesystem, path: &str, name: &str, value: &[u8]) -> Result<()> {
    let found = fs.xattr(&*fs.inode(at(fs, path)?)?, name.as_bytes())?;
    ensure!(found == value, "{name} of {path} has {} bytes", found.len());
    Ok(())
}
