//! What is done between crashes. Each step leaves something that the next steps do not undo before a
//! later step is synced, so that a check knows what must be there.

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Caller, Fallocate, FileKind, Filesystem, KeepSize, Named, NewInode, Rename, Timestamp,
    WriteKind, XattrMode,
};
use fuse4fs_tests::crash::Workload;

/// All of them.
pub(crate) const ALL: &[Workload] = &[
    Workload { name: "a crash keeps names that were made", work: make, check: made },
    Workload { name: "a crash keeps names gone that were taken", work: take, check: taken },
    Workload {
        name: "a crash leaves the old or the new file of a rename",
        work: swap,
        check: swapped,
    },
    Workload {
        name: "a crash shows nothing stale in appended files",
        work: append,
        check: appended,
    },
    Workload { name: "a crash keeps what was cut and punched", work: cut, check: was_cut },
    Workload { name: "a crash keeps a directory that grew", work: grow, check: grown },
    Workload { name: "a crash keeps attributes", work: label, check: labelled },
    Workload { name: "a crash frees unlinked files that were open", work: orphan, check: orphaned },
];

/// Those that need the content of files to go through the log.
pub(crate) const JOURNALLED: &[Workload] = &[
    Workload {
        name: "a crash leaves the old or the new content of a write",
        work: overwrite,
        check: overwritten,
    },
    Workload {
        name: "a crash brings no freed content into other files",
        work: reuse,
        check: reused,
    },
];

const ROOT: InodeNr = InodeNr::ROOT;
const DIRECT: WriteKind = WriteKind::Direct { kill_set_id: false };

fn caller() -> Caller {
    let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Caller { uid: 0, gid: 0, group: None, umask: 0o022, now }
}

fn new(kind: FileKind) -> NewInode<'static> {
    NewInode { kind, permissions: 0o755, rdev: (1, 3), target: b"/where/it/leads", label: None }
}

fn create(fs: &Filesystem, name: &str, kind: FileKind) -> Result<InodeNr> {
    Ok(fs.create(&caller(), ROOT, name.as_bytes(), &new(kind))?.nr)
}

