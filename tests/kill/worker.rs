//! A client that changes files of its own, and keeps a ledger of what it begins and what is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use fuse4fs_tests::clients;
use fuse4fs_tests::operation::Random;
use rustix::io::Errno;

use crate::ledger::{Ledger, State};

pub(crate) const ROLE: &str = "keep";
const FILES: u64 = 14;
const DIRECTORIES: u64 = 3;
const LARGEST: usize = 300_000;

struct Worker {
    root: PathBuf,
    random: Random,
    ledger: Ledger,
    /// The bytes of each file there is, as far as nothing is pending.
    files: BTreeMap<String, Vec<u8>>,
    /// Changed, and not synced: left alone until everything is.
    pending: BTreeSet<String>,
    /// The disk was full in the middle of a change: nothing is known of them any more.
    spoiled: BTreeSet<String>,
}

/// What a change needs to be durable.
enum Sync {
    Files,
    Directories,
}

/// `DIRECTORY LEDGER SEED`: works until the file system is gone.
pub(crate) fn run() -> Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [root, ledger, seed] = arguments.as_slice() else { bail!("DIRECTORY LEDGER SEED") };
    let root = PathBuf::from(root);
    for number in 0..DIRECTORIES {
        fs::create_dir_all(root.join(format!("d{number}")))?;
    }
    let mut worker = Worker {
        root,
        random: Random::new(seed.parse()?),
        ledger: Ledger(OpenOptions::new().create_new(true).append(true).open(ledger)?),
        files: BTreeMap::new(),
        pending: BTreeSet::new(),
        spoiled: BTreeSet::new(),
    };
    worker.sync_all()?;
    clients::started()?;
    loop {
        worker.step()?;
    }
}

impl Worker {
    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// A name of which all is known; maybe there is no such file.
    fn name(&mut self) -> Option<String> {
        let directory = self.random.below(DIRECTORIES + 1);
        let file = self.random.below(FILES);
        let top = format!("f{file}");
        let name = if directory == DIRECTORIES { top } else { format!("d{directory}/{top}") };
        let known = !self.pending.contains(&name) && !self.spoiled.contains(&name);
        known.then_some(name)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let limit = self.random.pick(&[1, 100, 5000, 5000, 50_000, LARGEST as u64]);
        let len = self.random.below(limit) + 1;
        let seed = self.random.next();
        (0..len).map(|at| (seed.rotate_left((at % 61) as u32) ^ (at >> 3)) as u8).collect()
    }

    fn step(&mut self) -> Result<()> {
        if self.pending.len() > 8 || self.random.below(25) == 0 {
            return self.sync_all();
        }
        let Some(name) = self.name() else { return Ok(()) };
        let there = self.files.contains_key(&name);
        match self.random.below(12) {
            0 | 1 if there => self.remove(&name),
            2 | 3 if there => self.rename(&name),
            4..7 if there => self.overwrite(&name),
            7 if there => self.resize(&name),
            8 | 9 => self.replace(&name),
            _ => self.put(&name),
        }
    }

    /// Does `change` to `names`, each with the state before the end and the bytes at the end, and makes
    /// it durable, now or with everything else later.
    fn act(
        &mut self,
        names: &[(&str, State, Option<Vec<u8>>)],
        sync: Sync,
        change: impl FnOnce(&Self) -> io::Result<()>,
    ) -> Result<()> {
        for (name, state, _) in names {
            self.ledger.begin(name, state)?;
        }
        if let Err(error) = change(self) {
            if error.raw_os_error() != Some(Errno::NOSPC.raw_os_error()) {
                return Err(error.into());
            }
            self.spoiled.extend(names.iter().map(|(name, ..)| (*name).to_owned()));
            return Ok(());
        }
        for (name, _, bytes) in names {
            match bytes {
                Some(bytes) => self.files.insert((*name).to_owned(), bytes.clone()),
                None => self.files.remove(*name),
            };
        }
        if self.random.below(3) == 0 {
            self.pending.extend(names.iter().map(|(name, ..)| (*name).to_owned()));
            return Ok(());
        }
        for (name, ..) in names {
            match sync {
                Sync::Files => self.sync_file(name)?,
                Sync::Directories => self.sync_directory(name)?,
            }
        }
        names.iter().try_for_each(|(name, ..)| self.promise(name))
    }

