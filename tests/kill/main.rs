//! kill -9 of the server at any moment: what fsync(2) promised is there afterwards.
//!
//! Workers write, rename and remove files, and note outside of the mount what they begin and what
//! they have synced. `FUSE4FS_KILLS` is how often each kind of file system loses its server (5 if
//! unset), `FUSE4FS_SEED` makes another run. `FUSE4FS_PEER=kernel` does it to the kernel's ext4, by
//! FS_IOC_SHUTDOWN: what fails there is wrong with the test.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod ledger;
mod peer;
mod round;
mod worker;

use std::process::ExitCode;

use fuse4fs_tests::{clients, host, load, trial};

fn main() -> ExitCode {
    match clients::role() {
        Some(role) if role == worker::ROLE => return clients::report(&worker::run()),
        Some(role) => return clients::report(&load::run(&role)),
        None => host::enter_private_mounts(),
    }
    let mut trials = ledger::trials();
    trials.extend(round::RECIPES.iter().map(round::trial));
    trial::run(Some(1), trials)
}
