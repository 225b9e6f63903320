//! Reading: one image with a tree of small files, one large file and a directory of many names.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::system::{Bench, Mount, System};
use crate::{Row, Scale, Unit, Who, row, trip};

const IMAGE: &str = "read.img";
/// Files of one directory of the tree.
const PER_DIRECTORY: usize = 20;
const BLOCK: usize = 4096;

pub(crate) const ROWS: &[Row] = &[
    row("random 4 KiB O_DIRECT, 1 job", Unit::PerSecond, |b, s| random(b, s, RO, 1)),
    row("random 4 KiB O_DIRECT, 4 jobs", Unit::PerSecond, |b, s| random(b, s, RO, 4)),
    row("sequential read, cold", Unit::MibPerSecond, |b, s| sequential(b, s, RO, Cache::Cold)),
    row("sequential read, warm", Unit::MibPerSecond, |b, s| sequential(b, s, RO, Cache::Warm)),
    row("find with stat, cold", Unit::Seconds, |b, _| find(b, RO, Cache::Cold)),
    row("find with stat, warm", Unit::Seconds, |b, _| find(b, RO, Cache::Warm)),
    row("grep -r, cold", Unit::Seconds, |b, _| grep(b, RO, Cache::Cold)),
    row("grep -r, warm", Unit::Seconds, |b, _| grep(b, RO, Cache::Warm)),
    requests("grep -r, warm, requests", |b, s| asked(b, s, RO)),
    row("stat, warm", Unit::Microseconds, |b, s| stat(b, s, RO)),
    row("open+read+close, warm", Unit::Microseconds, |b, s| open_read_close(b, s, RO)),
];

/// What the same costs where it could be written.
pub(crate) const WRITABLE: &[Row] = &[
    row("random 4 KiB O_DIRECT, 1 job, rw", Unit::PerSecond, |b, s| random(b, s, RW, 1)),
    row("random 4 KiB O_DIRECT, 4 jobs, rw", Unit::PerSecond, |b, s| random(b, s, RW, 4)),
    row("sequential read, warm, rw", Unit::MibPerSecond, |b, s| sequential(b, s, RW, Cache::Warm)),
    row("find with stat, warm, rw", Unit::Seconds, |b, _| find(b, RW, Cache::Warm)),
    row("grep -r, warm, rw", Unit::Seconds, |b, _| grep(b, RW, Cache::Warm)),
    requests("grep -r, warm, requests, rw", |b, s| asked(b, s, RW)),
    row("stat, warm, rw", Unit::Microseconds, |b, s| stat(b, s, RW)),
    row("open+read+close, warm, rw", Unit::Microseconds, |b, s| open_read_close(b, s, RW)),
];

const RO: &str = "ro";
const RW: &str = "rw";

const fn requests(name: &'static str, measure: fn(&Bench, &Scale) -> Result<f64>) -> Row {
    Row { name, unit: Unit::PerFile, who: Who::Ours, measure }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Cold,
    Warm,
}

