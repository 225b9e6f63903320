//! Disks that become bad while they are mounted: what is lost is said once, by the call that needs it, in
//! the log and in the superblock; the rest of the mount goes on, and it can be unmounted.
//!
//! One test at a time: they empty the host's caches.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod device;
mod live;
mod objects;
mod policy;
mod scene;

use std::process::ExitCode;

use fuse4fs_tests::{host, trial};

fn main() -> ExitCode {
    host::enter_private_mounts();
    trial::run(
        Some(1),
        [live::trials(), policy::trials(), device::trials()].into_iter().flatten().collect(),
    )
}
