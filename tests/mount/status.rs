//! `fuse4fs status`: what it says of mounts, to whom, and what no server can make it do.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_protocol::{Status, Text};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::uring::Parameter;
use fuse4fs_tests::{command, fuzz, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::exposition::samples;
use crate::liar::{self, Lie};

const RECIPE: Recipe =
    Recipe { name: "status", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
const FILES: u64 = 20;
/// What the program may take when a server is silent: its own patience, and a slow machine.
const LIMIT: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("over /dev/fuse, counts move with what is asked", || counted("N", "off")),
        trial::test("over rings, counts move with what is asked", || counted("Y", "on")),
        trial::test("what is in memory is a hit", hits),
        trial::test("damage is counted, and who and where it was", damage),
        trial::test("each key of the JSON is in the manual", keys),
        trial::test("lines for Prometheus are of its grammar", grammar),
        trial::test("--all has each file system once, with all its mounts", all),
        trial::test("a server that is stopped costs seconds, and its mount alone", stopped),
        trial::test("an ordinary user may ask", ordinary_user),
        trial::test("what is no mount of ours is refused with 2", no_mount),
        trial::test("no lie of a server gets to a terminal, or to who reads the figures", lies),
    ]
}

/// A fresh image, mounted in a directory of its own.
struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
    mounted: Option<Mounted>,
}

impl Scene {
    fn new(options: &str) -> Result<Self> {
        let mut scene = Self::unmounted()?;
        let image = RECIPE.make(scene.directory.path())?;
        scene.mounted = Some(scene.product.mount(&image, &scene.root(), options)?);
        Ok(scene)
    }

    fn unmounted() -> Result<Self> {
        let product = Product::get()?;
        let directory = tempfile::tempdir()?;
        let scene = Self { product, directory, mounted: None };
        fs::create_dir(scene.root())?;
        Ok(scene)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mnt")
    }

    fn ask(&self, arguments: &[&str]) -> Result<Output> {
        command::run(Command::new(self.product.user_program()).arg("status").args(arguments))
    }

    /// What it says of the mount, in these words.
    fn said(&self, arguments: &[&str]) -> Result<String> {
        let root = self.root();
        let arguments = [&[root.to_str().context("path")?], arguments].concat();
        let output = self.ask(&arguments)?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(output.status.success() && output.stderr.is_empty(), "{}: {said}", output.status);
        Ok(said)
    }

    fn status(&self) -> Result<Value> {
        let all: Value = serde_json::from_str(&self.said(&["--json"])?)?;
        let [mount] = &all["mounts"].as_array().context("mounts")?[..] else {
            anyhow::bail!("not one mount: {all}")
        };
        ensure!(mount["error"].is_null(), "{mount}");
        Ok(mount["status"].clone())
    }

    fn end(self) -> Result<()> {
        self.mounted.map_or(Ok(()), Mounted::unmount)
    }
}

fn number(value: &Value) -> Result<u64> {
    value.as_u64().with_context(|| format!("{value} is no number"))
}

/// How often there was a request of that name, and how often that failed.
fn operation(status: &Value, name: &str) -> Result<(u64, u64)> {
    let all = status["operations"].as_array().context("operations")?;
    let Some(found) = all.iter().find(|operation| operation["name"] == name) else {
        return Ok((0, 0));
    };
    ensure!(number(&found["nanoseconds"])? > 0 && number(&found["p50"])? <= number(&found["p99"])?);
    Ok((number(&found["count"])?, number(&found["errors"])?))
}

