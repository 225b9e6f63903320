//! Bad input: one clear line, the right exit code, and nothing left behind.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::{Product, Traces};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

/// Exit codes of mount(8).
const USAGE: i32 = 1;
const FAILURE: i32 = 32;

/// A directory with a good image `good.img`, a mount point `mnt`, and whatever `prepare` adds.
struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

/// What is tried: how to prepare it, source, target and options, and what must come of it.
struct Case {
    name: &'static str,
    prepare: fn(&Scene) -> Result<()>,
    source: &'static str,
    target: &'static str,
    options: &'static str,
    exit: i32,
    says: &'static str,
}

const GOOD: Case = Case {
    name: "",
    prepare: |_| Ok(()),
    source: "good.img",
    target: "mnt",
    options: "ro",
    exit: FAILURE,
    says: "",
};

const CASES: &[Case] = &[
    Case { name: "a missing source", source: "absent", says: "no such", ..GOOD },
    Case { name: "a directory as source", source: "mnt", says: "is a directory", ..GOOD },
    Case {
        name: "an empty file",
        prepare: |scene| Ok(std::fs::write(scene.path("empty"), b"")?),
        source: "empty",
        says: "empty",
        ..GOOD
    },
    Case {
        name: "a file that is not ext4",
        prepare: |scene| Ok(std::fs::write(scene.path("zeros"), vec![0; 1 << 20])?),
        source: "zeros",
        says: "not an ext2, ext3 or ext4 file system",
        ..GOOD
    },
    Case {
        name: "a feature of the future",
        prepare: |scene| edit(scene, |file| Ok(file.write_all_at(&[0x80], 1024 + 0x63)?)),
        says: "features this version does not know",
        ..GOOD
    },
    Case {
        name: "an image cut inside its superblock",
        prepare: |scene| edit(scene, |file| Ok(file.set_len(1500)?)),
        says: "too small",
        ..GOOD
    },
    Case {
        name: "an image smaller than its superblock says",
        prepare: |scene| edit(scene, |file| Ok(file.set_len(6 << 20)?)),
        says: "cut short",
        ..GOOD
    },
    Case { name: "a missing mount point", target: "absent", says: "no such", ..GOOD },
    Case { name: "a file as mount point", target: "good.img", says: "not a directory", ..GOOD },
    Case {
        name: "an unknown option",
        options: "ro,frobnicate=1",
        exit: USAGE,
        says: "'frobnicate=1'",
        ..GOOD
    },
    Case {
        name: "a server that is not there",
        options: "ro,server=spawn:/absent",
        exit: 2,
        says: "/absent",
        ..GOOD
    },
];

pub(crate) fn trials() -> Vec<Trial> {
    let table = CASES.iter().map(|case| {
        trial::test(format!("{} is refused and leaves nothing behind", case.name), || refused(case))
    });
    let others = [
        trial::test("a device that is mounted elsewhere is busy", a_mounted_device_is_busy),
        trial::test("an image that may not be read is refused", an_unreadable_image_is_refused),
        trial::test("mount(8) passes the refusal and its exit code on", mount8_passes_it_on),
        trial::test("-s takes an unknown option", sloppy_takes_an_unknown_option),
    ];
    table.chain(others).collect()
}

fn scene() -> Result<Scene> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let image = Golden::named("ext2-1k")?.unpack(directory.path())?;
    std::fs::rename(image, directory.path().join("good.img"))?;
    std::fs::create_dir(directory.path().join("mnt"))?;
    Ok(Scene { product, directory })
}

fn edit(scene: &Scene, change: fn(&std::fs::File) -> Result<()>) -> Result<()> {
    change(&OpenOptions::new().write(true).open(scene.path("good.img"))?)
}

fn refused(case: &Case) -> Result<()> {
    let scene = scene()?;
    (case.prepare)(&scene)?;
    let (product, directory) = (scene.product, scene.directory.path());
    let before = Traces::now(product, directory)?;
    let (source, target) = (scene.path(case.source), scene.path(case.target));
    expect(&product.try_mount(&source, &target, case.options)?, case.exit, case.says)?;
    before.expect_unchanged(product, directory)
}

/// One line on stderr, nothing on stdout.
fn expect(output: &Output, exit: i32, says: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(exit), "{}, expected {exit}: {said}", output.status);
    ensure!(output.stdout.is_empty(), "it wrote to stdout");
    ensure!(said.to_lowercase().contains(&says.to_lowercase()), "does not say \"{says}\": {said}");
    ensure!(said.trim_end().lines().count() == 1, "more than one line: {said}");
    Ok(())
}

fn a_mounted_device_is_busy() -> Result<()> {
    let scene = scene()?;
    let elsewhere = scene.path("elsewhere");
    std::fs::create_dir(&elsewhere)?;
    let held = Mounted::kernel(&scene.path("good.img"), &elsewhere, "ro")?;
    let device = command::sh("findmnt", [Path::new("-no"), Path::new("SOURCE"), &elsewhere])?;
    let (product, directory) = (scene.product, scene.directory.path());
    let before = Traces::now(product, directory)?;
    for source in [PathBuf::from(device.trim()), scene.path("good.img")] {
        expect(&product.try_mount(&source, &scene.path("mnt"), "ro")?, FAILURE, "in use")?;
        before.expect_unchanged(product, directory)?;
    }
    held.unmount()
}

fn an_unreadable_image_is_refused() -> Result<()> {
    let scene = scene()?;
    let (product, directory) = (scene.product, scene.directory.path());
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755))?;
    std::fs::set_permissions(scene.path("good.img"), PermissionsExt::from_mode(0o600))?;
    let before = Traces::now(product, directory)?;
    let mut helper = Command::new("setpriv");
    helper.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(product.helper());
    helper.arg(scene.path("good.img")).arg(scene.path("mnt")).args(["-o", "ro"]);
    let output = command::run(&mut helper)?;
    expect(&output, FAILURE, "permission denied")?;
    before.expect_unchanged(product, directory)
}

fn mount8_passes_it_on() -> Result<()> {
    let scene = scene()?;
    std::fs::write(scene.path("zeros"), vec![0; 1 << 20])?;
    let (product, directory) = (scene.product, scene.directory.path());
    let before = Traces::now(product, directory)?;
    let mut mount = Command::new("mount");
    mount.args(["-t", "fuse4fs", "-o", "ro,server=spawn"]);
    mount.arg(scene.path("zeros")).arg(scene.path("mnt"));
    expect(&command::run(&mut mount)?, FAILURE, "not an ext2, ext3 or ext4 file system")?;
    before.expect_unchanged(product, directory)
}

fn sloppy_takes_an_unknown_option() -> Result<()> {
    let scene = scene()?;
    let mut helper = Command::new(scene.product.helper());
    helper.arg(scene.path("good.img")).arg(scene.path("mnt"));
    command::succeed(helper.args(["-s", "-o", "ro,frobnicate=1,server=spawn"]))?;
    Mounted::adopt(&scene.path("mnt")).unmount()
}
