//! What the clients of a load do with a mount, until their time ends or the mount does.
//!
//! [`prepare`] fills `base`, which the writers leave alone: they have directories of their own,
//! which some of them share.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::clients::{self, Clients};
use crate::operation::{Generator, Op, Random};
use crate::{apply, populate, sys};

/// Only look.
pub const READERS: [&str; 3] = ["walk", "read", "map"];
/// Change things.
pub const WRITERS: [&str; 4] = ["change", "change", "store", "shuffle"];
/// Where the tree is that nobody changes.
pub const BASE: &str = "base";

/// Makes the tree that the readers read.
///
/// # Errors
/// What the file system says.
pub fn prepare(root: &Path) -> Result<()> {
    fs::create_dir(root.join(BASE))?;
    populate::populate(&root.join(BASE), 4096)
}

/// Starts `roles` on `root`, for `time`; they hold the root when this returns.
///
/// # Errors
/// When one cannot be started.
pub fn start(
    clients: &mut Clients,
    roles: &[&str],
    root: &Path,
    seed: u64,
    time: Duration,
) -> Result<()> {
    for (number, role) in (0..).zip(roles) {
        let root = root.to_str().context("a path of words")?.to_owned();
        let arguments = [root, (seed + number).to_string(), time.as_millis().to_string()];
        clients.start(role, &arguments)?;
    }
    clients.await_started()
}

/// A client's own view: the root by a descriptor, and when to stop.
struct Client {
    root: PathBuf,
    random: Random,
    seed: u64,
    end: Instant,
    _root: File,
}

/// Does the part of `role`, as the command line of [`start`] says.
///
/// # Errors
/// Whatever no file system in good health says.
pub fn run(role: &str) -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [root, seed, time] = arguments.as_slice() else { bail!("ROOT SEED MILLISECONDS") };
    let (seed, time) = (seed.parse()?, Duration::from_millis(time.parse()?));
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = File::from(rustix::fs::open(root.as_str(), flags, Mode::empty())?);
    let root = PathBuf::from(format!("/proc/self/fd/{}/.", directory.as_raw_fd()));
    clients::started()?;
    let random = Random::new(seed);
    let mut client = Client { root, random, seed, end: Instant::now() + time, _root: directory };
    match role {
        "walk" => client.until_the_end(|client| walk(&client.root)),
        "read" => client.until_the_end(Client::read),
        "map" => client.until_the_end(Client::map),
        "store" => client.until_the_end(Client::store),
        "shuffle" => client.until_the_end(Client::shuffle),
        "change" => client.change(),
        "remove" => client.until_the_end(Client::remove),
        _ => bail!("no such client: {role}"),
    }
}

impl Client {
    fn until_the_end(&mut self, step: fn(&mut Self) -> Result<()>) -> Result<()> {
        while Instant::now() < self.end {
            step(self)?;
            // What the kernel has cached it gives without a server; this it asks for.
            rustix::fs::statvfs(&self.root)?;
        }
        Ok(())
    }

    /// One file of the base, and its length.
    fn pick(&mut self) -> Result<(File, u64)> {
        let directory = self.root.join(BASE).join("layouts");
        let mut names = fs::read_dir(directory)?.collect::<io::Result<Vec<_>>>()?;
        names.retain(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
        ensure!(!names.is_empty(), "the base is empty");
        names.sort_by_key(fs::DirEntry::file_name);
        let file = File::open(names[self.random.below(names.len() as u64) as usize].path())?;
        let len = file.metadata()?.len();
        Ok((file, len))
    }

    /// Parts of a file, twice: they do not change.
    fn read(&mut self) -> Result<()> {
        let (file, len) = self.pick()?;
        let (mut first, mut again) = (vec![0; 70_000], vec![1; 70_000]);
        for _ in 0..20 {
            let offset = self.random.below(len + 1);
            let count = file.read_at(&mut first, offset)?;
            let same = file.read_at(&mut again, offset)?;
            ensure!(count == same && first[..count] == again[..count], "it reads differently");
        }
        Ok(())
    }

    fn map(&mut self) -> Result<()> {
        let (file, len) = self.pick()?;
        let len = len.min(1 << 20) as usize;
        if len > 0 {
            let mapped = sys::mapped(&file, len)?;
            let mut read = vec![0; len];
            file.read_exact_at(&mut read, 0)?;
            ensure!(mapped == read, "a mapping shows something else than read(2)");
        }
        Ok(())
    }

    /// Writes through a mapping, and reads it with read(2).
    fn store(&mut self) -> Result<()> {
        let path = self.root.join(format!("stored-{}", self.seed));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path)?;
        let byte = self.random.next() as u8;
        let bytes = vec![byte; self.random.below(200_000) as usize + 1];
        let stored = full(file.set_len(bytes.len() as u64))?
            // Blocks first: a store that finds the disk full is a SIGBUS.
            && full(file.write_all_at(&bytes, 0))?
            && full(sys::store_mapped(&file, &bytes).map_err(Into::into))?;
        if stored {
            let mut read = vec![0; bytes.len()];
            file.read_exact_at(&mut read, 0)?;
            ensure!(read == bytes, "read(2) shows something else than was stored by a mapping");
        }
        Ok(())
    }

