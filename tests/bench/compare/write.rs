//! Writing: a fresh file system for every measurement.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::system::{Bench, Mount, time};
use crate::{Row, Scale, Unit};

const IMAGE: &str = "write.img";

pub(crate) const ROWS: &[Row] = &[
    Row { name: "untar + sync", unit: Unit::Seconds, measure: untar },
    Row { name: "rm -rf + sync", unit: Unit::Seconds, measure: remove },
    Row { name: "sequential write + fsync", unit: Unit::MibPerSecond, measure: sequential },
    Row { name: "append 4 KiB + fsync", unit: Unit::PerSecond, measure: append },
    Row { name: "create, rename, unlink, 4 threads", unit: Unit::PerSecond, measure: churn },
    Row { name: "create in one directory", unit: Unit::PerSecond, measure: one_directory },
];

fn fresh(bench: &Bench, scale: &Scale) -> Result<Mount> {
    let image = bench.make(IMAGE, scale.large * 2 + scale.files / 50 + 256)?;
    bench.mount(&image, "rw")
}

/// A tar archive of the small files, made once.
fn archive(bench: &Bench, scale: &Scale) -> Result<PathBuf> {
    let (archive, tree) = (bench.file("tree.tar"), bench.file("tree"));
    if archive.exists() {
        return Ok(archive);
    }
    for file in 0..scale.files {
        let directory = tree.join(format!("{}/{}", file / 400, file / 20));
        if file % 20 == 0 {
            fs::create_dir_all(&directory)?;
        }
        let line = format!("file {file}: the quick brown fox jumps over the lazy dog\n");
        let text = line.repeat(1024 * (1 + file % 8) / line.len());
        fs::write(directory.join(format!("file-{file}.txt")), text)?;
    }
    time(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&tree).arg("."))?;
    fs::remove_dir_all(tree)?;
    Ok(archive)
}

/// Unpacks the archive into `root` and makes it durable.
fn unpack(archive: &Path, root: &Path) -> Result<f64> {
    let start = Instant::now();
    time(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root))?;
    sync(root)?;
    Ok(start.elapsed().as_secs_f64())
}

fn sync(root: &Path) -> Result<()> {
    Ok(rustix::fs::syncfs(File::open(root)?)?)
}

fn untar(bench: &Bench, scale: &Scale) -> Result<f64> {
    let archive = archive(bench, scale)?;
    // Into the page cache.
    fs::read(&archive)?;
    let mount = fresh(bench, scale)?;
    let seconds = unpack(&archive, mount.root()?)?;
    mount.end()?;
    Ok(seconds)
}

fn remove(bench: &Bench, scale: &Scale) -> Result<f64> {
    let archive = archive(bench, scale)?;
    let mount = fresh(bench, scale)?;
    let tree = mount.root()?.join("tree");
    fs::create_dir(&tree)?;
    unpack(&archive, &tree)?;
    let start = Instant::now();
    time(Command::new("rm").arg("-rf").arg(&tree))?;
    sync(mount.root()?)?;
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok(seconds)
}

fn sequential(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = fresh(bench, scale)?;
    let mut file = File::create(mount.root()?.join("large"))?;
    let chunk = vec![0x5a; 1 << 20];
    let start = Instant::now();
    for _ in 0..scale.large {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    mount.end()?;
    Ok(scale.large as f64 / seconds)
}

fn append(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = fresh(bench, scale)?;
    let mut file = File::create(mount.root()?.join("log"))?;
    let record = vec![0x5a; 4096];
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed().as_secs_f64() < scale.seconds {
        file.write_all(&record)?;
        file.sync_all()?;
        count += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    mount.end()?;
    Ok(f64::from(count) / seconds)
}

/// Operations in a second of four threads, each in a directory of its own.
fn churn(bench: &Bench, scale: &Scale) -> Result<f64> {
    const THREADS: usize = 4;
    let mount = fresh(bench, scale)?;
    let root = mount.root()?;
    let each = scale.names / 10;
    let thread = |thread: usize| -> Result<()> {
        let directory = root.join(thread.to_string());
        fs::create_dir(&directory)?;
        for number in 0..each {
            let (from, to) =
                (directory.join(format!("a{number}")), directory.join(format!("b{number}")));
            File::create(&from)?;
            fs::rename(&from, &to)?;
            if number % 2 == 0 {
                fs::remove_file(&to)?;
            }
        }
        Ok(())
    };
    let start = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|id| scope.spawn(move || thread(id))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a thread died")?)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok((THREADS * each * 5 / 2) as f64 / seconds)
}

fn one_directory(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = fresh(bench, scale)?;
    let directory = mount.root()?.join("names");
    fs::create_dir(&directory)?;
    let start = Instant::now();
    for number in 0..scale.names {
        File::create(directory.join(format!("a name of common length {number}")))?;
    }
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok(scale.names as f64 / seconds)
}