    /// Notes that what there is now will be there.
    fn promise(&mut self, name: &str) -> Result<()> {
        let state = self.files.get(name).map_or(State::Absent, |bytes| State::of(bytes));
        self.ledger.synced(name, &state)
    }

    /// By a descriptor that wrote nothing.
    fn sync_file(&mut self, name: &str) -> Result<()> {
        let write = self.random.below(2) == 0;
        let file = OpenOptions::new().read(true).write(write).open(self.path(name))?;
        let data_only = self.random.below(2) == 0;
        Ok(if data_only { file.sync_data() } else { file.sync_all() }?)
    }

    fn sync_directory(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        Ok(File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?)
    }

    fn sync_all(&mut self) -> Result<()> {
        rustix::fs::syncfs(File::open(&self.root)?)?;
        let pending = std::mem::take(&mut self.pending);
        pending.iter().try_for_each(|name| self.promise(name))
    }

    /// Written anew in its place.
    fn put(&mut self, name: &str) -> Result<()> {
        let bytes = self.bytes();
        let change = [(name, State::Some, Some(bytes.clone()))];
        self.act(&change, Sync::Files, |worker| fs::write(worker.path(name), &bytes))
    }

    /// Written beside it, synced, and renamed over it: there is the old file or the new one.
    fn replace(&mut self, name: &str) -> Result<()> {
        let bytes = self.bytes();
        let change = [(name, State::of(&bytes), Some(bytes.clone()))];
        self.act(&change, Sync::Directories, |worker| {
            let fresh = worker.path(name).with_extension("new");
            let mut file = File::create(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, worker.path(name))
        })
    }

    fn overwrite(&mut self, name: &str) -> Result<()> {
        let Some(mut bytes) = self.files.get(name).cloned() else { return Ok(()) };
        let new = self.bytes();
        let most = bytes.len().min(LARGEST) as u64;
        let offset = self.random.below(most + 1) as usize;
        bytes.resize(bytes.len().max(offset + new.len()), 0);
        bytes[offset..offset + new.len()].copy_from_slice(&new);
        self.act(&[(name, State::Some, Some(bytes))], Sync::Files, |worker| {
            let file = OpenOptions::new().write(true).open(worker.path(name))?;
            file.write_all_at(&new, offset as u64)
        })
    }

    /// Shorter, or longer by a hole.
    fn resize(&mut self, name: &str) -> Result<()> {
        let Some(mut bytes) = self.files.get(name).cloned() else { return Ok(()) };
        let size = self.random.below(LARGEST as u64);
        bytes.resize(size as usize, 0);
        self.act(&[(name, State::Some, Some(bytes))], Sync::Files, |worker| {
            OpenOptions::new().write(true).open(worker.path(name))?.set_len(size)
        })
    }

    fn remove(&mut self, name: &str) -> Result<()> {
        self.act(&[(name, State::Absent, None)], Sync::Directories, |worker| {
            fs::remove_file(worker.path(name))
        })
    }

    fn rename(&mut self, from: &str) -> Result<()> {
        let Some(to) = self.name().filter(|to| to != from) else { return Ok(()) };
        let Some(bytes) = self.files.get(from).cloned() else { return Ok(()) };
        let state = State::of(&bytes);
        let change = [(from, State::Absent, None), (to.as_str(), state, Some(bytes))];
        self.act(&change, Sync::Directories, |worker| {
            fs::rename(worker.path(from), worker.path(&to))
        })
    }
}
