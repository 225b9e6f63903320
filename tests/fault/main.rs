//! Every operation of the device fails once, or from then on, in each verb: the answer is right, nothing
//! panics, and what is left is whole. `FUSE4FS_FAULT=long` tries all faults instead of a sample, a number
//! so many of each verb on each kind of file system.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod content;
mod full;
mod inject;
mod labels;
mod mounting;
mod names;
mod tools;
mod verb;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;

use anyhow::{Context, Result};
use fuse4fs_ext4::{DataMode, ErrorPolicy};
use fuse4fs_tests::faulty::{Counts, Fault, Op};
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

use full::{Tally, Want};
use inject::{Case, EIO, ENOSPC, Stage};
use verb::{Kind, Verb};

const EXT4: &[&str] =
    &["-t", "ext4", "-b", "1024", "-g", "2048", "-J", "size=1", "-N", "256", "-O", "ea_inode"];
const PLAIN: &[&str] =
    &["-t", "ext4", "-b", "1024", "-g", "2048", "-N", "256", "-O", "^has_journal,ea_inode"];
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
    "orphan_file,inline_data,bigalloc,quota,ea_inode",
];
pub(crate) const KIB: usize = 4096;

pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "ext4", format: EXT4, data: Some(DataMode::Ordered) },
    Kind { name: "ext4 with data=journal", format: EXT4, data: Some(DataMode::Journal) },
    Kind { name: "ext4 without a journal", format: PLAIN, data: None },
    Kind {
        name: "ext4 with orphan file, inline data, bigalloc and quota",
        format: FEATURES,
        data: Some(DataMode::Ordered),
    },
    Kind { name: "ext3", format: EXT3, data: Some(DataMode::Ordered) },
];

/// Faults for each verb on each kind that are tried in short.
const SAMPLE: usize = 9;

/// Faults that were met, by verb.
static MET: Mutex<BTreeMap<String, Counts>> = Mutex::new(BTreeMap::new());

/// What came of full disks, by verb.
static FULL: Mutex<BTreeMap<String, Tally>> = Mutex::new(BTreeMap::new());

fn main() -> ExitCode {
    let sample = match std::env::var("FUSE4FS_FAULT") {
        Ok(how) if how == "long" => usize::MAX,
        Ok(how) => how.parse().unwrap_or(SAMPLE),
        Err(_) => SAMPLE,
    };
    let mut trials = Vec::new();
    for kind in KINDS {
        for verb in verbs() {
            trials.push(injection(verb, kind, sample));
        }
    }
    trials.extend(KINDS.iter().map(|kind| mounting::trial(kind, sample.saturating_mul(6))));
    for kind in KINDS {
        for verb in verbs() {
            trials.push(filling(verb, kind, Want::Blocks));
        }
        for verb in names::ALL.iter().chain(labels::ALL) {
            trials.push(filling(verb, kind, Want::Inodes));
        }
    }
    let code = trial::run(Some(2), trials);
    report();
    code
}

fn verbs() -> impl Iterator<Item = &'static Verb> {
    names::ALL.iter().chain(content::ALL).chain(labels::ALL)
}

fn injection(verb: &'static Verb, kind: &'static Kind, sample: usize) -> Trial {
    let name = format!("a fault in {} on {}", verb.name, kind.name);
    let seed = name.bytes().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(byte));
    trial::test(name, move || {
        let stage = Stage { verb, kind, base: kind.made(KIB, verb.setup)? };
        let mut cases = Vec::new();
        for cold in [true, false] {
            let Some(counts) = stage.measure(cold).context("without a fault")? else {
                return trial::skip(format!("{} has no such thing", kind.name));
            };
            cases.extend(all_cases(counts, cold));
        }
        try_some(verb, cases, (seed, sample), |case| stage.run(case))
    })
}

/// Runs about `sample` of `cases`, and counts those whose fault was met.
fn try_some(
    verb: &Verb,
    cases: Vec<Case>,
    (seed, sample): (usize, usize),
    run: impl Fn(Case) -> Result<bool>,
) -> Result<()> {
    let step = cases.len().div_ceil(sample).max(1);
    for case in cases.into_iter().skip(seed % step).step_by(step) {
        if run(case).with_context(|| format!("{case:?}"))? {
            count(verb.name, case);
        }
    }
    Ok(())
}

fn filling(verb: &'static Verb, kind: &'static Kind, want: Want) -> Trial {
    let name = format!("{} without {want:?} on {}", verb.name, kind.name).replace("Want::", "");
    trial::test(name, move || {
        let Some(tally) = full::fill(verb, kind, KIB, want)? else {
            return trial::skip(format!("{} has no such thing", kind.name));
        };
        if let Ok(mut full) = FULL.lock() {
            let sum = full.entry(verb.name.to_owned()).or_default();
            sum.refused += tally.refused;
            sum.done += tally.done;
        }
        Ok(())
    })
}

/// All faults of what `counts` says is done.
fn all_cases(counts: Counts, cold: bool) -> Vec<Case> {
    const GONE: &[Op] = &[Op::Read, Op::Write, Op::Flush];
    const STUCK: &[Op] = &[Op::Write, Op::Flush];
    let mut cases = Vec::new();
    let faults: [(&'static [Op], bool, i32); 8] = [
        (&[Op::Read], false, EIO),
        (&[Op::Write], false, EIO),
        (&[Op::Flush], false, EIO),
        (&[Op::Write], false, ENOSPC),
        (&[Op::Read], true, EIO),
        (STUCK, true, EIO),
        (&[Op::Write], true, ENOSPC),
        (GONE, true, EIO),
    ];
    for (ops, lasts, errno) in faults {
        for nth in 1..=counts.of(ops) {
            let fault = Some(Fault { ops, nth, lasts, errno, took: nth % 2 == 0 });
            for errors in [ErrorPolicy::Continue, ErrorPolicy::ReadOnly] {
                cases.push(Case { fault, cold, errors });
            }
        }
    }
    cases
}

fn count(verb: &str, case: Case) {
    let Ok(mut met) = MET.lock() else { return };
    let counts = met.entry(verb.to_owned()).or_default();
    match case.fault.map_or(&[][..], |fault| fault.ops) {
        [Op::Read] => counts.reads += 1,
        [Op::Flush] => counts.flushes += 1,
        _ => counts.writes += 1,
    }
}

fn report() {
    let Ok(met) = MET.lock() else { return };
    let mut sum = 0;
    for (verb, counts) in met.iter() {
        let Counts { reads, writes, flushes } = counts;
        println!("{verb}: {reads} faults of reads, {writes} of writes, {flushes} of flushes");
        sum += reads + writes + flushes;
    }
    println!("{sum} faults in all");
    let Ok(full) = FULL.lock() else { return };
    for (verb, tally) in full.iter() {
        println!(
            "{verb}: {} times refused on a full disk, {} times done",
            tally.refused, tally.done
        );
    }
}
