//! Writing: a fresh file system for every measurement.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::command;

use crate::system::{Bench, Mount};
use crate::{Row, Scale, Unit, row};

const IMAGE: &str = "write.img";

pub(crate) const ROWS: &[Row] = &[
    row("untar + sync", Unit::Seconds, untar),
    row("rm -rf + sync", Unit::Seconds, remove),
    row("sequential write + fsync", Unit::MibPerSecond, sequential),
    row("append 4 KiB + fsync", Unit::PerSecond, append),
    row("create, rename, unlink, 4 threads", Unit::PerSecond, churn),
    row("create in one directory", Unit::PerSecond, one_directory),
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
    command::succeed(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&tree).arg("."))?;
    fs::remove_dir_all(tree)?;
    Ok(archive)
}

/// Unpacks the archive into `root` and makes it durable.
fn unpack(bench: &Bench, archive: &Path, root: &Path) -> Result<f64> {
    let start = Instant::now();
    bench.limit().time(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(root))?;
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
    let seconds = unpack(bench, &archive, mount.root()?)?;
    mount.end()?;
    Ok(seconds)
}

fn remove(bench: &Bench, scale: &Scale) -> Result<f64> {
    let archive = archive(bench, scale)?;
    let mount = fresh(bench, scale)?;
    let tree = mount.root()?.join("tree");
    fs::create_dir(&tree)?;
    unpack(bench, &archive, &tree)?;
    ensure!(!bench.limit().was_reached(), "there was no time to make what is to be removed");
    let start = Instant::now();
    bench.limit().time(Command::new("rm").arg("-rf").arg(&tree))?;
    sync(mount.root()?)?;
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok(seconds)
}

fn sequential(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = fresh(bench, scale)?;
    let mut file = File::create(mount.root()?.join("large"))?;
    let chunk = vec![0x5a; 1 << 20];
    let (start, limit, mut written) = (Instant::now(), bench.limit(), 0);
    while written < scale.large && !limit.is_over() {
        file.write_all(&chunk)?;
        written += 1;
    }
    file.sync_all()?;
    let seconds = start.elapsed().as_secs_f64();
    drop(file);
    mount.end()?;
    Ok(written as f64 / seconds)
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
    let limit = &*bench.limit();
    let thread = |thread: usize| -> Result<usize> {
        let directory = root.join(thread.to_string());
        fs::create_dir(&directory)?;
        let mut done = 0;
        for number in 0..each {
            if limit.is_over() {
                break;
            }
            let (from, to) =
                (directory.join(format!("a{number}")), directory.join(format!("b{number}")));
            File::create(&from)?;
            fs::rename(&from, &to)?;
            done += 2;
            if number % 2 == 0 {
                fs::remove_file(&to)?;
                done += 1;
            }
        }
        Ok(done)
    };
    let start = Instant::now();
    let done: Vec<usize> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|id| scope.spawn(move || thread(id))).collect();
        let join = threads.into_iter().map(|thread| thread.join().ok().context("a thread died")?);
        join.collect::<Result<_>>()
    })?;
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok(done.into_iter().sum::<usize>() as f64 / seconds)
}

fn one_directory(bench: &Bench, scale: &Scale) -> Result<f64> {
    let mount = fresh(bench, scale)?;
    let directory = mount.root()?.join("names");
    fs::create_dir(&directory)?;
    let (start, limit, mut number) = (Instant::now(), bench.limit(), 0);
    while number < scale.names && !limit.is_over() {
        File::create(directory.join(format!("a name of common length {number}")))?;
        number += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    mount.end()?;
    Ok(number as f64 / seconds)
}
