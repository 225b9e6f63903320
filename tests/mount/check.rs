//! `fuse4fs check`: whether it tells what a mount would say, and leaves the device as it is.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::attached::Attached;
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::shared::{self, Golden};
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

use crate::containment;

const READ_WRITE: i32 = 0;
const READ_ONLY: i32 = 1;
const UNMOUNTABLE: i32 = 2;
const TROUBLE: i32 = 16;

const REPLAYED: &str = "It can be mounted read-write. That replays its journal.";

/// Golden images and what is said of them.
const GOLDEN: &[(&str, &[&str])] = &[
    ("ext2-1k", &["ext2 ", "none", "It can be mounted read-write."]),
    ("ext4-4k-i512", &["ext4 ", "internal, clean", "It can be mounted read-write."]),
    ("ext4-casefold", &["ignore case", "It can be mounted read-write."]),
    ("ext4-mmp", &["nobody has it (multiple mount protection)", "It can be mounted read-write."]),
    ("ext4-quota-project", &["users, groups, projects", "It can be mounted read-write."]),
    ("dj-ext3-1k-revoke", &["ext3 ", REPLAYED]),
    ("dj-ext4-1k-fc", &[" fast commits", REPLAYED]),
    ("dj-ext4-1k-orphans", &[" files to be deleted, ", REPLAYED]),
    ("dj-ext4-4k-v3-multi", &["not unmounted in order", REPLAYED]),
];

/// Hostile images, of which each gets a verdict.
const HOSTILE: &[&str] = &[
    "craft_gd_badcsum",
    "craft_jnl_commit_mid_badcsum",
    "craft_jnl_desc_badcsum",
    "craft_jnl_sb_badcsum",
    "craft_mmp_blkmax",
    "e2fs_m_mmp_bad_magic",
];

/// How long a verdict may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let golden = GOLDEN
        .iter()
        .map(|(name, parts)| trial::test(format!("check tells of {name}"), || told(name, parts)));
    let hostile = HOSTILE
        .iter()
        .map(|name| trial::test(format!("check has a verdict on {name}"), || is_judged(name)));
    let others = [
        trial::test("check refuses what no mount takes", what_cannot_be_mounted),
        trial::test("check says what only forbids to write", a_feature_to_read_only),
        trial::test("check finds a file system inside an image", inside_an_image),
        trial::test("check looks at what is mounted", a_mounted_one),
        trial::test("check asks for a journal that is elsewhere", a_journal_elsewhere),
        trial::test("an ordinary user checks an image", by_a_user),
        trial::test("the server of a check is contained and has the device alone", contained),
        trial::test("a check whose server is killed has no verdict", without_a_server),
        trial::test("check has no verdict without a device", without_a_device),
    ];
    golden.chain(hostile).chain(others).collect()
}

struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
    image: PathBuf,
}

fn scene(golden: &str) -> Result<Scene> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let image = Golden::named(golden)?.unpack(directory.path())?;
    Ok(Scene { product, directory, image })
}

impl Scene {
    /// What is said with exit code `exit`, of an image that is the same afterwards.
    fn check(&self, options: &[&str], exit: i32) -> Result<String> {
        let before = std::fs::read(&self.image)?;
        let traces = Traces::now(self.product, self.directory.path())?;
        let said = said(&run(self.product, &self.image, options)?, exit)?;
        ensure!(std::fs::read(&self.image)? == before, "the image was changed");
        traces.expect_unchanged(self.product, self.directory.path())?;
        Ok(said)
    }

    fn edit(&self, byte: u8, at: u64) -> Result<()> {
        Ok(OpenOptions::new().write(true).open(&self.image)?.write_all_at(&[byte], at)?)
    }
}

fn run(product: &Product, source: &Path, options: &[&str]) -> Result<Output> {
    let mut check = Command::new(product.user_program());
    check.arg("check").arg(source).args(["-o", "server=spawn"]).args(options);
    let start = Instant::now();
    let output = command::run(&mut check)?;
    ensure!(start.elapsed() < PATIENCE, "it took {:?}", start.elapsed());
    Ok(output)
}

fn said(output: &Output, exit: i32) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(exit), "{}: {said}{errors}", output.status);
    Ok(said)
}

fn expect(said: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(said.contains(part), "no \"{part}\" in: {said}");
    }
    Ok(())
}

fn told(name: &str, parts: &[&str]) -> Result<()> {
    let scene = scene(name)?;
    let said = scene.check(&[], READ_WRITE)?;
    expect(&said, parts)?;
    let json: serde_json::Value = serde_json::from_str(&scene.check(&["--json"], READ_WRITE)?)?;
    ensure!(json["verdict"]["mount"] == "read-write" && json["format"] == 1, "{json}");
    let transactions = json["filesystem"]["journal"]["transactions"].as_u64();
    ensure!(transactions.is_some() == name.starts_with("dj-"), "{json}");
    if let Some(count) = transactions {
        expect(&said, &[&format!("needs recovery: {count} transaction")])?;
    }
    Ok(())
}

