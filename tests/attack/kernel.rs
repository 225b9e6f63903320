//! Notifications in great number, and rings that are promised.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuse4fs_tests::trial;
use fuse4fs_tests::uring::Parameter;
use libtest_mimic::Trial;

use crate::stage::{Stage, machine_works};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("a flood of notifications reaches the own mount only", flood),
        trial::test("threads that never sleep leave the machine to others", spin),
        trial::test("rings that never come end the mount", no_rings),
        trial::test("commands of rings that make no sense are refused", senseless_commands),
    ]
}

fn flood() -> Result<()> {
    let stage = Stage::new()?;
    let attacked = stage.mount(&stage.image("flood")?, "mnt", "rw")?;
    let (file, log) = (attacked.mounted.path().join("file"), stage.log("mnt"));
    let flooded = AtomicBool::new(false);
    let read = || {
        // What comes of it is the server's affair.
        while !flooded.load(Ordering::Relaxed) {
            let _ = fs::read(&file);
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(read);
        scope.spawn(read);
        let result = watch(&stage, &log);
        flooded.store(true, Ordering::Relaxed);
        // Of a request that was sent again and again the answer may be lost.
        attacked.connection.abort()?;
        result
    })?;
    attacked.end()?;
    stage.leave()
}

/// The machine goes on while there is a flood.
fn watch(stage: &Stage, log: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        machine_works(stage.directory.path())?;
        let said = fs::read_to_string(log)?;
        if said.contains("attack done") {
            let taken: Vec<_> = said.lines().filter(|line| line.contains("flood")).collect();
            println!("{}", taken.join("\n"));
            let none = taken.iter().filter(|line| line.contains(": 0 of")).count();
            ensure!(taken.len() == 10 && none <= 2, "{said}");
            return Ok(());
        }
        ensure!(Instant::now() < end, "it does not end");
    }
}

/// The kernel holds back all requests until there are rings, and no timeout counts for those.
fn no_rings() -> Result<()> {
    let _on = Parameter::set("Y")?;
    let stage = Stage::new()?;
    let image = stage.image("rings")?;
    let (output, ..) = stage.try_mount(&image, "mnt", "rw,server_timeout=3")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "mounted: {said}");
    stage.leave()
}

/// The kernel goes on without rings.
fn senseless_commands() -> Result<()> {
    let _on = Parameter::set("Y")?;
    let stage = Stage::new()?;
    let attacked = stage.mount(&stage.image("commands")?, "mnt", "rw")?;
    ensure!(fs::read(attacked.mounted.path().join("file"))?.len() == 4096);
    let results = attacked.results()?;
    attacked.end()?;
    let commands = results.iter().filter(|(name, _)| name.starts_with("ring "));
    let taken: Vec<_> = commands.clone().filter(|(_, errno)| **errno <= 0).collect();
    ensure!(commands.count() == 5 && taken.is_empty(), "{results:?}");
    stage.leave()
}

/// 64 of them.
fn spin() -> Result<()> {
    let stage = Stage::new()?;
    let attacked = stage.mount(&stage.image("spin")?, "mnt", "rw")?;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        machine_works(stage.directory.path())?;
    }
    let server = stage.product.server_running()?;
    let stat = fs::read_to_string(format!("/proc/{server}/stat"))?;
    // utime, in hundredths of a second.
    let used = stat.rsplit(") ").next().and_then(|fields| fields.split(' ').nth(11));
    ensure!(used.is_some_and(|used| used.parse().is_ok_and(|used: u64| used > 10)), "{stat}");
    attacked.end()?;
    stage.leave()
}
