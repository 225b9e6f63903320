//! Verbs that change names.

use anyhow::{Result, ensure};
use fuse4fs_ext4::{FileKind, Filesystem, Rename};

use crate::tools::*;
use crate::verb::{Extent, Verb};

pub(crate) const ALL: &[Verb] = &[
    Verb { name: "create", setup: nothing, act: create, done: created, extent: Extent::Whole },
    Verb { name: "mkdir", setup: nothing, act: mkdir, done: created, extent: Extent::Whole },
    Verb { name: "mknod", setup: nothing, act: mknod, done: created, extent: Extent::Whole },
    Verb { name: "symlink", setup: nothing, act: symlink, done: created, extent: Extent::Whole },
    Verb {
        name: "symlink with a block",
        setup: nothing,
        act: long_symlink,
        done: led,
        extent: Extent::Whole,
    },
    Verb {
        name: "create below a default ACL",
        setup: ruled,
        act: |fs| file(fs, "ruled/new").map(drop),
        done: |fs| is_there(fs, "ruled/new"),
        extent: Extent::Whole,
    },
    Verb {
        name: "link",
        setup: one_file,
        act: |fs| link(fs, "file", "new"),
        done: linked,
        extent: Extent::Whole,
    },
    Verb {
        name: "unlink",
        setup: one_file,
        act: |fs| unlink(fs, "file"),
        done: |fs| is_gone(fs, "file"),
        extent: Extent::Parts,
    },
    Verb {
        name: "unlink one of two",
        setup: two_links,
        act: |fs| unlink(fs, "file"),
        done: |fs| is_gone(fs, "file").and_then(|()| is_there(fs, "other")),
        extent: Extent::Whole,
    },
    Verb {
        name: "rmdir",
        setup: |fs| Ok(dir(fs, "dir").map(|_| ())?),
        act: |fs| rmdir(fs, "dir"),
        done: |fs| is_gone(fs, "dir"),
        extent: Extent::Parts,
    },
    Verb {
        name: "rename",
        setup: one_file,
        act: |fs| rename(fs, "file", "new", Rename::NoReplace),
        done: moved,
        extent: Extent::Whole,
    },
    Verb {
        name: "rename over",
        setup: two_files,
        act: |fs| rename(fs, "file", "new", Rename::Replace),
        done: replaced,
        extent: Extent::Parts,
    },
    Verb {
        name: "rename of a directory over one elsewhere",
        setup: tree,
        act: |fs| rename(fs, "a/dir", "b/dir", Rename::Replace),
        done: tree_moved,
        extent: Extent::Parts,
    },
    Verb {
        name: "rename that exchanges",
        setup: tree,
        act: |fs| rename(fs, "a/dir", "b/file", Rename::Exchange),
        done: |fs| is_there(fs, "b/file/x").and_then(|()| holds(fs, "a/dir", &[(100, 1)])),
        extent: Extent::Whole,
    },
    Verb {
        name: "rename that leaves a whiteout",
        setup: one_file,
        act: |fs| rename(fs, "file", "new", Rename::Whiteout),
        done: |fs| is_there(fs, "new").and_then(|()| is_there(fs, "file")),
        extent: Extent::Whole,
    },
    Verb {
        name: "O_TMPFILE and link",
        setup: nothing,
        act: tmpfile,
        done: |fs| holds(fs, "new", &[(5000, 7)]),
        extent: Extent::Parts,
    },
    Verb {
        name: "O_TMPFILE that ends",
        setup: nothing,
        act: given_up,
        done: |_| Ok(()),
        extent: Extent::Parts,
    },
    Verb {
        name: "unlink of open files, which then end",
        setup: many_files,
        act: evict,
        done: evicted,
        extent: Extent::Parts,
    },
    Verb { name: "htree growth", setup: place, act: grow, done: grown, extent: Extent::Parts },
    Verb { name: "htree shrinks", setup: wide, act: empty, done: emptied, extent: Extent::Parts },
];

pub(crate) fn nothing(_: &Filesystem) -> Result<()> {
    Ok(())
}

pub(crate) fn one_file(fs: &Filesystem) -> Result<()> {
    filled(fs, "file", 5000, 1)?;
    Ok(())
}

fn two_files(fs: &Filesystem) -> Result<()> {
    filled(fs, "file", 5000, 1)?;
    filled(fs, "new", 9000, 2)?;
    Ok(())
}

fn two_links(fs: &Filesystem) -> Result<()> {
    one_file(fs)?;
    Ok(link(fs, "file", "other")?)
}

fn tree(fs: &Filesystem) -> Result<()> {
    for path in ["a", "b", "a/dir", "b/dir", "a/dir/x"] {
        dir(fs, path)?;
    }
    filled(fs, "b/file", 100, 1)?;
    Ok(())
}

fn ruled(fs: &Filesystem) -> Result<()> {
    dir(fs, "ruled")?;
    Ok(set(fs, "ruled", "system.posix_acl_default", ACL)?)
}