/// A verdict and no accident; the same as that of a mount for reading.
fn is_judged(name: &str) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let packed = shared::directory().join("corpus/images").join(format!("{name}.img.zst"));
    if !packed.exists() {
        return trial::skip(format!("no {}", packed.display()));
    }
    let image = directory.path().join("image");
    shared::unpack(&packed, &image)?;
    let before = std::fs::read(&image)?;
    let output = run(product, &image, &[])?;
    let code = output.status.code();
    ensure!(code.is_some_and(|code| code <= UNMOUNTABLE), "{output:?}");
    ensure!(std::fs::read(&image)? == before, "the image was changed");
    let point = directory.path().join("mnt");
    std::fs::create_dir(&point)?;
    let mounts = product.try_mount(&image, &point, "ro")?.status.success();
    if mounts {
        Mounted::adopt(&point).unmount()?;
    }
    ensure!(mounts == (code != Some(UNMOUNTABLE)), "{output:?}, but a mount says {mounts}");
    Ok(())
}

fn what_cannot_be_mounted() -> Result<()> {
    let scene = scene("ext2-1k")?;
    scene.edit(0x80, 1024 + 0x63)?;
    let said = scene.check(&[], UNMOUNTABLE)?;
    expect(&said, &["ext4 ", "unknown ", "0x80000000", "It cannot be mounted: uses features"])?;
    std::fs::write(&scene.image, vec![0; 1 << 20])?;
    let said = scene.check(&[], UNMOUNTABLE)?;
    expect(&said, &["no ext2, ext3 or ext4", "It cannot be mounted: not an ext2"])
}

fn a_feature_to_read_only() -> Result<()> {
    let scene = scene("ext2-1k")?;
    scene.edit(0x80, 1024 + 0x67)?;
    let said = scene.check(&[], READ_ONLY)?;
    expect(&said, &["only read", "0x80000000", "It can be mounted read-only, and becomes so by"])
}

fn inside_an_image() -> Result<()> {
    let scene = scene("ext2-1k")?;
    let inner = std::fs::read(&scene.image)?;
    std::fs::write(&scene.image, [vec![0xa5; 1 << 20], inner, vec![0xa5; 5000]].concat())?;
    scene.check(&[], UNMOUNTABLE)?;
    let said = scene.check(&["-o", "offset=1M"], READ_WRITE)?;
    expect(&said, &["ext2 "])?;
    let said = scene.check(&["-o", "offset=1M,sizelimit=4k"], UNMOUNTABLE)?;
    expect(&said, &["cut short"])
}

fn a_mounted_one() -> Result<()> {
    let scene = scene("ext4-4k-i512")?;
    let point = scene.directory.path().join("mnt");
    std::fs::create_dir(&point)?;
    let mounted = Mounted::kernel(&scene.image, &point, "rw")?;
    let device = command::sh("findmnt", [Path::new("-no"), Path::new("SOURCE"), &point])?;
    for source in [Path::new(device.trim()), &scene.image] {
        let said = said(&run(scene.product, source, &[])?, READ_WRITE)?;
        expect(&said, &["mounted now", &point.display().to_string(), "not seen here"])?;
    }
    std::fs::write(point.join("new"), "still writable")?;
    mounted.unmount()
}

fn a_journal_elsewhere() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let (journal, image) = (directory.path().join("journal"), directory.path().join("image"));
    let make = |options: &[&str], path: &Path| {
        let mut mke2fs = Command::new("mke2fs");
        command::succeed(mke2fs.args(["-q", "-F", "-b", "1024"]).args(options).arg(path).arg("8M"))
    };
    make(&["-O", "journal_dev"], &journal)?;
    let attached = Attached::new(journal)?;
    make(&["-t", "ext4", "-J", &format!("device={}", attached.path.display())], &image)?;
    let scene = Scene { product, directory, image };
    let elsewhere = ["on another device, ", "It can be mounted read-only, with -o ro: "];
    expect(&scene.check(&[], READ_ONLY)?, &elsewhere)?;
    let given = format!("journal_path={}", attached.path.display());
    expect(&scene.check(&["-o", &given], READ_WRITE)?, &["on another device, ", ", clean"])?;
    let wrong = format!("journal_path={}", scene.image.display());
    expect(&scene.check(&["-o", &wrong], UNMOUNTABLE)?, &["it is not a journal"])
}

