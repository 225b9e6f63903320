//! Files without a name that somebody has open.

use anyhow::Result;
use fuse4fs_ext4::{FileKind, Named, Rename};
use fuse4fs_tests::crash::{Recorder, Workload};

use super::{ROOT, Verbs, new, nothing, pattern};

pub(super) const ALL: &[Workload] = &[
    Workload {
        name: "a crash frees unlinked files that were open",
        prepare: nothing,
        work: orphan,
        whole: true,
    },
    Workload {
        name: "a crash frees what O_TMPFILE made or keeps its name",
        prepare: nothing,
        work: tmpfile,
        whole: false,
    },
    Workload {
        name: "a crash frees what a rename replaced while it was open",
        prepare: nothing,
        work: replaced,
        whole: false,
    },
];

fn orphan(recorder: &Recorder<'_>) -> Result<()> {
    let mut open = Vec::new();
    for step in 1..=10_u8 {
        let name = format!("open {step}");
        let nr = recorder.file(name.as_bytes())?;
        recorder.write(nr, 0, &pattern(step, 0, 20_000))?;
        recorder.fs.unlink(&recorder.caller(), ROOT, name.as_bytes())?;
        recorder.done()?;
        // It lives on for whoever has it open.
        recorder.write(nr, 20_000, &pattern(step, 20_000, 5000))?;
        open.push(nr);
        recorder.sync()?;
        if step % 3 == 0 {
            recorder.fs.truncate(&recorder.caller(), open[1], 3000)?;
            recorder.fs.forget(open.remove(0), recorder.caller().now)?;
            recorder.done()?;
        }
    }
    recorder.fs.forget_all(recorder.caller().now)?;
    recorder.done()
}

fn tmpfile(recorder: &Recorder<'_>) -> Result<()> {
    let dir = recorder.create(ROOT, b"dir", FileKind::Directory)?;
    for step in 1..=12_u8 {
        let caller = recorder.caller();
        let nr = recorder.fs.tmpfile(&caller, dir, &new(FileKind::Regular))?.nr;
        recorder.write(nr, 0, &pattern(step, 0, 9000))?;
        if step % 4 == 0 {
            recorder.sync()?;
        }
        if step % 3 == 0 {
            recorder.fs.forget(nr, caller.now)?;
        } else if step % 3 == 1 {
            recorder.fs.link(&recorder.caller(), nr, dir, format!("linked {step}").as_bytes())?;
            recorder.done()?;
            recorder.fs.fsync(nr, false)?;
        }
        if step % 5 == 0 {
            recorder.sync()?;
        }
    }
    recorder.fs.forget_all(recorder.caller().now)?;
    recorder.done()
}

fn replaced(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=10_u8 {
        let nr = recorder.file(b"new")?;
        recorder.write(nr, 0, &pattern(step, 0, 12_000))?;
        let (from, to) =
            (Named { parent: ROOT, name: b"new" }, Named { parent: ROOT, name: b"file" });
        recorder.fs.rename(&recorder.caller(), from, to, Rename::Replace)?;
        recorder.done()?;
        if step % 2 == 0 {
            recorder.sync()?;
        }
        if step % 4 == 0 {
            recorder.fs.forget_all(recorder.caller().now)?;
            recorder.done()?;
        }
    }
    recorder.sync()?;
    recorder.fs.forget_all(recorder.caller().now)?;
    recorder.done()
}
