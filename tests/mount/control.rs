//! What changes a mount or an inode by ioctl, and remounts.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fuse4fs_protocol::{KEY_BYTES, KEY_XATTR, SetReadOnly};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, sys, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;

const RECIPE: Recipe = Recipe {
    name: "control",
    mke2fs: "-t ext4 -b 4096 -O quota,project",
    tune2fs: "",
    options: "rw",
};
/// Generations are parts of checksums.
const PLAIN: Recipe =
    Recipe { name: "plain", mke2fs: "-t ext4 -O ^metadata_csum", tune2fs: "", options: "rw" };

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("chattr(1) sets flags and projects, and files follow them", attributes),
        trial::test("chattr(1) changes the time that stat(1) shows", change_time),
        trial::test("a generation is set by the owner where no checksum has it", generation),
        trial::test("admin_ioctls: fstrim(8), labels and checkpoints, else EPERM", administration),
        trial::test("after a shutdown all is EIO, and the next mount has what was there", shutdown),
        trial::test("remount,ro leaves a clean file system, remount,rw writes again", remounting),
        trial::test("who cannot read the key cannot make a mount read-only", keyless),
    ]
}

/// A fresh image, mounted.
fn with_mount(
    recipe: Recipe,
    options: &str,
    check: impl FnOnce(&Path, &Path) -> Result<()>,
) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = recipe.make(directory.path())?;
    let mounted = product.mount(&image, &mountpoint, options)?;
    check(&mountpoint, &image)?;
    mounted.unmount()?;
    command::sh("e2fsck", ["-fn".as_ref(), image.as_os_str()]).context("e2fsck")?;
    Ok(())
}

fn chattr(arguments: &[&str], file: &Path) -> Result<()> {
    command::succeed(Command::new("chattr").args(arguments).arg(file)).map(drop)
}

fn is(result: std::io::Result<impl Sized>, want: Errno) -> Result<()> {
    let errno = result.err().as_ref().and_then(Errno::from_io_error);
    ensure!(errno == Some(want), "{errno:?} instead of {want:?}");
    Ok(())
}

fn attributes() -> Result<()> {
    host::need_program("chattr")?;
    with_mount(RECIPE, "rw", |root, _| {
        let file = root.join("file");
        std::fs::write(&file, "content")?;
        chattr(&["+i"], &file)?;
        is(OpenOptions::new().write(true).open(&file), Errno::PERM)?;
        is(std::fs::remove_file(&file), Errno::PERM)?;
        chattr(&["-i", "+a"], &file)?;
        is(OpenOptions::new().write(true).open(&file), Errno::PERM)?;
        std::io::Write::write_all(&mut OpenOptions::new().append(true).open(&file)?, b" more")?;
        ensure!(std::fs::read(&file)? == b"content more");
        chattr(&["-a", "+dAS"], &file)?;
        let directory = root.join("directory");
        std::fs::create_dir(&directory)?;
        chattr(&["-p", "1234", "+P"], &directory)?;
        std::fs::write(directory.join("inside"), "")?;
        let project = |path: &Path| anyhow::Ok(sys::fs_xattr(File::open(path)?)?.project);
        ensure!(project(&directory)? == 1234 && project(&directory.join("inside"))? == 1234);
        let listed = command::sh("lsattr", ["-a".as_ref(), root.as_os_str()])?;
        let line = listed.lines().find(|line| line.ends_with("/file")).context("no line")?;
        ensure!(line.starts_with("--S---dA"), "{line}");
        Ok(())
    })
}

fn change_time() -> Result<()> {
    host::need_program("chattr")?;
    with_mount(RECIPE, "rw", |root, _| {
        let file = root.join("file");
        std::fs::write(&file, "")?;
        let time = |metadata: std::fs::Metadata| (metadata.ctime(), metadata.ctime_nsec());
        let before = time(file.metadata()?);
        chattr(&["+d"], &file)?;
        ensure!(time(file.metadata()?) > before, "stat shows what was before chattr");
        Ok(())
    })
}

fn generation() -> Result<()> {
    with_mount(PLAIN, "rw,admin_ioctls", |root, _| {
        let file = root.join("file");
        std::fs::write(&file, "")?;
        sys::set_version(File::open(&file)?, 4711)?;
        ensure!(sys::version(File::open(&file)?)? == 4711);
        Ok(())
    })?;
    with_mount(RECIPE, "rw,admin_ioctls", |root, _| {
        let refused = sys::set_version(File::open(root)?, 4711);
        ensure!(refused == Err(Errno::NOTTY), "{refused:?}");
        Ok(())
    })
}

