//! A partition is mounted: whatever the server does, the rest of the disk stays as it is; and all of it
//! when the mount is read-only.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_server::attack::writes;
use fuse4fs_tests::attached::Attached;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

use crate::stage::{Stage, label};

/// Where the partition begins, and its length; the disk goes on for as much.
const START: u64 = 4 << 20;
const LEN: u64 = 16 << 20;
const PATTERN: u8 = 0x3c;
/// What the attack writes.
const MARK: u8 = 0xa5;
/// The group of the attempts that lie within.
const WITHIN: &str = "writes to the device of a read-only mount";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("nothing of the disk of a read-only mount changes", || attacked("ro")),
        trial::test("nothing beside a mounted partition changes", || attacked("rw")),
        trial::test("each write works where it is permitted", unconfined),
    ]
}

/// A disk with a file system in its second part, and its partition.
fn disk(stage: &Stage) -> Result<(Attached, std::path::PathBuf)> {
    let backing = stage.directory.path().join("disk");
    std::fs::write(&backing, vec![PATTERN; usize::try_from(START + LEN + LEN)?])?;
    let disk = Attached::new(backing)?;
    let partition = disk.add_partition(1, START, LEN)?;
    ensure!(partition.exists(), "no {}", partition.display());
    Ok((disk, partition))
}

fn format(partition: &Path) -> Result<()> {
    command::sh(
        "mke2fs",
        ["-q".as_ref(), "-F".as_ref(), "-t".as_ref(), "ext4".as_ref(), partition.as_os_str()],
    )?;
    label(partition, "device")
}

fn attacked(options: &str) -> Result<()> {
    let stage = Stage::new()?;
    let (disk, partition) = disk(&stage)?;
    format(&partition)?;
    let before = disk.bytes()?;
    let attacked = stage.mount(&partition, "mnt", options)?;
    let results = attacked.results()?;
    attacked.end()?;
    for attempt in writes() {
        let got = *results.get(attempt.name).with_context(|| attempt.name.to_owned())?;
        let permitted = options == "rw" && attempt.group == WITHIN;
        let right = attempt.inside.iter().any(|errno| i64::from(*errno) == got);
        ensure!(right || (permitted && got == 0), "{}: {got}", attempt.name);
    }
    let after = disk.bytes()?;
    let range = usize::try_from(START)?..usize::try_from(START + LEN)?;
    ensure!(before[..range.start] == after[..range.start], "before the partition");
    ensure!(before[range.end..] == after[range.end..], "after the partition");
    let same = before[range.clone()] == after[range];
    ensure!(same == (options == "ro"), "the partition itself: the same is {same}");
    drop(disk);
    stage.leave()
}

/// With the whole disk, each of them changes what lies beyond the end of the partition.
fn unconfined() -> Result<()> {
    let stage = Stage::new()?;
    for attempt in writes() {
        let (disk, _) = disk(&stage)?;
        let output = stage.unconfined(attempt.name, &disk.path, START + LEN)?;
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(said == "0", "{}: {said}", attempt.name);
        let changed = disk.bytes()?.iter().any(|byte| *byte == MARK || *byte == 0);
        ensure!(changed, "{} changed nothing", attempt.name);
    }
    stage.leave()
}
