//! The changes that are tried on each image: each verb on new files, and on some that are there.

use std::ops::ControlFlow;

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Caller, Error, Fallocate, FileKind, Filesystem, KeepSize, Named, NewInode, Rename, SetAttr,
    Timestamp, WriteKind, XattrMode,
};

use crate::child::code;

/// Existing files and directories that are changed.
const MOST: usize = 24;
const ROOT: InodeNr = InodeNr::ROOT;
const DIRECT: WriteKind = WriteKind::Direct { kill_set_id: false };

fn caller() -> Caller {
    let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 7 };
    Caller { uid: 0, gid: 0, group: None, umask: 0o022, now }
}

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode { kind, permissions: 0o755, rdev: (1, 3), target: &[b't'; 200], label: None }
}

/// Tries them all; `failed` is told of each that fails.
pub(crate) fn all(fs: &Filesystem, failed: &mut dyn FnMut(String)) {
    let mut ok = |result: Result<(), Error>| {
        if let Err(error) = result {
            failed(code(&error));
        }
    };
    fresh(fs, &mut ok);
    existing(fs, &mut ok);
    ok(fs.sync());
}

/// New things in the root.
fn fresh(fs: &Filesystem, ok: &mut dyn FnMut(Result<(), Error>)) {
    let caller = caller();
    for kind in [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::Fifo] {
        let name = format!("f4-{kind:?}").into_bytes();
        let made = fs.create(&caller, ROOT, &name, &new(kind));
        if let Ok(inode) = &made {
            attributes(fs, inode.nr, ok);
            if kind == FileKind::Regular {
                content(fs, inode.nr, 0, ok);
                ok(fs.link(&caller, inode.nr, ROOT, b"f4-link").map(drop));
                ok(fs.fsync(inode.nr, false));
            }
            if kind == FileKind::Directory {
                for number in 0..40 {
                    let name = format!("{number}-{}", "n".repeat(100)).into_bytes();
                    ok(fs.create(&caller, inode.nr, &name, &new(FileKind::Regular)).map(drop));
                }
            }
        }
        ok(made.map(drop));
    }
    let named = |name| Named { parent: ROOT, name };
    for (from, to, how) in [
        (&b"f4-Regular"[..], &b"f4-Symlink"[..], Rename::Exchange),
        (b"f4-link", b"f4-Fifo", Rename::Replace),
        (b"f4-Directory", b"f4-Moved", Rename::NoReplace),
    ] {
        gone(fs, fs.rename(&caller, named(from), named(to), how), ok);
    }
    gone(fs, fs.unlink(&caller, ROOT, b"f4-Regular").map(Some), ok);
}

/// What lost its last name is freed.
fn gone(
    fs: &Filesystem,
    result: Result<Option<fuse4fs_ext4::Unlinked>, Error>,
    ok: &mut dyn FnMut(Result<(), Error>),
) {
    let forget = |unlinked: fuse4fs_ext4::Unlinked| fs.forget(unlinked.inode, caller().now);
    ok(result.and_then(|unlinked| unlinked.map_or(Ok(()), forget)));
}

/// Things that were there: changed, cut, extended, moved and removed.
fn existing(fs: &Filesystem, ok: &mut dyn FnMut(Result<(), Error>)) {
    let caller = caller();
    for (turn, (parent, name)) in names(fs).into_iter().enumerate() {
        let Ok(inode) = fs.inode(parent).and_then(|dir| fs.lookup(&dir, &name)) else { continue };
        attributes(fs, inode.nr, ok);
        if inode.kind == FileKind::Regular {
            content(fs, inode.nr, inode.size.min(1 << 40), ok);
            ok(fs.truncate(&caller, inode.nr, inode.size / 2).map(drop));
        }
        let at = Named { parent, name: &name };
        match turn % 3 {
            0 if inode.is_directory() => gone(fs, fs.rmdir(&caller, parent, &name).map(Some), ok),
            0 => gone(fs, fs.unlink(&caller, parent, &name).map(Some), ok),
            1 => {
                let name = format!("f4-old-{turn}").into_bytes();
                let to = Named { parent: ROOT, name: &name };
                gone(fs, fs.rename(&caller, at, to, Rename::Replace), ok);
            }
            _ => ok(fs.link(&caller, inode.nr, parent, format!("f4-{turn}").as_bytes()).map(drop)),
        }
    }
}

/// Some names of the root and of the directories in it.
fn names(fs: &Filesystem) -> Vec<(InodeNr, Vec<u8>)> {
    let mut found = Vec::new();
    let mut pending = vec![ROOT];
    while let Some(nr) = pending.pop() {
        let Ok(dir) = fs.inode(nr) else { continue };
        let mut taken = 0;
        let _ = fs.readdir(&dir, 0, &mut |entry| {
            let is_new = entry.name.starts_with(b"f4-");
            if entry.name != b"." && entry.name != b".." && !is_new {
                found.push((nr, entry.name.to_vec()));
                taken += 1;
                if nr == ROOT && entry.kind == Some(FileKind::Directory) {
                    pending.push(entry.inode);
                }
            }
            if taken < MOST / 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if found.len() >= MOST {
            break;
        }
    }
    found.truncate(MOST);
    // Names in directories before the directories.
    found.reverse();
    found
}

fn attributes(fs: &Filesystem, nr: InodeNr, ok: &mut dyn FnMut(Result<(), Error>)) {
    let caller = caller();
    for (name, len) in [(&b"user.short"[..], 20), (b"user.long", 700), (b"user.short", 21)] {
        let value = vec![b'v'; len];
        ok(fs.set_xattr(&caller, nr, (name, &value), XattrMode::Any, false).map(drop));
    }
    ok(fs.remove_xattr(&caller, nr, b"user.long").map(drop));
    let set = SetAttr { mode: Some(0o700), uid: Some(12), gid: Some(13), ..SetAttr::default() };
    ok(fs.setattr(&caller, nr, &set).map(drop));
}

fn content(fs: &Filesystem, nr: InodeNr, end: u64, ok: &mut dyn FnMut(Result<(), Error>)) {
    let caller = caller();
    let bytes = vec![b'c'; 20_000];
    for offset in [end, 0, end.saturating_add(200_000), end / 2] {
        ok(fs.write(&caller, nr, DIRECT, (offset, &bytes)).map(drop));
    }
    for (what, range) in [
        (Fallocate::Allocate(KeepSize::Yes), (end.saturating_add(40_000), 30_000)),
        (Fallocate::PunchHole, (1000, 9000)),
        (Fallocate::ZeroRange(KeepSize::No), (5000, 30_000)),
    ] {
        ok(fs.fallocate(&caller, nr, what, range));
    }
}
