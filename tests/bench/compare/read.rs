//! Reading: one image with a tree of small files and one large file, mounted read-only.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::system::{Bench, Mount, System, drop_caches, time};
use crate::{Row, Scale, Unit};

const IMAGE: &str = "read.img";
/// Files of one directory of the tree.
const PER_DIRECTORY: usize = 20;
const BLOCK: usize = 4096;

pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "random 4 KiB O_DIRECT, 1 job",
        unit: Unit::PerSecond,
        measure: |b, s| random(b, s, 1),
    },
    Row {
        name: "random 4 KiB O_DIRECT, 4 jobs",
        unit: Unit::PerSecond,
        measure: |b, s| random(b, s, 4),
    },
    Row {
        name: "sequential read, cold",
        unit: Unit::MibPerSecond,
        measure: |b, s| sequential(b, s, Cache::Cold),
    },
    Row {
        name: "sequential read, warm",
        unit: Unit::MibPerSecond,
        measure: |b, s| sequential(b, s, Cache::Warm),
    },
    Row { name: "find with stat, cold", unit: Unit::Seconds, measure: |b, _| find(b, Cache::Cold) },
    Row { name: "find with stat, warm", unit: Unit::Seconds, measure: |b, _| find(b, Cache::Warm) },
    Row { name: "grep -r, cold", unit: Unit::Seconds, measure: |b, _| grep(b, Cache::Cold) },
    Row { name: "grep -r, warm", unit: Unit::Seconds, measure: |b, _| grep(b, Cache::Warm) },
    Row {
        name: "stat, warm",
        unit: Unit::Microseconds,
        measure: |b, s| stat(b, s, 1, AtFlags::empty()),
    },
    Row { name: "open+read+close, warm", unit: Unit::Microseconds, measure: open_read_close },
    Row {
        name: "getattr round trip, 1 client",
        unit: Unit::Microseconds,
        measure: |b, s| stat(b, s, 1, AtFlags::STATX_FORCE_SYNC),
    },
    Row {
        name: "getattr round trip, 4 clients",
        unit: Unit::Microseconds,
        measure: |b, s| stat(b, s, 4, AtFlags::STATX_FORCE_SYNC),
    },
    Row { name: "lookup, cold names", unit: Unit::Microseconds, measure: lookup },
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cache {
    Cold,
    Warm,
}

/// Fills the image by the kernel's ext4.
pub(crate) fn populate(bench: &Bench, scale: &Scale) -> Result<()> {
    let image = bench.make(IMAGE, scale.large * 2 + scale.files / 50 + 64)?;
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
    mount.end()
}

fn small(root: &Path, file: usize) -> PathBuf {
    let directory = file / PER_DIRECTORY;
    root.join(format!("tree/{}/{directory}/file-{file}.txt", directory % 50))
}

fn mount(bench: &Bench) -> Result<Mount> {
    bench.mount(&bench.file(IMAGE), "ro")
}

/// Runs `read` once with cold caches, or once more and takes the second time.
fn cached(cache: Cache, mut read: impl FnMut() -> Result<f64>) -> Result<f64> {
    let cold = read()?;
    if cache == Cache::Cold { Ok(cold) } else { read() }
}

fn sequential(bench: &Bench, scale: &Scale, cache: Cache) -> Result<f64> {
    let mount = mount(bench)?;
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

fn random(bench: &Bench, scale: &Scale, jobs: usize) -> Result<f64> {
    const O_DIRECT: i32 = rustix::fs::OFlags::DIRECT.bits() as i32;
    let mount = mount(bench)?;
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

fn find(bench: &Bench, cache: Cache) -> Result<f64> {
    let mount = mount(bench)?;
    let root = mount.root()?.join("tree");
    cached(cache, || time(Command::new("find").arg(&root).args(["-printf", "%s %T@ %p\n"])))
}

fn grep(bench: &Bench, cache: Cache) -> Result<f64> {
    let mount = mount(bench)?;
    let root = mount.root()?.join("tree");
    cached(cache, || time(Command::new("grep").args(["-rc", "lazy dog"]).arg(&root)))
}

/// Microseconds of a stat(2), by clients that run at the same time.
fn stat(bench: &Bench, scale: &Scale, clients: usize, flags: AtFlags) -> Result<f64> {
    let mount = mount(bench)?;
    let root = mount.root()?;
    let client = |client: usize| -> Result<()> {
        let path = small(root, client);
        for _ in 0..scale.repeats {
            rustix::fs::statx(CWD, &path, flags, StatxFlags::BASIC_STATS)?;
        }
        Ok(())
    };
    for id in 0..clients {
        fs::metadata(small(root, id))?;
    }
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|id| scope.spawn(move || client(id))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or(Ok(())))
    })?;
    Ok(start.elapsed().as_secs_f64() * 1e6 / (scale.repeats * clients) as f64)
}

fn open_read_close(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = mount(bench)?;
    let path = small(mount.root()?, 0);
    let mut buffer = vec![0; 8192];
    File::open(&path)?.read_at(&mut buffer, 0)?;
    let start = Instant::now();
    for _ in 0..scale.repeats {
        File::open(&path)?.read_at(&mut buffer, 0)?;
    }
    Ok(start.elapsed().as_secs_f64() * 1e6 / scale.repeats as f64)
}

/// Microseconds of a stat(2) of a name the kernel does not know, of metadata the server does.
fn lookup(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = mount(bench)?;
    let root = mount.root()?;
    let walk = || -> Result<f64> {
        let start = Instant::now();
        for file in 0..scale.files {
            fs::metadata(small(root, file))?;
        }
        Ok(start.elapsed().as_secs_f64() * 1e6 / scale.files as f64)
    };
    walk()?;
    // Names and inodes go, pages stay: the second walk finds all blocks in memory.
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    let figure = walk()?;
    drop_caches()?;
    Ok(figure)
}
