//! The programs under test, built and put where an installation would have them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::command;
use crate::host::{self, Mounted};

/// Programs in a directory of their own: `sbin/mount.fuse4fs`, `bin/fuse4fs`, `libexec/fuse4fs-server`.
#[derive(Debug)]
pub struct Product {
    directory: PathBuf,
}

impl Product {
    /// Builds the programs of this source tree, once a process; the server with its test hooks.
    ///
    /// # Errors
    /// [`crate::trial::Skip`] where they could not run; what cargo says.
    pub fn get() -> Result<&'static Self> {
        const HOOKS: &[&str] = &["--features", "fuse4fs-server/test-hooks"];
        static PRODUCT: OnceLock<Result<Product, String>> = OnceLock::new();
        Self::once(&PRODUCT, "debug", HOOKS)
    }

    /// The same with a server that can be taken over: see `fuse4fs_server::attack`.
    ///
    /// # Errors
    /// As [`Product::get`].
    pub fn attacked() -> Result<&'static Self> {
        const ATTACK: &[&str] = &["--features", "fuse4fs-server/attack"];
        static PRODUCT: OnceLock<Result<Product, String>> = OnceLock::new();
        Self::once(&PRODUCT, "debug", ATTACK)
    }

    /// The same as it is shipped: optimized and without hooks.
    ///
    /// # Errors
    /// As [`Product::get`].
    pub fn release() -> Result<&'static Self> {
        static PRODUCT: OnceLock<Result<Product, String>> = OnceLock::new();
        Self::once(&PRODUCT, "release", &["--release"])
    }

    fn once(
        product: &'static OnceLock<Result<Self, String>>,
        profile: &str,
        arguments: &[&str],
    ) -> Result<&'static Self> {
        host::need_root()?;
        host::need_file("/dev/fuse")?;
        host::need_file("/dev/loop-control")?;
        let build = || Self::build(profile, arguments).map_err(|error| format!("{error:#}"));
        product.get_or_init(build).as_ref().map_err(|error| anyhow!("{error}"))
    }

    fn build(profile: &str, arguments: &[&str]) -> Result<Self> {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.current_dir(&workspace).args(["build", "--quiet", "--locked"]);
        build.args(["-p", "fuse4fs-helper", "-p", "fuse4fs-server"]);
        build.args(arguments);
        let child = build.spawn().context("running cargo")?;
        let output = command::wait(child, Duration::from_secs(1800))?;
        anyhow::ensure!(output.status.success(), "cargo build: {}", output.status);
        let built = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace.join("target"), PathBuf::from)
            .join(profile);
        // Lives as long as the mount namespace: a tmpfs there leaves nothing behind.
        let directory = PathBuf::from("/run/fuse4fs-tests");
        std::fs::create_dir_all(&directory)?;
        let mut tmpfs = Command::new("mount");
        command::succeed(tmpfs.args(["-t", "tmpfs", "-o", "mode=755", "tmpfs"]).arg(&directory))?;
        let product = Self { directory };
        for (from, to) in [
            ("mount-fuse4fs", product.helper()),
            ("fuse4fs", product.user_program()),
            ("fuse4fs-server", product.server()),
        ] {
            std::fs::create_dir_all(to.parent().context("parent")?)?;
            std::fs::copy(built.join(from), to).with_context(|| from.to_owned())?;
        }
        product.show_to_mount8()?;
        Ok(product)
    }

    /// Lays a directory with our helper over /sbin of this mount namespace, where mount(8) looks.
    fn show_to_mount8(&self) -> Result<()> {
        let sbin = std::fs::canonicalize("/sbin")?;
        let (upper, work) = (self.directory.join("upper"), self.directory.join("work"));
        std::fs::create_dir(&upper)?;
        std::fs::create_dir(&work)?;
        std::os::unix::fs::symlink(self.helper(), upper.join("mount.fuse4fs"))?;
        let (lower, upper, work) = (sbin.display(), upper.display(), work.display());
        let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let mut mount = Command::new("mount");
        command::succeed(mount.args(["-t", "overlay", "overlay", "-o", &options]).arg(&sbin))?;
        Ok(())
    }

    /// The running servers of this product.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn servers(&self) -> Result<Vec<u32>> {
        let identity = |path: PathBuf| {
            let file = std::fs::metadata(path).ok()?;
            Some((file.dev(), file.ino()))
        };
        let ours = identity(self.server()).context("no server")?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let entry = entry?;
            let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if let Some(pid) = pid
                && identity(entry.path().join("exe")) == Some(ours)
            {
                found.push(pid);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// The only one.
    ///
    /// # Errors
    /// As [`Product::servers`]; that there are others, or none.
    pub fn server_running(&self) -> Result<u32> {
        let servers = self.servers()?;
        let [server] = servers[..] else { anyhow::bail!("servers: {servers:?}") };
        Ok(server)
    }

    /// `mount.fuse4fs`.
    #[must_use]
    pub fn helper(&self) -> PathBuf {
        self.directory.join("sbin/mount.fuse4fs")
    }

    /// `fuse4fs`.
    #[must_use]
    pub fn user_program(&self) -> PathBuf {
        self.directory.join("bin/fuse4fs")
    }

    /// `fuse4fs-server`.
    #[must_use]
    pub fn server(&self) -> PathBuf {
        self.directory.join("libexec/fuse4fs-server")
    }

    /// Runs the helper as mount(8) does; what it says and its exit code are the answer.
    ///
    /// # Errors
    /// When it cannot be run or hangs.
    pub fn try_mount(&self, source: &Path, target: &Path, options: &str) -> Result<Output> {
        let mut helper = Command::new(self.helper());
        command::run(helper.arg(source).arg(target).args(["-o", &spawned(options)]))
    }

    /// Mounts and insists on success and silence.
    ///
    /// # Errors
    /// What the helper says.
    pub fn mount(&self, source: &Path, target: &Path, options: &str) -> Result<Mounted> {
        let output = self.try_mount(source, target, options)?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        anyhow::ensure!(output.status.success(), "{}: {said}", output.status);
        let mounted = Mounted::adopt(target);
        anyhow::ensure!(said.is_empty(), "a successful mount is silent, but said: {said}");
        Ok(mounted)
    }
}

/// With the server of this build, whatever socket the machine may have.
fn spawned(options: &str) -> String {
    if options.contains("server=") { options.to_owned() } else { format!("{options},server=spawn") }
}

/// Everything that mounting images of one directory could leave behind, to compare before and after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traces {
    mounts: String,
    loops: Vec<String>,
    servers: Vec<u32>,
}

impl Traces {
    /// What there is now.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn now(product: &Product, directory: &Path) -> Result<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        Ok(Self { mounts, loops: loops_below(directory)?, servers: product.servers()? })
    }

    /// Fails unless everything is as it was, shortly after at the latest: a refused server's
    /// process may still be ending.
    ///
    /// # Errors
    /// With both states.
    pub fn expect_unchanged(&self, product: &Product, directory: &Path) -> Result<()> {
        let mut now = Self::now(product, directory)?;
        for _ in 0..100 {
            if now == *self {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
            now = Self::now(product, directory)?;
        }
        anyhow::bail!("left behind: before {self:?}, now {now:?}")
    }
}

/// Loop devices on files below `directory`.
///
/// # Errors
/// What losetup(8) says.
pub fn loops_below(directory: &Path) -> Result<Vec<String>> {
    let list = command::sh("losetup", ["--list", "--noheadings", "-O", "NAME,BACK-FILE"])?;
    let directory = directory.display().to_string();
    Ok(list.lines().filter(|line| line.contains(&directory)).map(str::to_owned).collect())
}
