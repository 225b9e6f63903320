//! The walk of `crate::walk` by system calls: the same digest of the same tree.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Instant;

use rustix::fs::{Mode, OFlags, SeekFrom};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use crate::child::Errnos;
use crate::walk::{BUDGET, CHUNK, MAX_BYTES, MAX_DEPTH, MAX_NAMES};

/// Where the kernel's limit for lists and values of attributes is.
const MAX_XATTR: usize = 64 << 10;

/// A walk under way.
pub(crate) struct Walk {
    begin: Instant,
    hash: Sha256,
    names: usize,
    /// It saw everything.
    pub(crate) complete: bool,
    /// A directory was met a second time.
    pub(crate) loops: bool,
    /// How often it met which errno.
    pub(crate) errnos: Errnos,
}

impl Walk {
    /// The whole tree below `root`.
    pub(crate) fn all(root: &Path) -> Self {
        let (begin, hash, errnos) = (Instant::now(), Sha256::new(), Errnos::new());
        let mut walk = Self { begin, hash, names: 0, complete: true, loops: false, errnos };
        walk.tree(root);
        walk
    }

    /// Of all that was seen.
    pub(crate) fn digest(&self) -> String {
        let digest = self.hash.clone().finalize();
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    fn is_over(&mut self) -> bool {
        if self.names > MAX_NAMES || self.begin.elapsed() > BUDGET {
            self.complete = false;
        }
        !self.complete
    }

    /// Notes an error.
    fn ok<T, E: Into<std::io::Error>>(&mut self, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| note(&mut self.errnos, &error.into())).ok()
    }

    fn tree(&mut self, root: &Path) {
        let mut pending = vec![(root.to_owned(), 0)];
        let mut seen = HashSet::new();
        while let Some((directory, depth)) = pending.pop() {
            let Some(names) = self.list(&directory) else { continue };
            for name in names {
                self.names += 1;
                if self.is_over() {
                    return;
                }
                let path = directory.join(&name);
                let Some(inode) = self.entry(&path, &name) else { continue };
                if depth >= MAX_DEPTH {
                    self.complete = false;
                } else if seen.insert(inode) {
                    pending.push((path, depth + 1));
                } else {
                    self.loops = true;
                }
            }
            match directory.join("a name that is not there").symlink_metadata() {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                absent => drop(self.ok(absent)),
            }
        }
        self.ok(rustix::fs::statvfs(root));
    }

    /// Its names, unless it cannot even be opened.
    fn list(&mut self, directory: &Path) -> Option<Vec<OsString>> {
        let mut names = Vec::new();
        let listed = self.ok(std::fs::read_dir(directory))?;
        for entry in listed {
            let Some(entry) = self.ok(entry) else { break };
            names.push(entry.file_name());
            if names.len() > MAX_NAMES {
                break;
            }
        }
        names.sort();
        Some(names)
    }

    /// Its inode number if it is a directory.
    fn entry(&mut self, path: &Path, name: &OsStr) -> Option<u64> {
        let metadata = self.ok(path.symlink_metadata())?;
        self.hash.update(name.as_bytes());
        let (mode, size) = (metadata.mode(), metadata.size());
        let (uid, links) = (metadata.uid(), metadata.nlink());
        self.hash.update(format!("\0{mode:o} {size} {uid} {links}\0"));
        let kind = metadata.file_type();
        self.attributes(path, kind.is_file() || kind.is_dir());
        if kind.is_symlink() {
            if let Some(target) = self.ok(std::fs::read_link(path)) {
                self.hash.update(target.as_os_str().as_bytes());
            }
        } else if kind.is_file() {
            self.content(path, size);
        }
        kind.is_dir().then(|| metadata.ino())
    }

    /// `user`: the kernel's VFS lets others have attributes of that name space, lists them, and then does
    /// not ask for them.
    fn attributes(&mut self, path: &Path, user: bool) {
        let mut bytes = vec![0; MAX_XATTR];
        let listed = rustix::fs::llistxattr(path, &mut bytes);
        let Some(length) = self.ok(listed) else { return };
        let list = bytes[..length].to_vec();
        let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
        for name in names.filter(|name| user || !name.starts_with(b"user.")) {
            if let Some(length) = self.ok(rustix::fs::lgetxattr(path, name, &mut bytes)) {
                self.hash.update(name);
                self.hash.update(&bytes[..length]);
            }
        }
    }

    fn content(&mut self, path: &Path, size: u64) {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        let Some(file) = self.ok(opened).map(File::from) else { return };
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        while offset < size && offset < MAX_BYTES {
            let Some(read) = self.ok(file.read_at(&mut buffer, offset)) else { return };
            if read == 0 {
                break;
            }
            self.hash.update(&buffer[..read]);
            offset += read as u64;
        }
        match rustix::fs::seek(&file, SeekFrom::Data(0)) {
            Err(Errno::NXIO) => {}
            result => drop(self.ok(result)),
        }
    }
}

/// Counts an error by its errno.
pub(crate) fn note(errnos: &mut Errnos, error: &std::io::Error) {
    *errnos.entry(error.raw_os_error().unwrap_or(0)).or_default() += 1;
}
