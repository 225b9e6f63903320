//! What the kernel asks for, and what it does not: every request is one line of the log.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::command;
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;
use rustix::fs::{major, minor};
use rustix::process::{Pid, Signal};

const RECIPE: Recipe =
    Recipe { name: "requests", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
/// Names in the large directory.
const NAMES: usize = 2000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("what is cached is not asked for again", || on_a_mount(cached)),
        trial::test("ls -l of a directory asks once for each hundred names", || on_a_mount(cold)),
        trial::test("the server ends when its connection is aborted", || on_a_mount(aborted)),
        trial::test("SIGTERM does not end a server that is mounted", || on_a_mount(terminated)),
    ]
}

/// A mount that writes down what it is asked.
struct Traced {
    root: PathBuf,
    log: PathBuf,
}

impl Traced {
    /// The requests that `run` causes, in order.
    fn requests(&self, run: impl FnOnce(&Path) -> Result<()>) -> Result<Vec<String>> {
        let before = self.lines()?.len();
        run(&self.root)?;
        Ok(self.lines()?.split_off(before))
    }

    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(&self.log)?;
        let request = |line: &str| Some(line.split_once("request ")?.1.to_owned());
        Ok(text.lines().filter_map(request).collect())
    }
}

fn on_a_mount(check: fn(&Traced) -> Result<()>) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let root = directory.path().join("mnt");
    fs::create_dir(&root)?;
    let image = RECIPE.make(directory.path())?;
    let filled = Mounted::kernel(&image, &root, "rw")?;
    fs::write(root.join("file"), "content")?;
    std::os::unix::fs::symlink("file", root.join("link"))?;
    fs::create_dir(root.join("many"))?;
    for number in 0..NAMES {
        fs::write(root.join(format!("many/a-name-of-usual-length-{number:04}")), "")?;
    }
    filled.unmount()?;
    let log = directory.path().join("log");
    let options = format!("ro,log_level=trace,log={}", log.display());
    let mounted = product.mount(&image, &root, &options)?;
    let checked = check(&Traced { root, log });
    mounted.unmount()?;
    checked
}

fn list(root: &Path) -> Result<()> {
    command::sh("ls", ["-l".as_ref(), root.as_os_str()]).map(drop)
}

fn use_files(root: &Path) -> Result<()> {
    let file = root.join("file");
    ensure!(fs::metadata(&file)?.len() == 7);
    rustix::fs::access(&file, rustix::fs::Access::READ_OK)?;
    ensure!(fs::read_link(root.join("link"))? == Path::new("file"));
    ensure!(fs::read(&file)? == b"content");
    ensure!(!root.join("no such name").exists());
    list(root)
}

/// The first time fills the caches; ls(1) also asks for attributes and where to find them.
fn cached(traced: &Traced) -> Result<()> {
    let first = traced.requests(use_files)?;
    ensure!(first.iter().any(|request| request.contains("Lookup(\"file\")")), "{first:#?}");
    traced.requests(use_files)?;
    let third = traced.requests(use_files)?;
    let unexpected: Vec<_> = third.iter().filter(|request| !request.contains("xattr")).collect();
    ensure!(unexpected.is_empty(), "asked again: {unexpected:#?}");
    Ok(())
}

fn cold(traced: &Traced) -> Result<()> {
    let asked = traced.requests(|root| list(&root.join("many")))?;
    let read = asked.iter().filter(|request| request.contains("Readdir")).count();
    let attributes = asked.iter().filter(|request| request.contains("Getattr")).count();
    let looked_up = asked.iter().filter(|request| request.contains("Lookup")).count();
    let last = asked.last().context("nothing was asked")?;
    ensure!(attributes <= 2 && looked_up <= 2, "{attributes} Getattr, {looked_up} Lookup; {last}");
    ensure!(read <= NAMES / 100, "{read} requests for {NAMES} names");
    Ok(())
}

/// Whether the log comes to hold a line with `text` within some seconds.
fn logged(traced: &Traced, text: &str) -> Result<()> {
    for _ in 0..100 {
        if fs::read_to_string(&traced.log)?.contains(text) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{text:?} is not in the log: {}", fs::read_to_string(&traced.log)?)
}

fn aborted(traced: &Traced) -> Result<()> {
    let device = fs::metadata(&traced.root)?.dev();
    let connection = (u64::from(major(device)) << 20) | u64::from(minor(device));
    // In the mount namespace of these tests only; not every machine has it.
    command::sh("mount", ["-t", "fusectl", "none", "/sys/fs/fuse/connections"])?;
    fs::write(format!("/sys/fs/fuse/connections/{connection}/abort"), "1")?;
    logged(traced, "the connection to the kernel was aborted")?;
    ensure!(fs::read_dir(&traced.root).is_err(), "an aborted mount still answers");
    let product = Product::get()?;
    for _ in 0..100 {
        if product.servers()?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("the server is still there")
}

fn terminated(traced: &Traced) -> Result<()> {
    let servers = Product::get()?.servers()?;
    let [server] = servers[..] else { anyhow::bail!("{} servers", servers.len()) };
    let server = Pid::from_raw(i32::try_from(server)?).context("pid")?;
    rustix::process::kill_process(server, Signal::TERM)?;
    logged(traced, "asked to stop, but the file system is still mounted")?;
    ensure!(fs::read(traced.root.join("file"))? == b"content");
    Ok(())
}
