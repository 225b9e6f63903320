//! The engine in this process, through its public verbs only.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

mod dirty;
mod golden;
mod mmp;
mod names;
mod refusals;
mod superblock;

use std::process::ExitCode;

use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::trial;

fn main() -> ExitCode {
    let mut trials = Vec::new();
    match Golden::all() {
        Ok(images) => {
            for image in images {
                trials.extend(golden::trials(&image));
                trials.extend(names::trials(&image));
                trials.extend(dirty::trials(&image));
            }
        }
        Err(error) => trials.push(trial::test("golden images", move || Err(error))),
    }
    trials.extend(refusals::trials());
    trials.extend(superblock::trials());
    trials.extend(mmp::trials());
    trial::run(None, trials)
}
