//! Verbs that change the content of files.

use anyhow::Result;
use fuse4fs_ext4::{Fallocate, Filesystem, KeepSize};

use crate::names::{nothing, one_file};
use crate::tools::*;
use crate::verb::{Extent, Verb};

const fn parts(
    name: &'static str,
    setup: fn(&Filesystem) -> Result<()>,
    act: fn(&Filesystem) -> Answer,
    done: fn(&Filesystem) -> Result<()>,
) -> Verb {
    Verb { name, setup, act, done, extent: Extent::Parts }
}

pub(crate) const ALL: &[Verb] = &[
    parts(
        "write of a new file",
        nothing,
        |fs| filled(fs, "new", 20_000, 3).map(drop),
        |fs| holds(fs, "new", &[(20_000, 3)]),
    ),
    parts(
        "append",
        one_file,
        |fs| write(fs, at(fs, "file")?, 5000, 70_000, 2),
        |fs| holds(fs, "file", &[(5000, 1), (70_000, 2)]),
    ),
    parts(
        "overwrite",
        one_file,
        |fs| write(fs, at(fs, "file")?, 500, 3000, 2),
        |fs| holds(fs, "file", &[(500, 1), (3000, 2), (1500, 1)]),
    ),
    parts(
        "overwrite of whole blocks",
        one_file,
        |fs| write(fs, at(fs, "file")?, 1024, 2048, 2),
        |fs| holds(fs, "file", &[(1024, 1), (2048, 2), (1928, 1)]),
    ),
    parts("sparse writes that grow the extent tree", nothing, sparse, |fs| {
        holds(fs, "new", &scattered())
    }),
    parts(
        "write out of the inode",
        |fs| Ok(filled(fs, "file", 40, 1).map(|_| ())?),
        |fs| write(fs, at(fs, "file")?, 40, 3000, 2),
        |fs| holds(fs, "file", &[(40, 1), (3000, 2)]),
    ),
    parts(
        "write into preallocated blocks",
        preallocated,
        |fs| write(fs, at(fs, "file")?, 50_000, 5000, 2),
        |fs| holds(fs, "file", &[(50_000, 0), (5000, 2), (45_000, 0)]),
    ),
    parts("truncate to less", large, |fs| cut(fs, 3333), |fs| holds(fs, "file", &[(3333, 1)])),
    parts("truncate to nothing", scattered_file, |fs| cut(fs, 0), |fs| holds(fs, "file", &[])),
    parts(
        "truncate to more",
        one_file,
        |fs| cut(fs, 9999),
        |fs| holds(fs, "file", &[(5000, 1), (4999, 0)]),
    ),
    parts(
        "fallocate",
        one_file,
        |fs| allocate(fs, Fallocate::Allocate(KeepSize::No), (2000, 60_000)),
        |fs| holds(fs, "file", &[(5000, 1), (57_000, 0)]),
    ),
    parts(
        "fallocate that keeps the size",
        one_file,
        |fs| allocate(fs, Fallocate::Allocate(KeepSize::Yes), (2000, 60_000)),
        |fs| holds(fs, "file", &[(5000, 1)]),
    ),
    parts(
        "punch",
        large,
        |fs| allocate(fs, Fallocate::PunchHole, (10_000, 15_000)),
        |fs| holds(fs, "file", &[(10_000, 1), (15_000, 0), (75_000, 1)]),
    ),
    parts(
        "zero range",
        large,
        |fs| allocate(fs, Fallocate::ZeroRange(KeepSize::Yes), (10_000, 15_000)),
        |fs| holds(fs, "file", &[(10_000, 1), (15_000, 0), (75_000, 1)]),
    ),
    parts("copy_file_range", large, copy, |fs| holds(fs, "new", &[(100, 0), (30_000, 1)])),
    parts("fsync", one_file, sync_file, |fs| holds(fs, "file", &[(4000, 2), (1000, 1)])),
    parts(
        "checkpoint",
        large,
        |fs| cut(fs, 50).and_then(|()| fs.checkpoint()),
        |fs| holds(fs, "file", &[(50, 1)]),
    ),
];

fn cut(fs: &Filesystem, size: u64) -> Answer {
    fs.truncate(&caller(), at(fs, "file")?, size).map(drop)
}

fn allocate(fs: &Filesystem, what: Fallocate, range: (u64, u64)) -> Answer {
    fs.fallocate(&caller(), at(fs, "file")?, what, range)
}

pub(crate) fn large(fs: &Filesystem) -> Result<()> {
    filled(fs, "file", 100_000, 1)?;
    Ok(())
}

fn preallocated(fs: &Filesystem) -> Result<()> {
    let nr = file(fs, "file")?;
    let no = KeepSize::No;
    Ok(fs
        .fallocate(&caller(), nr, Fallocate::Allocate(no), (0, 100_000))
        .or_else(|_| cut(fs, 100_000))?)
}

/// So many runs that they do not fit the inode.
const RUNS: usize = 7;
const STEP: usize = 20_000;

fn scattered() -> Vec<(usize, u8)> {
    let mut runs = vec![(0, 0)];
    for index in 0..RUNS {
        runs.extend([(2000, 4), (if index + 1 < RUNS { STEP - 2000 } else { 0 }, 0)]);
    }
    runs
}

fn scatter(fs: &Filesystem, path: &str) -> Answer {
    let nr = file(fs, path)?;
    (0..RUNS).try_for_each(|index| write(fs, nr, (index * STEP) as u64, 2000, 4))
}

fn sparse(fs: &Filesystem) -> Answer {
    scatter(fs, "new")
}

fn scattered_file(fs: &Filesystem) -> Result<()> {
    Ok(scatter(fs, "file")?)
}

fn copy(fs: &Filesystem) -> Answer {
    let (from, to) = (at(fs, "file")?, file(fs, "new")?);
    let mut done = 0;
    while done < 30_000 {
        done += fs.copy_file_range(&caller(), (from, done), (to, 100 + done), 30_000 - done)?;
    }
    Ok(())
}

fn sync_file(fs: &Filesystem) -> Answer {
    let nr = at(fs, "file")?;
    write(fs, nr, 0, 4000, 2)?;
    fs.fsync(nr, true)?;
    fs.fsync(nr, false)
}
