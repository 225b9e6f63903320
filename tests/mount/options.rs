//! Mount options that files and programs notice.

use std::fs::{File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;
use rustix::fs::XattrFlags;
use rustix::io::Errno;

const RECIPE: Recipe =
    Recipe { name: "options", mke2fs: "-t ext4 -b 4096", tune2fs: "", options: "rw" };
const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("access times follow the mount's options as on the kernel's ext4", atime),
        trial::test("noacl and nouser_xattr mounts have no such attributes", attributes),
        trial::test("grpid, resuid and the like are accepted and grpid is obeyed", grpid),
    ]
}

/// Which access times of a file, a directory and a link reading changes.
fn touched(mount: &dyn Fn(&str) -> Result<Mounted>, options: &str) -> Result<String> {
    let mounted = mount("rw,noatime")?;
    let root = mounted.path().to_owned();
    let now = SystemTime::now();
    let mut text = String::new();
    // Read after its last change, a day ago, and never since.
    for (name, atime, mtime) in [("fresh", HOUR, 2 * HOUR), ("day", 25 * HOUR, 48 * HOUR)] {
        std::fs::create_dir_all(root.join("directory").join(name))?;
        for path in [format!("{name}.file"), format!("directory/{name}")] {
            let path = root.join(path);
            if !path.exists() {
                std::fs::write(&path, "content")?;
            }
            let times = FileTimes::new().set_accessed(now - atime).set_modified(now - mtime);
            File::open(&path)?.set_times(times)?;
        }
    }
    mounted.unmount()?;
    let mounted = mount(options)?;
    for name in ["fresh", "day"] {
        for path in [format!("{name}.file"), format!("directory/{name}")] {
            let path = root.join(path);
            let atime =
                |path: &Path| anyhow::Ok((path.metadata()?.atime(), path.metadata()?.atime_nsec()));
            let before = atime(&path)?;
            for _ in 0..2 {
                if path.is_dir() {
                    std::fs::read_dir(&path)?.count();
                } else {
                    std::fs::read(&path)?;
                }
            }
            text += &format!(
                "{} {}\n",
                path.file_name().unwrap_or_default().display(),
                atime(&path)? != before
            );
        }
    }
    mounted.unmount()?;
    Ok(text)
}

fn atime() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    for options in ["relatime", "noatime", "strictatime", "nodiratime", "lazytime,strictatime"] {
        let options = format!("rw,{options}");
        let image = RECIPE.make(directory.path())?;
        let kernel = |options: &str| Mounted::kernel(&image, &mountpoint, options);
        let want = touched(&kernel, &options)?;
        let image = RECIPE.make(directory.path())?;
        let ours = |options: &str| product.mount(&image, &mountpoint, options);
        let found = touched(&ours, &options)?;
        image::check(&image)?;
        ensure!(found == want, "{options}: expected {want}, found {found}");
    }
    Ok(())
}

fn attributes() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make(directory.path())?;
    let mounted = product.mount(&image, &mountpoint, "rw,noacl,nouser_xattr")?;
    let file = mountpoint.join("file");
    std::fs::write(&file, "")?;
    // owner rwx, user 1 rwx, group r-x, mask rwx, others none.
    let entries: [(u16, u16, u32); 5] =
        [(1, 7, !0), (2, 7, 1), (4, 5, !0), (0x10, 7, !0), (0x20, 0, !0)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend(tag.to_le_bytes().into_iter().chain(permissions.to_le_bytes()));
        acl.extend(id.to_le_bytes());
    }
    let set =
        |name: &str, value: &[u8]| rustix::fs::setxattr(&file, name, value, XattrFlags::empty());
    ensure!(set("system.posix_acl_access", &acl) == Err(Errno::OPNOTSUPP));
    ensure!(set("user.color", b"blue") == Err(Errno::OPNOTSUPP));
    ensure!(set("trusted.color", b"blue") == Ok(()));
    mounted.unmount()?;
    let mounted = product.mount(&image, &mountpoint, "rw")?;
    ensure!(set("system.posix_acl_access", &acl) == Ok(()));
    ensure!(set("user.color", b"blue") == Ok(()));
    mounted.unmount()?;
    image::check(&image)
}

fn grpid() -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    std::fs::create_dir(&mountpoint)?;
    let image = RECIPE.make(directory.path())?;
    let options = "rw,grpid,resuid=1000,resgid=1000,max_dir_size_kb=8,dirsync,sync,discard";
    let mounted = product.mount(&image, &mountpoint, options)?;
    std::os::unix::fs::chown(&mountpoint, None, Some(4711))?;
    std::fs::write(mountpoint.join("file"), "content")?;
    ensure!(mountpoint.join("file").metadata()?.gid() == 4711);
    let full = (0..10_000).find(|n| File::create(mountpoint.join(format!("name {n}"))).is_err());
    ensure!(full.is_some(), "10000 names in 8 KiB");
    mounted.unmount()?;
    image::check(&image)
}
