//! One verb and one fault.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use fuse4fs_ext4::device::MemDevice;
use fuse4fs_ext4::error::IoOp;
use fuse4fs_ext4::{Error, ErrorPolicy, Fallocate, Filesystem, Refusal, SetAttr};
use fuse4fs_tests::faulty::{Counts, Fault, Faulty, Op};

use crate::tools::*;
use crate::verb::{
    Extent, Kind, Verb, has_orphans, is_stuck, look, make_witness, mended, must_be_clean,
    see_witness, tells,
};

/// What must be left of the verb.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Promise {
    /// All of it: it was synced.
    Done,
    /// Nothing: it failed, and the file system goes on.
    Undone,
    /// That depends.
    Open,
}

/// A verb on a file system.
pub(crate) struct Stage<'a> {
    pub(crate) verb: &'a Verb,
    pub(crate) kind: &'a Kind,
    /// The file system before it.
    pub(crate) base: Vec<u8>,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) fault: Option<Fault>,
    /// Nothing is in memory but what mounting brings there.
    pub(crate) cold: bool,
    pub(crate) errors: ErrorPolicy,
}

impl Stage<'_> {
    /// What is done to the device when nothing fails; `None` if this kind refuses the verb.
    pub(crate) fn measure(&self, cold: bool) -> Result<Option<Counts>> {
        if self.verb.extent == Extent::Whole {
            let before = look(self.base.clone(), self.verb.done);
            ensure!(before.is_err(), "it is done before it was begun");
        }
        let case = Case { fault: None, cold, errors: ErrorPolicy::Continue };
        let (device, fs) = self.set_out(case)?;
        match (self.verb.act)(&fs) {
            // Too long for a block, where there are no inodes for values.
            Err(Error::Refused(Refusal::NotSupported | Refusal::NoSpace)) => return Ok(None),
            acted => acted?,
        }
        fs.sync()?;
        fs.unmount()?;
        let done = device.done();
        must_be_clean(&device.contents())?;
        look(device.contents(), self.verb.done)?;
        Ok(Some(done))
    }

    /// Runs it. Whether the fault was met.
    pub(crate) fn run(&self, case: Case) -> Result<bool> {
        caught(|| self.attempt(case))
    }

    fn set_out(&self, case: Case) -> Result<(Arc<Faulty>, Filesystem)> {
        let device = Arc::new(Faulty::new(self.base.clone()));
        let fs = self.kind.mount(device.clone(), case.errors)?;
        make_witness(&fs)?;
        if !case.cold {
            walk(&fs, ROOT)?;
        }
        device.arm(case.fault);
        Ok((device, fs))
    }

    fn attempt(&self, case: Case) -> Result<bool> {
        let (device, fs) = self.set_out(case)?;
        let mut promise = Promise::Open;
        let acted = told(&fs, case, (self.verb.act)(&fs)).context("the verb")?;
        if acted && told(&fs, case, fs.sync()).context("sync")? {
            promise = Promise::Done;
            if device.failed() > 0 {
                self.recovered(&device.contents(), promise).context("a crash after sync")?;
            }
            if told(&fs, case, fs.unmount()).context("unmount")? {
                self.ended(&device, promise).context("after the unmount")?;
                return Ok(device.failed() > 0);
            }
        }
        ensure!(device.failed() > 0, "it failed without a fault");
        if !acted && self.verb.extent == Extent::Whole && fs.is_writable() {
            promise = Promise::Undone;
        }
        if case.fault.is_some_and(|fault| fault.lasts) && fs.sync().is_err() && fs.is_writable() {
            // Not even a journal that has stopped: there was nothing to be written but data.
            promise = Promise::Open;
        }
        if fs.is_writable() {
            device.heal();
            fs.sync().context("sync of a device that works again")?;
            fs.unmount().context("unmount of a device that works again")?;
            self.left(&device, promise).context("after a failure that was no end")?;
        } else {
            self.aborted(&device, &fs, case, promise).context("after an abort")?;
        }
        Ok(true)
    }

    /// As [`Stage::ended`]; what could not be cut or freed may wait for the next mount, or for e2fsck.
    fn left(&self, device: &Faulty, promise: Promise) -> Result<()> {
        let bytes = device.contents();
        if has_orphans(bytes.clone())? {
            self.recovered(&bytes, promise)
        } else {
            self.ended(device, promise)
        }
    }

    /// All is in its place.
    fn ended(&self, device: &Faulty, promise: Promise) -> Result<()> {
        let bytes = device.contents();
        must_be_clean(&bytes)?;
        look(bytes, |fs| self.see(fs, promise))
    }

    fn see(&self, fs: &Filesystem, promise: Promise) -> Result<()> {
        see_witness(fs)?;
        match promise {
            Promise::Done => (self.verb.done)(fs).context("what was synced is not there"),
            Promise::Undone => {
                ensure!((self.verb.done)(fs).is_err(), "it failed, and was done");
                Ok(())
            }
            Promise::Open => Ok(()),
        }
    }

    fn aborted(
        &self,
        device: &Faulty,
        fs: &Filesystem,
        case: Case,
        promise: Promise,
    ) -> Result<()> {
        let fault = case.fault.context("no fault")?;
        if fault.ops.contains(&Op::Read) {
            device.heal();
        }
        see_witness(fs).context("it cannot be read any more")?;
        refuses(fs)?;
        // What is on the device must not change any more.
        let before = device.contents();
        let _ = fs.unmount();
        device.heal();
        ensure!(before == device.contents(), "it was written to after it had stopped");
        let takes = !fault.lasts || !fault.ops.contains(&Op::Write);
        ensure!(tells(before.clone())? || !takes, "the superblock does not tell of the error");
        self.recovered(&before, promise)
    }

    /// Both e2fsck and a mount make a whole of `bytes`.
    pub(crate) fn recovered(&self, bytes: &[u8], promise: Promise) -> Result<()> {
        let stuck = is_stuck(bytes.to_vec())?;
        let asks = stuck || !self.kind.has_log() || self.verb.leaves_values();
        let by_e2fsck = mended(bytes, asks)?;
        look(by_e2fsck, |fs| self.see(fs, promise)).context("mended by e2fsck")?;
        let device = Arc::new(MemDevice::new(bytes.to_vec()));
        let fs =
            self.kind.mount(device.clone(), ErrorPolicy::ReadOnly).context("mounting again")?;
        self.see(&fs, promise).context("mounted again")?;
        fs.unmount()?;
        if !self.kind.has_log() {
            return Ok(());
        }
        if stuck {
            return mended(&device.contents(), true).map(drop);
        }
        must_be_clean(&device.contents()).context("mounted and unmounted again")
    }
}

