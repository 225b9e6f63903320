//! Bytes come, go and move.

use anyhow::Result;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Fallocate, FileKind, Filesystem, KeepSize, SetAttr, SetTime, Timestamp, WriteKind,
};
use fuse4fs_tests::crash::{Recorder, Synced, Workload};

use super::{DIRECT, ROOT, Verbs, early, if_supported, long_name, new, nothing, pattern};

pub(super) const ALL: &[Workload] = &[
    Workload {
        name: "a crash shows nothing stale in appended files",
        prepare: nothing,
        work: append,
        whole: true,
    },
    Workload {
        name: "a crash leaves the old or the new content of a write",
        prepare: nothing,
        work: overwrite,
        whole: true,
    },
    Workload {
        name: "a crash keeps what was cut and punched",
        prepare: nothing,
        work: cut,
        whole: false,
    },
    Workload {
        name: "a crash leaves zeros where space was only set aside",
        prepare: nothing,
        work: allocate,
        whole: false,
    },
    Workload {
        name: "a crash keeps a map of many pieces",
        prepare: nothing,
        work: scatter,
        whole: false,
    },
    Workload {
        name: "a crash in a long truncation is finished",
        prepare: in_pieces,
        work: cut_pieces,
        whole: false,
    },
    Workload { name: "a crash keeps copies", prepare: nothing, work: copy, whole: false },
    Workload {
        name: "a crash brings no freed content into other files",
        prepare: nothing,
        work: reuse,
        whole: false,
    },
    Workload {
        name: "a crash keeps what came from the page cache",
        prepare: nothing,
        work: cached,
        whole: false,
    },
];

fn append(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"log")?;
    for step in 0..20 {
        recorder.write(nr, step * 3000, &pattern(1, step * 3000, 3000))?;
        if step % 4 == 1 {
            recorder.fsync(nr, Synced::Data)?;
        }
        if step % 4 == 3 {
            recorder.sync()?;
        }
    }
    Ok(())
}

fn overwrite(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"file")?;
    for step in 1..=20_u8 {
        recorder.write(nr, 0, &pattern(step, step.into(), 7000))?;
        if step % 3 == 0 {
            recorder.fsync(nr, Synced::All)?;
        }
        if step % 5 == 0 {
            // Not at the boundaries of blocks.
            recorder.write(nr, 2500, &pattern(step + 1, 0, 3100))?;
            recorder.fsync(nr, Synced::Data)?;
        }
    }
    Ok(())
}

fn fallocate(
    recorder: &Recorder<'_>,
    nr: InodeNr,
    how: Fallocate,
    range: (u64, u64),
) -> Result<()> {
    // Files without extents have none of it.
    if_supported(recorder.fs.fallocate(&recorder.caller(), nr, how, range))?;
    recorder.done()
}

fn truncate(recorder: &Recorder<'_>, nr: InodeNr, size: u64) -> Result<()> {
    recorder.fs.truncate(&recorder.caller(), nr, size)?;
    recorder.done()
}

fn cut(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"cut")?;
    recorder.write(nr, 0, &pattern(1, 0, 200_000))?;
    recorder.sync()?;
    for step in 2..=9_u64 {
        if step % 2 == 0 {
            fallocate(recorder, nr, Fallocate::PunchHole, (step * 10_000, 5000))?;
        }
        truncate(recorder, nr, 200_000 - step * 15_000)?;
        if step % 4 == 0 {
            let more = Fallocate::Allocate(KeepSize::Yes);
            fallocate(recorder, nr, more, (190_000, 20_000))?;
        }
        if step % 3 == 0 {
            // What was behind the end is gone for good.
            truncate(recorder, nr, 200_000 - step * 14_000)?;
        }
        if step % 2 == 1 { recorder.fsync(nr, Synced::All)? } else { recorder.sync()? }
    }
    recorder.unlink(ROOT, b"cut")
}

fn allocate(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"allocated")?;
    for step in 0..8_u64 {
        let start = step * 40_000;
        let keep = if step % 2 == 0 { KeepSize::No } else { KeepSize::Yes };
        fallocate(recorder, nr, Fallocate::Allocate(keep), (start, 30_000))?;
        if step % 3 == 0 {
            recorder.sync()?;
        }
        // In the middle, at the start and at the end of what is unwritten.
        recorder.write(nr, start + 10_240, &pattern(1, start + 10_240, 4096))?;
        recorder.write(nr, start, &pattern(1, start, 1500))?;
        recorder.write(nr, start + 28_000, &pattern(1, start + 28_000, 2000))?;
        recorder.fsync(nr, if step % 2 == 0 { Synced::Data } else { Synced::All })?;
        let keep = if step % 2 == 1 { KeepSize::No } else { KeepSize::Yes };
        fallocate(recorder, nr, Fallocate::ZeroRange(keep), (start + 9000, 3000))?;
    }
    truncate(recorder, nr, 100_000)?;
    recorder.sync()
}

