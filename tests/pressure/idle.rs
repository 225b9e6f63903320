//! A server that has nothing to do.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuse4fs_tests::image::Recipe;

use crate::groups::Groups;
use crate::stage::Stage;

/// KiB that it may have in memory, programs and all.
const SMALL: u64 = 10 << 10;
/// Bytes that are written and read.
const BURST: usize = 64 << 20;
/// How long it may take to notice that there is nothing to do.
const PATIENCE: Duration = Duration::from_secs(10);

const HUGE: Recipe = Recipe {
    name: "huge",
    mke2fs: "-t ext4 -b 4096 -E lazy_itable_init=1,lazy_journal_init=1",
    tune2fs: "",
    options: "rw",
};

/// After a mount of 1 TiB.
///
/// # Errors
/// What goes wrong.
pub(crate) fn is_small(ring: &str) -> Result<()> {
    let stage = Stage::new(ring)?;
    let image = HUGE.make_sized(stage.path(), "1T")?;
    let groups = Groups::new()?;
    let mounted = stage.mount(&groups, &image, "rw")?;
    let resident = mounted.resident(&stage)?;
    println!("rings {ring}: {resident} KiB");
    ensure!(resident <= SMALL, "{resident} KiB are in memory");
    mounted.unmount()?;
    stage.end()
}

/// After large requests, by /dev/fuse: what they were read into goes back to the kernel.
///
/// # Errors
/// What goes wrong.
pub(crate) fn becomes_small_again() -> Result<()> {
    let stage = Stage::new("off")?;
    let image = HUGE.make_sized(stage.path(), "1G")?;
    let groups = Groups::new()?;
    let mounted = stage.mount(&groups, &image, "rw")?;
    // What it keeps of the disk from now on.
    transfer(&mounted.path().join("file"))?;
    std::thread::sleep(Duration::from_secs(3));
    let before = mounted.resident(&stage)?;
    transfer(&mounted.path().join("file"))?;
    let busy = mounted.resident(&stage)?;
    ensure!(busy >= before + 1024, "{before} KiB before large requests, {busy} after");
    let begin = Instant::now();
    // Not all of it: journal and cache have grown, too.
    while mounted.resident(&stage)? > before + (busy - before) / 2 {
        let resident = mounted.resident(&stage)?;
        ensure!(begin.elapsed() < PATIENCE, "{before} KiB before, then {busy}, and {resident}");
        std::thread::sleep(Duration::from_millis(100));
    }
    mounted.unmount()?;
    stage.end()
}

fn transfer(path: &Path) -> Result<()> {
    File::create(path)?.write_all(&vec![7; BURST])?;
    let mut file = File::open(path)?;
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    file.read_exact(&mut vec![0; BURST])?;
    Ok(())
}
