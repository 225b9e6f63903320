//! `fuse4fs IMAGE DIR` as an ordinary user, through fusermount3.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::uring::Parameter;
use fuse4fs_tests::{command, host, trial};
use libtest_mimic::Trial;

use crate::uring;

const NOBODY: u32 = 65534;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("an ordinary user mounts an image and sees its tree", a_user_mounts_an_image),
        trial::test("a user's server has threads of the idle class", classes),
        trial::test("without fusermount3 a user is told so", without_fusermount3),
        trial::test("with fakeroot a user may do what root may", fakeroot),
        trial::test("a lock file is there while a user's mount is", lock_file),
    ]
}

struct Scene {
    product: &'static Product,
    image: PathBuf,
    mountpoint: PathBuf,
    _directory: tempfile::TempDir,
}

fn scene() -> Result<Scene> {
    let product = Product::get()?;
    host::need_program("setpriv")?;
    let directory = tempfile::tempdir()?;
    let image = Golden::named("ext4-4k-i512")?.unpack(directory.path())?;
    let mountpoint = directory.path().join("mnt");
    std::fs::set_permissions(&image, PermissionsExt::from_mode(0o644))?;
    std::fs::create_dir(&mountpoint)?;
    for path in [directory.path(), &image, &mountpoint] {
        chown(path, Some(NOBODY), Some(NOBODY))?;
    }
    Ok(Scene { product, image, mountpoint, _directory: directory })
}

fn as_nobody(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
    command
}

fn a_user_mounts_an_image() -> Result<()> {
    mounted("io_uring=auto", look)
}

fn classes() -> Result<()> {
    uring::need_groups()?;
    let _parameter = Parameter::set("Y")?;
    mounted("io_uring=on", |scene| {
        command::succeed(as_nobody("ls".as_ref()).arg(&scene.mountpoint))?;
        uring::expect_classes(&Path::new("/proc").join(scene.product.server_running()?.to_string()))
    })
}

/// Looks at a mount of a user's, which then leaves nothing behind.
fn mounted(options: &str, look: impl FnOnce(&Scene) -> Result<()>) -> Result<()> {
    host::need_program("fusermount3")?;
    let scene = scene()?;
    let mut fuse4fs = as_nobody(scene.product.user_program().as_os_str());
    fuse4fs.arg(&scene.image).arg(&scene.mountpoint).args(["-o", options]);
    let said = command::succeed(&mut fuse4fs)?;
    ensure!(said.is_empty(), "it said: {said}");
    let looked = look(&scene);
    let mut unmount = as_nobody("fusermount3".as_ref());
    command::succeed(unmount.arg("-u").arg(&scene.mountpoint))?;
    looked?;
    for _ in 0..200 {
        if scene.product.servers()?.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("its server is left: {:?}", scene.product.servers()?)
}

fn look(scene: &Scene) -> Result<()> {
    let listed = command::succeed(as_nobody("ls".as_ref()).arg(&scene.mountpoint))?;
    ensure!(listed.lines().any(|name| name == "edges"), "listed: {listed}");
    let mut cat = as_nobody("cat".as_ref());
    let read = command::succeed(cat.arg(scene.mountpoint.join("edges/s61")))?;
    ensure!(read.len() == 61, "read {} bytes", read.len());
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", scene.product.server_running()?))?;
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        ensure!(status.contains(line), "no \"{line}\" in {status}");
    }
    told(scene)
}

/// The mount answers its user, by name or not, and nobody else: not even root.
fn told(scene: &Scene) -> Result<()> {
    let program = scene.product.user_program();
    let point = scene.mountpoint.display().to_string();
    let pid = format!("process {},", scene.product.server_running()?);
    for argument in [point.as_str(), "--all"] {
        let mut own = as_nobody(program.as_os_str());
        let output = command::run(own.arg("status").arg(argument))?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(said.contains(&point) && said.contains(&pid), "{said}");
    }
    let root = command::run(Command::new(program).arg("status").arg(&point))?;
    let said = String::from_utf8_lossy(&root.stdout);
    ensure!(root.status.code() == Some(1) && said.contains("permission denied"), "{root:?}");
    Ok(())
}

