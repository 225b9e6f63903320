//! What the kernel asks for, and what it does not: every request is one line of the log.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::connection::{self, Connection};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;
use rustix::process::{Pid, Signal};

const RECIPE: Recipe =
    Recipe { name: "requests", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
/// Names in the large directory.
const NAMES: usize = 2000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("what is cached is not asked for again", || on_a_mount("ro", cached)),
        trial::test("nor where files can be written, but for the opening", || {
            on_a_mount("rw", cached_writable)
        }),
        trial::test("a file that tar unpacks costs ten requests", || on_a_mount("rw", unpacked)),
        trial::test("ls -l of a directory asks once for each hundred names", || {
            on_a_mount("ro", |traced| cold(traced, list))
        }),
        trial::test("so does find, which asks for attributes when it has read all names", || {
            on_a_mount("rw", |traced| cold(traced, find))
        }),
        trial::test("the server ends when its connection is aborted", || on_a_mount("ro", aborted)),
        trial::test("SIGTERM does not end a server that is mounted", || {
            on_a_mount("ro", terminated)
        }),
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

fn on_a_mount(access: &str, check: fn(&Traced) -> Result<()>) -> Result<()> {
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
    let options = format!("{access},log_level=trace,log={}", log.display());
    let mounted = product.mount(&image, &root, &options)?;
    let checked = check(&Traced { root, log });
    mounted.unmount()?;
    checked
}

fn list(root: &Path) -> Result<()> {
    command::sh("ls", ["-l".as_ref(), root.as_os_str()]).map(drop)
}

fn find(root: &Path) -> Result<()> {
    command::sh("find", [root.as_os_str(), "-size".as_ref(), "1".as_ref()]).map(drop)
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

/// Names of the operations that `run` causes. A RELEASE of before is over by then, and is one of
/// `run` itself: the kernel waits for none.
fn operations(traced: &Traced, run: impl FnOnce(&Path) -> Result<()>) -> Result<Vec<String>> {
    let settle = || std::thread::sleep(Duration::from_millis(100));
    settle();
    let asked = traced.requests(|root| {
        run(root)?;
        settle();
        Ok(())
    })?;
    let name = |line: &String| {
        let call = line.split_once(": ").map_or("", |(_, call)| call);
        call.split([' ', '(', ',']).next().unwrap_or_default().to_owned()
    };
    Ok(asked.iter().map(name).collect())
}

/// open(2), fstat(2), read(2) and close(2), as cat(1) does it.
fn read_once(file: &Path) -> Result<()> {
    let mut opened = fs::File::open(file)?;
    ensure!(opened.metadata()?.len() == 7);
    let mut content = Vec::new();
    opened.read_to_end(&mut content)?;
    ensure!(content == b"content");
    Ok(())
}

/// Where files can be written the kernel takes the access time for another one after each READ and
/// READDIR, and asks for it once, by GETATTR, when somebody wants to see it.
fn cached_writable(traced: &Traced) -> Result<()> {
    let look = |root: &Path| {
        let file = root.join("file");
        ensure!(fs::metadata(&file)?.len() == 7);
        rustix::fs::access(&file, rustix::fs::Access::READ_OK)?;
        ensure!(fs::read_link(root.join("link"))? == Path::new("file"));
        ensure!(!root.join("no such name").exists());
        list(root)
    };
    for _ in 0..2 {
        traced.requests(look)?;
        traced.requests(|root| read_once(&root.join("file")))?;
    }
    let seen = operations(traced, look)?;
    // ls(1) wants labels and ACLs, of which the kernel keeps none, or not those of the root.
    let unexpected: Vec<_> = seen.iter().filter(|name| *name != "Getxattr").collect();
    ensure!(unexpected.is_empty(), "asked again: {unexpected:?}");
    let read = operations(traced, |root| read_once(&root.join("file")))?;
    ensure!(read == ["Open", "Release"], "a cached file was read with {read:?}");
    Ok(())
}

/// What tar(1) does with a file; `at` counts them.
fn unpack(directory: &Path, at: u32) -> Result<()> {
    let new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(directory.join(format!("file {at}")))?;
    (&new).write_all(b"content")?;
    new.set_times(fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH))?;
    std::os::unix::fs::fchown(&new, Some(1000), Some(1000))?;
    new.set_permissions(Permissions::from_mode(0o644))?;
    Ok(())
}

/// Requests that the kernel could not do without: LOOKUP and CREATE; GETXATTR of security.capability
/// before WRITE and before a SETATTR of the owner, since it keeps no attributes; three SETATTRs;
/// RELEASE; and GETATTR of the directory for the next walk into it, whose mode the kernel takes for
/// changed with its content (until Linux 6.18 at least).
fn unpacked(traced: &Traced) -> Result<()> {
    const FILES: u32 = 20;
    const EACH: [(&str, usize); 7] = [
        ("Lookup", 1),
        ("Create", 1),
        ("Write", 1),
        ("Getattr", 1),
        ("Getxattr", 2),
        ("Setattr", 3),
        ("Release", 1),
    ];
    let asked = operations(traced, |root| {
        let directory = root.join("unpacked");
        fs::create_dir(&directory)?;
        (0..FILES).try_for_each(|at| unpack(&directory, at))
    })?;
    // The directory's own, and FLUSH, which is refused once.
    let once = 5;
    let files = usize::try_from(FILES)?;
    for (name, each) in EACH {
        let count = asked.iter().filter(|asked| *asked == name).count();
        ensure!(count <= each * files + once, "{count} {name} for {files} files");
    }
    let total: usize = EACH.iter().map(|(_, each)| each).sum();
    ensure!(asked.len() <= total * files + once, "{} for {files} files: {asked:?}", asked.len());
    Ok(())
}

fn cold(traced: &Traced, list: fn(&Path) -> Result<()>) -> Result<()> {
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
    connection::show()?;
    Connection::of(&traced.root)?.abort()?;
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
    let server = Product::get()?.server_running()?;
    let server = Pid::from_raw(i32::try_from(server)?).context("pid")?;
    rustix::process::kill_process(server, Signal::TERM)?;
    logged(traced, "asked to stop, but the file system is still mounted")?;
    ensure!(fs::read(traced.root.join("file"))? == b"content");
    Ok(())
}