/// What `run` says; a panic is an error.
pub(crate) fn caught(run: impl FnOnce() -> Result<bool>) -> Result<bool> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(anyhow!("a panic")))
}

/// Does with the answer what the server does. True for success.
fn told(fs: &Filesystem, case: Case, answer: Answer) -> Result<bool> {
    let Err(error) = answer else { return Ok(true) };
    let full = case.fault.is_some_and(|fault| fault.errno == ENOSPC);
    match &error {
        Error::Io { op: IoOp::WriteData, .. } if full => return Err(error.into()),
        Error::Io { .. } => {}
        Error::Refused(Refusal::NoSpace) if full => return Ok(false),
        _ => return Err(error.into()),
    }
    let was_writable = fs.is_writable();
    fs.record_error(&error);
    let of_data = matches!(error, Error::Io { op: IoOp::ReadData | IoOp::WriteData, .. });
    ensure!(!of_data || fs.is_writable() == was_writable, "{error}, and that ended all writing");
    let stops = case.errors == ErrorPolicy::ReadOnly && !of_data;
    ensure!(!was_writable || !stops || !fs.is_writable(), "errors=remount-ro, but {error}");
    Ok(false)
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

/// Every change is refused with EROFS.
fn refuses(fs: &Filesystem) -> Result<()> {
    let nr = at(fs, "witness")?;
    let mode = SetAttr { mode: Some(0o600), ..SetAttr::default() };
    let changes: [(&str, Answer); 10] = [
        ("create", file(fs, "late").map(drop)),
        ("mkdir", dir(fs, "late").map(drop)),
        ("link", link(fs, "witness", "late")),
        ("unlink", unlink(fs, "witness")),
        ("rename", rename(fs, "witness", "late", fuse4fs_ext4::Rename::Replace)),
        ("write", write(fs, nr, 0, 2048, 1)),
        ("truncate", fs.truncate(&caller(), nr, 5).map(drop)),
        ("punch", fs.fallocate(&caller(), nr, Fallocate::PunchHole, (0, 2048))),
        ("chmod", fs.setattr(&caller(), nr, &mode).map(drop)),
        ("setxattr", set(fs, "witness", "user.a", b"x")),
    ];
    for (name, answer) in changes.into_iter().chain([("sync", fs.sync())]) {
        match answer {
            Err(Error::Refused(Refusal::Aborted | Refusal::ReadOnly)) => {}
            other => return Err(anyhow!("{name} after an abort: {other:?}")),
        }
    }
    Ok(())
}

/// Brings all there is into memory.
fn walk(fs: &Filesystem, nr: fuse4fs_ext4::ids::InodeNr) -> Result<()> {
    let inode = fs.inode(nr)?;
    fs.xattr_names(&inode)?;
    let mut names = Vec::new();
    if inode.is_directory() {
        fs.readdir(&inode, 0, &mut |entry| {
            names.push(entry.name.to_vec());
            core::ops::ControlFlow::Continue(())
        })?;
    }
    for name in names.iter().filter(|name| !matches!(&name[..], b"." | b"..")) {
        walk(fs, fs.lookup(&inode, name)?.nr)?;
    }
    Ok(())
}
