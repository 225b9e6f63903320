//! Verbs that change what is known of a file beside names and content.

use anyhow::{Result, ensure};
use fuse4fs_ext4::{Filesystem, InodeFlags, SetAttr, SetTime, Timestamp};

use crate::names::one_file;
use crate::tools::*;
use crate::verb::{Extent, UNLINK_WITH_ATTRIBUTES, Verb};

const fn whole(
    name: &'static str,
    setup: fn(&Filesystem) -> Result<()>,
    act: fn(&Filesystem) -> Answer,
    done: fn(&Filesystem) -> Result<()>,
) -> Verb {
    Verb { name, setup, act, done, extent: Extent::Whole }
}

pub(crate) const ALL: &[Verb] = &[
    whole("chmod", one_file, chmod, |fs| {
        ensure!(fs.inode(at(fs, "file")?)?.permissions == 0o600);
        Ok(())
    }),
    whole("chown", one_file, chown, |fs| {
        ensure!(fs.inode(at(fs, "file")?)?.uid == 70_000);
        Ok(())
    }),
    whole("utimes", one_file, utimes, |fs| {
        ensure!(fs.inode(at(fs, "file")?)?.mtime == LATER);
        Ok(())
    }),
    whole(
        "attribute in the inode",
        one_file,
        |fs| set(fs, "file", "user.a", &[1; 20]),
        |fs| has(fs, "file", "user.a", &[1; 20]),
    ),
    whole(
        "attribute in a block",
        one_file,
        |fs| set(fs, "file", "user.a", &[1; 500]),
        |fs| has(fs, "file", "user.a", &[1; 500]),
    ),
    whole(
        "attribute in an inode of its own",
        one_file,
        |fs| set(fs, "file", "user.a", &[1; 5000]),
        |fs| has(fs, "file", "user.a", &[1; 5000]),
    ),
    whole(
        "attribute that is replaced in a shared block",
        shared,
        |fs| set(fs, "file", "user.a", &[2; 600]),
        |fs| {
            has(fs, "file", "user.a", &[2; 600])
                .and_then(|()| has(fs, "other", "user.a", &[1; 500]))
        },
    ),
    whole("attribute that is removed", labelled, remove, |fs| {
        ensure!(fs.xattr(&*fs.inode(at(fs, "file")?)?, b"user.a").is_err());
        Ok(())
    }),
    Verb {
        name: UNLINK_WITH_ATTRIBUTES,
        setup: labelled,
        act: |fs| unlink(fs, "file"),
        done: |fs| is_gone(fs, "file"),
        extent: Extent::Parts,
    },
    whole(
        "ACL",
        one_file,
        |fs| set(fs, "file", "system.posix_acl_access", ACL),
        |fs| has(fs, "file", "system.posix_acl_access", ACL),
    ),
    whole(
        "flags",
        one_file,
        |fs| flags(fs, InodeFlags::NODUMP | InodeFlags::NOATIME),
        |fs| has_flags(fs, InodeFlags::NOATIME),
    ),
    Verb {
        name: "flag of journalled data",
        setup: one_file,
        act: journalled,
        done: |fs| holds(fs, "file", &[(3000, 2), (2000, 1)]),
        extent: Extent::Parts,
    },
    whole(
        "label",
        one_file,
        |fs| fs.set_label(b"new"),
        |fs| {
            ensure!(fs.label()? == b"new");
            Ok(())
        },
    ),
];

fn setattr(fs: &Filesystem, set: &SetAttr) -> Answer {
    fs.setattr(&caller(), at(fs, "file")?, set).map(drop)
}

fn chmod(fs: &Filesystem) -> Answer {
    setattr(fs, &SetAttr { mode: Some(0o600), ..SetAttr::default() })
}

fn chown(fs: &Filesystem) -> Answer {
    setattr(fs, &SetAttr { uid: Some(70_000), gid: Some(5), ..SetAttr::default() })
}

const LATER: Timestamp = Timestamp { seconds: 1_800_000_000, nanoseconds: 7 };

fn utimes(fs: &Filesystem) -> Answer {
    let time = Some(SetTime::At(LATER));
    setattr(fs, &SetAttr { atime: time, mtime: time, ..SetAttr::default() })
}

fn shared(fs: &Filesystem) -> Result<()> {
    for path in ["file", "other"] {
        file(fs, path)?;
        set(fs, path, "user.a", &[1; 500])?;
    }
    Ok(())
}

fn labelled(fs: &Filesystem) -> Result<()> {
    shared(fs)?;
    set(fs, "file", "user.b", &[3; 300])?;
    // Where there are no inodes for values, it is too long.
    let _ = set(fs, "file", "user.c", &[4; 3000]);
    Ok(())
}

fn remove(fs: &Filesystem) -> Answer {
    fs.remove_xattr(&caller(), at(fs, "file")?, b"user.a").map(drop)
}

fn flags(fs: &Filesystem, more: u32) -> Answer {
    let nr = at(fs, "file")?;
    let old = fs.inode(nr)?.flags;
    let visible = InodeFlags::new(old.bits() & InodeFlags::USER_VISIBLE);
    fs.set_flags(&caller(), nr, visible.with(more)).map(drop)
}

fn has_flags(fs: &Filesystem, wanted: u32) -> Result<()> {
    ensure!(fs.inode(at(fs, "file")?)?.flags.has(wanted));
    Ok(())
}

/// Content goes through the log, and then past it again.
fn journalled(fs: &Filesystem) -> Answer {
    flags(fs, InodeFlags::JOURNAL_DATA)?;
    write(fs, at(fs, "file")?, 0, 3000, 9)?;
    let nr = at(fs, "file")?;
    let old = fs.inode(nr)?.flags;
    let visible = InodeFlags::new(old.bits() & InodeFlags::USER_VISIBLE);
    fs.set_flags(&caller(), nr, visible.without(InodeFlags::JOURNAL_DATA))?;
    write(fs, nr, 0, 3000, 2)
}