fn administration() -> Result<()> {
    host::need_program("fstrim")?;
    with_mount(RECIPE, "rw,admin_ioctls", |root, _| {
        let said = command::sh("fstrim", ["-v".as_ref(), root.as_os_str()])?;
        ensure!(said.contains("trimmed") && !said.contains(" 0 B"), "{said}");
        let fd = File::open(root)?;
        sys::set_label(&fd, b"changed")?;
        ensure!(sys::label(&fd)? == b"changed");
        ensure!(sys::set_label(&fd, b"more than sixteen") == Err(Errno::INVAL));
        sys::checkpoint(&fd, 0)?;
        ensure!(sys::checkpoint(&fd, 16) == Err(Errno::INVAL));
        Ok(())
    })?;
    with_mount(RECIPE, "rw", |root, _| {
        let fd = File::open(root)?;
        ensure!(sys::set_label(&fd, b"changed") == Err(Errno::PERM));
        ensure!(sys::checkpoint(&fd, 0) == Err(Errno::PERM));
        ensure!(sys::shut_down(&fd) == Err(Errno::PERM));
        ensure!(command::sh("fstrim", [root]).is_err());
        Ok(())
    })
}

fn shutdown() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make(directory.path())?;
    let mounted = product.mount(&image, &mountpoint, "rw,admin_ioctls")?;
    let file = mountpoint.join("file");
    std::fs::write(&file, "before")?;
    sys::shut_down(File::open(&mountpoint)?)?;
    is(File::create(mountpoint.join("other")), Errno::IO)?;
    is(std::fs::rename(&file, mountpoint.join("other")), Errno::IO)?;
    is(std::fs::read_dir(&mountpoint).and_then(|mut names| names.next().transpose()), Errno::IO)?;
    is(std::fs::write(&file, "after"), Errno::IO)?;
    mounted.unmount()?;
    let again = product.mount(&image, &mountpoint, "rw")?;
    ensure!(std::fs::read(&file)? == b"before");
    again.unmount()?;
    command::sh("e2fsck", ["-fn".as_ref(), image.as_os_str()])?;
    Ok(())
}

/// mount(8), which leaves a remount to the helper.
fn remount(root: &Path, options: &str) -> Result<()> {
    let mut mount = Command::new("mount");
    let options = format!("remount,{options}");
    command::succeed(mount.args(["-t", "fuse4fs", "-o", &options]).arg(root)).map(drop)
}

fn remounting() -> Result<()> {
    with_mount(RECIPE, "rw", |root, image| {
        let file = root.join("file");
        std::fs::write(&file, "first")?;
        let open = OpenOptions::new().append(true).open(&file)?;
        let busy = remount(root, "ro");
        ensure!(busy.is_err(), "a file is open for writing");
        drop(open);
        std::fs::write(&file, "second")?;
        std::fs::remove_file(&file)?;
        std::fs::write(root.join("other"), "third")?;
        for round in 0..3 {
            remount(root, "ro")?;
            is(std::fs::write(&file, "never"), Errno::ROFS)?;
            ensure!(std::fs::read(root.join("other"))? == b"third", "what is there can be read");
            // The disk is in order although it is mounted.
            command::sh("e2fsck", ["-fn".as_ref(), image.as_os_str()]).context("while ro")?;
            let facts = command::sh("dumpe2fs", ["-h".as_ref(), image.as_os_str()])?;
            ensure!(!facts.contains("needs_recovery"), "{facts}");
            remount(root, "rw")?;
            std::fs::write(root.join(format!("round-{round}")), "content")?;
        }
        for round in 0..3 {
            ensure!(std::fs::read(root.join(format!("round-{round}")))? == b"content");
        }
        Ok(())
    })?;
    // What began read-only has a descriptor that only reads.
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make(directory.path())?;
    let mounted: Mounted = product.mount(&image, &mountpoint, "ro")?;
    let refused = remount(&mountpoint, "rw");
    ensure!(refused.is_err(), "writing began on a mount that began read-only");
    is(File::create(mountpoint.join("new")), Errno::ROFS)?;
    mounted.unmount()
}

fn keyless() -> Result<()> {
    with_mount(RECIPE, "rw", |root, _| {
        let directory = File::open(root)?;
        let wrong = SetReadOnly { key: [0; KEY_BYTES], read_only: true };
        ensure!(sys::turn(&directory, wrong) == Err(Errno::PERM));
        File::create(root.join("still writable"))?;
        let mut key = [0; KEY_BYTES];
        ensure!(rustix::fs::fgetxattr(&directory, KEY_XATTR, &mut key) == Ok(KEY_BYTES));
        let names = rustix::fs::flistxattr(&directory, &mut [0_u8; 0])?;
        ensure!(names == 0, "the key is listed");
        // Of this thread alone: it loses its capabilities.
        let nobody = move || {
            rustix::thread::set_thread_uid(rustix::thread::Uid::from_raw(65534))?;
            rustix::fs::fgetxattr(&directory, KEY_XATTR, &mut [0; KEY_BYTES])
        };
        let answer = std::thread::spawn(nobody).join().unwrap_or(Err(Errno::FAULT));
        ensure!(answer == Err(Errno::NODATA), "{answer:?}");
        Ok(())
    })
}
