//! Written pages that nobody has memory to write out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::clients::{self, Clients};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::{sys, watchdog};

use crate::groups::{self, Groups};
use crate::stage::Stage;

const RECIPE: Recipe =
    Recipe { name: "written", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };

pub(crate) const ROLE: &str = "writer";
/// Bytes of a file, several times what the group has.
const FILE: usize = 192 << 20;
/// Bytes of another, whose pages become dirty by a mapping.
const MAPPED: usize = 8 << 20;
/// Bytes of the group when the server is in another one, as a unit is, and when it is not.
const ROOM: u64 = 32 << 20;
const SHARED_ROOM: u64 = 80 << 20;
/// What a writer may take, however slow the disk.
const LIMIT: Duration = Duration::from_secs(120);

/// Where the server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Server {
    /// In a group that has memory.
    Outside,
    /// In that of the writer, as the helper starts it without systemd.
    Beside,
}

/// Rounds of it, over rings or /dev/fuse.
///
/// # Errors
/// What goes wrong.
pub(crate) fn ends(ring: &str, server: Server, rounds: u64) -> Result<()> {
    let stage = Stage::new(ring)?;
    for round in 1..=rounds {
        for cached in ["on", "off"] {
            let took = write(&stage, server, cached).with_context(|| {
                let said = stage.said().unwrap_or_default();
                format!("round {round}, writeback_cache={cached}: {said}")
            })?;
            println!("round {round}, rings {ring}, writeback_cache={cached}: {took:.1?}");
        }
    }
    stage.end()
}

fn write(stage: &Stage, server: Server, cached: &str) -> Result<Duration> {
    let groups = Groups::new()?;
    let image = RECIPE.make_sized(stage.path(), "512M")?;
    let options = format!("writeback_cache={cached}");
    groups.leave_room(0, if server == Server::Outside { ROOM } else { SHARED_ROOM })?;
    let mounted = match server {
        Server::Outside => stage.mount_outside(&image, &options)?,
        Server::Beside => stage.mount(&groups, &image, &options)?,
    };
    let killed = groups.killed()?;
    let begin = Instant::now();
    let mut writers = Clients::default();
    let root = mounted.path().display().to_string();
    writers.start(ROLE, &[&[root][..], &groups.doors()[..]].concat())?;
    let ended = writers.wait(LIMIT);
    if ended.is_err() {
        mounted.connection.abort()?;
    }
    clients::expect(&ended?, clients::Ending::is_peaceful)?;
    let took = begin.elapsed();
    ensure!(groups.killed()? == killed, "the kernel has killed somebody");
    groups.lift_limit()?;
    watchdog::step("reading it back", Some(&mounted.connection), || compare(mounted.path()))?;
    mounted.unmount()?;
    image::check(&image)?;
    Ok(took)
}

/// Its arguments: the root of the mount, and the groups to join.
///
/// # Errors
/// When it cannot write.
pub(crate) fn run() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [root, doors @ ..] = &arguments[..] else { anyhow::bail!("{arguments:?}") };
    let [written, mapped] = files(Path::new(root));
    let mut file = File::create(&written)?;
    let map = File::options().read(true).write(true).create(true).truncate(true).open(&mapped)?;
    map.set_len(MAPPED as u64)?;
    let bytes = content(MAPPED, 1);
    groups::join(doors)?;
    clients::started()?;
    for number in 0..FILE / PIECE {
        file.write_all(&content(PIECE, number))?;
        // Names as well, so that there is something to commit.
        std::fs::write(Path::new(root).join(format!("name-{number}")), [1; 5000])?;
    }
    sys::store_mapped(&map, &bytes)?;
    file.sync_all()?;
    Ok(())
}

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

fn files(root: &Path) -> [PathBuf; 2] {
    [root.join("written"), root.join("mapped")]
}

fn content(len: usize, number: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    for (at, word) in bytes.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&(at as u64 ^ (number as u64) << 32).to_le_bytes());
    }
    bytes
}

/// From the disk: the page cache forgets what is clean.
fn compare(root: &Path) -> Result<()> {
    let [written, mapped] = files(root);
    let mut file = File::open(&written)?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    let mut piece = vec![0; PIECE];
    for number in 0..FILE / PIECE {
        file.read_exact(&mut piece)?;
        ensure!(piece == content(PIECE, number), "piece {number} differs");
    }
    let map = File::open(&mapped)?;
    rustix::fs::fadvise(&map, 0, None, rustix::fs::Advice::DontNeed)?;
    let mut bytes = vec![0; MAPPED];
    map.read_exact_at(&mut bytes, 0)?;
    ensure!(bytes == content(MAPPED, 1), "what was mapped differs");
    Ok(())
}
