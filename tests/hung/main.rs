//! A server that stops answering, as one that was taken over may: who waits for its mount is freed
//! within the request timeout and what the kernel takes to notice, and nobody else is harmed.
//!
//! A program of its own: while it runs, sync(2) of the whole machine waits.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::uring::Parameter;
use fuse4fs_tests::{command, trial};
use rustix::process::{Pid, Signal, kill_process};

/// Of both mounts, in seconds: the kernel looks every 15 s, so less would be no less.
const TIMEOUT: u64 = 15;
/// What the kernel may take to notice, and then to end everything.
const LIMIT: Duration = Duration::from_secs(TIMEOUT + 20);

const RECIPE: Recipe =
    Recipe { name: "hung", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };

/// Programs that want something of the mount whose server is silent, in its root. All must fail.
const CLIENTS: [(&str, &str); 8] = [
    ("stat", "stat lost+found/absent"),
    ("ls", "ls dir"),
    ("read", "cat cold"),
    ("write and close", "echo more >> written"),
    ("fsync", "sync written"),
    ("mkdir", "mkdir new"),
    ("unlink", "rm cold"),
    ("statfs", "stat -f . && stat -f ."),
];

fn main() -> ExitCode {
    host::enter_private_mounts();
    let stopped = "a server that is stopped, over /dev/fuse, holds nobody for long";
    let silent = "a server that answers nothing any more, over rings, holds nobody for long";
    let trials = vec![
        trial::test(stopped, || hold_up("N", "off", stop)),
        trial::test(silent, || hold_up("Y", "on", fall_silent)),
    ];
    trial::run(Some(1), trials)
}

/// Two mounts whose servers will be stopped, a file system of the kernel's, and what stays behind.
struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
    before: Traces,
}

impl Scene {
    fn new() -> Result<Self> {
        let product = Product::get()?;
        let directory = tempfile::tempdir()?;
        let before = Traces::now(product, directory.path())?;
        Ok(Self { product, directory, before })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An image of this name, and a directory to mount it at.
    fn make(&self, name: &str) -> Result<PathBuf> {
        std::fs::create_dir(self.path(name))?;
        let image = self.path(&format!("{name}.img"));
        std::fs::rename(RECIPE.make(self.directory.path())?, &image)?;
        Ok(image)
    }

    /// Mounts a new image, to be written, with files that the kernel has not seen the contents of.
    fn mount(&self, name: &str, options: &str) -> Result<Mounted> {
        let image = self.make(name)?;
        let filled = Mounted::kernel(&image, &self.path(name), "rw")?;
        std::fs::create_dir(filled.path().join("dir"))?;
        for file in ["cold", "written", "dir/file"] {
            std::fs::write(filled.path().join(file), [7; 100_000])?;
        }
        filled.unmount()?;
        let mounted = self.product.mount(&image, &self.path(name), options)?;
        std::fs::write(mounted.path().join("written"), "not yet in any transaction that is full")?;
        Ok(mounted)
    }

    fn signal(&self, servers: &[u32], signal: Signal) -> Result<()> {
        for pid in servers {
            let pid = Pid::from_raw(i32::try_from(*pid)?).context("a process number")?;
            kill_process(pid, signal)?;
        }
        Ok(())
    }

    /// mount.fuse4fs as another program would run it.
    fn mounting(&self, image: &Path, target: &str) -> Result<Command> {
        std::fs::create_dir_all(self.path(target))?;
        let mut mount = Command::new(self.product.helper());
        mount.arg(image).arg(self.path(target)).args(["-o", "rw,server=spawn"]);
        Ok(mount)
    }
}

/// A program that may have to wait for a silent server.
struct Waiter {
    name: &'static str,
    thread: JoinHandle<Result<(Output, Duration)>>,
}

impl Waiter {
    fn start(name: &'static str, mut program: Command) -> Result<Self> {
        let begin = Instant::now();
        let piped = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = piped.spawn().context(name)?;
        let wait = move || Ok((command::wait(child, LIMIT)?, begin.elapsed()));
        Ok(Self { name, thread: std::thread::spawn(wait) })
    }

    /// Waits for its end, and says when that was; whether it succeeded must be as `wanted`.
    fn end(self, wanted: bool) -> Result<()> {
        let ended = self.thread.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?;
        let (output, took) = ended.context(self.name)?;
        println!("{:>20}: {:5.1} s", self.name, took.as_secs_f64());
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success() == wanted, "{}: {}: {said}", self.name, output.status);
        Ok(())
    }
}

fn shell(script: &str, directory: &Path) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(directory);
    shell
}

/// All their threads at once. Rings would not survive that: see `server/src/sandbox/syscalls.rs`.
fn stop(scene: &Scene, servers: &[u32]) -> Result<()> {
    scene.signal(servers, Signal::STOP)
}

/// By the servers' test hook, which is a name.
fn fall_silent(scene: &Scene, _servers: &[u32]) -> Result<()> {
    for name in ["used", "left"] {
        let found = scene.path(name).join("fall silent").symlink_metadata();
        ensure!(found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound), "{name}");
    }
    Ok(())
}

/// How servers are made to answer nothing any more.
type HoldUp = fn(&Scene, &[u32]) -> Result<()>;

fn hold_up(enabled: &str, ring: &str, how: HoldUp) -> Result<()> {
    let scene = Scene::new()?;
    let options = format!("rw,request_timeout={TIMEOUT},io_uring={ring}");
    let parameter = Parameter::set(enabled)?;
    let (used, left) = (scene.mount("used", &options)?, scene.mount("left", &options)?);
    drop(parameter);
    let servers = scene.product.servers()?;
    ensure!(servers.len() == 2, "servers: {servers:?}");
    let other = scene.make("other")?;
    let other = Mounted::kernel(&other, &scene.path("other"), "rw")?;
    let third = scene.make("third")?;

    how(&scene, &servers)?;
    let result = wait_for_all(&scene, other.path(), &third);
    // Whatever came of it: one that goes on finds its connection ended, and ends as well. What one
    // that never does still holds is its own device.
    scene.signal(&servers, Signal::CONT)?;
    if ring == "on" {
        scene.signal(&servers, Signal::KILL)?;
    }
    result?;

    // umount(8) of this one has done it.
    std::mem::forget(left);
    Mounted::adopt(&scene.path("third")).unmount()?;
    other.unmount()?;
    used.unmount()?;
    scene.before.expect_unchanged(scene.product, scene.directory.path())?;
    for name in ["used", "left"] {
        image::recovers(&scene.path(&format!("{name}.img")))?;
    }
    image::check(&third)
}

/// What everybody does while both servers are silent.
fn wait_for_all(scene: &Scene, other: &Path, third: &Path) -> Result<()> {
    let mut fail = Vec::new();
    for (name, script) in CLIENTS {
        fail.push(Waiter::start(name, shell(script, &scene.path("used")))?);
    }
    let again = scene.mounting(&scene.path("used.img"), "again")?;
    fail.push(Waiter::start("a second mount of it", again)?);
    let mut umount = Command::new("umount");
    umount.arg(scene.path("left"));
    let succeed = [
        Waiter::start("sync", Command::new("sync"))?,
        Waiter::start("umount", umount)?,
        Waiter::start("another file system", shell("echo x > file && sync file", other))?,
        Waiter::start("another mount", scene.mounting(third, "third")?)?,
    ];
    succeed.into_iter().try_for_each(|waiter| waiter.end(true))?;
    fail.into_iter().try_for_each(|waiter| waiter.end(false))
}
