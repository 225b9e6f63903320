//! What a server that was taken over can do: each attempt is made in the mount that the helper makes, by
//! a server built with the feature `attack`, and once more outside of the sandbox, where it works.
//!
//! What they get is a table in SECURITY.md; `FUSE4FS_REPORT=1` writes it anew.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod calls;
mod device;
mod disk;
mod kernel;
mod lies;
mod mute;
mod report;
mod stage;
mod take;

use std::process::ExitCode;

use fuse4fs_tests::{host, trial};

fn main() -> ExitCode {
    host::enter_private_mounts();
    let groups = [
        calls::trials(),
        device::trials(),
        take::trials(),
        lies::trials(),
        kernel::trials(),
        mute::trials(),
        disk::trials(),
        report::trials(),
    ];
    trial::run(Some(1), groups.into_iter().flatten().collect())
}
