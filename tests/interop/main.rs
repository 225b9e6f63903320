//! Images made by mke2fs and filled by the kernel's ext4: what we show is what the kernel shows.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod compare;
mod directories;
mod dirty;
mod large_blocks;
mod maps;
mod recipes;

use std::process::ExitCode;

use fuse4fs_tests::{host, trial};

fn main() -> ExitCode {
    host::enter_private_mounts();
    let mut trials: Vec<_> = recipes::ALL.iter().flat_map(compare::trials).collect();
    trials.extend(large_blocks::trials());
    trials.extend(directories::trials());
    trials.extend(maps::trials());
    trials.extend(dirty::trials());
    trial::run(Some(2), trials)
}