    /// Renames over, and exchanges, files in a directory that all who shuffle share.
    fn shuffle(&mut self) -> Result<()> {
        let directory = self.root.join("shuffled");
        tolerate(fs::create_dir(&directory))?;
        let [from, to] = [0, 1].map(|_| directory.join(format!("s{}", self.random.below(12))));
        tolerate(fs::write(&from, from.as_os_str().as_encoded_bytes()))?;
        let flags = self.random.pick(&[RenameFlags::empty(), RenameFlags::EXCHANGE]);
        tolerate(rustix::fs::renameat_with(CWD, &from, CWD, &to, flags).map_err(Into::into))?;
        tolerate(File::open(&directory).and_then(|directory| directory.sync_all()))
    }

    /// Everything below the root, again and again.
    fn remove(&mut self) -> Result<()> {
        tolerate(File::create(self.root.join("last")).map(drop))?;
        tolerate(apply::empty(&self.root))?;
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    /// All kinds of operations. Every second client shares a directory.
    fn change(&mut self) -> Result<()> {
        let top = format!("t{}", self.seed / 2 % 4);
        tolerate(fs::create_dir(self.root.join(&top)))?;
        let mut generator = Generator::new(self.seed, &top);
        while Instant::now() < self.end {
            // Two who fill the disk tell nothing new.
            let op = generator.next();
            if matches!(op, Op::Truncate { .. } | Op::Allocate { .. }) && self.random.below(2) == 0
            {
                continue;
            }
            if let Err(errno) = apply::apply(&self.root, &op) {
                // Some targets and names are long.
                let told = || format!("{op:?}").chars().take(200).collect::<String>();
                tolerate(Err(io::Error::from_raw_os_error(errno))).with_context(told)?;
            }
        }
        Ok(())
    }
}

/// False for a full disk.
fn full(result: io::Result<()>) -> Result<bool> {
    match result {
        Err(error) if error.raw_os_error() == Some(Errno::NOSPC.raw_os_error()) => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

/// Ignores what others who change the same tree may cause; not what only a file system in trouble says.
fn tolerate(result: io::Result<()>) -> Result<()> {
    let Err(error) = result else { return Ok(()) };
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let trouble = clients::is_gone(&error)
        || matches!(
            errno,
            None | Some(
                Errno::UCLEAN
                    | Errno::BADMSG
                    | Errno::NOSYS
                    | Errno::PROTO
                    | Errno::STALE
                    | Errno::ROFS
            )
        );
    if trouble { Err(error.into()) } else { Ok(()) }
}

/// Every name, attribute and the first bytes of every file, while others change them.
fn walk(root: &Path) -> Result<()> {
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let names = match fs::read_dir(&directory) {
            Ok(names) => names,
            Err(error) => {
                tolerate(Err(error))?;
                continue;
            }
        };
        for entry in names {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    tolerate(Err(error))?;
                    break;
                }
            };
            tolerate(look(&entry, &mut pending))?;
        }
    }
    Ok(())
}

fn look(entry: &fs::DirEntry, pending: &mut Vec<PathBuf>) -> io::Result<()> {
    let path = entry.path();
    let metadata = path.symlink_metadata()?;
    let mut names = [0; 4096];
    rustix::fs::llistxattr(&path, &mut names[..])?;
    if metadata.is_dir() {
        pending.push(path);
    } else if metadata.is_symlink() {
        fs::read_link(&path)?;
    } else if metadata.is_file() {
        File::open(&path)?.read_at(&mut [0; 4096], 0)?;
    }
    Ok(())
}
