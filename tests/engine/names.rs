//! lookup and readdir agree with each other, on every directory of every image.

use std::collections::HashSet;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Error, Filesystem, Inode, InodeFlags, Refusal};
use fuse4fs_tests::engine_walk::{self, Name, names};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

/// Cookies of a directory that are resumed from: all of a small one, spread over a large one.
const RESUMED: usize = 400;

pub(crate) fn trials(image: &Golden) -> Vec<Trial> {
    let name = &image.name;
    let (found, absent, resumed) = (image.clone(), image.clone(), image.clone());
    vec![
        trial::test(format!("{name}: lookup finds each name that readdir lists"), move || {
            on_each_directory(&found, lookup_finds_each_name)
        }),
        trial::test(format!("{name}: lookup does not find names that are not there"), move || {
            on_each_directory(&absent, lookup_does_not_find_absent_names)
        }),
        trial::test(format!("{name}: readdir goes on after each cookie"), move || {
            on_each_directory(&resumed, readdir_goes_on_after_each_cookie)
        }),
    ]
}

type Check = fn(&Filesystem, &Inode, &[Name]) -> Result<()>;

fn on_each_directory(golden: &Golden, check: Check) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let fs = engine_walk::mount(&golden.unpack(directory.path())?)?;
    engine_walk::for_each_directory(&fs, &mut |dir, _, names| check(&fs, dir, names))
}

fn lookup_finds_each_name(fs: &Filesystem, dir: &Inode, names: &[Name]) -> Result<()> {
    for name in names {
        let text = || name.name.escape_ascii().to_string();
        let inode = fs.lookup(dir, &name.name).with_context(text)?;
        ensure!(
            inode.nr == name.inode,
            "{}: {} by lookup, {} by readdir",
            text(),
            inode.nr,
            name.inode
        );
        if let Some(kind) = name.kind {
            ensure!(kind == inode.kind, "{}: listed as {kind:?}, is {:?}", text(), inode.kind);
        }
    }
    ensure!(names.first().is_some_and(|name| name.name == b"." && name.inode == dir.nr), "no .");
    ensure!(names.get(1).is_some_and(|name| name.name == b".."), "no ..");
    ensure!(dir.nr != InodeNr::ROOT || names.get(1).is_some_and(|name| name.inode == dir.nr));
    Ok(())
}

fn lookup_does_not_find_absent_names(fs: &Filesystem, dir: &Inode, names: &[Name]) -> Result<()> {
    let folds = dir.flags.has(InodeFlags::CASEFOLD);
    let key = |name: &[u8]| if folds { name.to_ascii_lowercase() } else { name.to_vec() };
    let present: HashSet<Vec<u8>> = names.iter().map(|name| key(&name.name)).collect();
    let step = (names.len() / RESUMED).max(1);
    let mut tried: Vec<Vec<u8>> = vec![b"absent".to_vec(), vec![b'z'; 255], b"\xff".to_vec()];
    for name in names.iter().step_by(step) {
        tried.push([&name.name, &b"~"[..]].concat());
        tried.push(name.name.split_last().map_or_else(Vec::new, |(_, front)| front.to_vec()));
        let other_case = |byte: &u8| if byte.is_ascii_alphabetic() { byte ^ 0x20 } else { *byte };
        tried.push(name.name.iter().map(other_case).collect());
    }
    tried.retain(|name| (1..=255).contains(&name.len()) && !present.contains(&key(name)));
    for name in tried {
        let answer = fs.lookup(dir, &name);
        let expected = matches!(answer, Err(Error::Refused(Refusal::NotFound)));
        ensure!(expected, "{:?} gave {answer:?}", name.escape_ascii().to_string());
    }
    let answer = fs.lookup(dir, &[b'n'; 256]);
    ensure!(matches!(answer, Err(Error::Refused(Refusal::NameTooLong))), "256 bytes: {answer:?}");
    Ok(())
}

fn readdir_goes_on_after_each_cookie(fs: &Filesystem, dir: &Inode, all: &[Name]) -> Result<()> {
    let cookies: HashSet<u64> = all.iter().map(|name| name.cookie).collect();
    ensure!(cookies.len() == all.len(), "a cookie is given twice");
    for name in all {
        let fits = i64::try_from(name.cookie).is_ok_and(|cookie| cookie > 0);
        ensure!(fits, "cookie {:#x} does not fit a positive loff_t", name.cookie);
    }
    let step = (all.len() / RESUMED).max(1);
    for (index, name) in all.iter().enumerate().step_by(step) {
        let rest = all.get(index + 1..).unwrap_or_default();
        let wanted = rest.get(..3).unwrap_or(rest);
        let found = names(fs, dir, name.cookie, 3)?;
        ensure!(found == wanted, "after entry {index}: expected {wanted:?}, found {found:?}");
    }
    Ok(())
}
