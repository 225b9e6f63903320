//! More metadata than a small cache of ours holds: what the size of the cache is worth.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Result;

use crate::read::find_of;
use crate::system::{self, Bench, System};
use crate::{Row, Scale, Unit, row};

const IMAGE: &str = "many.img";
const PER_DIRECTORY: usize = 1000;
/// Files for each of the other tree: 120,000, whose inodes are 30 MiB.
const FACTOR: usize = 10;

/// As much as a mount may have at most.
const UNLIMITED: &str = "768M";

pub(crate) const ROWS: &[Row] = &[
    row("find, cache of 8 MiB, cold", Unit::Seconds, |b, s| find(b, s, "8M", Kept::Nothing)),
    row("find, cache of 64 MiB, cold", Unit::Seconds, |b, s| find(b, s, "64M", Kept::Nothing)),
    row("find, cache without limit, cold", Unit::Seconds, |b, s| {
        find(b, s, UNLIMITED, Kept::Nothing)
    }),
    row("find, cache of 8 MiB, warm", Unit::Seconds, |b, s| find(b, s, "8M", Kept::Metadata)),
    row("find, cache of 64 MiB, warm", Unit::Seconds, |b, s| find(b, s, "64M", Kept::Metadata)),
    row("find, cache without limit, warm", Unit::Seconds, |b, s| {
        find(b, s, UNLIMITED, Kept::Metadata)
    }),
];

/// What is in memory when the measured walk begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Nothing,
    /// What a walk before has left in our cache and in the page cache of the device; the kernel knows no names and
    /// no inodes any more.
    Metadata,
}

fn find(bench: &Bench, scale: &Scale, most: &str, kept: Kept) -> Result<f64> {
    let image = image(bench, scale)?;
    let mount = bench.mount_with(&image, "ro", &format!(",cache_max={most}"))?;
    let mut find = find_of(mount.root()?);
    let cold = bench.limit().time(&mut find)?;
    let seconds = if kept == Kept::Nothing {
        cold
    } else {
        system::drop_names()?;
        bench.limit().time(&mut find)?
    };
    mount.end()?;
    Ok(seconds)
}

/// Made when it is first asked for, by the kernel's ext4.
fn image(bench: &Bench, scale: &Scale) -> Result<PathBuf> {
    let image = bench.file(IMAGE);
    if image.exists() {
        return Ok(image);
    }
    let files = scale.files * FACTOR;
    // An inode for each 16 KiB.
    let unfinished = bench.make("unfinished.img", 64 + files / 50)?;
    let chosen = bench.chosen();
    bench.choose(System::Kernel);
    let mount = bench.mount(&unfinished, "rw")?;
    for file in 0..files {
        let directory = mount.root()?.join(format!("{}", file / PER_DIRECTORY));
        if file % PER_DIRECTORY == 0 {
            fs::create_dir(&directory)?;
        }
        File::create(directory.join(format!("file-{file}")))?;
    }
    mount.end()?;
    bench.choose(chosen);
    fs::rename(unfinished, &image)?;
    Ok(image)
}
