//! Names come, go and move.

use anyhow::Result;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{FileKind, Filesystem, Named, NewInode, Rename};
use fuse4fs_tests::crash::{Recorder, Workload};

use super::{ROOT, Verbs, early, long_name, new, nothing, pattern};

pub(super) const ALL: &[Workload] = &[
    Workload {
        name: "a crash keeps names that were made",
        prepare: nothing,
        work: make,
        whole: true,
    },
    Workload {
        name: "a crash keeps names gone that were taken",
        prepare: nothing,
        work: take,
        whole: true,
    },
    Workload {
        name: "a crash leaves the old or the new file of a rename",
        prepare: nothing,
        work: swap,
        whole: true,
    },
    Workload {
        name: "a crash leaves what moves in one place",
        prepare: nothing,
        work: moves,
        whole: true,
    },
    Workload {
        name: "a crash keeps a directory that grew",
        prepare: nothing,
        work: grow,
        whole: true,
    },
    Workload {
        name: "a crash keeps a directory whose index got a level",
        prepare: nearly_two_levels,
        work: deepen,
        whole: true,
    },
    Workload {
        name: "a crash shows no directory in the file that got its blocks",
        prepare: nothing,
        work: recycle,
        whole: false,
    },
];

const KINDS: [FileKind; 7] = [
    FileKind::Regular,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::CharDevice,
    FileKind::BlockDevice,
    FileKind::Fifo,
    FileKind::Socket,
];

fn make(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=16_usize {
        let kind = KINDS[step % KINDS.len()];
        let nr = recorder.create(ROOT, format!("made {step}").as_bytes(), kind)?;
        if kind != FileKind::Directory {
            let name = format!("link {step}");
            recorder.fs.link(&recorder.caller(), nr, ROOT, name.as_bytes())?;
            recorder.done()?;
        }
        if step % 4 == 3 {
            // A target that needs a block, and a label from birth.
            let target = [b't'; 700];
            let label = Some((&b"security.selinux"[..], &b"system_u:object_r:tmp_t:s0"[..]));
            let long = NewInode { target: &target, label, ..new(FileKind::Symlink) };
            recorder.fs.create(&recorder.caller(), ROOT, &long_name(step as u64), &long)?;
            recorder.done()?;
        }
        if step % 2 == 0 {
            recorder.sync()?;
        }
    }
    Ok(())
}

fn take(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=12_u8 {
        let kind = if step % 2 == 0 { FileKind::Directory } else { FileKind::Regular };
        let nr = recorder.create(ROOT, format!("taken {step}").as_bytes(), kind)?;
        if step % 2 == 1 {
            recorder.write(nr, 0, &pattern(step, 0, 9000))?;
        }
    }
    recorder.sync()?;
    for step in 1..=12_u8 {
        let name = format!("taken {step}");
        if step % 2 == 0 {
            rmdir(recorder, ROOT, name.as_bytes())?;
        } else {
            recorder.unlink(ROOT, name.as_bytes())?;
        }
        if step % 3 == 0 {
            recorder.sync()?;
        }
    }
    Ok(())
}

fn rmdir(recorder: &Recorder<'_>, parent: InodeNr, name: &[u8]) -> Result<()> {
    let caller = recorder.caller();
    let gone = recorder.fs.rmdir(&caller, parent, name)?;
    recorder.done()?;
    recorder.fs.forget(gone.inode, caller.now)?;
    recorder.done()
}

fn rename(recorder: &Recorder<'_>, from: Named<'_>, to: Named<'_>, how: Rename) -> Result<()> {
    let caller = recorder.caller();
    let gone = recorder.fs.rename(&caller, from, to, how)?;
    recorder.done()?;
    if let Some(gone) = gone {
        recorder.fs.forget(gone.inode, caller.now)?;
        recorder.done()?;
    }
    Ok(())
}

const fn at(parent: InodeNr, name: &[u8]) -> Named<'_> {
    Named { parent, name }
}

fn swap(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=12_u8 {
        let nr = recorder.file(b"new")?;
        recorder.write(nr, 0, &pattern(step, 0, 5000))?;
        recorder.fs.close(nr)?;
        if step % 3 != 0 {
            recorder.fsync(nr, fuse4fs_tests::crash::Synced::All)?;
        }
        rename(recorder, at(ROOT, b"new"), at(ROOT, b"file"), Rename::Replace)?;
        if step % 2 == 0 {
            recorder.sync()?;
        }
    }
    Ok(())
}

