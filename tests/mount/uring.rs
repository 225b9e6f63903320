//! FUSE over io_uring: the same answers, on the CPU that asks, and the same clean end.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::connection::{self, Connection};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::uring::Parameter;
use fuse4fs_tests::{command, content, mount_walk, trial};
use libtest_mimic::Trial;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, StatxFlags};
use rustix::thread::CpuSet;

/// Block maps of all kinds, directories of all kinds, attributes, a log.
const IMAGES: [&str; 5] =
    ["ext4-4k-i512", "ext2-1k", "ext4-inline", "ext4-casefold", "dj-ext4-4k-v3"];
/// The short version of what a soak does for an hour.
const CYCLES: usize = 30;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("golden images through rings equal their truth", golden),
        trial::test("requests are answered on the CPU that asks", spread),
        trial::test("four clients read different files at once, in pieces of all sizes", parallel),
        trial::test(
            "without the kernel's parameter /dev/fuse serves, and nobody is told",
            fallback,
        ),
        trial::test("a ring has a thread of the idle class where the server is a group", classes),
        trial::test("io_uring=off leaves the rings alone", unwanted),
        trial::test("an aborted connection ends the server while requests are under way", aborted),
        trial::test("clients that are killed leave the mount as it was", killed),
        trial::test("mounting again and again leaves nothing behind", cycles),
        trial::test(
            "what is written through rings is there, and nobody reads freed blocks",
            written,
        ),
    ]
}

/// A mount, its server, and the image's directory.
struct Serving {
    product: &'static Product,
    process: PathBuf,
    mounted: Mounted,
    directory: tempfile::TempDir,
}

fn serving(parameter: &str, options: &str) -> Result<Serving> {
    let product = Product::get()?;
    let _parameter = Parameter::set(parameter)?;
    let directory = tempfile::tempdir()?;
    let image = Golden::named("ext4-4k-i512")?.unpack(directory.path())?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let mounted = product.mount(&image, &mountpoint, options)?;
    std::fs::read(mountpoint.join("data/plain"))?;
    let process = Path::new("/proc").join(product.server_running()?.to_string());
    Ok(Serving { product, process, mounted, directory })
}

