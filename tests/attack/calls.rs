//! System calls, and operations of rings.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};
use fuse4fs_server::attack::{Attempt, LIES, attempts};
use fuse4fs_tests::attached::Attached;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

use crate::stage::Stage;

/// The result of a server that has no ring.
const NO_RING: i64 = 95;

pub(crate) fn trials() -> Vec<Trial> {
    let mut groups: Vec<&str> = attempts().iter().map(|attempt| attempt.group).collect();
    groups.dedup();
    let test =
        |group: &'static str| trial::test(format!("refused: {group}"), move || refused(group));
    let mut trials: Vec<_> = groups.into_iter().map(test).collect();
    trials.push(trial::test("scripts/test-all knows an attack by a name", marked));
    #[cfg(target_arch = "x86_64")]
    trials.push(trial::test("a system call of 32 bits ends the server", old_entry));
    trials
}

/// All attempts of a group.
fn group(name: &str) -> Vec<Attempt> {
    attempts().into_iter().filter(|attempt| attempt.group == name).collect()
}

/// What all attempts get in one mount.
fn inside() -> Result<&'static BTreeMap<String, i64>> {
    static RESULTS: OnceLock<Result<BTreeMap<String, i64>, String>> = OnceLock::new();
    let attack = || -> Result<_> {
        let stage = Stage::new()?;
        let attacked = stage.mount(&stage.image("calls")?, "mnt", "rw")?;
        let results = attacked.results();
        attacked.end()?;
        stage.leave()?;
        results
    };
    // What is lacking is told by the first one.
    Stage::new()?;
    let results = RESULTS.get_or_init(|| attack().map_err(|error| format!("{error:#}")));
    results.as_ref().map_err(|error| anyhow!("{error}"))
}

fn refused(name: &'static str) -> Result<()> {
    let inside = inside()?;
    let stage = Stage::new()?;
    for attempt in group(name) {
        let got = *inside.get(attempt.name).with_context(|| attempt.name.to_owned())?;
        if got == NO_RING {
            return trial::skip("this machine has no rings for the server");
        }
        let right = attempt.inside.iter().any(|errno| i64::from(*errno) == got);
        ensure!(right, "{}: {got}, not {:?}", attempt.name, attempt.inside);
        outside(&stage, &attempt)?;
    }
    stage.leave()
}

/// It works outside, or reaches what refuses it.
fn outside(stage: &Stage, attempt: &Attempt) -> Result<()> {
    let image = stage.directory.path().join("disk");
    std::fs::File::create(&image)?.set_len(8 << 20)?;
    let device = Attached::new(image)?;
    let output = stage.unconfined(attempt.name, &device.path, 0)?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        said == attempt.outside.to_string(),
        "outside of the sandbox {} gets {said} {errors}, not {}",
        attempt.name,
        attempt.outside
    );
    Ok(())
}

/// By which it tells that what is shipped holds none.
fn marked() -> Result<()> {
    let script = include_str!("../../scripts/test-all");
    let server = std::fs::read(Stage::new()?.product.server())?;
    let known = LIES.iter().map(|lie| lie.name).filter(|name| script.contains(name));
    let found = |name: &str| server.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    ensure!(
        known.clone().count() > 0 && known.clone().all(found),
        "{:?}",
        known.collect::<Vec<_>>()
    );
    Ok(())
}

/// That entry bypasses the numbers that a filter knows.
#[cfg(target_arch = "x86_64")]
fn old_entry() -> Result<()> {
    let stage = Stage::new()?;
    let (output, ..) = stage.try_mount(&stage.image("kill")?, "mnt", "rw")?;
    let log = std::fs::read_to_string(stage.log("mnt"))?;
    ensure!(!output.status.success() && !log.contains("old entry"), "it lived: {log}");
    let output = stage.unconfined("old entry", "/dev/null".as_ref(), 0)?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if said.trim() != "0" {
        return trial::skip("this kernel has no entry for programs of 32 bits");
    }
    stage.leave()
}