/// Fills the image by the kernel's ext4.
pub(crate) fn populate(bench: &Bench, scale: &Scale) -> Result<()> {
    let image = bench.make(IMAGE, scale.large * 2 + (scale.files + scale.names) / 50 + 64)?;
    bench.choose(System::Kernel);
    let mount = bench.mount(&image, "rw")?;
    let root = mount.root()?;
    let mut large = File::create(root.join("large"))?;
    let chunk: Vec<u8> =
        (0..1 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for _ in 0..scale.large {
        std::io::Write::write_all(&mut large, &chunk)?;
    }
    drop(large);
    for file in 0..scale.files {
        let path = small(root, file);
        if file % PER_DIRECTORY == 0 {
            fs::create_dir_all(path.parent().context("parent")?)?;
        }
        // 1 to 8 KiB of text, most of it short lines.
        let line = format!("file {file}: the quick brown fox jumps over the lazy dog\n");
        fs::write(path, line.repeat(1024 * (1 + file % 8) / line.len()))?;
    }
    trip::populate(root, scale)?;
    mount.end()
}

pub(crate) fn small(root: &Path, file: usize) -> PathBuf {
    let directory = file / PER_DIRECTORY;
    root.join(format!("tree/{}/{directory}/file-{file}.txt", directory % 50))
}

pub(crate) fn mount(bench: &Bench, options: &str) -> Result<Mount> {
    bench.mount(&bench.file(IMAGE), options)
}

/// Runs `read` once with cold caches, or once more and takes the second time.
fn cached(cache: Cache, mut read: impl FnMut() -> Result<f64>) -> Result<f64> {
    let cold = read()?;
    if cache == Cache::Cold { Ok(cold) } else { read() }
}

fn sequential(bench: &Bench, scale: &Scale, access: &str, cache: Cache) -> Result<f64> {
    let mount = mount(bench, access)?;
    let path = mount.root()?.join("large");
    let mut buffer = vec![0; 1 << 20];
    let seconds = cached(cache, || {
        let file = File::open(&path)?;
        let start = Instant::now();
        let mut offset = 0;
        while let read @ 1.. = file.read_at(&mut buffer, offset)? {
            offset += read as u64;
        }
        Ok(start.elapsed().as_secs_f64())
    })?;
    Ok(scale.large as f64 / seconds)
}

fn random(bench: &Bench, scale: &Scale, access: &str, jobs: usize) -> Result<f64> {
    const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
    let mount = mount(bench, access)?;
    let path = mount.root()?.join("large");
    let blocks = (scale.large << 20) / BLOCK;
    let end = Instant::now() + Duration::from_secs_f64(scale.seconds);
    let job = |seed: usize| -> Result<usize> {
        let file = OpenOptions::new().read(true).custom_flags(O_DIRECT).open(&path)?;
        let mut memory = vec![0; 2 * BLOCK];
        let aligned = memory.as_ptr().align_offset(BLOCK);
        let buffer = &mut memory[aligned..aligned + BLOCK];
        let (mut count, mut state) = (0, seed as u64 * 7919 + 1);
        while Instant::now() < end {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let block = (state >> 33) as usize % blocks;
            file.read_exact_at(buffer, (block * BLOCK) as u64)?;
            count += 1;
        }
        Ok(count)
    };
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..jobs).map(|seed| scope.spawn(move || job(seed))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Ok(0))).collect::<Result<Vec<_>>>()
    })?;
    Ok(counts.into_iter().sum::<usize>() as f64 / start.elapsed().as_secs_f64())
}

fn find(bench: &Bench, access: &str, cache: Cache) -> Result<f64> {
    let mount = mount(bench, access)?;
    let mut find = find_of(&mount.root()?.join("tree"));
    cached(cache, || bench.limit().time(&mut find))
}

/// A find(1) that wants to know something of each file.
pub(crate) fn find_of(root: &Path) -> Command {
    let mut find = Command::new("find");
    find.arg(root).args(["-printf", "%s %T@ %p\n"]);
    find
}

fn grep(bench: &Bench, access: &str, cache: Cache) -> Result<f64> {
    let mount = mount(bench, access)?;
    let mut grep = grep_of(mount.root()?);
    cached(cache, || bench.limit().time(&mut grep))
}

fn grep_of(root: &Path) -> Command {
    let mut grep = Command::new("grep");
    grep.args(["-rc", "lazy dog"]).arg(root.join("tree"));
    grep
}

/// Requests for each file of a grep that finds everything in the kernel's caches.
fn asked(bench: &Bench, scale: &Scale, access: &str) -> Result<f64> {
    let log = bench.file("log");
    let _ = fs::remove_file(&log);
    let mount = mount(bench, &format!("{access},log_level=trace,log={}", log.display()))?;
    let mut grep = grep_of(mount.root()?);
    bench.limit().time(&mut grep)?;
    let before = requests_in(&log)?;
    bench.limit().time(&mut grep)?;
    let requests = requests_in(&log)?.difference(&before).count();
    mount.end()?;
    Ok(requests as f64 / scale.files as f64)
}

/// The numbers of all requests; some have more than one line.
fn requests_in(log: &Path) -> Result<HashSet<String>> {
    let text = fs::read_to_string(log)?;
    let number = |line: &str| Some(line.split_once("request ")?.1.split_once(':')?.0.to_owned());
    Ok(text.lines().filter_map(number).collect())
}

/// Microseconds of a stat(2) of what the kernel knows.
fn stat(bench: &Bench, scale: &Scale, access: &str) -> Result<f64> {
    let mount = mount(bench, access)?;
    let path = small(mount.root()?, 0);
    fs::metadata(&path)?;
    let start = Instant::now();
    for _ in 0..scale.repeats {
        fs::metadata(&path)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / scale.repeats as f64)
}

fn open_read_close(bench: &Bench, scale: &Scale, access: &str) -> Result<f64> {
    let mount = mount(bench, access)?;
    let path = small(mount.root()?, 0);
    let mut buffer = vec![0; 8192];
    File::open(&path)?.read_at(&mut buffer, 0)?;
    let start = Instant::now();
    for _ in 0..scale.repeats {
        File::open(&path)?.read_at(&mut buffer, 0)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / scale.repeats as f64)
}