impl Serving {
    /// Threads whose names begin with `prefix`, with how often each has slept.
    fn threads(&self, prefix: &str) -> Result<BTreeMap<String, u64>> {
        let mut found = BTreeMap::new();
        for entry in std::fs::read_dir(self.process.join("task"))? {
            let status = std::fs::read_to_string(entry?.path().join("status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name));
                line.map(str::trim).with_context(|| format!("no {name}"))
            };
            let name = field("Name:")?;
            if name.starts_with(prefix) {
                found.insert(name.to_owned(), field("voluntary_ctxt_switches:")?.parse()?);
            }
        }
        Ok(found)
    }

    fn plain(&self) -> PathBuf {
        self.mounted.path().join("data/plain")
    }

    /// What is left once the mount is gone: nothing.
    fn expect_gone(&self) -> Result<()> {
        let patience = Instant::now() + Duration::from_secs(10);
        while self.process.exists() {
            ensure!(Instant::now() < patience, "the server is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn golden() -> Result<()> {
    let product = Product::get()?;
    for name in IMAGES {
        let _parameter = Parameter::set("Y")?;
        let golden = Golden::named(name)?;
        let directory = tempfile::tempdir()?;
        let image = golden.unpack(directory.path())?;
        let truth = golden.truth()?;
        let mountpoint = directory.path().join("mnt");
        std::fs::create_dir(&mountpoint)?;
        let mounted = product.mount(&image, &mountpoint, "ro,io_uring=on")?;
        // Nothing is in memory, then everything is.
        for round in ["cold", "warm"] {
            let found = mount_walk::walk(mounted.path()).with_context(|| round)?;
            truth.expect(&found).with_context(|| format!("{name}, {round}"))?;
            std::fs::write("/proc/sys/vm/drop_caches", "2")?;
        }
        mounted.unmount()?;
        ensure!(content::sha256_of_file(&image)? == truth.image_hash, "the image has changed");
    }
    Ok(())
}

/// Runs on one CPU from now on.
fn stay_on(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Asks the server, whatever the kernel remembers.
fn ask(path: &Path) -> Result<()> {
    rustix::fs::statx(CWD, path, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS)?;
    Ok(())
}

fn spread() -> Result<()> {
    const ASKED: u64 = 500;
    let serving = serving("Y", "ro")?;
    let set = rustix::thread::sched_getaffinity(None)?;
    let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect();
    let rings = serving.threads("ring-")?;
    ensure!(rings.len() == cpus.len(), "{} CPUs, but {rings:?}", cpus.len());
    // Of both threads of each ring.
    let slept = || -> Result<Vec<u64>> {
        let (plain, idle) = (serving.threads("ring-")?, serving.threads("idle-")?);
        let of = |cpu: &usize| {
            plain.get(&format!("ring-{cpu}")).unwrap_or(&0)
                + idle.get(&format!("idle-{cpu}")).unwrap_or(&0)
        };
        Ok(cpus.iter().map(of).collect())
    };
    for asking in &cpus {
        let (path, asking) = (serving.plain(), *asking);
        let client = std::thread::spawn(move || -> Result<()> {
            stay_on(asking)?;
            (0..ASKED).try_for_each(|_| ask(&path))
        });
        let before = slept()?;
        client.join().map_err(|_| anyhow::anyhow!("the client panicked"))??;
        for ((cpu, before), after) in cpus.iter().zip(before).zip(slept()?) {
            let slept = after - before;
            let mine = *cpu == asking;
            ensure!(
                mine == (slept > ASKED / 2),
                "asked on CPU {asking}: CPU {cpu}'s slept {slept} times"
            );
        }
    }
    serving.mounted.unmount()
}

fn classes() -> Result<()> {
    need_groups()?;
    let serving = serving("Y", "ro,io_uring=on")?;
    expect_classes(&serving.process)?;
    serving.mounted.unmount()
}

/// Goes on where the kernel makes a scheduling group of each session.
pub(crate) fn need_groups() -> Result<()> {
    if std::fs::read_to_string("/proc/sys/kernel/sched_autogroup_enabled")?.trim() != "1" {
        return trial::skip("the kernel makes no group of a session");
    }
    let groups = std::fs::read_to_string("/proc/self/cgroup")?;
    let is_root = groups.lines().any(|line| line.ends_with(":cpu:/"));
    if !is_root || !Path::new("/sys/fs/cgroup/cpu/release_agent").exists() {
        return trial::skip("this is a control group of CPUs");
    }
    Ok(())
}

/// The server is a group, and just the second thread of each ring is of the idle class.
pub(crate) fn expect_classes(process: &Path) -> Result<()> {
    const POLICY: usize = 38;
    const SCHED_IDLE: &str = "5";
    let group = |process: &Path| std::fs::read_to_string(process.join("autogroup"));
    let (theirs, ours) = (group(process)?, group(Path::new("/proc/self"))?);
    ensure!(theirs != ours, "the server's group is ours, {ours}");
    let (mut idle, mut rings) = (0, 0);
    for entry in std::fs::read_dir(process.join("task"))? {
        let entry = entry?;
        let stat = std::fs::read_to_string(entry.path().join("stat"))?;
        // What follows the name, which is in parentheses, begins with the third field.
        let (name, rest) = stat.rsplit_once(") ").context("stat")?;
        let is_idle = rest.split(' ').nth(POLICY) == Some(SCHED_IDLE);
        ensure!(is_idle == name.contains("(idle-"), "{stat}");
        idle += usize::from(is_idle);
        rings += usize::from(name.contains("(ring-"));
        let class = command::succeed(Command::new("ionice").arg("-p").arg(entry.file_name()))?;
        ensure!(class.trim() == "best-effort: prio 4", "for disks: {class}");
    }
    ensure!(idle == rings && idle > 0, "{idle} threads of the idle class, {rings} rings");
    Ok(())
}

fn parallel() -> Result<()> {
    let serving = serving("Y", "ro")?;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(serving.mounted.path().join("data"))? {
        let entry = entry?;
        // Some are sparse, and larger than memory.
        let small = (1..=16 << 20).contains(&entry.metadata()?.size());
        if entry.file_type()?.is_file() && small {
            files.push((entry.path(), std::fs::read(entry.path())?));
        }
    }
    ensure!(!files.is_empty(), "no files");
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    let clients = (0..4_usize).map(|client| {
        let files = files.clone();
        std::thread::spawn(move || -> Result<()> {
            for (path, expected) in &files {
                let file = File::open(path)?;
                let piece = [100, 4096, 70_000, 1 << 20][client];
                let mut found = vec![0; expected.len()];
                for (index, part) in found.chunks_mut(piece).enumerate() {
                    file.read_exact_at(part, u64::try_from(index * piece)?)?;
                }
                ensure!(found == *expected, "{}: client {client}", path.display());
            }
            Ok(())
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    let Serving { mounted, .. } = serving;
    mounted.unmount()
}

fn fallback() -> Result<()> {
    let serving = serving("N", "ro")?;
    ensure!(serving.threads("ring-")?.is_empty(), "{:?}", serving.threads("ring-")?);
    ensure!(!serving.threads("fuse-")?.is_empty(), "nobody serves");
    ask(&serving.plain())?;
    let Serving { mounted, .. } = serving;
    mounted.unmount()
}

fn unwanted() -> Result<()> {
    let serving = serving("Y", "ro,io_uring=off")?;
    ensure!(serving.threads("ring-")?.is_empty(), "{:?}", serving.threads("ring-")?);
    let Serving { mounted, .. } = serving;
    mounted.unmount()
}

/// A program that asks for file data and attributes for ever; killed at the end.
struct Busy(Child);

impl Busy {
    fn start(path: &Path) -> Result<Self> {
        let script = "while :; do dd if=\"$0\" iflag=direct bs=64k of=/dev/null status=none; \
            stat \"$0\" >/dev/null || sleep 1; done 2>/dev/null";
        let mut shell = Command::new("sh");
        Ok(Self(shell.args(["-c", script]).arg(path).stdout(Stdio::null()).spawn()?))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn aborted() -> Result<()> {
    let serving = serving("Y", "ro")?;
    let clients: Vec<Busy> =
        (0..4).map(|_| Busy::start(&serving.plain())).collect::<Result<_>>()?;
    std::thread::sleep(Duration::from_millis(300));
    connection::show()?;
    Connection::of(serving.mounted.path())?.abort()?;
    serving.expect_gone()?;
    ensure!(ask(&serving.plain()).is_err(), "an aborted mount answers");
    drop(clients);
    let Serving { mounted, .. } = serving;
    mounted.unmount()
}

fn killed() -> Result<()> {
    let serving = serving("Y", "ro")?;
    let expected = std::fs::read(serving.plain())?;
    for _ in 0..10 {
        let clients: Vec<Busy> =
            (0..3).map(|_| Busy::start(&serving.plain())).collect::<Result<_>>()?;
        std::thread::sleep(Duration::from_millis(50));
        drop(clients);
    }
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    ensure!(std::fs::read(serving.plain())? == expected, "the file reads differently");
    let Serving { mounted, .. } = serving;
    mounted.unmount()
}

fn cycles() -> Result<()> {
    let serving = serving("Y", "ro")?;
    let (product, directory) = (serving.product, serving.directory);
    serving.mounted.unmount()?;
    let (image, mountpoint) = (image_in(directory.path())?, directory.path().join("mnt"));
    let _parameter = Parameter::set("Y")?;
    let traces = Traces::now(product, directory.path())?;
    for cycle in 0..CYCLES {
        let mounted = product.mount(&image, &mountpoint, "ro,io_uring=on")?;
        std::fs::read(mountpoint.join("data/plain"))?;
        mounted.unmount().with_context(|| format!("cycle {cycle}"))?;
        // The device is free as soon as umount(2) returns.
        let free = File::options().write(true).open(&image)?;
        let flags = FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&free, flags).with_context(|| format!("busy after cycle {cycle}"))?;
    }
    traces.expect_unchanged(product, directory.path())
}

/// What another file has in it, and what is never in the one that is cut.
const FOREIGN: u8 = 0xee;
/// Bytes of each of the two.
const BYTES: usize = 2 << 20;
const ROUNDS: u8 = 40;

fn written() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let recipe = Recipe { name: "rings", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
    let image = recipe.make_sized(directory.path(), "16M")?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let _parameter = Parameter::set("Y")?;
    let mounted = product.mount(&image, &mountpoint, "rw,io_uring=on")?;
    names(&mountpoint)?;
    cut_while_read(&mountpoint)?;
    mounted.unmount()?;
    image::check(&image)?;
    let mounted = product.mount(&image, &mountpoint, "rw,io_uring=on")?;
    let last = std::fs::read(mountpoint.join("cut"))?;
    ensure!(last == vec![ROUNDS; BYTES], "the file that was cut reads differently");
    ensure!(std::fs::read(mountpoint.join("dir/moved"))? == b"moved", "dir/moved");
    ensure!(!mountpoint.join("here").exists() && !mountpoint.join("gone").exists(), "old names");
    mounted.unmount()?;
    image::check(&image)
}

/// Names come and go; a file without one is read and written.
fn names(root: &Path) -> Result<()> {
    std::fs::create_dir(root.join("dir"))?;
    std::fs::write(root.join("here"), "moved")?;
    std::fs::rename(root.join("here"), root.join("dir/moved"))?;
    let mut options = File::options();
    let gone = options.read(true).write(true).create(true).open(root.join("gone"))?;
    std::fs::remove_file(root.join("gone"))?;
    gone.write_all_at(&[7; 10_000], 5000)?;
    gone.sync_all()?;
    std::fs::write("/proc/sys/vm/drop_caches", "1")?;
    let mut found = [1; 15_000];
    gone.read_exact_at(&mut found, 0)?;
    ensure!(found[..5000] == [0; 5000] && found[5000..] == [7; 10_000], "an unlinked file");
    Ok(())
}

/// One file is cut and written anew, another one takes the blocks meanwhile, and readers that go past
/// the page cache must never see the one in the other.
fn cut_while_read(root: &Path) -> Result<()> {
    let path = root.join("cut");
    std::fs::write(&path, vec![0; BYTES])?;
    let end = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (path, end) = (path.clone(), Arc::clone(&end));
            std::thread::spawn(move || read_until(&path, &end))
        })
        .collect();
    let written = cut_and_write(root);
    end.store(true, Ordering::Relaxed);
    let mut reads = 0;
    for reader in readers {
        reads += reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))??;
    }
    ensure!(reads > 100, "only {reads} reads");
    written
}

fn cut_and_write(root: &Path) -> Result<()> {
    let file = File::options().write(true).open(root.join("cut"))?;
    for round in 1..=ROUNDS {
        file.set_len(0)?;
        std::fs::write(root.join("foreign"), vec![FOREIGN; BYTES])?;
        file.write_all_at(&vec![round; BYTES], 0)?;
        if round % 8 == 0 {
            file.sync_all()?;
            std::fs::write("/proc/sys/vm/drop_caches", "1")?;
        }
        std::fs::remove_file(root.join("foreign"))?;
    }
    Ok(())
}

fn read_until(path: &Path, end: &AtomicBool) -> Result<usize> {
    const PIECE: usize = 256 << 10;
    let flags = OFlags::RDONLY | OFlags::DIRECT;
    let file: File = rustix::fs::open(path, flags, Mode::empty())?.into();
    let mut piece = vec![0; PIECE];
    let mut reads = 0;
    while !end.load(Ordering::Relaxed) {
        let at = u64::try_from((reads * PIECE) % BYTES)?;
        let found = file.read_at(&mut piece, at)?;
        ensure!(!piece[..found].contains(&FOREIGN), "bytes of another file at {at}");
        reads += 1;
    }
    Ok(reads)
}

fn image_in(directory: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("no image")
}
