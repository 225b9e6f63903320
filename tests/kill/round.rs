//! One kind of file system, and the many deaths of its servers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::clients::{self, Clients, Ending};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::operation::Random;
use fuse4fs_tests::product::Traces;
use fuse4fs_tests::watchdog::{self, step};
use fuse4fs_tests::{load, trial};
use libtest_mimic::Trial;

use crate::ledger::Promises;
use crate::peer::{Peer, Victim};
use crate::worker;

const fn recipe(name: &'static str, mke2fs: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options: "" }
}

pub(crate) const RECIPES: &[Recipe] = &[
    recipe("default", "-t ext4"),
    // So small that it is written home again and again.
    recipe("small-journal", "-t ext4 -b 1024 -J size=1"),
    recipe("ext3", "-t ext3 -b 1024"),
    recipe("fast-commit", "-t ext4 -O fast_commit"),
    recipe("inline-orphan-file", "-t ext4 -O inline_data,orphan_file -I 512"),
    recipe("bigalloc", "-t ext4 -O bigalloc -C 16384"),
];
/// Room for what the noise leaves.
const SIZE: &str = "256M";
const WORKERS: u64 = 4;
/// Others who change things, of which nothing is promised.
const NOISE: [&str; 3] = ["change", "change", "shuffle"];
/// Longer than any round.
const LONG: Duration = Duration::from_secs(600);
/// The latest moment of a death, ms after the work began.
const LATEST: u64 = 1500;

pub(crate) fn trial(recipe: &'static Recipe) -> Trial {
    let name = format!("what was synced outlives kill -9 of the server on {}", recipe.name);
    trial::test(name, move || rounds(recipe))
}

/// A worker's directory below the mount, and its ledger.
struct Kept {
    directory: String,
    ledger: PathBuf,
}

struct Bed {
    peer: Peer,
    directory: tempfile::TempDir,
    image: PathBuf,
    mountpoint: PathBuf,
    random: Random,
    syncs: usize,
}

fn rounds(recipe: &Recipe) -> Result<()> {
    let peer = Peer::chosen()?;
    if matches!(peer, Peer::Kernel) && recipe.name == "fast-commit" {
        return trial::skip(
            "e2fsck repairs bitmaps after it has replayed the kernel's fast commits",
        );
    }
    let kills = host::setting("FUSE4FS_KILLS", 5)?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    fs::create_dir(&mountpoint)?;
    let image = recipe.make_sized(directory.path(), SIZE)?;
    let random = Random::new(host::setting("FUSE4FS_SEED", 1)?);
    let mut bed = Bed { peer, directory, image, mountpoint, random, syncs: 0 };
    let before = bed.traces()?;
    for number in 0..kills {
        bed.round(number).with_context(|| format!("round {number} of {}", recipe.name))?;
        if let (Peer::Ours(product), Some(before)) = (peer, &before) {
            before.expect_unchanged(product, bed.directory.path())?;
        }
    }
    println!("{}: {} syncs outlived {kills} kills", recipe.name, bed.syncs);
    ensure!(bed.syncs > 0, "nothing was ever synced");
    Ok(())
}

impl Bed {
    fn traces(&self) -> Result<Option<Traces>> {
        match self.peer {
            Peer::Ours(product) => Traces::now(product, self.directory.path()).map(Some),
            Peer::Kernel => Ok(None),
        }
    }

    fn mount(&self, number: u64) -> Result<Victim> {
        step("mounting", None, || {
            self.peer.mount(&self.image, &self.mountpoint, !number.is_multiple_of(2))
        })
    }

    fn round(&mut self, number: u64) -> Result<()> {
        let victim = self.mount(number)?;
        let mut clients = Clients::default();
        let kept = self.work(&mut clients, number)?;
        std::thread::sleep(Duration::from_millis(self.random.below(LATEST)));
        clients::expect(&clients.reap()?, |_| false).context("ended before anything happened")?;
        let connection = victim.connection.clone();
        Self::crash(&victim, clients)?;
        step("unmounting", connection.as_ref(), || victim.mounted.unmount())?;
        if let Some(connection) = connection {
            connection.expect_gone(watchdog::LIMIT)?;
        }
        let promises = promises(&kept)?;
        self.syncs += promises.iter().map(|(_, promises)| promises.syncs).sum::<usize>();
        self.look(number, &promises)
    }

    /// The server dies, and then its clients see it.
    fn crash(victim: &Victim, clients: Clients) -> Result<()> {
        let Some(connection) = &victim.connection else {
            // The kernel's ext4 may say of a sync at that very moment that it is done.
            drop(clients);
            return victim.crash();
        };
        victim.crash()?;
        let endings = step("clients without a server", Some(connection), || {
            clients.wait(watchdog::PATIENCE)
        })?;
        clients::expect(&endings, |ending| Ending::is_bereft(ending) && !ending.is_peaceful())
    }

    /// Starts everybody; what the round before last left is removed meanwhile.
    fn work(&mut self, clients: &mut Clients, number: u64) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for worker in 0..WORKERS {
            let directory = format!("r{number}-w{worker}");
            let ledger = self.directory.path().join(&directory);
            let root = self.mountpoint.join(&directory);
            fs::create_dir(&root)?;
            let words = [&root, &ledger].map(|path| path.display().to_string());
            let [root, file] = words;
            clients.start(worker::ROLE, &[root, file, self.random.next().to_string()])?;
            kept.push(Kept { directory, ledger });
        }
        clients.await_started()?;
        let seed = self.random.below(1 << 32);
        load::start(clients, &NOISE, &self.mountpoint, seed, LONG)?;
        if let Some(old) = number.checked_sub(2) {
            for worker in 0..WORKERS {
                let old = self.mountpoint.join(format!("r{old}-w{worker}"));
                clients
                    .start("remove", &[old.display().to_string(), "0".into(), "600000".into()])?;
            }
        }
        Ok(kept)
    }

    /// e2fsck or the kernel on a copy, and then we ourselves, find everything that was promised.
    fn look(&self, number: u64, promises: &[(String, Promises)]) -> Result<()> {
        let copy = if number.is_multiple_of(2) {
            image::recovers(&self.image)?
        } else {
            let copy = self.image.with_extension("copy");
            fs::copy(&self.image, &copy)?;
            copy
        };
        let kernel = Mounted::kernel(&copy, &self.mountpoint, "rw")?;
        expect_kept(&self.mountpoint, promises).context("as the kernel sees it")?;
        kernel.unmount()?;
        image::check(&copy).context("after the kernel")?;
        fs::remove_file(copy)?;

        let again = self.mount(number)?;
        let connection = again.connection.as_ref();
        step("looking", connection, || expect_kept(&self.mountpoint, promises))?;
        step("unmounting", connection, || again.mounted.unmount())?;
        image::check(&self.image)
    }
}

fn promises(kept: &[Kept]) -> Result<Vec<(String, Promises)>> {
    let read = |kept: &Kept| -> Result<(String, Promises)> {
        let promises = Promises::parse(&fs::read_to_string(&kept.ledger)?)?;
        fs::remove_file(&kept.ledger)?;
        Ok((kept.directory.clone(), promises))
    };
    kept.iter().map(read).collect()
}

fn expect_kept(root: &Path, promises: &[(String, Promises)]) -> Result<()> {
    for (directory, promises) in promises {
        promises.expect_kept(&root.join(directory)).with_context(|| directory.clone())?;
    }
    Ok(())
}
