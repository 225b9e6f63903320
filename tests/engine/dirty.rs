//! Images with a dirty journal, mounted for writing in this process: the log is brought home, and what
//! is left is as a read-only mount showed it, and in order.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::{FileDevice, MemDevice, Recording, Sampling};
use fuse4fs_ext4::{Filesystem, MountOptions, Unobserved};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::truth::Truth;
use fuse4fs_tests::{command, engine_walk, trial};
use libtest_mimic::Trial;

pub(crate) fn trials(image: &Golden) -> Vec<Trial> {
    if !image.is_dirty() {
        return Vec::new();
    }
    let (whole, cut) = (image.clone(), image.clone());
    vec![
        trial::test(
            format!("{}: mounted for writing it becomes the truth", image.name),
            move || it_becomes_the_truth(&whole),
        ),
        trial::test(
            format!("{}: a crash while it is mounted loses nothing", image.name),
            move || a_crash_loses_nothing(&cut),
        ),
    ]
}

/// The truth, without what nobody leaves right.
fn truth(golden: &Golden) -> Result<Truth> {
    let mut truth = golden.truth()?;
    if golden.name.contains("-fc") {
        // The kernel's replay of fast commits leaves these wrong, as e2fsck says of them.
        for entry in truth.tree.entries.values_mut().filter(|entry| entry.kind == "dir") {
            (entry.links, entry.blocks512) = (None, None);
        }
    }
    Ok(truth)
}

fn it_becomes_the_truth(golden: &Golden) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = golden.unpack(directory.path())?;
    let truth = truth(golden)?;
    let mounted = mount(&image)?;
    truth.expect(&engine_walk::walk(&mounted)?).context("mounted")?;
    mounted.unmount()?;
    drop(mounted);
    let output = command::run(Command::new("e2fsck").args(["-f", "-n"]).arg(&image))?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "e2fsck -fn: {said}");
    truth.expect(&engine_walk::walk(&engine_walk::mount(&image)?)?).context("mounted again")
}

/// Crashes that are looked at, spread over the writes of a mount and an unmount.
const CRASHES: usize = 12;

fn a_crash_loses_nothing(golden: &Golden) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let device = Arc::new(Recording::new(std::fs::read(golden.unpack(directory.path())?)?));
    let options = MountOptions { read_only: false, ..engine_walk::options() };
    Filesystem::mount(device.clone(), &options, &Unobserved)?.unmount()?;
    let truth = truth(golden)?;
    let history = device.history();
    let step = history.writes() / CRASHES + 1;
    let sampling = Sampling { subsets: 1, torn: 0, sector: 512, seed: 1 };
    let (mut met, mut result) = (0, Ok(()));
    history.crashes(sampling, |crash| {
        met += 1;
        if met % step == 0 {
            let place = format!("after {} writes, {}", crash.writes, crash.how);
            result = recovers(crash.bytes, &truth).context(place);
        }
        result.is_ok()
    });
    result
}

fn recovers(bytes: Vec<u8>, truth: &Truth) -> Result<()> {
    let options = MountOptions { read_only: false, ..engine_walk::options() };
    let mounted = Filesystem::mount(Arc::new(MemDevice::new(bytes)), &options, &Unobserved)?;
    truth.expect(&engine_walk::walk(&mounted)?)
}

fn mount(image: &Path) -> Result<Filesystem> {
    let file = OpenOptions::new().read(true).write(true).open(image)?;
    let options = MountOptions { read_only: false, ..engine_walk::options() };
    Ok(Filesystem::mount(Arc::new(FileDevice::new(file)?), &options, &Unobserved)?)
}
