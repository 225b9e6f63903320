//! Memory that is short, in control groups with limits and with the kernel's own triggers: a server gives
//! back what it can read again, and goes on.
//!
//! `FUSE4FS_PRESSURE` is how often each test does it (2 if unset).
//!
//! A program of its own: it takes a gibibyte.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod cache;
mod groups;
mod hog;
mod idle;
mod stage;
mod writeback;

use std::process::ExitCode;

use anyhow::Result;
use fuse4fs_tests::{clients, host, trial};
use libtest_mimic::Trial;
use writeback::Server;

fn main() -> ExitCode {
    match clients::role() {
        Some(role) if role == hog::ROLE => return clients::report(&hog::run()),
        Some(role) if role == writeback::ROLE => return clients::report(&writeback::run()),
        Some(role) => unreachable!("{role}"),
        None => host::enter_private_mounts(),
    }
    let given_back = "a warm cache is given back to who needs the memory, and operations go on";
    let ends = "what was written goes to the disk though there is no memory left";
    let beside = "the same when the server is as short of memory as the writer";
    let small = "a server of 1 TiB that has nothing to do is small";
    let again = "a server is small again after large requests, over /dev/fuse";
    let mut trials = vec![trial::test(again, idle::becomes_small_again)];
    trials.extend(each(small, |ring, _| idle::is_small(ring)));
    trials.extend(each(ends, |ring, rounds| writeback::ends(ring, Server::Outside, rounds)));
    trials.extend(each(beside, |ring, rounds| writeback::ends(ring, Server::Beside, rounds)));
    trials.extend(each(given_back, cache::is_given_back));
    trial::run(Some(1), trials)
}

/// A test over each transport.
fn each(name: &str, body: fn(&str, u64) -> Result<()>) -> [Trial; 2] {
    [("/dev/fuse", "off"), ("rings", "on")].map(|(transport, ring)| {
        let body = move || body(ring, host::setting("FUSE4FS_PRESSURE", 2)?);
        trial::test(format!("{name}, over {transport}"), body)
    })
}
