//! Mounts under load for a while, and all that people do to mounts in use.
//!
//! `FUSE4FS_SOAK_SECONDS` is for how long, all trials together (20 if unset; each does every kind of
//! round at least once); `FUSE4FS_SEED` makes another run.
//!
//! What a server holds is looked at after every load that it outlives: memory (its buffers with it),
//! threads and descriptors from outside; nodes and open files by what it says at its end.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod rounds;
mod stage;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fuse4fs_tests::{clients, host, load, trial};
use libtest_mimic::Trial;

use crate::stage::{Access, Stage, Transport};

const SHORTEST: Duration = Duration::from_millis(400);

fn main() -> ExitCode {
    if let Some(role) = clients::role() {
        return clients::report(&load::run(&role));
    }
    host::enter_private_mounts();
    let mut trials = Vec::new();
    for access in [Access::ReadOnly, Access::ReadWrite] {
        for transport in [Transport::Classic, Transport::Ring] {
            trials.push((access, transport));
        }
    }
    let shares = u32::try_from(trials.len()).unwrap_or(u32::MAX);
    let trials = trials.into_iter().map(|(access, transport)| soak(access, transport, shares));
    trial::run(Some(1), trials.collect())
}

fn soak(access: Access, transport: Transport, shares: u32) -> Trial {
    let name = format!("a {} mount {} outlasts a load", access.title(), transport.title());
    trial::test(name, move || {
        let time = Duration::from_secs(host::setting("FUSE4FS_SOAK_SECONDS", 20)?) / shares;
        let mut stage = Stage::prepare(access, transport)?;
        let begin = Instant::now();
        let rounds = u32::try_from(rounds::ALL.len())?;
        let share = time / rounds;
        for number in 0.. {
            for (name, longest, round) in rounds::ALL {
                let at = begin.elapsed().as_secs();
                println!("{} {}, {at} s: {name}", access.title(), transport.title());
                let result = run(&mut stage, *round, share.clamp(SHORTEST, *longest));
                result.with_context(|| format!("round {number}: {name}\n{}", stage.troubles()))?;
            }
            if begin.elapsed() >= time {
                break;
            }
        }
        stage.expect_untouched()
    })
}

fn run(stage: &mut Stage, round: rounds::Round, load: Duration) -> Result<()> {
    round(stage, load)?;
    stage.expect_nothing_left()
}
