//! The changes that are tried on what is mounted: the calls on new files, and on some that are there.

use std::fs::{File, OpenOptions, Permissions};
use std::io::Error;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    CWD, FallocateFlags, FileType, Mode, RenameFlags, XattrFlags, fallocate, lremovexattr,
    lsetxattr, mknodat, renameat_with,
};

use super::walk::note;
use crate::child::Errnos;

/// Existing files and directories that are changed.
const MOST: usize = 24;

/// The changes so far.
struct Changes {
    errnos: Errnos,
}

/// Tries them all below `root`; how often which errno was met.
pub(crate) fn all(root: &Path) -> Errnos {
    let mut changes = Changes { errnos: Errnos::new() };
    changes.fresh(root);
    changes.existing(root);
    let synced = File::open(root).and_then(|root| Ok(rustix::fs::syncfs(root)?));
    changes.ok(synced);
    changes.errnos
}

impl Changes {
    fn ok<T, E: Into<Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| note(&mut self.errnos, &error.into())).ok()
    }

    /// New things in the root.
    fn fresh(&mut self, root: &Path) {
        let [file, directory, link, fifo] =
            ["f4-file", "f4-directory", "f4-symlink", "f4-fifo"].map(|name| root.join(name));
        if self.ok(File::create(&file)).is_some() {
            self.attributes(&file);
            self.content(&file, 0);
            self.ok(std::fs::hard_link(&file, root.join("f4-link")));
            self.ok(File::open(&file).and_then(|file| file.sync_all()));
        }
        if self.ok(std::fs::create_dir(&directory)).is_some() {
            self.attributes(&directory);
            for number in 0..40 {
                let name = format!("{number}-{}", "n".repeat(100));
                self.ok(File::create(directory.join(name)));
            }
        }
        self.ok(symlink("t".repeat(200), &link));
        self.ok(mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0));
        self.ok(renameat_with(CWD, &file, CWD, &link, RenameFlags::EXCHANGE));
        self.ok(std::fs::rename(root.join("f4-link"), &fifo));
        self.ok(std::fs::rename(&directory, root.join("f4-moved")));
        self.ok(std::fs::remove_file(&file));
    }

    /// Things that were there: changed, cut, extended, moved and removed.
    fn existing(&mut self, root: &Path) {
        for (turn, path) in paths(root).into_iter().enumerate() {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            self.attributes(&path);
            if metadata.is_file() {
                self.content(&path, metadata.len().min(1 << 40));
                let half = |file: File| file.set_len(metadata.len() / 2);
                self.ok(OpenOptions::new().write(true).open(&path).and_then(half));
            }
            match turn % 3 {
                0 if metadata.is_dir() => drop(self.ok(std::fs::remove_dir(&path))),
                0 => drop(self.ok(std::fs::remove_file(&path))),
                1 => drop(self.ok(std::fs::rename(&path, root.join(format!("f4-old-{turn}"))))),
                _ => {
                    let link = path.with_file_name(format!("f4-{turn}"));
                    self.ok(std::fs::hard_link(&path, link));
                }
            }
        }
    }

    fn attributes(&mut self, path: &Path) {
        for (name, len) in [("user.short", 20), ("user.long", 700), ("user.short", 21)] {
            self.ok(lsetxattr(path, name, &vec![b'v'; len], XattrFlags::empty()));
        }
        self.ok(lremovexattr(path, "user.long"));
        self.ok(lchown(path, Some(12), Some(13)));
        if path.symlink_metadata().is_ok_and(|metadata| !metadata.is_symlink()) {
            self.ok(std::fs::set_permissions(path, Permissions::from_mode(0o700)));
        }
    }

    fn content(&mut self, path: &Path, end: u64) {
        let Some(file) = self.ok(OpenOptions::new().write(true).open(path)) else { return };
        let bytes = vec![b'c'; 20_000];
        for offset in [end, 0, end.saturating_add(200_000), end / 2] {
            self.ok(file.write_at(&bytes, offset));
        }
        let keep = FallocateFlags::KEEP_SIZE;
        for (how, offset, len) in [
            (keep, end.saturating_add(40_000), 30_000),
            (FallocateFlags::PUNCH_HOLE | keep, 1000, 9000),
            (FallocateFlags::ZERO_RANGE, 5000, 30_000),
        ] {
            self.ok(fallocate(&file, how, offset, len));
        }
    }
}

/// Some paths in the root and in the directories there, in an order that depends on their names alone;
/// what is in a directory before the directory.
fn paths(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(listed) = std::fs::read_dir(&directory) else { continue };
        let mut names: Vec<_> = listed.map_while(Result::ok).map(|entry| entry.path()).collect();
        names.sort();
        names.retain(|path| !is_new(path));
        names.truncate(MOST / 2);
        if directory == root {
            pending.extend(names.iter().filter(|path| is_directory(path)).cloned());
        }
        found.extend(names);
        if found.len() >= MOST {
            break;
        }
    }
    found.truncate(MOST);
    found.reverse();
    found
}

fn is_new(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"f4-"))
}

fn is_directory(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir())
}
