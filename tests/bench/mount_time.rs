//! How long a mount of a 1 TiB file system takes, from exec of mount.fuse4fs to its exit 0, and what
//! the server then weighs. `cargo bench -p fuse4fs-tests`, as root; prints a table, asserts nothing.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, host};

const ROUNDS: usize = 20;

fn main() -> Result<()> {
    // `cargo test --benches` runs this as well, with nothing to measure for.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    host::enter_private_mounts();
    let product = Product::release()?;
    let directory = tempfile::tempdir()?;
    let (image, mountpoint) = (directory.path().join("1t.img"), directory.path().join("mnt"));
    std::fs::create_dir(&mountpoint)?;
    let mut mke2fs = Command::new("mke2fs");
    command::succeed(mke2fs.args(["-q", "-F", "-t", "ext4"]).arg(&image).arg("1T"))?;
    // The first round brings programs and metadata into the page cache.
    round(product, &image, &mountpoint)?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        rounds.push(round(product, &image, &mountpoint)?);
    }
    let median = |values: &mut Vec<u128>| {
        values.sort_unstable();
        values.get(values.len() / 2).copied().unwrap_or(0)
    };
    let of = |pick: fn(&Round) -> u128| median(&mut rounds.iter().map(pick).collect());
    println!("1 TiB ext4 in a sparse file, median of {ROUNDS}       measured      goal");
    println!(
        "mount.fuse4fs, exec to exit 0           {:>10} us  < 100000",
        of(|r| r.mount.as_micros())
    );
    println!("umount                                  {:>10} us", of(|r| r.umount.as_micros()));
    println!(
        "VmRSS of the server                     {:>10} kB   < 16384",
        of(|r| r.resident.into())
    );
    Ok(())
}

struct Round {
    mount: Duration,
    umount: Duration,
    /// In kB.
    resident: u64,
}

fn round(product: &Product, image: &Path, mountpoint: &Path) -> Result<Round> {
    let mut helper = Command::new(product.helper());
    helper.arg(image).arg(mountpoint).args(["-o", "ro,server=spawn"]);
    let start = Instant::now();
    let status = helper.status()?;
    let mount = start.elapsed();
    anyhow::ensure!(status.success(), "{status}");
    let mounted = host::Mounted::adopt(mountpoint);
    let names = std::fs::read_dir(mountpoint)?.count();
    anyhow::ensure!(names == 1, "{names} names in an empty file system");
    let resident = resident(product)?;
    let start = Instant::now();
    mounted.unmount()?;
    Ok(Round { mount, umount: start.elapsed(), resident })
}

/// VmRSS in kB.
fn resident(product: &Product) -> Result<u64> {
    let server = product.servers()?.first().copied().context("no server")?;
    let status = std::fs::read_to_string(format!("/proc/{server}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let number = line.split_whitespace().next().context("no number")?;
    Ok(number.parse()?)
}
