//! Faults while what crashed is mounted: the log is replayed, orphans end, blocks are counted.

use std::sync::Arc;

use anyhow::{Result, ensure};
use fuse4fs_ext4::device::MemDevice;
use fuse4fs_ext4::{Error, ErrorPolicy};
use fuse4fs_tests::faulty::{Counts, Faulty};
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

use crate::inject::{Case, Promise, Stage, caught};
use crate::tools::*;
use crate::verb::{Extent, Kind, Verb, make_witness, see_witness};
use crate::{KIB, all_cases, try_some};

/// Nothing is done but to mount.
const MOUNT: Verb = Verb {
    name: "mount",
    setup: |_| Ok(()),
    act: |_| Ok(()),
    done: |_| Ok(()),
    extent: Extent::Parts,
};

pub(crate) fn trial(kind: &'static Kind, sample: usize) -> Trial {
    trial::test(format!("a fault while what crashed is mounted, on {}", kind.name), move || {
        let stage = Stage { verb: &MOUNT, kind, base: crashed(kind)? };
        let cases = all_cases(measure(&stage)?, true);
        try_some(&MOUNT, cases, (0, sample), |case| caught(|| attempt(&stage, case)))
    })
}

/// What is left of a file system by a crash: a log, and a file that had lost its name and was open.
fn crashed(kind: &Kind) -> Result<Vec<u8>> {
    let device = Arc::new(MemDevice::new(kind.made(KIB, |_| Ok(()))?));
    let fs = kind.mount(device.clone(), ErrorPolicy::Continue)?;
    make_witness(&fs)?;
    filled(&fs, "open", 20_000, 1)?;
    fs.unlink(&caller(), ROOT, b"open")?;
    dir(&fs, "dir")?;
    fs.sync()?;
    Ok(device.contents())
}

/// What is done to the device when nothing fails.
fn measure(stage: &Stage<'_>) -> Result<Counts> {
    let device = Arc::new(Faulty::new(stage.base.clone()));
    device.arm(None);
    let fs = stage.kind.mount(device.clone(), ErrorPolicy::Continue)?;
    let done = device.done();
    see_witness(&fs)?;
    fs.unmount()?;
    stage.recovered(&device.contents(), Promise::Open)?;
    Ok(done)
}

/// Whether the fault was met. It is an I/O error, or the mount gets around it; in any case what is
/// left can be recovered.
fn attempt(stage: &Stage<'_>, case: Case) -> Result<bool> {
    let device = Arc::new(Faulty::new(stage.base.clone()));
    device.arm(case.fault);
    let mounted = stage.kind.mount(device.clone(), case.errors);
    let met = device.failed() > 0;
    device.heal();
    match mounted {
        Ok(fs) => {
            see_witness(&fs)?;
            if fs.is_writable() {
                fs.sync()?;
                fs.unmount()?;
            }
        }
        Err(Error::Io { .. }) => ensure!(met, "it failed without a fault"),
        Err(other) => return Err(other.into()),
    }
    stage.recovered(&device.contents(), Promise::Open)?;
    Ok(met)
}
