//! Multiple mount protection on images made elsewhere, with a clock that does not wait.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::{Error, Filesystem, MountOptions, Observer};
use fuse4fs_tests::shared::{self, Golden};
use fuse4fs_tests::{command, engine_walk, trial};
use libtest_mimic::Trial;

/// Images of the corpus, and the check that finds what is wrong.
const DAMAGED: &[(&str, &str)] = &[
    ("craft_mmp_blk0", "mmp-block"),
    ("craft_mmp_blkmax", "mmp-block"),
    ("e2fs_m_mmp_bad_csum", "mmp-checksum"),
    ("e2fs_m_mmp_bad_magic", "mmp-magic"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![trial::test(
        "a protected image is claimed, written, and given up",
        it_is_claimed_and_given_up,
    )];
    for &(name, code) in DAMAGED {
        let text = format!("{name}: its protection is not believed, and it can be read");
        trials.push(trial::test(text, move || damage_is_named(name, code)));
    }
    trials
}

/// Counts the seconds.
#[derive(Default)]
struct Clock(AtomicU64);

impl Observer for Clock {
    fn await_other_node(&self, _: u64, _: u64) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn mount(image: &Path, clock: &Clock, read_only: bool) -> Result<Filesystem, Error> {
    let file = OpenOptions::new().read(true).write(true).open(image);
    let device = file.and_then(FileDevice::new).map_err(|source| Error::Io {
        op: fuse4fs_ext4::error::IoOp::Read,
        place: fuse4fs_ext4::Place::default(),
        source,
    })?;
    let options = MountOptions { read_only, ..engine_walk::options() };
    Filesystem::mount(Arc::new(device), &options, clock)
}

fn it_is_claimed_and_given_up() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let golden = Golden::named("ext4-mmp")?;
    let image = golden.unpack(directory.path())?;
    for _ in 0..2 {
        let clock = Clock::default();
        let mounted = mount(&image, &clock, false)?;
        ensure!(clock.0.load(Ordering::Relaxed) == 11, "another wait: it was not given up");
        golden.truth()?.expect(&engine_walk::walk(&mounted)?)?;
        mounted.unmount()?;
        let output = command::run(Command::new("e2fsck").args(["-f", "-n"]).arg(&image))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.code() == Some(0), "e2fsck -fn: {said}");
    }
    Ok(())
}

fn damage_is_named(name: &str, code: &str) -> Result<()> {
    shared::golden_directory()?;
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("image");
    let packed = shared::directory().join("corpus/images").join(format!("{name}.img.zst"));
    shared::unpack(&packed, &image)?;
    let clock = Clock::default();
    match mount(&image, &clock, false) {
        Err(Error::Corrupt { kind, .. }) if kind.code() == code => {}
        Err(other) => bail!("refused for another reason: {other}"),
        Ok(_) => bail!("mounted"),
    }
    mount(&image, &clock, true)?;
    ensure!(clock.0.load(Ordering::Relaxed) == 0, "it waited for nothing");
    Ok(())
}
