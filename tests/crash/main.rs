//! No crash of any workload harms a file system or loses what was synced. `FUSE4FS_CRASH=long` looks at
//! all images instead of some hundred of each.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod workloads;

use std::process::ExitCode;

use fuse4fs_ext4::DataMode;
use fuse4fs_tests::crash::{Effort, Kind, enumerate};
use fuse4fs_tests::trial;

const EXT4: &[&str] = &["-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256"];
const EXT3: &[&str] = &["-t", "ext3", "-b", "1024", "-J", "size=1", "-N", "256"];
const FEATURES: &[&str] = &[
    "-t",
    "ext4",
    "-b",
    "1024",
    "-C",
    "4096",
    "-J",
    "size=1",
    "-N",
    "256",
    "-O",
    "orphan_file,inline_data,bigalloc",
];

const KINDS: &[Kind] = &[
    Kind { name: "ext4", format: EXT4, data: DataMode::Ordered },
    Kind { name: "ext3", format: EXT3, data: DataMode::Ordered },
    Kind {
        name: "ext4 with orphan file, inline data and bigalloc",
        format: FEATURES,
        data: DataMode::Ordered,
    },
    Kind { name: "ext4 with data=journal", format: EXT4, data: DataMode::Journal },
    Kind {
        name: "inline data and bigalloc with data=journal",
        format: FEATURES,
        data: DataMode::Journal,
    },
];
const KIB: u64 = 6144;

fn main() -> ExitCode {
    let long = std::env::var("FUSE4FS_CRASH").is_ok_and(|how| how == "long");
    let effort = if long {
        Effort { subsets: 4, judged: 10, most: usize::MAX }
    } else {
        Effort { subsets: 1, judged: 40, most: 400 }
    };
    let mut trials = Vec::new();
    for kind in KINDS {
        let atomic = workloads::JOURNALLED.iter().filter(|_| kind.data == DataMode::Journal);
        for workload in workloads::ALL.iter().chain(atomic) {
            let name = format!("{} on {}", workload.name, kind.name);
            trials.push(trial::test(name.clone(), move || {
                let images = enumerate(workload, kind, KIB, effort)?;
                println!("{name}: {images} distinct crash images");
                Ok(())
            }));
        }
    }
    trial::run(Some(2), trials)
}
