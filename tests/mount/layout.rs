//! Where files written through a mount lie on the device: few long extents, each file's by itself.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

const RECIPE: Recipe =
    Recipe { name: "layout", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "" };
const MIB: usize = 1 << 20;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("a file of 1 GiB has at most nine extents", one_large_file),
        trial::test("four files written at once do not interleave", four_at_once),
    ]
}

/// Extents have up to 128 MiB each: eight, and one more where a group begins with a backup.
fn one_large_file() -> Result<()> {
    let extents = written("2G", &["large"], 1024)?;
    ensure!(extents[0] <= 9, "{extents:?} extents");
    Ok(())
}

fn four_at_once() -> Result<()> {
    let extents = written("1G", &["a", "b", "c", "d"], 64)?;
    ensure!(extents.iter().all(|extents| *extents <= 8), "{extents:?} extents of 64 MiB each");
    Ok(())
}

/// Writes files of `mib` MiB at the same time to a fresh file system of `size`; their numbers of
/// extents.
fn written(size: &str, names: &[&str], mib: usize) -> Result<Vec<usize>> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make_sized(directory.path(), size)?;
    let mounted = product.mount(&image, &mountpoint, "rw")?;
    std::thread::scope(|scope| {
        let fill = |name: &str| fill(&mountpoint.join(name), mib);
        let threads: Vec<_> = names.iter().map(|name| scope.spawn(move || fill(name))).collect();
        threads.into_iter().try_for_each(|thread| {
            thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })
    })?;
    mounted.unmount()?;
    image::check(&image)?;
    names.iter().map(|name| extents(&image, name)).collect()
}

fn fill(path: &Path, mib: usize) -> Result<()> {
    let mut file = File::create(path)?;
    let chunk = vec![0x5a; MIB / 8];
    for _ in 0..mib * 8 {
        file.write_all(&chunk)?;
    }
    file.sync_all().context("fsync")
}

/// Extents of a file in the root directory, as debugfs counts them.
fn extents(image: &Path, name: &str) -> Result<usize> {
    let mut debugfs = Command::new("debugfs");
    let output =
        command::run(debugfs.arg("-R").arg(format!("dump_extents -l /{name}")).arg(image))?;
    let lines = String::from_utf8(output.stdout)?.lines().count();
    // One line is the heading.
    ensure!(lines > 1, "debugfs: {}", String::from_utf8_lossy(&output.stderr));
    Ok(lines - 1)
}
