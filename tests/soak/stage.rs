//! An image, how it is mounted, and what must be true between two mounts of it.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::clients::Clients;
use fuse4fs_tests::connection::{self, Connection, Holdings};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::operation::Random;
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::tree::Tree;
use fuse4fs_tests::uring::{self, Parameter};
use fuse4fs_tests::watchdog::{self, step};
use fuse4fs_tests::{content, load, mount_walk};
use rustix::fs::StatVfsMountFlags;

const RECIPE: Recipe =
    Recipe { name: "soak", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
/// So much that the load seldom finds it full.
const SIZE: &str = "256M";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    ReadOnly,
    ReadWrite,
}

impl Access {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::ReadWrite => "read-write",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Transport {
    Classic,
    Ring,
}

impl Transport {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Classic => "over /dev/fuse",
            Self::Ring => "over io_uring",
        }
    }
}

/// Workers that stay for a while, on any machine.
const MORE_THREADS: u64 = 16;
/// What caches and the allocator may take beyond what they had after a first load.
const MORE_KIB: u64 = 32 << 10;
/// Nodes that somebody may still be looking at.
const MORE_NODES: u64 = 16;
/// Workers too many leave after 10 s without work.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the rounds of one trial work on.
pub(crate) struct Stage {
    product: &'static Product,
    directory: tempfile::TempDir,
    image: PathBuf,
    pub(crate) mountpoint: PathBuf,
    access: Access,
    transport: Transport,
    base: Tree,
    digest: String,
    before: Traces,
    pub(crate) random: Random,
    last: Option<Connection>,
    /// KiB that a server had after its first load.
    loaded: Option<u64>,
}

/// A mount and its server.
pub(crate) struct Served {
    pub(crate) mounted: Mounted,
    pub(crate) connection: Connection,
    pub(crate) server: u32,
    /// What the server held when nobody had used it.
    pub(crate) fresh: Holdings,
}

impl Stage {
    pub(crate) fn prepare(access: Access, transport: Transport) -> Result<Self> {
        let product = Product::get()?;
        if transport == Transport::Ring {
            host::need_file(uring::PARAMETER)?;
        }
        connection::show()?;
        let directory = tempfile::tempdir()?;
        let mountpoint = directory.path().join("mnt");
        std::fs::create_dir(&mountpoint)?;
        let image = RECIPE.make_sized(directory.path(), SIZE)?;
        let filled = Mounted::kernel(&image, &mountpoint, "rw")?;
        load::prepare(filled.path())?;
        filled.unmount()?;
        let filled = Mounted::kernel(&image, &mountpoint, "ro")?;
        let base = mount_walk::walk(&mountpoint.join(load::BASE))?;
        filled.unmount()?;
        let digest = content::sha256_of_file(&image)?;
        let before = Traces::now(product, directory.path())?;
        let random = Random::new(host::setting("FUSE4FS_SEED", 1)?);
        let (last, loaded) = (None, None);
        Ok(Self {
            product,
            directory,
            image,
            mountpoint,
            access,
            transport,
            base,
            digest,
            before,
            random,
            last,
            loaded,
        })
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.access == Access::ReadWrite
    }

    /// Mounts it, as one that can be written if that is what was asked for.
    pub(crate) fn mount(&mut self) -> Result<Served> {
        let access = if self.is_writable() { "rw" } else { "ro" };
        let ring = if self.transport == Transport::Ring { "on" } else { "off" };
        // Without noatime the load's reading would show in the tree.
        let log = self.log();
        let _ = std::fs::remove_file(&log);
        let log = format!("log_level=debug,log={}", log.display());
        let options = format!("{access},noatime,io_uring={ring},{log}");
        let product = self.product;
        let rings = self.transport == Transport::Ring;
        let rings = if rings { Some(Parameter::set("Y")?) } else { None };
        let mounted =
            step("mounting", None, || product.mount(&self.image, &self.mountpoint, &options))?;
        let connection = Connection::of(&self.mountpoint)?;
        self.last = Some(connection.clone());
        ensure!(
            self.shows_writable()? == self.is_writable(),
            "it was mounted otherwise than {access}"
        );
        // It has answered, so it has the rings.
        drop(rings);
        let server = product.server_running()?;
        Ok(Served { mounted, connection, server, fresh: Holdings::of(server)? })
    }

    /// What the server of the last mount says of the file system.
    pub(crate) fn troubles(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let is_trouble = |line: &&str| line.contains("EXT4-fs");
        log.lines().filter(is_trouble).collect::<Vec<_>>().join("\n")
    }

    /// What the server of the last mount says.
    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// What the server holds once the kernel has forgotten what it can, and nobody works; that is what
    /// it held at first, and memory for its caches.
    pub(crate) fn expect_no_leak(&mut self, served: &Served) -> Result<()> {
        let fresh = served.fresh;
        let now = step("forgetting", Some(&served.connection), || settled(served))?;
        let loaded = *self.loaded.get_or_insert(now.resident_kib);
        let told = format!("when mounted {fresh:?}, now {now:?}, after a first load {loaded} KiB");
        println!("{told}");
        ensure!(now.descriptors <= fresh.descriptors, "descriptors leak: {told}");
        ensure!(now.threads <= fresh.threads + MORE_THREADS, "threads leak: {told}");
        ensure!(now.resident_kib <= loaded + MORE_KIB, "memory leaks: {told}");
        Ok(())
    }

