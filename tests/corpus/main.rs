//! Every image of the corpus of hostile and odd file systems, read and changed by the engine. Whatever
//! it holds: no panic, no hang, little memory; what the kernel can read we read alike, or refuse it; and
//! what e2fsck found sound is sound after changes.
//!
//! An image is opened by a child of this process, which has limits. What came of all is a table in
//! docs/hostile-images.md, which has to be as committed; `FUSE4FS_REPORT=1` writes it anew.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod change;
mod child;
mod manifest;
mod mounted;
mod page;
mod report;
mod verdict;
mod walk;

use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::image;
use fuse4fs_tests::{command, host, shared, trial};
use libtest_mimic::Trial;

use child::{How, Outcome};
use manifest::Row;
use report::{Line, Report};
use verdict::Verdict;

/// Images that are read in another way than by the kernel, without an error.
const KNOWN: [(&str, &str); 1] = [(
    "craft_htree_allsame",
    "all ranges of an index lead to one leaf: its names are listed once for each, by the kernel only those above the range's start",
)];

/// Why this one is.
fn known(row: &Row) -> Option<&'static str> {
    KNOWN.iter().find(|(name, _)| *name == row.name).map(|(_, why)| *why)
}

fn main() -> ExitCode {
    if let Some(job) = child::job() {
        return child::run(&job);
    }
    host::enter_private_mounts();
    let rows = match manifest::read() {
        Ok(rows) => rows,
        Err(error) => {
            let skipped = trial::test("the corpus is there", move || Err(error));
            return trial::run(None, vec![skipped]);
        }
    };
    let images = rows.len();
    let report = Arc::new(Mutex::new(Report::default()));
    let (mounted, beside) = mounted::trials(&rows);
    let trials = rows.into_iter().map(|row| examine(row, &report)).chain(mounted).collect();
    let code = trial::run(Some(2), trials);
    let report = report.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{}", report.summary());
    let beside = beside.lock().unwrap_or_else(PoisonError::into_inner).text();
    let settled =
        beside.and_then(|text| text.map_or(Ok(()), |text| page::replace(page::BESIDE, &text)));
    match settled.and_then(|()| settle(&report, images)) {
        Ok(()) => code,
        Err(error) => {
            println!("FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Compares the table of all images with the committed one, or writes it.
fn settle(report: &Report, images: usize) -> Result<()> {
    if report.images() != images {
        return Ok(());
    }
    let fresh = format!("By {}.\n\n{}", e2fsck_version()?, report.table());
    if page::is_asked_for() {
        return page::replace(page::ENGINE, &fresh);
    }
    let table = page::part(page::ENGINE)?;
    if table.lines().next() == fresh.lines().next() {
        ensure!(
            table == fresh,
            "docs/hostile-images.md is out of date; FUSE4FS_REPORT=1 writes it"
        );
    } else {
        println!("another e2fsck than that of docs/hostile-images.md: not compared");
    }
    Ok(())
}

fn examine(row: Row, report: &Arc<Mutex<Report>>) -> Trial {
    let report = Arc::clone(report);
    trial::test(row.name.clone(), move || {
        let line = judge(&row)?;
        report.lock().unwrap_or_else(PoisonError::into_inner).add(&row, line);
        Ok(())
    })
}

/// Opens one image in all ways.
fn judge(row: &Row) -> Result<Line> {
    let directory = host::scratch()?;
    let image = directory.path().join("image");
    shared::unpack(&row.packed, &image)?;
    let stale = child::open(How::Stale, &image).context("read without its journal")?;
    let recovered = child::open(How::Recovered, &image).context("read with its journal")?;
    let was_sound = row.is_sound && verdict::of(&image, row.is_dirty)? == Verdict::Sound;
    let changed = child::open(How::Changed, &image).context("changed")?;
    let stays_sound = was_sound && changed.mount.is_ok();
    if stays_sound {
        image::check(&image).context("sound before the changes, and not after")?;
    }
    compare(row, &stale)?;
    Ok(Line { stale, recovered, changed, stays_sound })
}

/// What the kernel read without an error is what we read, unless we refuse some of it.
fn compare(row: &Row, ours: &Outcome) -> Result<()> {
    let Some(theirs) = &row.digest else { return Ok(()) };
    if known(row).is_some() {
        return Ok(());
    }
    let is_stricter = ours.mount.is_err() || !ours.errors.is_empty();
    if is_stricter || ours.digest == *theirs || !ours.complete {
        return Ok(());
    }
    bail!("read without an error, but not as the kernel: {} and {theirs}", ours.digest)
}

/// What it calls itself.
fn e2fsck_version() -> Result<String> {
    let output = command::run(Command::new("e2fsck").arg("-V"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(said.lines().next().unwrap_or_default().trim().to_owned())
}
