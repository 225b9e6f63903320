//! A mount whose server was taken over, and what becomes of the machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::command;
use fuse4fs_tests::connection::{self, Connection};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::{Product, Traces};

/// Until an attack has said all that it has to say.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a taken-over server serves.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) product: &'static Product,
    pub(crate) directory: tempfile::TempDir,
    before: Traces,
    complaints: usize,
}

/// A mount of it.
#[derive(Debug)]
pub(crate) struct Attacked {
    pub(crate) mounted: Mounted,
    pub(crate) connection: Connection,
    log: PathBuf,
}

impl Stage {
    pub(crate) fn new() -> Result<Self> {
        let product = Product::attacked()?;
        connection::show()?;
        let directory = tempfile::tempdir()?;
        let before = Traces::now(product, directory.path())?;
        Ok(Self { product, directory, before, complaints: complaints()? })
    }

    /// An image that takes over its server by `attack`.
    pub(crate) fn image(&self, attack: &str) -> Result<PathBuf> {
        let recipe = Recipe { name: "attack", mke2fs: "-t ext4", tune2fs: "", options: "rw" };
        let image = recipe.make_sized(self.directory.path(), "8M")?;
        let renamed = self.directory.path().join(attack.replace(':', "-"));
        std::fs::rename(image, &renamed)?;
        label(&renamed, attack)?;
        Ok(renamed)
    }

    /// Mounts `source`.
    pub(crate) fn mount(&self, source: &Path, name: &str, options: &str) -> Result<Attacked> {
        let (output, mountpoint, log) = self.try_mount(source, name, options)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "{}: {said}", output.status);
        let mounted = Mounted::adopt(&mountpoint);
        let connection = Connection::of(&mountpoint)?;
        Ok(Attacked { mounted, connection, log })
    }

    /// The same; what the helper says, where it was to be mounted, and the server's log.
    pub(crate) fn try_mount(
        &self,
        source: &Path,
        name: &str,
        options: &str,
    ) -> Result<(Output, PathBuf, PathBuf)> {
        let (mountpoint, log) = (self.directory.path().join(name), self.log(name));
        std::fs::create_dir_all(&mountpoint)?;
        let options = format!("{options},log={}", log.display());
        let output = self.product.try_mount(source, &mountpoint, &options)?;
        Ok((output, mountpoint, log))
    }

    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.directory.path().join(format!("{name}.log"))
    }

    /// Fails unless nothing is left behind, and the machine still works.
    pub(crate) fn leave(self) -> Result<()> {
        self.before.expect_unchanged(self.product, self.directory.path())?;
        ensure!(complaints()? <= self.complaints, "the kernel complains; see dmesg(1)");
        machine_works(self.directory.path())
    }

    /// What an attack says as a program of its own, in no sandbox but in mount and IPC namespaces that end
    /// with it. `device` is what it has open.
    pub(crate) fn unconfined(&self, name: &str, device: &Path, end: u64) -> Result<Output> {
        let mut attack = Command::new("unshare");
        attack.args(["--mount", "--ipc", "--propagation", "private"]);
        attack.arg(self.product.server()).args(["attack", name]).arg(device);
        command::run(attack.arg(end.to_string()).stdin(Stdio::null()))
    }
}

impl Attacked {
    /// What each attempt got, by its name; waits for all of them.
    pub(crate) fn results(&self) -> Result<BTreeMap<String, i64>> {
        results(&self.log)
    }

    /// Unmounts.
    pub(crate) fn end(self) -> Result<()> {
        self.mounted.unmount()?;
        self.connection.expect_gone(PATIENCE)
    }
}

/// Bugs that the kernel has noticed since it started, as far as its log goes back.
fn complaints() -> Result<usize> {
    // Of the kernel's own: a program that crashes is no complaint.
    let words =
        ["WARNING: ", "BUG: ", "Oops: ", "general protection fault, ", "blocked for more than"];
    let log = command::sh("dmesg", [""; 0])?;
    Ok(log.lines().filter(|line| words.iter().any(|word| line.contains(word))).count())
}

/// The results in a log, once it is complete.
fn results(log: &Path) -> Result<BTreeMap<String, i64>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(log).context("the log")?;
        if text.lines().any(|line| line == "attack done") {
            let parse = |line: &str| {
                let (name, result) = line.strip_prefix("attack ")?.rsplit_once(": ")?;
                Some((name.to_owned(), result.parse().ok()?))
            };
            return Ok(text.lines().filter_map(parse).collect());
        }
        if Instant::now() > end {
            bail!("the attack has not ended: {text}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Labels an ext4 file system.
pub(crate) fn label(device: &Path, attack: &str) -> Result<()> {
    let label = format!("attack:{attack}");
    command::sh("e2label", [device.as_os_str(), label.as_ref()]).map(drop)
}

/// Another file system can be written, synced and read; programs can be started.
pub(crate) fn machine_works(directory: &Path) -> Result<()> {
    let file = directory.join("other");
    let start = format!("echo it works > {0} && sync -d {0} && cat {0}", file.display());
    let said = command::sh("sh", ["-c", &start])?;
    ensure!(said == "it works\n", "{said}");
    Ok(())
}
