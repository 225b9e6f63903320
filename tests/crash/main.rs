//! No crash of any workload harms a file system or loses what was synced. `FUSE4FS_CRASH=long` looks at
//! all images instead of some of each, and wants 20 000 of them to be different.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod workloads;

use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use fuse4fs_ext4::DataMode;
use fuse4fs_tests::crash::{Counts, Effort, Kind, Seen, enumerate};
use fuse4fs_tests::{host, trial};

const EXT4: &[&str] = &["-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256"];
const EXT3: &[&str] = &["-t", "ext3", "-b", "1024", "-J", "size=1", "-N", "256"];
const PLAIN: &[&str] =
    &["-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256", "-O", "^metadata_csum,^64bit"];
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
const QUOTA: &[&str] =
    &["-t", "ext4", "-b", "1024", "-J", "size=1", "-N", "256", "-O", "quota,project"];
const LARGE: &[&str] = &["-t", "ext4", "-b", "4096", "-J", "size=4", "-N", "256", "-O", "ea_inode"];
const ALL_QUOTAS: &str = ",quotatype=usrquota:grpquota:prjquota";

const KINDS: &[Kind] = &[
    Kind { name: "ext4", format: EXT4, extended: "", journal_kib: None, data: DataMode::Ordered },
    Kind { name: "ext3", format: EXT3, extended: "", journal_kib: None, data: DataMode::Ordered },
    Kind {
        name: "ext4 with orphan file, inline data and bigalloc",
        format: FEATURES,
        extended: "",
        journal_kib: None,
        data: DataMode::Ordered,
    },
    Kind {
        name: "ext4 with quotas",
        format: QUOTA,
        extended: ALL_QUOTAS,
        journal_kib: None,
        data: DataMode::Ordered,
    },
    Kind {
        name: "ext4 with data=journal",
        format: EXT4,
        extended: "",
        journal_kib: None,
        data: DataMode::Journal,
    },
    Kind {
        name: "inline data and bigalloc with data=journal",
        format: FEATURES,
        extended: "",
        journal_kib: None,
        data: DataMode::Journal,
    },
    Kind {
        name: "ext4 without checksums and with data=writeback",
        format: PLAIN,
        extended: "",
        journal_kib: None,
        data: DataMode::Writeback,
    },
    Kind {
        name: "ext4 with large blocks and ea_inode",
        format: LARGE,
        extended: "",
        journal_kib: None,
        data: DataMode::Ordered,
    },
    Kind {
        name: "ext4 with an external journal",
        format: EXTERNAL,
        extended: "",
        journal_kib: Some(1536),
        data: DataMode::Ordered,
    },
];
const EXTERNAL: &[&str] = &["-t", "ext4", "-b", "1024", "-N", "256"];
const KIB: u64 = 6144;
const LARGE_KIB: u64 = 12_288;

/// Distinct images that the long form must find.
const ENOUGH: usize = 20_000;

fn main() -> ExitCode {
    host::enter_private_mounts();
    let long = std::env::var("FUSE4FS_CRASH").is_ok_and(|how| how == "long");
    let effort = if long {
        Effort { subsets: 1, torn: 0, stride: 1, e2fsck: 3, kernel: 8 }
    } else {
        Effort { subsets: 1, torn: 0, stride: 41, e2fsck: 3, kernel: 5 }
    };
    let begin = Instant::now();
    let (seen, total) = (Arc::new(Seen::default()), Arc::new(Mutex::new(Counts::default())));
    let mut trials = vec![trial::test("the kernel can recover crash images", host::need_root)];
    for (row, kind) in KINDS.iter().enumerate() {
        for (column, workload) in workloads::all().enumerate() {
            // The short form tries each workload on every other kind.
            if !long && (row + column) % 2 == 1 {
                continue;
            }
            let name = format!("{} on {}", workload.name, kind.name);
            let (seen, total) = (seen.clone(), total.clone());
            let kib = if kind.format == LARGE { LARGE_KIB } else { KIB };
            trials.push(trial::test(name.clone(), move || {
                let counts = enumerate(workload, kind, (kib, effort), &seen)?;
                println!("{name}: {counts}");
                *total.lock().unwrap_or_else(PoisonError::into_inner) += counts;
                Ok(())
            }));
        }
    }
    let code = trial::run(Some(2), trials);
    let total = *total.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{total}; {} s", begin.elapsed().as_secs());
    // Who picks single tests by name does not want as many.
    if long && std::env::args_os().len() == 1 && total.engine < ENOUGH {
        println!("FAILED: fewer than {ENOUGH} distinct crash images");
        return ExitCode::FAILURE;
    }
    code
}
