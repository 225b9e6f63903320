//! What inodes say of themselves.

use anyhow::Result;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Caller, Error, FileKind, InodeFlags, Refusal, SetAttr, SetTime, XattrMode};
use fuse4fs_tests::crash::{Recorder, Synced, Workload};

use super::{ROOT, Verbs, if_supported, new, nothing, pattern};

pub(super) const ALL: &[Workload] = &[
    Workload {
        name: "a crash keeps extended attributes",
        prepare: nothing,
        work: label,
        whole: true,
    },
    Workload {
        name: "a crash keeps attribute blocks that files share",
        prepare: nothing,
        work: share,
        whole: true,
    },
    Workload { name: "a crash keeps ACLs", prepare: nothing, work: lists, whole: true },
    Workload {
        name: "a crash keeps modes, owners and times",
        prepare: nothing,
        work: own,
        whole: true,
    },
    Workload {
        name: "a crash keeps flags and projects",
        prepare: nothing,
        work: flag,
        whole: false,
    },
    Workload {
        name: "a crash keeps usage what quotas say",
        prepare: nothing,
        work: use_quota,
        whole: false,
    },
    Workload { name: "a crash keeps access times", prepare: nothing, work: look, whole: false },
];

fn set(recorder: &Recorder<'_>, nr: InodeNr, name: &[u8], value: &[u8]) -> Result<()> {
    recorder.fs.set_xattr(&recorder.caller(), nr, (name, value), XattrMode::Any, false)?;
    recorder.done()
}

fn remove(recorder: &Recorder<'_>, nr: InodeNr, name: &[u8]) -> Result<()> {
    recorder.fs.remove_xattr(&recorder.caller(), nr, name)?;
    recorder.done()
}

/// In the inode, in a block, and, where there is ea_inode, in inodes of their own.
fn label(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"labelled")?;
    for step in 1..=14_u8 {
        set_if_it_fits(recorder, nr, b"user.value", &vec![step; 40 * usize::from(step)])?;
        set_if_it_fits(recorder, nr, b"user.large", &vec![step; 900 * usize::from(step)])?;
        if step % 2 == 0 {
            recorder.fsync(nr, Synced::All)?;
        }
        if step % 3 == 0 {
            set_if_it_fits(recorder, nr, b"trusted.more", &[step; 30])?;
            set_if_it_fits(recorder, nr, b"user.value", b"")?;
        }
        if step % 5 == 0 {
            set_if_it_fits(recorder, nr, b"user.large", b"small")?;
            remove(recorder, nr, b"user.large")?;
            recorder.sync()?;
        }
    }
    recorder.unlink(ROOT, b"labelled")
}

fn set_if_it_fits(recorder: &Recorder<'_>, nr: InodeNr, name: &[u8], value: &[u8]) -> Result<()> {
    let caller = recorder.caller();
    match recorder.fs.set_xattr(&caller, nr, (name, value), XattrMode::Any, false) {
        Ok(_) | Err(Error::Refused(Refusal::NoSpace)) => recorder.done(),
        Err(error) => Err(error.into()),
    }
}

fn share(recorder: &Recorder<'_>) -> Result<()> {
    let mut files = Vec::new();
    for step in 0..10_u8 {
        let nr = recorder.file(format!("sharing {step}").as_bytes())?;
        set(recorder, nr, b"user.shared", &[5; 600])?;
        files.push(nr);
        if step % 3 == 2 {
            recorder.sync()?;
        }
    }
    for (step, nr) in files.iter().enumerate() {
        match step % 3 {
            0 => set(recorder, *nr, b"user.shared", &[step as u8; 500])?,
            1 => remove(recorder, *nr, b"user.shared")?,
            _ => recorder.unlink(ROOT, format!("sharing {step}").as_bytes())?,
        }
        if step % 4 == 3 {
            recorder.sync()?;
        }
    }
    Ok(())
}

/// A list as setxattr(2) takes it: the owner, user `user`, the group, a mask, others.
fn acl(user: u32, bits: u16) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries =
        [(1, 7, NOBODY), (2, bits, user), (4, 5, NOBODY), (0x10, 7, NOBODY), (0x20, 4, NOBODY)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, bits, id) in entries {
        list.extend(u16::to_le_bytes(tag));
        list.extend(u16::to_le_bytes(bits));
        list.extend(u32::to_le_bytes(id));
    }
    list
}

fn lists(recorder: &Recorder<'_>) -> Result<()> {
    let dir = recorder.create(ROOT, b"dir", FileKind::Directory)?;
    for step in 0..10_u16 {
        let (list, user) = (&b"system.posix_acl_default"[..], 1000 + u32::from(step));
        set(recorder, dir, list, &acl(user, step % 8))?;
        let file = recorder.create(dir, format!("file {step}").as_bytes(), FileKind::Regular)?;
        recorder.create(dir, format!("dir {step}").as_bytes(), FileKind::Directory)?;
        set(recorder, file, b"system.posix_acl_access", &acl(user + 1, 4))?;
        if step % 2 == 0 {
            recorder.fsync(file, Synced::All)?;
        }
        let mode = SetAttr { mode: Some(0o640 + step), ..SetAttr::default() };
        recorder.fs.setattr(&recorder.caller(), file, &mode)?;
        recorder.done()?;
        if step % 3 == 0 {
            remove(recorder, dir, list)?;
            recorder.sync()?;
        }
    }
    Ok(())
}

