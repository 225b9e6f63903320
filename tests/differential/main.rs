//! The same operations on fuse4fs and on the kernel's ext4: the same answers, the same tree.
//!
//! Each recipe of mke2fs gets a sequence drawn from a seed, by several threads in directories of
//! their own; some in several parts, with both mounted anew in between. `FUSE4FS_OPS` (operations for each recipe, default 2000) and `FUSE4FS_SEED` make
//! longer and other runs; `FUSE4FS_PEER=kernel` compares the kernel with itself.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod full;
mod pair;

use std::process::ExitCode;

use fuse4fs_tests::{host, trial};

fn main() -> ExitCode {
    host::enter_private_mounts();
    let mut trials = pair::trials();
    trials.push(full::trial());
    trial::run(Some(1), trials)
}