fn by_a_user() -> Result<()> {
    const NOBODY: u32 = 65534;
    host::need_program("setpriv")?;
    let scene = scene("ext4-4k-i512")?;
    std::fs::set_permissions(scene.directory.path(), PermissionsExt::from_mode(0o755))?;
    let check = |exit| {
        let mut check = Command::new("setpriv");
        check.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        check.arg(scene.product.user_program()).arg("check").arg(&scene.image);
        said(&command::run(&mut check)?, exit)
    };
    std::fs::set_permissions(&scene.image, PermissionsExt::from_mode(0o600))?;
    check(TROUBLE)?;
    std::fs::set_permissions(&scene.image, PermissionsExt::from_mode(0o644))?;
    expect(&check(READ_ONLY)?, &["It can be mounted read-only: ", "write-protected"])?;
    chown(&scene.image, Some(NOBODY), Some(NOBODY)).context("chown")?;
    expect(&check(READ_WRITE)?, &["It can be mounted read-write."])
}

/// A check that takes seconds, by the server's test hook.
fn slow(directory: &Path) -> Result<(PathBuf, Child)> {
    let recipe = Recipe { name: "slow", mke2fs: "-t ext4 -L hold:4", tune2fs: "", options: "" };
    let image = recipe.make(directory)?;
    let mut check = Command::new(Product::get()?.user_program());
    check.arg("check").arg(&image).args(["-o", "server=spawn"]).stdin(Stdio::null());
    let child = check.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    Ok((image, child))
}

/// The process of its server, once that is confined.
fn server() -> Result<PathBuf> {
    let product = Product::get()?;
    for _ in 0..200 {
        if let [pid] = product.servers()?[..] {
            let process = Path::new("/proc").join(pid.to_string());
            let status = containment::status(&process)?;
            if status.get("Seccomp_filters").is_some_and(|filters| filters == "3") {
                return Ok(process);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("no server was confined: {:?}", product.servers()?)
}

fn contained() -> Result<()> {
    Product::get()?;
    let directory = tempfile::tempdir()?;
    let (image, child) = slow(directory.path())?;
    let looked = server().and_then(|process| look(&process, &image));
    let output = command::wait(child, PATIENCE)?;
    looked?;
    expect(&said(&output, READ_WRITE)?, &["hold:4", "It can be mounted read-write."])
}

fn look(process: &Path, image: &Path) -> Result<()> {
    for entry in std::fs::read_dir(process.join("task"))? {
        let status = containment::status(&entry?.path())?;
        for (name, value) in [("Seccomp", "2"), ("NoNewPrivs", "1"), ("CapEff", "0000000000000000")]
        {
            ensure!(status.get(name).is_some_and(|it| it == value), "{name}: {status:?}");
        }
    }
    let mut devices = 0;
    for entry in std::fs::read_dir(process.join("fd"))? {
        let entry = entry?;
        let number = entry.file_name().to_string_lossy().into_owned();
        let target = std::fs::read_link(entry.path())?;
        if target == image {
            devices += 1;
            let info = std::fs::read_to_string(process.join("fdinfo").join(&number))?;
            ensure!(containment::is_read_only(&info)?, "it can be written: {info}");
        } else {
            let is_known =
                target.to_string_lossy().starts_with("socket:") || target == Path::new("/dev/null");
            ensure!(is_known, "descriptor {number} is {}", target.display());
        }
    }
    ensure!(devices == 1, "the device is open {devices} times");
    Ok(())
}

fn without_a_server() -> Result<()> {
    Product::get()?;
    let directory = tempfile::tempdir()?;
    let (_, child) = slow(directory.path())?;
    let pid = server()?.file_name().context("a number")?.to_owned();
    command::sh("kill", ["-KILL".as_ref(), pid.as_os_str()])?;
    let output = command::wait(child, PATIENCE)?;
    said(&output, TROUBLE)?;
    ensure!(String::from_utf8_lossy(&output.stderr).contains("the server ended"), "{output:?}");
    Ok(())
}

fn without_a_device() -> Result<()> {
    let scene = scene("ext2-1k")?;
    let (product, directory) = (scene.product, scene.directory.path());
    for (source, options) in [
        (directory.join("absent"), &[][..]),
        (directory.to_owned(), &[]),
        (scene.image.clone(), &["-o", "frobnicate"]),
        (scene.image.clone(), &["-o", "journal_path=/absent"]),
        (scene.image.clone(), &["-o", "server=spawn:/absent"]),
    ] {
        let output = run(product, &source, options)?;
        said(&output, TROUBLE)?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(errors.trim_end().lines().count() == 1, "more than one line: {errors}");
    }
    Ok(())
}
