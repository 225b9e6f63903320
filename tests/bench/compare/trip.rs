//! Round trips: one request, answered from memory, beside a server that has nothing to look for.
//!
//! The cost of the transport is the same for both, so the difference is what ours adds to it. With
//! four clients it is the time from one answer to the next, of all of them together.

use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::limit::Limit;
use crate::read::{mount, small};
use crate::system::Bench;
use crate::{Row, Scale, Unit, Who};

/// The directory with many names.
const NAMES: &str = "names";
/// One name of so many makes the server read its block of the directory and of the inodes, of which
/// every block then has been read: 16 inodes of 256 bytes share one, and 60 names and more.
const WARMED: usize = 8;
const WARMING: Duration = Duration::from_secs(5);

pub(crate) const ROWS: &[Row] = &[
    row("getattr, 1 client", |b, s| getattr(b, s, "ro", 1)),
    row("getattr, 4 clients", |b, s| getattr(b, s, "ro", 4)),
    row("getattr, 1 client, busy CPUs", |b, s| {
        let _busy = Busy::start()?;
        getattr(b, s, "ro", 1)
    }),
    row("getattr, 1 client, mounted rw", |b, s| getattr(b, s, "rw", 1)),
    row("getattr, 4 clients, mounted rw", |b, s| getattr(b, s, "rw", 4)),
    row("lookup, 1 client", |b, s| lookup(b, s, "ro", 1)),
    row("lookup, 4 clients", |b, s| lookup(b, s, "ro", 4)),
    row("lookup, 1 client, mounted rw", |b, s| lookup(b, s, "rw", 1)),
    row("lookup, 4 clients, mounted rw", |b, s| lookup(b, s, "rw", 4)),
];

const fn row(name: &'static str, measure: fn(&Bench, &Scale) -> Result<f64>) -> Row {
    Row { name, unit: Unit::Microseconds, who: Who::Null, measure }
}

/// A process for each CPU that never sleeps, of another session than we and the servers.
struct Busy(Vec<Child>);

impl Busy {
    fn start() -> Result<Self> {
        let cpus = std::thread::available_parallelism()?.get();
        let mut busy = Self(Vec::new());
        for _ in 0..cpus {
            let mut shell = Command::new("setsid");
            busy.0.push(shell.args(["sh", "-c", "while :; do :; done"]).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// How many names: of 40,000 the blocks would not all stay in 8 MiB, which is what the server keeps.
fn names(scale: &Scale) -> usize {
    scale.names / 4
}

/// Makes the names.
pub(crate) fn populate(root: &Path, scale: &Scale) -> Result<()> {
    let directory = root.join(NAMES);
    std::fs::create_dir(&directory)?;
    for number in 0..names(scale) {
        File::create(directory.join(name(number)))?;
    }
    Ok(())
}

fn name(number: usize) -> OsString {
    format!("a-name-of-common-length-{number}.txt").into()
}

/// Attributes of one file for each client, whatever the kernel remembers of them.
fn getattr(bench: &Bench, scale: &Scale, access: &str, clients: usize) -> Result<f64> {
    let mount = mount(bench, access)?;
    let directory = File::open(small(mount.root()?, 0).parent().context("parent")?)?;
    let file = |client| small(Path::new(""), client).file_name().map(|name| name.to_owned());
    let names = (0..clients).map(|client| file(client).context("a name"));
    let names = names.collect::<Result<Vec<_>>>()?;
    let each = names.into_iter().map(|name| vec![name; scale.repeats / clients]).collect();
    let figure = ask(&bench.limit(), &directory, each, AtFlags::STATX_FORCE_SYNC)?;
    drop(directory);
    mount.end()?;
    Ok(figure)
}

/// Names that the kernel does not know, in blocks that the server does.
fn lookup(bench: &Bench, scale: &Scale, access: &str, clients: usize) -> Result<f64> {
    let mount = mount(bench, access)?;
    let directory = File::open(mount.root()?.join(NAMES))?;
    let warm = (0..names(scale)).step_by(WARMED).map(name).collect();
    // Where each lookup searches all of the directory this takes minutes, and one is enough.
    ask(&Limit::of(WARMING), &directory, vec![warm], AtFlags::empty())?;
    let mut each = vec![Vec::new(); clients];
    let cold = (0..names(scale)).filter(|number| number % WARMED != 0);
    cold.enumerate().for_each(|(index, number)| each[index % clients].push(name(number)));
    let figure = ask(&bench.limit(), &directory, each, AtFlags::empty())?;
    drop(directory);
    mount.end()?;
    Ok(figure)
}

/// Microseconds of an answer; each client asks for the names of one list.
fn ask(limit: &Limit, directory: &File, each: Vec<Vec<OsString>>, how: AtFlags) -> Result<f64> {
    let client = |names: &[OsString]| -> Result<usize> {
        let mut count = 0;
        for name in names {
            if limit.is_over() {
                break;
            }
            statx(directory, name, how, StatxFlags::BASIC_STATS)?;
            count += 1;
        }
        Ok(count)
    };
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let threads: Vec<_> = each.iter().map(|names| scope.spawn(|| client(names))).collect();
        let join = threads.into_iter().map(|thread| thread.join().ok().context("a client died")?);
        join.collect::<Result<Vec<_>>>()
    })?;
    let count: usize = counts.into_iter().sum();
    ensure!(count > 0, "there was no time for anything");
    Ok(start.elapsed().as_secs_f64() * 1e6 / count as f64)
}
