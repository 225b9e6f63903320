//! One image, one server; and nothing of it after umount.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use fuse4fs_tests::product::{Product, loops_below};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

const ROUNDS: usize = 50;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("the same image mounted twice has one server", || twice("image.img")),
        trial::test("an image and its hard link have one server", || twice("link.img")),
        trial::test("two mounts of one image at once have one server", two_at_once),
        trial::test(
            "after umount returns there is no loop device, fifty times",
            umount_is_complete,
        ),
        trial::test(
            "the source of an image file's mount is its loop device",
            the_source_is_the_loop,
        ),
        trial::test("a block device is mounted under its own name", a_device_keeps_its_name),
    ]
}

struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
}

fn scene() -> Result<Scene> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let path = |name: &str| directory.path().join(name);
    std::fs::rename(Golden::named("ext4-4k-i512")?.unpack(directory.path())?, path("image.img"))?;
    std::fs::hard_link(path("image.img"), path("link.img"))?;
    for mountpoint in ["a", "b"] {
        std::fs::create_dir(path(mountpoint))?;
    }
    Ok(Scene { product, directory })
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn expect_one_server(&self) -> Result<()> {
        let servers = self.product.servers()?;
        ensure!(servers.len() == 1, "servers: {servers:?}");
        let loops = loops_below(self.directory.path())?;
        ensure!(loops.len() == 1, "loop devices: {loops:?}");
        Ok(())
    }

    fn expect_nothing(&self) -> Result<()> {
        let loops = loops_below(self.directory.path())?;
        ensure!(loops.is_empty(), "loop devices: {loops:?}");
        // The process of a server may be ending still; it holds nothing any more.
        for _ in 0..100 {
            if self.product.servers()?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        anyhow::bail!("servers: {:?}", self.product.servers()?)
    }
}

fn twice(second: &str) -> Result<()> {
    let scene = scene()?;
    let first = scene.product.mount(&scene.path("image.img"), &scene.path("a"), "ro")?;
    let second = scene.product.mount(&scene.path(second), &scene.path("b"), "ro")?;
    scene.expect_one_server()?;
    first.unmount()?;
    ensure!(second.path().join("edges/s1").exists(), "the second mount went with the first");
    scene.expect_one_server()?;
    second.unmount()?;
    scene.expect_nothing()
}

fn two_at_once() -> Result<()> {
    for _ in 0..10 {
        let scene = scene()?;
        let (first, second) = std::thread::scope(|scope| {
            let mount =
                |at: &str| scene.product.mount(&scene.path("image.img"), &scene.path(at), "ro");
            let other = scope.spawn(move || mount("b"));
            (mount("a"), other.join())
        });
        let second = second.map_err(|_| anyhow::anyhow!("panicked"))?;
        let (first, second) = (first?, second?);
        scene.expect_one_server()?;
        first.unmount()?;
        second.unmount()?;
        scene.expect_nothing()?;
    }
    Ok(())
}

fn umount_is_complete() -> Result<()> {
    let scene = scene()?;
    for round in 0..ROUNDS {
        let mounted = scene.product.mount(&scene.path("image.img"), &scene.path("a"), "ro")?;
        if round % 2 == 0 {
            std::fs::read(mounted.path().join("data/plain"))?;
        }
        mounted.unmount()?;
        let mut losetup = Command::new("losetup");
        let left = command::succeed(losetup.arg("-j").arg(scene.path("image.img")))?;
        ensure!(left.is_empty(), "after round {round}: {left}");
    }
    scene.expect_nothing()
}

fn source_of(mountpoint: &Path) -> Result<String> {
    let source =
        command::sh("findmnt", [Path::new("-no"), Path::new("SOURCE,FSTYPE"), mountpoint])?;
    Ok(source.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn the_source_is_the_loop() -> Result<()> {
    let scene = scene()?;
    let mounted = scene.product.mount(&scene.path("image.img"), &scene.path("a"), "ro")?;
    let source = source_of(mounted.path())?;
    let device = loops_below(scene.directory.path())?.join("");
    let device = device.split_whitespace().next().unwrap_or_default();
    ensure!(source == format!("{device} fuseblk.fuse4fs"), "{source}, not {device}");
    mounted.unmount()
}

fn a_device_keeps_its_name() -> Result<()> {
    let scene = scene()?;
    let mut losetup = Command::new("losetup");
    losetup.args(["--find", "--show", "--read-only"]).arg(scene.path("image.img"));
    let device = command::succeed(&mut losetup)?.trim().to_owned();
    let looked = look_at_device(&scene, &device);
    command::sh("losetup", ["--detach", &device])?;
    looked?;
    scene.expect_nothing()
}

fn look_at_device(scene: &Scene, device: &str) -> Result<()> {
    let mounted = scene.product.mount(Path::new(device), &scene.path("a"), "ro")?;
    let source = source_of(mounted.path())?;
    ensure!(source == format!("{device} fuseblk.fuse4fs"), "{source}, not {device}");
    mounted.unmount()
}
