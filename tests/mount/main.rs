//! The product as a person uses it: helper, server and kernel together, as root with /dev/fuse.
//!
//! One test at a time: they look at what is left behind on the machine.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod check;
mod containment;
mod control;
mod exposition;
mod io;
mod layout;
mod liar;
mod options;
mod quota;
mod refusals;
mod requests;
mod sharing;
mod status;
mod sync;
mod uring;
mod user;
mod verify;
mod waiting;

use std::process::ExitCode;

use fuse4fs_tests::{host, trial};

fn main() -> ExitCode {
    host::enter_private_mounts();
    let groups = [
        check::trials(),
        refusals::trials(),
        requests::trials(),
        sharing::trials(),
        status::trials(),
        sync::trials(),
        uring::trials(),
        containment::trials(),
        user::trials(),
        io::trials(),
        layout::trials(),
        control::trials(),
        options::trials(),
        quota::trials(),
        verify::trials(),
        waiting::trials(),
    ];
    trial::run(Some(1), groups.into_iter().flatten().collect())
}