fn exists(fs: &Filesystem, name: &str) -> Result<Option<InodeNr>> {
    let root = fs.inode(ROOT)?;
    match fs.lookup(&root, name.as_bytes()) {
        Ok(inode) => Ok(Some(inode.nr)),
        Err(fuse4fs_ext4::Error::Refused(fuse4fs_ext4::Refusal::NotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn content(fs: &Filesystem, nr: InodeNr) -> Result<Vec<u8>> {
    let inode = fs.inode(nr)?;
    let mut bytes = vec![0; usize::try_from(inode.size)?];
    let read = fs.read(&inode, 0, &mut bytes)?;
    ensure!(read == bytes.len(), "{read} of {} bytes", bytes.len());
    Ok(bytes)
}

fn write(fs: &Filesystem, nr: InodeNr, offset: u64, bytes: &[u8]) -> Result<()> {
    let written = fs.write(&caller(), nr, DIRECT, (offset, bytes))?;
    ensure!(written == bytes.len(), "{written} of {} bytes were written", bytes.len());
    Ok(())
}

const KINDS: [FileKind; 4] =
    [FileKind::Regular, FileKind::Directory, FileKind::Symlink, FileKind::CharDevice];

fn make(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    for step in 1..=16 {
        let nr = create(fs, &format!("made {step}"), KINDS[step as usize % KINDS.len()])?;
        if step % 4 != 1 {
            fs.link(
                &caller(),
                create(fs, &format!("f{step}"), FileKind::Regular)?,
                ROOT,
                format!("link {step}").as_bytes(),
            )?;
        }
        let _ = nr;
        if step % 2 == 0 {
            fs.sync()?;
            mark(step);
        }
    }
    Ok(())
}

fn made(fs: &Filesystem, step: u64) -> Result<()> {
    for step in 1..=step {
        let nr = exists(fs, &format!("made {step}"))?.with_context(|| format!("no {step}"))?;
        ensure!(fs.inode(nr)?.kind == KINDS[step as usize % KINDS.len()]);
        if step % 4 != 1 {
            let nr =
                exists(fs, &format!("link {step}"))?.with_context(|| format!("no link {step}"))?;
            ensure!(fs.inode(nr)?.links == 2);
        }
    }
    Ok(())
}

fn take(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    for step in 1..=12 {
        let kind = if step % 2 == 0 { FileKind::Directory } else { FileKind::Regular };
        let nr = create(fs, &format!("taken {step}"), kind)?;
        if step % 2 == 1 {
            write(fs, nr, 0, &[7; 9000])?;
        }
    }
    fs.sync()?;
    for step in 1..=12 {
        let name = format!("taken {step}");
        let gone = match step % 2 {
            0 => fs.rmdir(&caller(), ROOT, name.as_bytes())?,
            _ => fs.unlink(&caller(), ROOT, name.as_bytes())?,
        };
        fs.forget(gone.inode, caller().now)?;
        if step % 3 == 0 {
            fs.sync()?;
            mark(step);
        }
    }
    Ok(())
}

fn taken(fs: &Filesystem, step: u64) -> Result<()> {
    for step in 1..=step {
        ensure!(exists(fs, &format!("taken {step}"))?.is_none(), "{step} is back");
    }
    Ok(())
}

fn swap(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    for step in 1..=10_u8 {
        let nr = create(fs, "new", FileKind::Regular)?;
        write(fs, nr, 0, &[step; 5000])?;
        fs.sync()?;
        let (from, to) =
            (Named { parent: ROOT, name: b"new" }, Named { parent: ROOT, name: b"file" });
        if let Some(gone) = fs.rename(&caller(), from, to, Rename::Replace)? {
            fs.forget(gone.inode, caller().now)?;
        }
        if step % 2 == 0 {
            fs.sync()?;
            mark(step.into());
        }
    }
    Ok(())
}

fn swapped(fs: &Filesystem, step: u64) -> Result<()> {
    let Some(nr) = exists(fs, "file")? else {
        ensure!(step == 0, "no file at {step}");
        return Ok(());
    };
    let bytes = content(fs, nr)?;
    ensure!(bytes.len() == 5000 && bytes.iter().all(|&byte| byte == bytes[0]), "a mixed file");
    ensure!(u64::from(bytes[0]) >= step, "file of {} at {step}", bytes[0]);
    Ok(())
}

/// The byte at `offset` of an appended file.
fn pattern(offset: u64) -> u8 {
    (offset / 7 % 200) as u8
}

const APPENDED: u64 = 3000;

fn append(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    let nr = create(fs, "log", FileKind::Regular)?;
    for step in 1..=20 {
        let start = (step - 1) * APPENDED;
        let bytes: Vec<u8> = (start..start + APPENDED).map(pattern).collect();
        write(fs, nr, start, &bytes)?;
        if step % 2 == 0 {
            fs.sync()?;
            mark(step);
        }
    }
    Ok(())
}

fn appended(fs: &Filesystem, step: u64) -> Result<()> {
    let Some(nr) = exists(fs, "log")? else {
        ensure!(step == 0, "no file at {step}");
        return Ok(());
    };
    let bytes = content(fs, nr)?;
    ensure!(bytes.len() as u64 >= step * APPENDED, "{} bytes at {step}", bytes.len());
    let wrong = bytes.iter().zip(0..).position(|(&byte, offset)| byte != pattern(offset));
    ensure!(wrong.is_none(), "byte {wrong:?} of {}", bytes.len());
    Ok(())
}

fn cut(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    let nr = create(fs, "cut", FileKind::Regular)?;
    write(fs, nr, 0, &[9; 200_000])?;
    fs.sync()?;
    mark(1);
    for step in 2..=9_u64 {
        if step % 3 == 0 {
            let hole = (step * 10_000, 5000);
            // Files without extents have no holes punched.
            let _ = fs.fallocate(&caller(), nr, Fallocate::PunchHole, hole);
        }
        fs.truncate(&caller(), nr, 200_000 - step * 15_000)?;
        if step % 4 == 0 {
            let more = (190_000, 20_000);
            let _ = fs.fallocate(&caller(), nr, Fallocate::Allocate(KeepSize::Yes), more);
        }
        fs.sync()?;
        mark(step);
    }
    Ok(())
}

fn was_cut(fs: &Filesystem, step: u64) -> Result<()> {
    let Some(nr) = exists(fs, "cut")? else {
        ensure!(step == 0, "no file at {step}");
        return Ok(());
    };
    let bytes = content(fs, nr)?;
    ensure!(bytes.iter().all(|&byte| byte == 9 || byte == 0), "stale bytes");
    let most = if step < 2 { 200_000 } else { 200_000 - step * 15_000 };
    ensure!(bytes.len() as u64 <= most, "{} bytes at {step}", bytes.len());
    Ok(())
}

fn long_name(step: u64) -> String {
    format!("{step:04}-{}", "x".repeat(150))
}

fn grow(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    for step in 1..=60 {
        create(fs, &long_name(step), FileKind::Regular)?;
        if step % 6 == 0 {
            fs.sync()?;
            mark(step);
        }
    }
    Ok(())
}

fn grown(fs: &Filesystem, step: u64) -> Result<()> {
    for step in 1..=step {
        ensure!(exists(fs, &long_name(step))?.is_some(), "no {step}");
    }
    Ok(())
}

fn label(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    let nr = create(fs, "labelled", FileKind::Regular)?;
    for step in 1..=12_u8 {
        let value = vec![step; 40 * usize::from(step)];
        let value = (&b"user.value"[..], &value[..]);
        fs.set_xattr(&caller(), nr, value, XattrMode::Any, false)?;
        fs.sync()?;
        mark(step.into());
    }
    Ok(())
}

fn labelled(fs: &Filesystem, step: u64) -> Result<()> {
    if step == 0 {
        return Ok(());
    }
    let nr = exists(fs, "labelled")?.context("no file")?;
    let value = fs.xattr(&*fs.inode(nr)?, b"user.value")?;
    ensure!(u64::from(value[0]) >= step, "value of {} at {step}", value[0]);
    ensure!(value == vec![value[0]; 40 * usize::from(value[0])], "a mixed value");
    Ok(())
}

fn orphan(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    let mut open = Vec::new();
    for step in 1..=8 {
        let name = format!("open {step}");
        let nr = create(fs, &name, FileKind::Regular)?;
        write(fs, nr, 0, &[3; 20_000])?;
        fs.unlink(&caller(), ROOT, name.as_bytes())?;
        open.push(nr);
        fs.sync()?;
        mark(step);
        if step % 3 == 0 {
            fs.forget(open.remove(0), caller().now)?;
        }
    }
    for nr in open {
        fs.forget(nr, caller().now)?;
    }
    Ok(())
}

fn orphaned(fs: &Filesystem, step: u64) -> Result<()> {
    for step in 1..=step {
        ensure!(exists(fs, &format!("open {step}"))?.is_none(), "{step} has its name again");
    }
    Ok(())
}

const OVERWRITTEN: usize = 7000;

fn overwrite(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    let nr = create(fs, "file", FileKind::Regular)?;
    for step in 1..=20_u8 {
        write(fs, nr, 0, &[step; OVERWRITTEN])?;
        if step % 3 == 0 {
            fs.sync()?;
            mark(step.into());
        }
    }
    Ok(())
}

fn overwritten(fs: &Filesystem, step: u64) -> Result<()> {
    let Some(nr) = exists(fs, "file")? else {
        ensure!(step == 0, "no file at {step}");
        return Ok(());
    };
    let bytes = content(fs, nr)?;
    if bytes.is_empty() {
        ensure!(step == 0, "an empty file at {step}");
        return Ok(());
    }
    ensure!(bytes == [bytes[0]; OVERWRITTEN], "a mixed file of {} bytes", bytes.len());
    ensure!(u64::from(bytes[0]) >= step, "content of {} at {step}", bytes[0]);
    Ok(())
}

/// Files follow each other in the same blocks, and so does a directory that grows.
fn reuse(fs: &Filesystem, mark: &dyn Fn(u64)) -> Result<()> {
    for step in 1..=14_u8 {
        let name = format!("file {step}");
        let nr = create(fs, &name, FileKind::Regular)?;
        write(fs, nr, 0, &[step; 30_000])?;
        fs.sync()?;
        mark(step.into());
        if step % 2 == 0 {
            fs.truncate(&caller(), nr, 500)?;
            let gone = format!("file {}", step - 1);
            let gone = fs.unlink(&caller(), ROOT, gone.as_bytes())?;
            fs.forget(gone.inode, caller().now)?;
            for index in 0..8 {
                create(fs, &long_name(u64::from(step) * 10 + index), FileKind::Regular)?;
            }
            fs.sync()?;
            mark(step.into());
        }
    }
    Ok(())
}

fn reused(fs: &Filesystem, step: u64) -> Result<()> {
    for file in 1..=14_u8 {
        let Some(nr) = exists(fs, &format!("file {file}"))? else {
            // The odd ones go again.
            ensure!(u64::from(file) > step || file % 2 == 1, "no {file} at {step}");
            continue;
        };
        let bytes = content(fs, nr)?;
        ensure!(bytes.iter().all(|&byte| byte == file), "{file} at {step} has bytes of others");
    }
    Ok(())
}