fn counted(enabled: &str, ring: &str) -> Result<()> {
    let parameter = Parameter::set(enabled)?;
    let scene = Scene::new(&format!("rw,io_uring={ring}"))?;
    let before = scene.status()?;
    drop(parameter);
    ensure!(before["server"]["io_uring"] == (ring == "on"), "{before}");
    ensure!(before["server"]["pid"] == scene.product.server_running()?, "{before}");
    for number in 0..FILES {
        fs::write(scene.root().join(format!("file-{number}")), "content")?;
    }
    for number in 0..FILES {
        let absent = scene.root().join(format!("no-{number}")).symlink_metadata();
        ensure!(absent.is_err());
        rustix::fs::removexattr(scene.root().join("file-0"), "user.no").err().context("removed")?;
    }
    command::sh("sync", ["-f".as_ref(), scene.root().as_os_str()])?;
    let after = scene.status()?;
    let moved = |name| anyhow::Ok(operation(&after, name)?.0 - operation(&before, name)?.0);
    ensure!(moved("create")? == FILES && moved("write")? == FILES, "{after}");
    ensure!(moved("lookup")? >= FILES && moved("syncfs")? >= 1, "{after}");
    ensure!(operation(&after, "removexattr")? == (FILES, FILES), "{after}");
    let filesystem = |status: &Value| status["filesystem"].clone();
    let (was, is) = (filesystem(&before), filesystem(&after));
    ensure!(is["writable"] == true && is["shut_down"] == false && is["label"] == "fuse4fs test");
    ensure!(number(&is["journal"]["commits"])? > number(&was["journal"]["commits"])?, "{is}");
    ensure!(number(&is["journal"]["logged_blocks"])? > 0 && is["errors"]["count"] == 0, "{is}");
    ensure!(number(&is["dirty_blocks"])? > 0, "what was synced is in the log only: {is}");
    scene.end()
}

fn hits() -> Result<()> {
    let scene = Scene::new("ro")?;
    let walk = || command::sh("ls", ["-laR".as_ref(), scene.root().as_os_str()]).map(drop);
    walk()?;
    let first = scene.status()?;
    // The kernel forgets what it knows, so that the server is asked again.
    fs::write("/proc/sys/vm/drop_caches", "2")?;
    walk()?;
    let second = scene.status()?;
    let of = |status: &Value, what: &str| number(&status["filesystem"]["cache"][what]);
    ensure!(of(&second, "hits")? > of(&first, "hits")?, "{second}");
    ensure!(of(&second, "misses")? == of(&first, "misses")?, "{second}");
    ensure!(of(&second, "bytes")? <= of(&second, "budget")?, "{second}");
    ensure!(second["filesystem"]["journal"].is_null(), "{second}");
    scene.end()
}

fn damage() -> Result<()> {
    host::need_program("debugfs")?;
    let mut scene = Scene::unmounted()?;
    let image = RECIPE.make(scene.directory.path())?;
    let debugfs = |request: &str| {
        command::sh("debugfs", ["-w".as_ref(), "-R".as_ref(), request.as_ref(), image.as_os_str()])
    };
    debugfs("mkdir damaged")?;
    let block: u64 = debugfs("blocks damaged")?.trim().parse()?;
    let file = fs::File::options().write(true).open(&image)?;
    file.write_all_at(&[0xff; 4096], block * 4096)?;
    scene.mounted = Some(scene.product.mount(&image, &scene.root(), "rw,errors=continue")?);
    ensure!(scene.status()?["filesystem"]["errors"]["count"] == 0);
    let damaged = scene.root().join("damaged");
    ensure!(fs::read_dir(&damaged).and_then(Iterator::collect::<std::io::Result<Vec<_>>>).is_err());
    let errors = scene.status()?["filesystem"]["errors"].clone();
    ensure!(number(&errors["count"])? >= 1, "{errors}");
    ensure!(
        errors["first"]["block"] == block && number(&errors["first"]["inode"])? > 2,
        "{errors}"
    );
    let table = scene.said(&[])?;
    ensure!(table.contains(&format!("block {block}")) && table.contains(" ago: "), "{table}");
    scene.end()
}

/// The keys of `value` and of all that is in it.
fn keys_of(value: &Value, keys: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                keys.insert(key.clone());
                keys_of(value, keys);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| keys_of(value, keys)),
        _ => {}
    }
}

fn keys() -> Result<()> {
    const MANUAL: &str = include_str!("../../docs/fuse4fs.1");
    let scene = Scene::new("rw")?;
    fs::write(scene.root().join("file"), "content")?;
    let mut keys = BTreeSet::new();
    keys_of(&serde_json::from_str(&scene.said(&["--json"])?)?, &mut keys);
    // Where there is damage only.
    keys.extend(["time", "inode", "block", "code", "what"].map(str::to_owned));
    ensure!(keys.len() > 40, "{keys:?}");
    for key in keys {
        let told = MANUAL.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        ensure!(told.into_iter().any(|word| word == key), "{key} is not in fuse4fs(1)");
    }
    scene.end()
}

