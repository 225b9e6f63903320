//! A server with a large warm cache beside somebody who wants the memory.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::clients::Clients;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::{command, watchdog};

use crate::groups::Groups;
use crate::hog;
use crate::stage::Stage;

/// Without checksums a directory can be made of blocks by hand.
const RECIPE: Recipe = Recipe {
    name: "warm",
    mke2fs: "-t ext4 -b 4096 -O ^metadata_csum",
    tune2fs: "",
    options: "rw",
};
const BLOCK: usize = 4096;
/// Blocks of the directory: 512 MiB.
const BLOCKS: u32 = 128 << 10;
/// KiB that are in memory when all was read: what the largest cache holds of it.
const WARM: u64 = 500 << 10;
/// Each so manieth block holds a name.
const NAMES: u32 = 64;
/// Bytes of the group that are for others when memory begins to be short, and that the hog wants.
const ROOM: u64 = 96 << 20;
const WANTED: u64 = 256 << 20;
/// How long the kernel may take to tell.
const PATIENCE: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(20);
/// How long the server may take on a machine that has other work. Left alone it is below two seconds: what is
/// printed tells.
const LIMIT: Duration = Duration::from_secs(10);
/// What a server has after it has given back everything, in KiB.
const SMALL: u64 = 16 << 10;

/// Rounds of it, over rings or /dev/fuse.
///
/// # Errors
/// What goes wrong.
pub(crate) fn is_given_back(ring: &str, rounds: u64) -> Result<()> {
    let stage = Stage::new(ring)?;
    let image = make(stage.path())?;
    let file = stage.path().join("hog");
    let written = File::create(&file)?;
    for at in (0..hog::FILE).step_by(1 << 20) {
        written.write_all_at(&[7; 1 << 20], at as u64)?;
    }
    written.sync_all()?;
    for round in 1..=rounds {
        // Else its pages would be ours, or the group's before, and nobody would have to wait for memory.
        rustix::fs::fadvise(&written, 0, None, rustix::fs::Advice::DontNeed)?;
        let took = give_back(&stage, &image, &file)
            .with_context(|| format!("round {round}: {}", stage.said().unwrap_or_default()))?;
        println!("round {round}, rings {ring}: {took}");
    }
    stage.end()
}

fn give_back(stage: &Stage, image: &Path, file: &Path) -> Result<String> {
    let groups = Groups::new()?;
    let mounted = stage.mount(&groups, image, "cache_max=768M")?;
    let resident = || mounted.resident(stage);
    let cold = resident()?;
    watchdog::step("reading the directory", Some(&mounted.connection), || {
        let names = fs::read_dir(mounted.path().join("big"))?.count();
        ensure!(names == (BLOCKS / NAMES - 1) as usize, "{names} names");
        Ok(())
    })?;
    let warm = resident()?;
    ensure!(warm - cold >= WARM, "{warm} KiB are in memory, {cold} before");

    let killed = groups.killed()?;
    groups.leave_room(warm * 1024, ROOM)?;
    let alarm = groups.alarm()?;
    let busy = Busy::default();
    let mut hogs = Clients::default();
    let report = std::thread::scope(|scope| {
        let worker = scope.spawn(|| busy.work(mounted.path()));
        let report = (|| {
            let arguments = [file.display().to_string(), WANTED.to_string()];
            let begin = Instant::now();
            hogs.start(hog::ROLE, &[&arguments[..], &groups.doors()[..]].concat())?;
            hogs.await_started()?;
            // The server hears of less, and may have seen to it that it does not come to that.
            while alarm.wait(MOMENT).is_err() && warm.saturating_sub(resident()?) < WARM * 9 / 10 {
                ensure!(begin.elapsed() < PATIENCE, "memory was not short: {}", groups.stalls()?);
            }
            let (told, done) = (begin.elapsed(), busy.done());
            let begin = Instant::now();
            let kept = loop {
                let kept = resident()?;
                if warm.saturating_sub(kept) >= WARM * 9 / 10 {
                    break kept;
                }
                let stalls = || groups.stalls().unwrap_or_default();
                ensure!(begin.elapsed() < LIMIT, "{kept} of {warm} KiB are kept: {}", stalls());
                std::thread::sleep(Duration::from_millis(10));
            };
            let took = begin.elapsed();
            // It goes on to want more, and others go on to work.
            std::thread::sleep(Duration::from_secs(3));
            let small = resident()?;
            ensure!(busy.done() > done, "nothing was done while memory was short");
            ensure!(small <= SMALL, "{small} KiB are in memory");
            Ok(format!(
                "told after {told:.1?}, then {warm} KiB became {kept} in {took:.2?} and {small}, \
                 the slowest of {} operations took {:?}",
                busy.done(),
                busy.slowest(),
            ))
        })();
        busy.end();
        let worked = worker.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        worked.and(report)
    })?;
    ensure!(hogs.reap()?.is_empty(), "the hog has ended");
    ensure!(groups.killed()? == killed, "the kernel has killed somebody");
    drop(hogs);
    mounted.unmount()?;
    Ok(report)
}