/// A block here and there: extents, or indirect blocks, in several levels.
fn scatter(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"scattered")?;
    for step in 0..60_u64 {
        let offset = step * 7 % 60 * 9 * 1024 + step % 3 * 300_000;
        recorder.write(nr, offset, &pattern(1, offset, 1024))?;
        if step % 10 == 9 {
            recorder.fsync(nr, Synced::Data)?;
        }
    }
    for step in 0..20_u64 {
        fallocate(recorder, nr, Fallocate::PunchHole, (step * 31_000, 12_000))?;
        if step % 5 == 4 {
            recorder.sync()?;
        }
    }
    truncate(recorder, nr, 40_000)?;
    recorder.sync()
}

const PIECES: u64 = 600;

/// Files of so many extents, or with so many indirect blocks, that they are not cut in one go.
fn in_pieces(fs: &Filesystem) -> Result<()> {
    for name in [b"one", b"two"] {
        let nr = fs.create(&early(), ROOT, name, &new(FileKind::Regular))?.nr;
        for step in 0..PIECES {
            let at = step * 3 * 4096;
            fs.write(&early(), nr, DIRECT, (at, &pattern(1, at, 1024)))?;
        }
    }
    Ok(())
}

fn cut_pieces(recorder: &Recorder<'_>) -> Result<()> {
    let root = recorder.fs.inode(ROOT)?;
    let nr = recorder.fs.lookup(&root, b"one")?.nr;
    for size in [PIECES * 9000, PIECES * 8000, 500_000, 9_000_000, 1000] {
        truncate(recorder, nr, size)?;
        recorder.fsync(nr, Synced::All)?;
    }
    recorder.unlink(ROOT, b"two")?;
    recorder.sync()
}

fn copy(recorder: &Recorder<'_>) -> Result<()> {
    let from = recorder.file(b"from")?;
    recorder.write(from, 0, &pattern(1, 0, 60_000))?;
    fallocate(recorder, from, Fallocate::PunchHole, (20_000, 10_000))?;
    let to = recorder.file(b"to")?;
    recorder.sync()?;
    for step in 0..10_u64 {
        let (source, target) = (step * 5000, step * 6000);
        let caller = recorder.caller();
        recorder.fs.copy_file_range(&caller, (from, source), (to, target), 15_000)?;
        recorder.done()?;
        if step % 2 == 1 {
            recorder.fsync(to, Synced::All)?;
        }
    }
    Ok(())
}

/// Files follow each other in the same blocks, and so does a directory that grows.
fn reuse(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=14_u8 {
        let nr = recorder.file(format!("file {step}").as_bytes())?;
        recorder.write(nr, 0, &pattern(step, 0, 30_000))?;
        recorder.sync()?;
        if step % 2 == 0 {
            truncate(recorder, nr, 500)?;
            recorder.unlink(ROOT, format!("file {}", step - 1).as_bytes())?;
            for index in 0..8 {
                let name = long_name(u64::from(step) * 10 + index);
                recorder.create(ROOT, &name, FileKind::Regular)?;
            }
            recorder.sync()?;
        }
    }
    Ok(())
}

/// The kernel writes pages in an order of its own, and tells times later.
fn cached(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"cached")?;
    for step in 0..12_u64 {
        let offset = step * 5 % 12 * 8192;
        let bytes = pattern(1, offset, 8192);
        recorder.fs.write(&recorder.caller(), nr, WriteKind::Cached, (offset, &bytes))?;
        recorder.done()?;
        let time = Timestamp { seconds: 1_650_000_000 + step as i64, nanoseconds: 7 };
        let times =
            SetAttr { mtime: Some(SetTime::At(time)), ctime: Some(time), ..SetAttr::default() };
        recorder.fs.setattr(&recorder.caller(), nr, &times)?;
        recorder.done()?;
        if step % 3 == 2 {
            recorder.fsync(nr, Synced::All)?;
        }
    }
    Ok(())
}