fn own(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"owned")?;
    recorder.write(nr, 0, &pattern(1, 0, 10_000))?;
    for step in 1..=12_u32 {
        let none = SetAttr::default();
        let change = match step % 4 {
            0 => SetAttr { mode: Some(0o4711), ..none },
            1 => SetAttr { uid: Some(step), gid: Some(step + 100), ..none },
            2 => SetAttr { atime: Some(SetTime::Now), mtime: Some(SetTime::Now), ..none },
            _ => SetAttr { kill_privileges: true, mode: None, ..none },
        };
        recorder.fs.setattr(&recorder.caller(), nr, &change)?;
        recorder.done()?;
        if step % 4 == 0 {
            let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            set(recorder, nr, b"security.capability", &capability)?;
        }
        if step % 3 == 0 {
            recorder.fsync(nr, Synced::All)?;
        }
    }
    Ok(())
}

fn flag(recorder: &Recorder<'_>) -> Result<()> {
    let nr = recorder.file(b"flagged")?;
    let dir = recorder.create(ROOT, b"dir", FileKind::Directory)?;
    let changes = [
        InodeFlags::NODUMP | InodeFlags::NOATIME,
        InodeFlags::APPEND,
        InodeFlags::IMMUTABLE,
        InodeFlags::SYNC,
        InodeFlags::JOURNAL_DATA,
        0,
    ];
    for (step, change) in changes.into_iter().cycle().take(14).enumerate() {
        let kept = recorder.fs.inode(nr)?.flags.bits() & InodeFlags::EXTENTS;
        let flags = InodeFlags::new(kept | change);
        let project = Some(step as u32 * 10);
        let caller = recorder.caller();
        if if_supported(recorder.fs.set_fileattr(&caller, nr, flags, project))?.is_none() {
            recorder.fs.set_flags(&caller, nr, flags)?;
        }
        recorder.done()?;
        if change & (InodeFlags::IMMUTABLE | InodeFlags::APPEND) == 0 {
            recorder.write(nr, step as u64 * 3000, &pattern(1, step as u64 * 3000, 3000))?;
            if_supported(recorder.fs.set_generation(&recorder.caller(), nr, step as u32 + 5))?;
            recorder.done()?;
        }
        if step % 2 == 0 {
            recorder.fsync(nr, Synced::All)?;
            let flags = recorder.fs.inode(dir)?.flags.bits() & InodeFlags::USER_VISIBLE;
            let flags = InodeFlags::new(flags ^ InodeFlags::TOPDIR ^ InodeFlags::DIRSYNC);
            recorder.fs.set_flags(&recorder.caller(), dir, flags)?;
            recorder.done()?;
        }
        // With dirsync the name is durable when the verb is over.
        let name = format!("file {step}");
        recorder.create(dir, name.as_bytes(), FileKind::Regular)?;
        if recorder.fs.inode(dir)?.flags.has(InodeFlags::DIRSYNC) {
            recorder.promise_all();
        }
    }
    Ok(())
}

/// Several users, groups and projects have files, which grow, shrink, and change hands.
fn use_quota(recorder: &Recorder<'_>) -> Result<()> {
    let dir = recorder.create(ROOT, b"open to all", FileKind::Directory)?;
    for step in 0..14_u32 {
        let caller = Caller { uid: step % 3 * 500, gid: step % 2 * 70, ..recorder.caller() };
        let name = format!("file {step}");
        let kind = if step % 5 == 4 { FileKind::Directory } else { FileKind::Regular };
        let nr = recorder.fs.create(&caller, dir, name.as_bytes(), &new(kind))?.nr;
        recorder.done()?;
        if kind == FileKind::Regular {
            recorder.write(nr, 0, &pattern(step as u8, 0, 4000 + 3000 * step as usize))?;
        }
        if step % 3 == 1 {
            recorder.sync()?;
        }
        let change = SetAttr { uid: Some(step % 4 * 500), gid: Some(70), ..SetAttr::default() };
        recorder.fs.setattr(&recorder.caller(), nr, &change)?;
        recorder.done()?;
        let flags = InodeFlags::new(recorder.fs.inode(nr)?.flags.bits() & InodeFlags::USER_VISIBLE);
        if_supported(recorder.fs.set_fileattr(&recorder.caller(), nr, flags, Some(step % 3)))?;
        recorder.done()?;
        if step % 4 == 3 {
            recorder.unlink(dir, format!("file {}", step - 1).as_bytes())?;
            recorder.sync()?;
        }
    }
    Ok(())
}

fn look(recorder: &Recorder<'_>) -> Result<()> {
    let mut files = Vec::new();
    for step in 0..6_u8 {
        files.push(recorder.file(format!("seen {step}").as_bytes())?);
    }
    recorder.sync()?;
    for step in 0..24_usize {
        let nr = files[step % files.len()];
        recorder.fs.accessed(&*recorder.fs.inode(nr)?, recorder.caller().now);
        recorder.done()?;
        if step % 3 == 0 {
            let times = SetAttr { mtime: Some(SetTime::Now), ..SetAttr::default() };
            recorder.fs.setattr(&recorder.caller(), nr, &times)?;
            recorder.done()?;
        }
        if step % 4 == 3 {
            recorder.fsync(nr, Synced::All)?;
        }
        if step % 7 == 6 {
            recorder.sync()?;
        }
    }
    Ok(())
}
