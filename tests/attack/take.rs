//! Memory and threads: what a server gets, and where it ends.

use anyhow::{Context, Result, ensure};
use fuse4fs_server::attack::takers;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

use crate::stage::Stage;

/// MiB beside what it has at its start, and for each CPU.
const MEMORY: (i64, i64) = (1 << 10, 4);
const THREADS: i64 = 2048;

pub(crate) fn trials() -> Vec<Trial> {
    let test = |(number, name): (usize, &'static str)| {
        trial::test(format!("limited: {name}"), move || limited(number, name))
    };
    takers().into_iter().enumerate().map(test).collect()
}

/// What a taker gets at most.
fn limit(name: &str) -> i64 {
    match name {
        "threads" => THREADS,
        "memory shared" | "memory as stacks" | "memory by mremap of the stack" => 0,
        _ => {
            let cpus = std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as i64);
            MEMORY.0 + MEMORY.1 * cpus
        }
    }
}

/// That in words.
pub(crate) fn words(name: &str) -> &'static str {
    match name {
        "threads" => "2048 of them",
        _ if limit(name) == 0 => "EPERM",
        _ => "1 GiB, and 4 MiB for each CPU",
    }
}

fn limited(number: usize, name: &'static str) -> Result<()> {
    let stage = Stage::new()?;
    let attacked = stage.mount(&stage.image(&format!("take:{number}"))?, "mnt", "ro")?;
    let taken = attacked.results()?.get(name).copied().context("no result")?;
    attacked.end()?;
    println!("{name}: {taken}");
    ensure!(taken <= limit(name), "it got {taken}");
    let output = stage.unconfined(name, "/dev/null".as_ref(), 0)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let outside = said.lines().find_map(|line| line.strip_prefix("attack ")?.strip_prefix(name));
    let outside = outside.and_then(|line| line.strip_prefix(": ")).context(said.clone())?;
    ensure!(outside.parse::<i64>()? > limit(name), "outside of the sandbox: {outside}");
    stage.leave()
}
