//! What makes things durable, in all the ways there are, and what an administrator asks for.

use std::time::{Duration, Instant};

use anyhow::Result;
use fuse4fs_ext4::{FileKind, SetAttr, Trim};
use fuse4fs_tests::crash::{Recorder, Synced, Workload};

use super::{ROOT, Verbs, long_name, nothing, pattern};

pub(super) const ALL: &[Workload] = &[
    Workload {
        name: "a crash keeps the files that were synced among others",
        prepare: nothing,
        work: some,
        whole: false,
    },
    Workload {
        name: "a crash keeps what commits that nobody waited for have left",
        prepare: nothing,
        work: by_itself,
        whole: true,
    },
    Workload {
        name: "a crash keeps what a log that went round has left",
        prepare: nothing,
        work: round,
        whole: true,
    },
    Workload {
        name: "a crash keeps what was done ten seconds ago",
        prepare: nothing,
        work: pauses,
        whole: true,
    },
    Workload {
        name: "a crash keeps what administrators did",
        prepare: nothing,
        work: administrate,
        whole: true,
    },
];

/// fsync and fdatasync of a file or a directory, while others change.
fn some(recorder: &Recorder<'_>) -> Result<()> {
    let dir = recorder.create(ROOT, b"dir", FileKind::Directory)?;
    let mut files = Vec::new();
    for step in 0..5_u8 {
        files.push(recorder.create(dir, format!("file {step}").as_bytes(), FileKind::Regular)?);
    }
    for step in 0..30_usize {
        let (nr, other) = (files[step % 5], files[(step + 2) % 5]);
        let tag = (step % 5) as u8;
        let offset = (step / 5 * 2500) as u64;
        recorder.write(nr, offset, &pattern(tag, offset, 2500))?;
        if step % 4 == 0 {
            let mode = SetAttr { mode: Some(0o600 + (step % 8) as u16), ..SetAttr::default() };
            recorder.fs.setattr(&recorder.caller(), other, &mode)?;
            recorder.done()?;
        }
        match step % 6 {
            0 => recorder.fsync(nr, Synced::All)?,
            2 => recorder.fsync(other, Synced::Data)?,
            3 => recorder.fsync(nr, Synced::Data)?,
            4 => recorder.fsync(dir, Synced::All)?,
            _ => (),
        }
        // Nothing new in it: a flush at most.
        if step % 7 == 0 {
            recorder.fsync(nr, Synced::All)?;
        }
    }
    Ok(())
}

/// Nobody syncs anything, but there are pauses.
fn pauses(recorder: &Recorder<'_>) -> Result<()> {
    let kept = recorder.file(b"kept")?;
    recorder.write(kept, 0, &pattern(1, 0, 6000))?;
    recorder.idle()?;
    for step in 0..12_u64 {
        let nr = recorder.create(ROOT, &long_name(step), FileKind::Regular)?;
        recorder.write(nr, 0, &pattern(step as u8, 0, 3000))?;
        // Replaces what is there.
        let offset = step % 6 * 1000;
        recorder.write(kept, offset, &pattern(1, offset, 1000))?;
        if step > 2 {
            recorder.unlink(ROOT, &long_name(step - 3))?;
        }
        if step % 4 == 1 {
            recorder.idle()?;
        }
    }
    Ok(())
}

/// The thread that commits every few seconds promises nothing, and writes home what it likes.
fn by_itself(recorder: &Recorder<'_>) -> Result<()> {
    for step in 0..20_u64 {
        let nr = recorder.create(ROOT, &long_name(step), FileKind::Regular)?;
        recorder.write(nr, 0, &pattern(step as u8, 0, 2000))?;
        if step % 3 == 0 {
            recorder.fs.commit_if_due(Instant::now() + Duration::from_secs(60))?;
        }
        if step % 8 == 7 {
            recorder.fs.checkpoint()?;
            recorder.promise_all();
        }
    }
    Ok(())
}

/// So many blocks that the log's end is overwritten more than once.
fn round(recorder: &Recorder<'_>) -> Result<()> {
    let mut dirs = Vec::new();
    for step in 0..12_u64 {
        dirs.push(recorder.create(ROOT, format!("dir {step}").as_bytes(), FileKind::Directory)?);
    }
    for step in 0..180_u64 {
        let dir = dirs[step as usize % dirs.len()];
        recorder.create(dir, &long_name(step), FileKind::Socket)?;
        if step % 2 == 0 {
            recorder.sync()?;
        }
        if step % 4 == 3 {
            recorder.unlink(dirs[(step as usize - 2) % dirs.len()], &long_name(step - 2))?;
        }
    }
    Ok(())
}

fn administrate(recorder: &Recorder<'_>) -> Result<()> {
    for step in 0..12_u64 {
        recorder.fs.set_label(format!("label {step}").as_bytes())?;
        let nr = recorder.file(format!("file {step}").as_bytes())?;
        recorder.write(nr, 0, &pattern(step as u8, 0, 6000))?;
        match step % 4 {
            0 => {
                recorder.fs.checkpoint()?;
                recorder.promise_all();
            }
            1 => {
                let all = Trim { start: 0, len: u64::MAX, least: 0 };
                recorder.fs.trim(all, Instant::now() + Duration::from_secs(60))?;
            }
            2 => recorder.sync()?,
            _ => recorder.unlink(ROOT, format!("file {}", step - 1).as_bytes())?,
        }
    }
    recorder.fs.shut_down()?;
    recorder.promise_all();
    Ok(())
}
