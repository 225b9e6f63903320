//! A bounded walk of all that can be read, and its digest: the one of the corpus' tools/walk.py, by which
//! kernels were looked at.

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Error, FileKind, Filesystem, Inode, Overhead, Refusal, Seek};
use sha2::{Digest, Sha256};

use crate::child::{Errnos, code, errno};

pub(crate) const MAX_NAMES: usize = 60_000;
pub(crate) const MAX_DEPTH: usize = 120;
pub(crate) const MAX_BYTES: u64 = 8 << 20;
pub(crate) const CHUNK: usize = 128 << 10;
pub(crate) const BUDGET: Duration = Duration::from_secs(20);

/// A walk under way.
pub(crate) struct Walk {
    begin: Instant,
    hash: Sha256,
    names: usize,
    complete: bool,
    errors: BTreeMap<String, u64>,
    errnos: Errnos,
}

impl Walk {
    pub(crate) fn new(begin: Instant) -> Self {
        let (hash, errors, errnos) = (Sha256::new(), BTreeMap::new(), Errnos::new());
        Self { begin, hash, names: 0, complete: true, errors, errnos }
    }

    /// How often it met which errno.
    pub(crate) fn errnos(&self) -> Errnos {
        self.errnos.clone()
    }

    /// The digest, whether it is of everything, and which errors there were.
    pub(crate) fn end(self) -> (String, bool, BTreeMap<String, u64>) {
        let digest = self.hash.finalize();
        let digest = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        (digest, self.complete, self.errors)
    }

    fn is_over(&mut self) -> bool {
        if self.names > MAX_NAMES || self.begin.elapsed() > BUDGET {
            self.complete = false;
        }
        !self.complete
    }

    /// Notes an error.
    fn ok<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                *self.errors.entry(code(&error)).or_default() += 1;
                *self.errnos.entry(errno(&error)).or_default() += 1;
                None
            }
        }
    }

    /// The whole tree.
    pub(crate) fn all(&mut self, fs: &Filesystem) {
        let mut pending = vec![(InodeNr::ROOT, 0)];
        let mut seen = HashSet::new();
        while let Some((nr, depth)) = pending.pop() {
            let Some(dir) = self.ok(fs.inode(nr)) else { continue };
            for name in self.list(fs, &dir) {
                self.names += 1;
                if self.is_over() {
                    return;
                }
                let Some(inode) = self.ok(fs.lookup(&dir, &name)) else { continue };
                self.entry(fs, &inode, &name);
                if !inode.is_directory() {
                    continue;
                }
                if depth >= MAX_DEPTH {
                    self.complete = false;
                } else if seen.insert(inode.nr) {
                    pending.push((inode.nr, depth + 1));
                } else {
                    *self.errors.entry("dirloop".to_owned()).or_default() += 1;
                }
            }
            let absent = fs.lookup(&dir, b"a name that is not there");
            if !matches!(absent, Err(Error::Refused(Refusal::NotFound | Refusal::Invalid))) {
                self.ok(absent);
            }
        }
        self.ok(fs.statfs(Overhead::Subtract));
    }

    fn list(&mut self, fs: &Filesystem, dir: &Inode) -> Vec<Vec<u8>> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let before = cookie;
            let listed = fs.readdir(dir, cookie, &mut |entry| {
                cookie = entry.cookie;
                if entry.name != b"." && entry.name != b".." {
                    names.push(entry.name.to_vec());
                }
                if names.len() > MAX_NAMES {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            // What is wrong behind names that were given is told by the next call.
            if self.ok(listed).is_none() || cookie == before || names.len() > MAX_NAMES {
                break;
            }
        }
        names.sort();
        names
    }

    fn entry(&mut self, fs: &Filesystem, inode: &Inode, name: &[u8]) {
        let Some(size) = self.ok(fs.stat_size(inode)) else { return };
        let mode = inode.kind.type_bits() | inode.permissions;
        self.hash.update(name);
        self.hash.update(format!("\0{mode:o} {size} {} {}\0", inode.uid, inode.links));
        let list = self.ok(fs.xattr_names(inode)).unwrap_or_default();
        for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if let Some(value) = self.ok(fs.xattr(inode, name)) {
                self.hash.update(name);
                self.hash.update(value);
            }
        }
        match inode.kind {
            FileKind::Symlink => {
                if let Some(target) = self.ok(fs.readlink(inode)) {
                    self.hash.update(target);
                }
            }
            FileKind::Regular => self.content(fs, inode),
            _ => {}
        }
    }

    fn content(&mut self, fs: &Filesystem, inode: &Inode) {
        let (mut buffer, mut offset) = (vec![0; CHUNK], 0);
        while offset < inode.size && offset < MAX_BYTES {
            let Some(read) = self.ok(fs.read(inode, offset, &mut buffer)) else { return };
            if read == 0 {
                break;
            }
            self.hash.update(&buffer[..read]);
            offset += read as u64;
        }
        match fs.seek(inode, 0, Seek::Data) {
            Err(Error::Refused(Refusal::PastEnd)) => {}
            result => drop(self.ok(result)),
        }
    }
}
