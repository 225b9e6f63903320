//! What is done between crashes. After each verb the recorder takes down what there is.

mod attributes;
mod content;
mod names;
mod orphans;
mod synced;

use anyhow::{Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Caller, Error, FileKind, Filesystem, NewInode, Refusal, Timestamp, WriteKind};
use fuse4fs_tests::crash::{Recorder, Workload};

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = &'static Workload> {
    [names::ALL, content::ALL, attributes::ALL, orphans::ALL, synced::ALL].into_iter().flatten()
}

const ROOT: InodeNr = InodeNr::ROOT;
const DIRECT: WriteKind = WriteKind::Direct { kill_set_id: false };

/// Nothing is there before.
#[expect(clippy::unnecessary_wraps, reason = "other workloads prepare something")]
fn nothing(_: &Filesystem) -> Result<()> {
    Ok(())
}

/// Root, before the first crash.
fn early() -> Caller {
    let now = Timestamp { seconds: 1_600_000_000, nanoseconds: 5 };
    Caller { uid: 0, gid: 0, group: None, umask: 0o022, now }
}

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode { kind, permissions: 0o755, rdev: (1, 3), target: b"/where/it/leads", label: None }
}

fn long_name(step: u64) -> Vec<u8> {
    format!("{step:04}-{}", "x".repeat(150)).into_bytes()
}

/// The bytes from `offset` on of a file that is known by `tag`.
fn pattern(tag: u8, offset: u64, len: usize) -> Vec<u8> {
    (offset..).take(len).map(|at| (at / 7 % 50) as u8 + tag % 4 * 50).collect()
}

/// `None` for what this kind of file system does not have.
fn if_supported<T>(result: fuse4fs_ext4::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(Error::Refused(Refusal::NotSupported)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Verbs of many workloads.
trait Verbs {
    fn create(&self, parent: InodeNr, name: &[u8], kind: FileKind) -> Result<InodeNr>;
    fn file(&self, name: &[u8]) -> Result<InodeNr>;
    fn write(&self, nr: InodeNr, offset: u64, bytes: &[u8]) -> Result<()>;
    fn unlink(&self, parent: InodeNr, name: &[u8]) -> Result<()>;
}

impl Verbs for Recorder<'_> {
    fn create(&self, parent: InodeNr, name: &[u8], kind: FileKind) -> Result<InodeNr> {
        let nr = self.fs.create(&self.caller(), parent, name, &new(kind))?.nr;
        self.done()?;
        Ok(nr)
    }

    fn file(&self, name: &[u8]) -> Result<InodeNr> {
        self.create(ROOT, name, FileKind::Regular)
    }

    fn write(&self, nr: InodeNr, offset: u64, bytes: &[u8]) -> Result<()> {
        let written = self.fs.write(&self.caller(), nr, DIRECT, (offset, bytes))?;
        ensure!(written == bytes.len(), "{written} of {} bytes were written", bytes.len());
        self.done()
    }

    /// Of what nobody has open.
    fn unlink(&self, parent: InodeNr, name: &[u8]) -> Result<()> {
        let caller = self.caller();
        let gone = self.fs.unlink(&caller, parent, name)?;
        self.done()?;
        self.fs.forget(gone.inode, caller.now)?;
        self.done()
    }
}