fn grammar() -> Result<()> {
    let scene = Scene::new("rw")?;
    fs::write(scene.root().join("file"), "content")?;
    let samples = samples(&scene.said(&["--prometheus"])?)?;
    let root = scene.root().display().to_string();
    ensure!(samples.iter().all(|sample| sample.labels["mountpoint"] == root));
    let of = |name: &str| {
        let found = samples.iter().filter(|sample| sample.name == name);
        found.map(|sample| (&sample.labels, sample.value)).collect::<Vec<_>>()
    };
    ensure!(of("fuse4fs_up")[0].1 == 1.0 && of("fuse4fs_filesystem_errors")[0].1 == 0.0);
    let duration = "fuse4fs_operation_duration_seconds";
    for (labels, count) in of(&format!("{duration}_count")) {
        let operation = &labels["operation"];
        let buckets = of(&format!("{duration}_bucket"));
        let buckets = buckets.iter().filter(|(labels, _)| &labels["operation"] == operation);
        let mut last = (f64::NEG_INFINITY, 0.0);
        for (labels, value) in buckets {
            let end: f64 = labels["le"].parse()?;
            ensure!(end > last.0 && *value >= last.1, "{operation}: {last:?}, {end}, {value}");
            last = (end, *value);
        }
        ensure!(last == (f64::INFINITY, count), "{operation}: {last:?}, {count}");
    }
    ensure!(of(&format!("{duration}_count")).iter().any(|(it, _)| it["operation"] == "create"));
    scene.end()
}

fn all() -> Result<()> {
    let (one, two) = (Scene::new("rw")?, Scene::new("ro")?);
    let again = one.directory.path().join("again \u{e9}");
    fs::create_dir(&again)?;
    command::sh("mount", ["--bind".as_ref(), one.root().as_os_str(), again.as_os_str()])?;
    let again = Mounted::adopt(&again);
    // Others may be mounted on the machine, and may not answer.
    for arguments in [&["--json"][..], &["--all", "--json"]] {
        let all: Value = serde_json::from_slice(&one.ask(arguments)?.stdout)?;
        let places = |mount: &Value| {
            let points = mount["mountpoints"].as_array().cloned().unwrap_or_default();
            points.iter().filter_map(Value::as_str).map(PathBuf::from).collect::<Vec<_>>()
        };
        let mounts = all["mounts"].as_array().context("mounts")?;
        let of = |root: PathBuf| mounts.iter().filter(move |it| places(it).contains(&root));
        ensure!(of(two.root()).count() == 1, "{all}");
        let [both] = of(one.root()).collect::<Vec<_>>()[..] else { anyhow::bail!("{all}") };
        ensure!(places(both) == [one.root(), again.path().to_owned()], "{both}");
        ensure!(both["status"]["filesystem"]["writable"] == true, "{both}");
    }
    // By any path in it.
    let inside = again.path().join("lost+found").display().to_string();
    let output = one.ask(&[&inside])?;
    let said = String::from_utf8(output.stdout)?;
    ensure!(output.status.success() && said.contains("again \u{e9}"), "{said}");
    again.unmount()?;
    two.end()?;
    one.end()
}

fn stopped() -> Result<()> {
    // Rings cannot be stopped: see `server/src/sandbox/syscalls.rs`.
    let (silent, other) = (Scene::new("rw,io_uring=off")?, Scene::new("rw")?);
    let silent_pid = number(&silent.status()?["server"]["pid"])?;
    let pid = Pid::from_raw(i32::try_from(silent_pid)?).context("pid")?;
    kill_process(pid, Signal::STOP)?;
    let begin = Instant::now();
    let root = silent.root().display().to_string();
    let inside = silent.root().join("never looked up").display().to_string();
    let ask = || {
        let (alone, inside) = (silent.ask(&[&root])?, silent.ask(&[&inside])?);
        anyhow::Ok((alone, inside, silent.ask(&["--all"])?))
    };
    let asked = ask();
    kill_process(pid, Signal::CONT)?;
    let (alone, inside, all) = asked?;
    // Each of them has its own patience.
    ensure!(begin.elapsed() < LIMIT * 3, "{:?}", begin.elapsed());
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    for output in [&alone, &inside] {
        ensure!(output.status.code() == Some(1), "{output:?}");
        ensure!(said(output).contains("its server does not answer within 5 s"), "{output:?}");
    }
    ensure!(all.status.code() == Some(1), "{all:?}");
    let blocks = said(&all);
    let of = |root: &Path| blocks.split("\n\n").find(|it| it.contains(&root.display().to_string()));
    ensure!(of(&silent.root()).is_some_and(|it| it.contains("does not answer")), "{blocks}");
    ensure!(of(&other.root()).is_some_and(|it| it.contains("read-write")), "{blocks}");
    // It goes on.
    silent.status()?;
    other.end()?;
    silent.end()
}