/// Somebody who uses the mount meanwhile.
#[derive(Default)]
struct Busy {
    ends: AtomicBool,
    done: AtomicU64,
    slowest_ms: AtomicU64,
}

impl Busy {
    fn work(&self, root: &Path) -> Result<()> {
        let mut number = 0_u32;
        while !self.ends.load(Ordering::Relaxed) {
            let begin = Instant::now();
            let path = root.join(format!("file-{}", number % 100));
            File::create(&path)?.write_all(&number.to_ne_bytes())?;
            ensure!(fs::read(&path)? == number.to_ne_bytes(), "{}", path.display());
            fs::remove_file(&path)?;
            let took = u64::try_from(begin.elapsed().as_millis())?;
            self.slowest_ms.fetch_max(took, Ordering::Relaxed);
            self.done.fetch_add(1, Ordering::Relaxed);
            number += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn end(&self) {
        self.ends.store(true, Ordering::Relaxed);
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    fn slowest(&self) -> Duration {
        Duration::from_millis(self.slowest_ms.load(Ordering::Relaxed))
    }
}

/// A file system with a directory of [`BLOCKS`] blocks that hold next to nothing.
fn make(directory: &Path) -> Result<PathBuf> {
    let image = RECIPE.make_sized(directory, "1G")?;
    let (small, big) = (directory.join("small"), directory.join("big"));
    fs::write(&small, "small")?;
    write_directory(&File::create(&big)?)?;
    debugfs(&image, &format!("write {} small", small.display()))?;
    debugfs(&image, &format!("write {} big", big.display()))?;
    fs::remove_file(&big)?;
    for request in [
        format!("set_inode_field <{BIG}> mode 040755"),
        format!("set_inode_field <{BIG}> links_count 2"),
        "unlink big".to_owned(),
        format!("link <{BIG}> big"),
        format!("set_inode_field <{BIG}> links_count 2"),
    ] {
        debugfs(&image, &request)?;
    }
    Ok(image)
}

/// The first inodes that are free.
const SMALL_FILE: u32 = 12;
const BIG: u32 = 13;

fn debugfs(image: &Path, request: &str) -> Result<String> {
    let image = image.to_str().context("a path of words")?;
    command::sh("debugfs", ["-w", "-R", request, image])
}

fn write_directory(file: &File) -> Result<()> {
    const FILE_TYPE: u8 = 1;
    const DIRECTORY: u8 = 2;
    let entry = |nr: u32, len: usize, kind: u8, name: &str| -> Result<Vec<u8>> {
        let head = [&nr.to_le_bytes()[..], &u16::try_from(len)?.to_le_bytes()].concat();
        let mut entry = [&head[..], &[u8::try_from(name.len())?, kind], name.as_bytes()].concat();
        entry.resize(len, 0);
        Ok(entry)
    };
    let first = [entry(BIG, 12, DIRECTORY, ".")?, entry(2, BLOCK - 12, DIRECTORY, "..")?].concat();
    file.write_all_at(&first, 0)?;
    let empty = entry(0, BLOCK, 0, "")?;
    for block in 1..BLOCKS {
        let at = u64::from(block) * BLOCK as u64;
        if block % NAMES == 0 {
            file.write_all_at(&entry(SMALL_FILE, BLOCK, FILE_TYPE, &format!("name-{block}"))?, at)?;
        } else {
            file.write_all_at(&empty, at)?;
        }
    }
    Ok(())
}
