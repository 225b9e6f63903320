//! What is done to a mount in use. Each round mounts, and leaves nothing mounted.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::clients::{self, Ending};
use fuse4fs_tests::connection::Connection;
use fuse4fs_tests::load;
use fuse4fs_tests::watchdog::{self, step};
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::{Served, Stage};

/// A round with a load of that length.
pub(crate) type Round = fn(&mut Stage, Duration) -> Result<()>;

/// The load of a round in which something ends lasts no longer, so that much ends in an hour.
const SHORT: Duration = Duration::from_secs(20);
/// What leaks slowly shows only after a while.
const LONG: Duration = Duration::from_secs(300);

/// Each with the longest load it gets.
pub(crate) const ALL: &[(&str, Duration, Round)] = &[
    ("in peace", LONG, in_peace),
    ("clients are killed", SHORT, clients_killed),
    ("the connection is aborted", SHORT, aborted),
    ("unmounted lazily with open files", SHORT, detached),
    ("the server is killed", SHORT, server_killed),
    ("remounted", SHORT, remounted),
];

/// The server has after a second load what it had after the first.
fn in_peace(stage: &mut Stage, load: Duration) -> Result<()> {
    let served = stage.mount()?;
    for _ in 0..2 {
        peace(stage, &served.connection, load / 2)?;
        stage.expect_no_leak(&served)?;
    }
    stage.end(served)
}

/// Others notice nothing.
fn clients_killed(stage: &mut Stage, load: Duration) -> Result<()> {
    let served = stage.mount()?;
    let end = Instant::now() + load;
    let mut killed = 0;
    let mut crowds = Vec::new();
    while Instant::now() < end || crowds.is_empty() {
        let mut clients = stage.load(load / 2)?;
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(stage.random.below(40)));
            killed += usize::from(clients.kill_one(&mut stage.random)?);
        }
        crowds.push(clients);
        std::thread::sleep(load / 4);
    }
    for clients in crowds {
        let endings = step("clients that are left", Some(&served.connection), || {
            clients.wait(load + watchdog::PATIENCE)
        })?;
        clients::expect(&endings, Ending::is_killed)?;
    }
    ensure!(killed > 0, "nobody was killed");
    stage.end(served)
}

fn aborted(stage: &mut Stage, load: Duration) -> Result<()> {
    ruined(stage, load, |served| served.connection.abort())
}

fn server_killed(stage: &mut Stage, load: Duration) -> Result<()> {
    ruined(stage, load, |served| {
        let pid = Pid::from_raw(i32::try_from(served.server)?).context("a process")?;
        Ok(kill_process(pid, Signal::KILL)?)
    })
}

/// In the middle of a load the mount dies: nobody hangs, it can be unmounted and recovered.
fn ruined(stage: &mut Stage, load: Duration, ruin: fn(&Served) -> Result<()>) -> Result<()> {
    let served = stage.mount()?;
    // They would go on for long.
    let mut clients = stage.load(load + 10 * watchdog::LIMIT)?;
    std::thread::sleep(load / 2 + Duration::from_millis(stage.random.below(200)));
    clients::expect(&clients.reap()?, |_| false).context("ended before anything happened")?;
    ruin(&served)?;
    let endings = step("clients without a file system", Some(&served.connection), || {
        clients.wait(watchdog::PATIENCE)
    })?;
    clients::expect(&endings, |ending| ending.is_bereft() && !ending.is_peaceful())?;
    stage.expect_no_server()?;
    stage.end_of_ruin(served)
}

/// Who has it open goes on with it; then it ends.
fn detached(stage: &mut Stage, load: Duration) -> Result<()> {
    let Served { mounted, connection, .. } = stage.mount()?;
    let held = File::open(stage.mountpoint.join(load::BASE).join("layouts/plain"))?;
    let clients = stage.load(load)?;
    std::thread::sleep(load / 4);
    step("detaching", Some(&connection), || mounted.detach())?;
    ensure!(!stage.mountpoint.join(load::BASE).exists(), "it is still mounted");
    let endings = step("clients behind a lazy umount", Some(&connection), || {
        clients.wait(load + watchdog::PATIENCE)
    })?;
    clients::expect(&endings, Ending::is_peaceful)?;
    step("reading behind a lazy umount", Some(&connection), || {
        Ok(held.read_exact_at(&mut [0; 4096], 0)?)
    })?;
    drop(held);
    stage.expect_nothing_left()?;
    stage.expect_clean()
}

/// Read-only and back, where it can be written; where not, it stays as it is.
fn remounted(stage: &mut Stage, load: Duration) -> Result<()> {
    let served = stage.mount()?;
    let connection = &served.connection;
    peace(stage, connection, load / 4)?;
    let readers = stage.load_of(&load::READERS, load / 2)?;
    let refused =
        step("remounting read-only", Some(connection), || stage.remount("remount,ro,noatime"))?;
    ensure!(refused.is_none() && !stage.shows_writable()?, "remount,ro: {refused:?}");
    let attempt = File::create(stage.mountpoint.join("new")).map_err(|error| error.kind());
    ensure!(attempt.as_ref().err() == Some(&ErrorKind::ReadOnlyFilesystem), "{attempt:?}");
    let endings = step("readers", Some(connection), || readers.wait(load + watchdog::PATIENCE))?;
    clients::expect(&endings, Ending::is_peaceful)?;
    let refused =
        step("remounting read-write", Some(connection), || stage.remount("remount,rw,noatime"))?;
    let right = refused.is_none() == stage.is_writable();
    ensure!(right && stage.shows_writable()? == stage.is_writable(), "remount,rw: {refused:?}");
    peace(stage, connection, load / 4)?;
    stage.end(served)
}

fn peace(stage: &mut Stage, connection: &Connection, load: Duration) -> Result<()> {
    let clients = stage.load(load)?;
    // A step would not wait for as long as that.
    std::thread::sleep(load);
    let endings = step("a load", Some(connection), || clients.wait(watchdog::PATIENCE))?;
    clients::expect(&endings, Ending::is_peaceful)
}
