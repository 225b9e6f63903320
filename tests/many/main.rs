//! One directory with very many names. `FUSE4FS_NAMES` says how many (20 000 if unset); ten million are
//! what this test is for, in a release build: `FUSE4FS_NAMES=10000000 cargo test --release -p fuse4fs-tests
//! --test many`. It takes 4 GiB for the image, some minutes, and e2fsck as long again.
#![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

use std::fs::File;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::FileDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Caller, Error, FileKind, Filesystem, NewInode, Refusal, Timestamp, Unobserved};
use fuse4fs_tests::crash::writable;
use fuse4fs_tests::{command, host, trial};

fn main() -> ExitCode {
    trial::run(
        Some(1),
        vec![trial::test(
            "a directory of very many names is made, listed, searched and emptied",
            many,
        )],
    )
}

fn many() -> Result<()> {
    let count = host::setting("FUSE4FS_NAMES", 20_000)?;
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("image");
    make(&image, count)?;
    let dir = InodeNr::ROOT;
    let fs = Arc::new(mount(&image)?);
    let commits = std::thread::spawn({
        let fs = Arc::clone(&fs);
        move || fs.run_commits()
    });
    timed("made", || (0..count).try_for_each(|number| create(&fs, dir, number)))?;
    timed("synced", || Ok(fs.sync()?))?;
    timed("listed", || expect_listed(&fs, dir, count))?;
    timed("searched", || expect_found(&fs, dir, count))?;
    fs.unmount()?;
    commits.join().ok().context("commits")?.or_else(aborted)?;
    timed("checked", || check(&image))?;
    let fs = mount(&image)?;
    timed("emptied", || {
        for number in 0..count {
            let gone = fs.unlink(&caller(), dir, &name(number))?;
            fs.forget(gone.inode, caller().now)?;
            if number % 50_000 == 0 {
                fs.sync()?;
            }
        }
        expect_listed(&fs, dir, 0)
    })?;
    fs.unmount()?;
    timed("checked", || check(&image))
}

/// Nothing to repair, however long it takes to see that.
fn check(image: &Path) -> Result<()> {
    let status = Command::new("e2fsck").arg("-fn").arg(image).status()?;
    ensure!(status.success(), "e2fsck -fn: {status}");
    Ok(())
}

/// The journal stops with the unmount.
fn aborted(error: Error) -> Result<()> {
    if let Error::Refused(Refusal::Aborted) = error { Ok(()) } else { Err(error.into()) }
}

fn make(image: &Path, count: u64) -> Result<()> {
    let file = File::create(image)?;
    file.set_len((64 << 20) + count * 400)?;
    let mut mke2fs = Command::new("mke2fs");
    let inodes = (count + 1000).to_string();
    mke2fs.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", "large_dir", "-N", &inodes]);
    command::succeed(mke2fs.arg(image))?;
    Ok(())
}

fn mount(image: &Path) -> Result<Filesystem> {
    let device = Arc::new(FileDevice::new(File::options().read(true).write(true).open(image)?)?);
    Ok(Filesystem::mount(device, &writable(), &Unobserved)?)
}

fn timed(what: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let start = Instant::now();
    work().context(what.to_owned())?;
    println!("{what} in {:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn caller() -> Caller {
    let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 0 };
    Caller { uid: 0, gid: 0, group: None, umask: 0o022, now }
}

fn name(number: u64) -> Vec<u8> {
    format!("name-{number}").into_bytes()
}

fn create(fs: &Filesystem, dir: InodeNr, number: u64) -> Result<()> {
    let kind = FileKind::Regular;
    let new = NewInode { kind, permissions: 0o644, rdev: (0, 0), target: b"", label: None };
    fs.create(&caller(), dir, &name(number), &new).with_context(|| number.to_string())?;
    Ok(())
}

/// Each name once, and beside them "." and "..", and lost+found.
fn expect_listed(fs: &Filesystem, dir: InodeNr, count: u64) -> Result<()> {
    let mut seen = vec![false; usize::try_from(count)?];
    let (mut others, mut twice) = (0, 0);
    fs.readdir(&*fs.inode(dir)?, 0, &mut |entry| {
        let number = entry
            .name
            .strip_prefix(b"name-")
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<usize>().ok());
        match number.and_then(|number| seen.get_mut(number)) {
            Some(seen) => twice += u32::from(std::mem::replace(seen, true)),
            None => others += 1,
        }
        ControlFlow::Continue(())
    })?;
    ensure!((others, twice) == (3, 0), "{others} other names, {twice} listed twice");
    ensure!(seen.iter().all(|seen| *seen), "not all names are listed");
    Ok(())
}

/// A thousand of the names, and as many that are not there.
fn expect_found(fs: &Filesystem, dir: InodeNr, count: u64) -> Result<()> {
    let dir = fs.inode(dir)?;
    for number in (0..count).step_by(usize::try_from(count / 1000 + 1)?) {
        fs.lookup(&dir, &name(number)).with_context(|| number.to_string())?;
        let absent = fs.lookup(&dir, &name(count + number));
        ensure!(matches!(absent, Err(Error::Refused(Refusal::NotFound))), "{number}: {absent:?}");
    }
    Ok(())
}