fn fakeroot() -> Result<()> {
    let make = |scene: &Scene| -> Result<[bool; 2]> {
        let new = scene.mountpoint.join("new");
        let made = command::run(as_nobody("mkdir".as_ref()).arg(&new))?;
        let mut chown = as_nobody("chown".as_ref());
        let given = command::run(chown.arg("7:8").arg(scene.mountpoint.join("edges")))?;
        Ok([made.status.success(), given.status.success()])
    };
    mounted("rw", |scene| {
        ensure!(make(scene)? == [false, false], "the root is root's");
        Ok(())
    })?;
    mounted("fakeroot", |scene| {
        ensure!(make(scene)? == [true, true], "not everything is permitted");
        let edges = as_nobody("stat".as_ref())
            .args(["-c", "%u:%g"])
            .arg(scene.mountpoint.join("edges"))
            .output()?;
        ensure!(edges.stdout == b"7:8\n", "{edges:?}");
        Ok(())
    })?;
    let scene = scene()?;
    let mut mount = Command::new(scene.product.helper());
    let refused =
        command::run(mount.arg(&scene.image).arg(&scene.mountpoint).args(["-o", "fakeroot"]))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(32) && said.contains("of the program fuse4fs"), "{said}");
    Ok(())
}

fn lock_file() -> Result<()> {
    host::need_program("fusermount3")?;
    let scene = scene()?;
    let lock = scene.image.with_file_name("lock");
    let options = format!("lockfile={}", lock.display());
    let fuse4fs = |foreground: Option<&str>| {
        let mut fuse4fs = as_nobody(scene.product.user_program().as_os_str());
        fuse4fs.args(foreground).arg(&scene.image).arg(&scene.mountpoint).args(["-o", &options]);
        fuse4fs
    };
    let refused = command::run(&mut fuse4fs(None))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(said.contains("lockfile= needs -f") && !lock.exists(), "{said}");
    let mut first = fuse4fs(Some("-f")).spawn()?;
    let list = || command::run(as_nobody("ls".as_ref()).arg(&scene.mountpoint));
    let begin = Instant::now();
    while list()?.stdout.is_empty() {
        ensure!(begin.elapsed() < Duration::from_secs(20), "it is not mounted");
        std::thread::sleep(Duration::from_millis(20));
    }
    ensure!(lock.metadata()?.len() == 0, "the lock file has content");
    let refused = command::run(&mut fuse4fs(Some("-f")))?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(32) && said.contains("lock file"), "{said}");
    ensure!(lock.exists(), "it took away the lock file of another");
    command::succeed(as_nobody("fusermount3".as_ref()).arg("-u").arg(&scene.mountpoint))?;
    ensure!(first.wait()?.success() && !lock.exists(), "the lock file is left");
    Ok(())
}

fn without_fusermount3() -> Result<()> {
    let scene = scene()?;
    let mut fuse4fs = as_nobody(scene.product.user_program().as_os_str());
    fuse4fs.arg(&scene.image).arg(&scene.mountpoint);
    let fusermount = PathBuf::from("/usr/bin/fusermount3");
    let hidden = fusermount.exists();
    if hidden {
        command::sh("mount", ["--bind".as_ref(), "/dev/null".as_ref(), fusermount.as_os_str()])?;
    }
    let output = command::run(&mut fuse4fs);
    if hidden {
        command::sh("umount", [&fusermount])?;
    }
    let output = output?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success(), "it mounted");
    ensure!(said.contains("fusermount3"), "it said: {said}");
    ensure!(said.trim_end().lines().count() == 1, "more than one line: {said}");
    ensure!(scene.product.servers()?.is_empty(), "its server is left");
    Ok(())
}