fn moves(recorder: &Recorder<'_>) -> Result<()> {
    let mut parents = [ROOT; 3];
    for (parent, name) in parents.iter_mut().zip([b"a", b"b", b"c"]) {
        *parent = recorder.create(ROOT, name, FileKind::Directory)?;
    }
    recorder.create(parents[0], b"deep", FileKind::Directory)?;
    recorder.create(parents[0], b"file", FileKind::Regular)?;
    recorder.sync()?;
    for step in 0..12_usize {
        let (from, to) = (parents[step % 3], parents[(step + 1) % 3]);
        rename(recorder, at(from, b"deep"), at(to, b"deep"), Rename::NoReplace)?;
        if step % 4 == 3 {
            recorder.sync()?;
        }
        rename(recorder, at(from, b"file"), at(to, b"file"), Rename::Whiteout)?;
        recorder.unlink(from, b"file")?;
        rename(recorder, at(to, b"deep"), at(to, b"file"), Rename::Exchange)?;
        if step % 3 == 2 {
            recorder.sync()?;
        }
        rename(recorder, at(to, b"file"), at(ROOT, b"b2"), Rename::Replace)?;
        recorder.create(from, b"empty", FileKind::Directory)?;
        // Over an empty directory, and across parents.
        rename(recorder, at(ROOT, b"b2"), at(from, b"empty"), Rename::Replace)?;
        rename(recorder, at(to, b"deep"), at(to, b"file"), Rename::Replace)?;
        rename(recorder, at(from, b"empty"), at(to, b"deep"), Rename::Replace)?;
    }
    recorder.sync()
}

fn grow(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=60 {
        recorder.create(ROOT, &long_name(step), FileKind::Regular)?;
        if step % 6 == 0 {
            recorder.sync()?;
        }
        if step % 10 == 0 {
            recorder.unlink(ROOT, &long_name(step - 5))?;
        }
    }
    Ok(())
}

/// Names in a directory with blocks of 1 KiB whose index gets its second level by the next ones.
const ONE_LEVEL: u64 = 430;

fn nearly_two_levels(fs: &Filesystem) -> Result<()> {
    let nr = fs.create(&early(), ROOT, b"named", &new(FileKind::Regular))?.nr;
    let dir = fs.create(&early(), ROOT, b"large", &new(FileKind::Directory))?.nr;
    for step in 0..ONE_LEVEL {
        fs.link(&early(), nr, dir, &long_name(step))?;
    }
    Ok(())
}

fn deepen(recorder: &Recorder<'_>) -> Result<()> {
    let root = recorder.fs.inode(ROOT)?;
    let nr = recorder.fs.lookup(&root, b"named")?.nr;
    let dir = recorder.fs.lookup(&root, b"large")?.nr;
    for step in ONE_LEVEL..ONE_LEVEL + 120 {
        recorder.fs.link(&recorder.caller(), nr, dir, &long_name(step))?;
        recorder.done()?;
        if step % 15 == 0 {
            recorder.sync()?;
        }
        if step % 20 == 0 {
            recorder.unlink(dir, &long_name(step - ONE_LEVEL))?;
        }
    }
    recorder.sync()
}

/// What a directory's blocks held is in the log, and must not come over the file that has them now.
fn recycle(recorder: &Recorder<'_>) -> Result<()> {
    for step in 1..=6_u8 {
        let dir = recorder.create(ROOT, b"dir", FileKind::Directory)?;
        for name in 0..14 {
            recorder.create(dir, &long_name(name), FileKind::Fifo)?;
        }
        recorder.sync()?;
        for name in 0..14 {
            recorder.unlink(dir, &long_name(name))?;
        }
        rmdir(recorder, ROOT, b"dir")?;
        recorder.sync()?;
        let nr = recorder.file(format!("file {step}").as_bytes())?;
        recorder.write(nr, 0, &pattern(step, 0, 30_000))?;
        recorder.fsync(nr, fuse4fs_tests::crash::Synced::All)?;
    }
    Ok(())
}