fn create(fs: &Filesystem) -> Answer {
    file(fs, "new").map(drop)
}

fn mkdir(fs: &Filesystem) -> Answer {
    dir(fs, "new").map(drop)
}

fn mknod(fs: &Filesystem) -> Answer {
    make(fs, "new", FileKind::CharDevice, "").map(drop)
}

fn symlink(fs: &Filesystem) -> Answer {
    make(fs, "new", FileKind::Symlink, "short").map(drop)
}

const LONG: &str =
    "a-target-that-is-too-long-for-the-inode/and/so/has/a/block/of/its/own/somewhere";

fn long_symlink(fs: &Filesystem) -> Answer {
    make(fs, "new", FileKind::Symlink, LONG).map(drop)
}

fn led(fs: &Filesystem) -> Result<()> {
    ensure!(fs.readlink(&*fs.inode(at(fs, "new")?)?)? == LONG.as_bytes());
    Ok(())
}

fn created(fs: &Filesystem) -> Result<()> {
    is_there(fs, "new")
}

fn linked(fs: &Filesystem) -> Result<()> {
    ensure!(at(fs, "new")? == at(fs, "file")?);
    Ok(())
}

fn moved(fs: &Filesystem) -> Result<()> {
    is_gone(fs, "file")?;
    holds(fs, "new", &[(5000, 1)])
}

fn replaced(fs: &Filesystem) -> Result<()> {
    is_gone(fs, "file")?;
    holds(fs, "new", &[(5000, 1)])
}

fn tree_moved(fs: &Filesystem) -> Result<()> {
    is_gone(fs, "a/dir")?;
    is_there(fs, "b/dir/x")?;
    ensure!(at(fs, "b/dir/..")? == at(fs, "b")?);
    Ok(())
}

fn tmpfile(fs: &Filesystem) -> Answer {
    let nr = fs.tmpfile(&caller(), ROOT, &new(FileKind::Regular, ""))?.nr;
    let linked =
        write(fs, nr, 0, 5000, 7).and_then(|()| fs.link(&caller(), nr, ROOT, b"new").map(drop));
    // It is closed whatever came of it.
    let ended = fs.forget(nr, caller().now);
    linked.and(ended)
}

fn given_up(fs: &Filesystem) -> Answer {
    let nr = fs.tmpfile(&caller(), ROOT, &new(FileKind::Regular, ""))?.nr;
    let written = write(fs, nr, 0, 5000, 7);
    let ended = fs.forget(nr, caller().now);
    written.and(ended)
}

const MANY: usize = 5;

fn many_files(fs: &Filesystem) -> Result<()> {
    for index in 0..MANY {
        filled(fs, &format!("file {index}"), 3000 * index, 1)?;
    }
    Ok(())
}

fn evict(fs: &Filesystem) -> Answer {
    let mut open = Vec::new();
    let mut result = Ok(());
    for index in 0..MANY {
        match fs.unlink(&caller(), ROOT, format!("file {index}").as_bytes()) {
            Ok(gone) => open.push(gone.inode),
            Err(error) => result = Err(error),
        }
    }
    // Neither first in, first out nor the contrary.
    for index in [2, 0, 4, 1, 3] {
        if let Some(nr) = open.get(index) {
            result = result.and(fs.forget(*nr, caller().now));
        }
    }
    result
}

fn evicted(fs: &Filesystem) -> Result<()> {
    (0..MANY).try_for_each(|index| is_gone(fs, &format!("file {index}")))
}

fn long_name(index: usize) -> String {
    format!("wide/{index:04}-{}", "x".repeat(180))
}

/// Not in the root: without a journal a split that is cut off loses names of its directory.
fn place(fs: &Filesystem) -> Result<()> {
    dir(fs, "wide")?;
    Ok(())
}

const NAMES: usize = 40;

/// With commits between, so that there is I/O in the middle.
fn grow(fs: &Filesystem) -> Answer {
    for index in 0..NAMES {
        file(fs, &long_name(index))?;
        if index % 8 == 7 {
            fs.sync()?;
        }
    }
    fs.checkpoint()
}

fn grown(fs: &Filesystem) -> Result<()> {
    (0..NAMES).try_for_each(|index| is_there(fs, &long_name(index)))
}

fn wide(fs: &Filesystem) -> Result<()> {
    place(fs)?;
    (0..NAMES).try_for_each(|index| file(fs, &long_name(index)).map(drop))?;
    Ok(())
}

fn empty(fs: &Filesystem) -> Answer {
    for index in 0..NAMES {
        unlink(fs, &long_name(index))?;
        if index % 16 == 15 {
            fs.sync()?;
        }
    }
    Ok(())
}

fn emptied(fs: &Filesystem) -> Result<()> {
    (0..NAMES).try_for_each(|index| is_gone(fs, &long_name(index)))
}