    /// What the server knew of when it ended, by what it says: almost nothing, as the kernel had
    /// forgotten it all.
    fn expect_forgotten(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.log())?;
        let line = log.lines().rfind(|line| line.contains("at the end the kernel knew"));
        let line = line.context("the server does not say what it knew at the end")?;
        let words = line.split_whitespace();
        let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
        let [.., nodes, files] = numbers[..] else { anyhow::bail!("no numbers: {line}") };
        ensure!(nodes <= MORE_NODES && files == 0, "left over: {line}");
        Ok(())
    }

    /// Whether the mount says that it can be written.
    pub(crate) fn shows_writable(&self) -> Result<bool> {
        let flags = rustix::fs::statvfs(&self.mountpoint)?.f_flag;
        Ok(!flags.contains(StatVfsMountFlags::RDONLY))
    }

    /// Starts clients that use the mount in all ways it permits.
    pub(crate) fn load(&mut self, time: Duration) -> Result<Clients> {
        let mut roles: Vec<_> = load::READERS.into();
        if self.is_writable() {
            roles.extend(load::WRITERS);
        } else {
            roles.extend(load::READERS);
        }
        self.load_of(&roles, time)
    }

    /// Starts clients of these roles.
    pub(crate) fn load_of(&mut self, roles: &[&str], time: Duration) -> Result<Clients> {
        let mut clients = Clients::default();
        let seed = self.random.below(1 << 32);
        load::start(&mut clients, roles, &self.mountpoint, seed, time)?;
        Ok(clients)
    }

    /// `-o remount`; what the helper says against it, if it does.
    pub(crate) fn remount(&self, options: &str) -> Result<Option<String>> {
        let output = self.product.try_mount(&self.image, &self.mountpoint, options)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Ok((!output.status.success()).then_some(said))
    }

    /// The server ends by itself, soon.
    pub(crate) fn expect_no_server(&self) -> Result<()> {
        let end = Instant::now() + watchdog::LIMIT;
        while !self.product.servers()?.is_empty() {
            ensure!(Instant::now() < end, "the server stays: {:?}", self.product.servers()?);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The tree that nobody changes is as it was.
    pub(crate) fn expect_base(&self) -> Result<()> {
        let now = mount_walk::walk(&self.mountpoint.join(load::BASE))?;
        let differences = self.base.differences(&now);
        let shown: Vec<_> = differences.iter().take(10).map(ToString::to_string).collect();
        ensure!(shown.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
        Ok(())
    }

    /// Unmounts; everything is there, and nothing to repair.
    pub(crate) fn end(&mut self, served: Served) -> Result<()> {
        let connection = Some(&served.connection);
        step("reading what nobody changed", connection, || self.expect_base())?;
        self.expect_no_leak(&served)?;
        step("unmounting", connection, || served.mounted.unmount())?;
        self.expect_no_server()?;
        self.expect_forgotten()?;
        self.expect_clean()
    }

    /// Unmounts what has no server any more: e2fsck and we can recover it.
    pub(crate) fn end_of_ruin(&mut self, served: Served) -> Result<()> {
        step("unmounting", Some(&served.connection), || served.mounted.unmount())?;
        self.expect_nothing_left()?;
        if self.is_writable() {
            std::fs::remove_file(image::recovers(&self.image)?)?;
        }
        let again = self.mount()?;
        self.end(again)
    }

    pub(crate) fn expect_clean(&self) -> Result<()> {
        if self.is_writable() { image::check(&self.image) } else { Ok(()) }
    }

    /// No mount, no loop device, no process and no connection.
    pub(crate) fn expect_nothing_left(&self) -> Result<()> {
        if let Some(connection) = &self.last {
            connection.expect_gone(watchdog::LIMIT)?;
        }
        self.expect_no_server()?;
        self.before.expect_unchanged(self.product, self.directory.path())
    }

    /// A file system that was only read has the bytes it had.
    pub(crate) fn expect_untouched(&self) -> Result<()> {
        if !self.is_writable() {
            ensure!(content::sha256_of_file(&self.image)? == self.digest, "the image was written");
        }
        Ok(())
    }
}

fn settled(served: &Served) -> Result<Holdings> {
    rustix::fs::syncfs(File::open(served.mounted.path())?)?;
    // Inodes with pages go only after these.
    for _ in 0..2 {
        std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping caches")?;
    }
    // Nobody waits for an answer to FORGET.
    std::thread::sleep(Duration::from_millis(100));
    let end = Instant::now() + PATIENCE;
    loop {
        let now = Holdings::of(served.server)?;
        let few = now.threads <= served.fresh.threads + MORE_THREADS;
        if served.connection.waiting()? == 0 && few || Instant::now() > end {
            return Ok(now);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