fn ordinary_user() -> Result<()> {
    host::need_program("setpriv")?;
    let scene = Scene::new("rw")?;
    std::os::unix::fs::chown(scene.directory.path(), Some(65534), None)?;
    let ask = || {
        let mut program = Command::new("setpriv");
        program.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command::run(program.arg(scene.product.user_program()).arg("status").arg(scene.root()))
    };
    let output = ask()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success() && said.contains("read-write"), "{output:?}");
    // Who may not read the root may not ask.
    command::sh("chmod", ["700".as_ref(), scene.root().as_os_str()])?;
    let output = ask()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(1) && said.contains("permission denied"), "{output:?}");
    scene.status()?;
    scene.end()
}

fn no_mount() -> Result<()> {
    let scene = Scene::unmounted()?;
    let root = scene.root().display().to_string();
    for arguments in [&[root.as_str()][..], &["/no/such/path"], &["--nonsense"], &["/", "--all"]] {
        let output = scene.ask(arguments)?;
        ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr)?;
        ensure!(said.lines().count() == 1 && said.starts_with("fuse4fs status: "), "{said}");
    }
    Ok(())
}

/// What a server says, and what is to be said of it then.
fn lie_and_word() -> Result<Vec<(Lie, &'static str)>> {
    let honest = fuzz::status()?;
    let bytes = honest.to_bytes()?;
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        Ok(bytes)
    };
    let label = bytes.windows(5).position(|window| window == b"label").context("label")?;
    Ok(vec![
        (Ok(bytes.clone()), "ext4 07070707-"),
        (changed(1, 9), "in version 9"),
        (changed(3, bytes[3] ^ 0x80), "nonsense"),
        (changed(label, 0x1b), "nonsense"),
        (Ok(Vec::new()), "in version 0"),
        (Ok(vec![0xff; 16_000]), "nonsense"),
        (Err(Errno::NOTTY), "does not tell"),
        (Err(Errno::NOSYS), "does not tell"),
        (Err(Errno::ACCESS), "permission denied"),
    ])
}

fn lies() -> Result<()> {
    for (lie, word) in lie_and_word()? {
        let shown = format!("{word}: {:?}", lie.as_ref().map(Vec::len));
        let scene = lying(lie)?;
        let output = scene.ask(&[&scene.root().display().to_string()])?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(said.contains(word), "{shown}: {said}");
        ensure!(output.status.code() == Some(i32::from(word != "ext4 07070707-")), "{shown}");
        scene.end()?;
    }
    // All texts that get through, in all forms.
    let hostile = Text::lossy("\u{202e}a\"} 1\\\u{7f}\u{9b}31m\n");
    let mut status: Status = fuzz::status()?;
    status.device = hostile.clone();
    status.server.version = hostile.clone();
    status.filesystem.label = hostile.clone();
    status.filesystem.features = hostile.clone();
    status.filesystem.options = hostile;
    let scene = lying(Ok(status.to_bytes()?))?;
    for form in [&[][..], &["--json"], &["--prometheus"]] {
        let said = scene.said(form)?;
        let bad = |c: char| c != '\n' && c.is_control() || c == '\u{202e}';
        ensure!(!said.contains(bad), "{said:?}");
    }
    samples(&scene.said(&["--prometheus"])?)?;
    // Nobody else's mounts are asked unless they are named.
    let all = String::from_utf8(scene.ask(&["--all"])?.stdout)?;
    ensure!(!all.contains(&scene.root().display().to_string()), "{all}");
    scene.end()
}

fn lying(lie: Lie) -> Result<Scene> {
    let mut scene = Scene::unmounted()?;
    scene.mounted = Some(liar::mount(&scene.root(), lie, 1000)?);
    Ok(scene)
}
