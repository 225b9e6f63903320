//! The fuzz targets on stable: over their seeds, over small mutations of them, and over every input
//! that once failed.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::path::Path;
use std::process::ExitCode;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuse4fs_tests::fuzz::{Target, all_metadata_are_found, sealing_changes_nothing, targets};
use fuse4fs_tests::{shared, trial};
use libtest_mimic::Trial;

/// Mutations of all seeds of a target together.
const MUTATIONS: usize = 400;
/// Names a directory with a fuzzer's corpora, one folder a target: they are run too.
const CORPORA: &str = "FUSE4FS_FUZZ_CORPORA";
/// What no input may take, even in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut all = vec![
        trial::test("checksums of sound images are what they were", sealing_changes_nothing),
        trial::test("images have metadata of all kinds among them", all_metadata_are_found),
    ];
    all.extend(targets().into_iter().flat_map(trials));
    trial::run(Some(2), all)
}

fn trials(target: Target) -> Vec<Trial> {
    let mut trials = vec![
        test(target, "seeds and mutations of them do no harm", mutations_do_no_harm),
        test(target, "inputs that once failed do no harm", regressions_do_no_harm),
    ];
    if let Some(corpora) = std::env::var_os(CORPORA) {
        let directory = Path::new(&corpora).join(target.name);
        let body = move |target| directory_does_no_harm(target, &directory);
        trials.push(test(target, "what a fuzzer keeps does no harm", body));
    }
    trials
}

/// Two trials run at a time, but one that counts this process's descriptors runs alone.
fn test(
    target: Target,
    what: &str,
    body: impl FnOnce(Target) -> Result<()> + Send + 'static,
) -> Trial {
    static OTHERS: RwLock<()> = RwLock::new(());
    trial::test(format!("{}: {what}", target.name), move || {
        if target.name == "session" {
            let _alone = OTHERS.write().unwrap_or_else(PoisonError::into_inner);
            return body(target);
        }
        let _beside = OTHERS.read().unwrap_or_else(PoisonError::into_inner);
        body(target)
    })
}

fn run(target: Target, input: &[u8]) -> Result<()> {
    let start = Instant::now();
    let outcome = std::panic::catch_unwind(|| (target.run)(input));
    let took = start.elapsed();
    ensure!(outcome.is_ok(), "a panic for {}", input.escape_ascii());
    ensure!(took < LIMIT, "{took:?} for {}", input.escape_ascii());
    Ok(())
}

fn mutations_do_no_harm(target: Target) -> Result<()> {
    shared::golden_directory()?;
    let seeds = (target.seeds)()?;
    ensure!(!seeds.is_empty(), "no seeds");
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        run(target, seed)?;
        for _ in 0..MUTATIONS.div_ceil(seeds.len()) {
            run(target, &random.mutate(seed))?;
        }
    }
    Ok(())
}

fn regressions_do_no_harm(target: Target) -> Result<()> {
    let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/regressions");
    directory_does_no_harm(target, &regressions.join(target.name))
}

/// Runs all inputs in a directory, of which there need not be any.
fn directory_does_no_harm(target: Target, directory: &Path) -> Result<()> {
    let found = std::fs::read_dir(directory).into_iter().flatten();
    let inputs: Vec<_> = found.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    if inputs.is_empty() {
        return trial::skip("none so far");
    }
    shared::golden_directory()?;
    inputs.iter().try_for_each(|input| run(target, &std::fs::read(input)?))
}

/// xorshift64: the same mutations on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    /// A few bytes or words set to values that are apt to be mishandled. The first byte, which
    /// chooses a place, stays.
    fn mutate(&mut self, seed: &[u8]) -> Vec<u8> {
        const ODD: [u32; 8] =
            [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];
        let mut bytes = seed.to_vec();
        for _ in 0..=self.below(6) {
            let at = 1 + self.below(bytes.len().saturating_sub(1));
            let width = [1, 2, 4][self.below(3)];
            let value = match self.below(2) {
                0 => ODD[self.below(ODD.len())],
                _ => self.next() as u32,
            };
            for (byte, new) in bytes.iter_mut().skip(at).take(width).zip(value.to_le_bytes()) {
                *byte = new;
            }
        }
        bytes
    }
}
