//! A device that ends before it should, gives half a block, or takes no more: what is beyond fails, the
//! rest goes on.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::loops_below;
use fuse4fs_tests::{command, sys, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;

use crate::live::step;
use crate::objects::create;
use crate::scene::{BLOCK, Scene, errno, forget, goes_on};

/// Each group has its own inodes and bitmaps.
const GROUPS: Recipe = Recipe {
    name: "groups",
    mke2fs: "-t ext4 -b 1024 -N 2048 -J size=4 -E lazy_itable_init=0 -O ^flex_bg",
    tune2fs: "",
    options: "rw",
};
const JOURNAL_GROUP: u64 = 3;
const INODES: u64 = 256;
const BLOCKS: u64 = 8192;
/// Files in a group far behind, and bytes of each.
const FILES: usize = 16;
const FILE: usize = 30_000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for access in ["ro", "rw"] {
        for end in [End::Shrinks, End::Fails, End::Halves] {
            let name = format!("{} ({access})", end.title());
            trials.push(trial::test(name, move || shortened(end, access)));
        }
    }
    trials.push(trial::test("a device that takes no more keeps what was synced", full));
    trials
}

/// How a device comes to end before its last group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// It becomes smaller, and the kernel knows.
    Shrinks,
    /// Reads behind its end are EIO.
    Fails,
    /// The same, and a block at the end has but some bytes.
    Halves,
}

impl End {
    const fn title(self) -> &'static str {
        match self {
            Self::Shrinks => "a device shrinks under the mount",
            Self::Fails => "reads of a part of the device fail",
            Self::Halves => "a read gives half a block",
        }
    }
}

/// A scene with a directory of [`FILES`] in a group behind those of the journal and of what must go on, and
/// the number of that group. The kernel puts directories into groups by chance.
fn far() -> Result<(Scene, String, u64)> {
    for _ in 0..20 {
        let scene = Scene::new(&GROUPS)?;
        let mounted = Mounted::kernel(&scene.image, &scene.root(), "rw")?;
        let found = far_directory(&scene.root())?;
        mounted.unmount()?;
        // The names of what must go on, too, can be in any group.
        let said = scene.debugfs("blocks /sound")?;
        let names = said.split_whitespace().map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        match found {
            Some((name, group)) if names.iter().all(|block| (block - 1) / BLOCKS < group) => {
                return Ok((scene, name, group));
            }
            _ => {}
        }
    }
    bail!("no directory behind the others");
}

fn far_directory(root: &Path) -> Result<Option<(String, u64)>> {
    let sound = [root.join("sound"), root.join("sound/file")];
    let mut least = JOURNAL_GROUP.max(group_of_inode(&sound[0])?);
    least = least.max(groups_of_blocks(&sound[1])?.last().copied().unwrap_or(0)) + 1;
    for number in 0..200 {
        let (name, place) = (format!("far-{number}"), root.join(format!("far-{number}")));
        std::fs::create_dir(&place)?;
        let found = group_of_inode(&place)?;
        if found < least {
            continue;
        }
        for number in 0..FILES {
            std::fs::write(place.join(number.to_string()), vec![b'f'; FILE])?;
        }
        // Their content can be in any group, too.
        if groups_of_blocks(&place.join("0"))?.iter().all(|group| *group >= found) {
            return Ok(Some((name, found)));
        }
    }
    Ok(None)
}

fn group_of_inode(path: &Path) -> Result<u64> {
    Ok((path.metadata()?.ino() - 1) / INODES)
}

/// The groups that the file has blocks in, in order.
fn groups_of_blocks(path: &Path) -> Result<Vec<u64>> {
    let file = File::open(path)?;
    file.sync_all()?;
    let group = |at| Ok((u64::from(sys::fibmap(&file, at)?) - 1) / BLOCKS);
    let blocks = file.metadata()?.size().div_ceil(BLOCK) as i32;
    let mut groups = (0..blocks).map(group).collect::<Result<Vec<_>>>()?;
    groups.sort_unstable();
    Ok(groups)
}

/// Where the device ends: before `group`, or in the middle of a block of its inodes.
fn cut(scene: &Scene, end: End, name: &str, group: u64) -> Result<u64> {
    if end != End::Halves {
        return Ok((1 + group * BLOCKS) * BLOCK);
    }
    let said = scene.debugfs(&format!("imap /{name}/15"))?;
    Ok(crate::scene::number(&said, "at block ")? * BLOCK + BLOCK / 2)
}

fn shortened(end: End, access: &'static str) -> Result<()> {
    let (scene, name, group) = far()?;
    let mounted = scene.mount(&format!("{access},errors=continue"))?;
    let (root, written) = (scene.root(), access == "rw");
    let directory = root.join(&name);
    let known = directory.join("0").metadata()?;
    ensure!(known.size() == FILE as u64, "size {}", known.size());
    let (len, at) = (scene.image.metadata()?.len(), cut(&scene, end, &name, group)?);
    let tail = scene.bytes(at, (len - at) as usize)?;
    let file = OpenOptions::new().write(true).open(&scene.image)?;
    file.set_len(at)?;
    if end == End::Shrinks {
        resize(&scene)?;
    }
    forget()?;
    step(&scene, "what is beyond", || beyond(&directory))?;
    let errors = scene.errors()?;
    let inode =
        errors.iter().any(|line| line.contains("inode #") && line.contains("device read failed"));
    ensure!(inode && errors.iter().any(|line| line.contains("read of data failed")), "{errors:#?}");
    step(&scene, "the rest", || {
        goes_on(&root, written).with_context(|| format!("{:#?}", scene.errors()))
    })?;
    step(&scene, "unmount", || mounted.unmount())?;
    file.set_len(len)?;
    scene.overwrite(at, &tail)?;
    if written {
        let function = scene.field("First error function")?;
        ensure!(function.as_deref() == Some("device-error"), "first error: {function:?}");
    }
    scene.repair()?;
    let again = scene.mount("ro")?;
    for number in 0..FILES {
        let bytes = std::fs::read(directory.join(number.to_string()))?;
        ensure!(bytes == [b'f'; FILE], "{number} has other bytes");
    }
    again.unmount()
}

/// Data of a file that is known, and an inode that is not.
fn beyond(directory: &Path) -> Result<()> {
    let data = errno(std::fs::read(directory.join("0")));
    ensure!(data == Some(Errno::IO), "data: {data:?}");
    let inode = errno(directory.join("15").symlink_metadata());
    ensure!(inode == Some(Errno::IO), "an inode: {inode:?}");
    Ok(())
}

/// LOOP_SET_CAPACITY of the mount's device.
fn resize(scene: &Scene) -> Result<()> {
    let list = loops_below(scene.directory.path())?.join("");
    let device = list.split_whitespace().next().context("no loop device")?.to_owned();
    command::sh("losetup", ["--set-capacity", &device]).map(drop)
}

/// The image is in a file system that is full from a moment on.
fn full() -> Result<()> {
    let place = tempfile::tempdir()?;
    let mut mount = std::process::Command::new("mount");
    command::succeed(mount.args(["-t", "tmpfs", "-o", "size=16M", "tmpfs"]).arg(place.path()))?;
    let small = Mounted::adopt(place.path());
    let scene = Scene::within(tempfile::tempdir_in(place.path())?, &GROUPS)?;
    let root = scene.root();
    let mounted = scene.mount("rw")?;
    std::fs::write(root.join("synced"), "synced")?;
    File::open(root.join("synced"))?.sync_all()?;
    let filler = place.path().join("filler");
    let filled = std::fs::write(&filler, vec![1; 32 << 20]);
    ensure!(errno(filled) == Some(Errno::NOSPC), "the file system below is not full");
    let failed = step(&scene, "writing what there is no room for", || {
        let file = File::create(root.join("large"))?;
        for number in 0..200 {
            if let failed @ Some(_) = errno(file.write_at(&[b'l'; 65536], number * 65536)) {
                return Ok(failed);
            }
        }
        Ok(errno(file.sync_all()))
    })?;
    ensure!(matches!(failed, Some(Errno::IO | Errno::NOSPC | Errno::ROFS)), "{failed:?}");
    let later = step(&scene, "a change later", || Ok(errno(create(&root.join("later")))))?;
    ensure!(later == Some(Errno::ROFS), "{later:?}");
    let said = scene.log()?;
    ensure!(said.contains("failed: ") && said.contains("read-only"), "{said}");
    goes_on(&root, false)?;
    step(&scene, "unmount", || mounted.unmount())?;
    std::fs::remove_file(&filler)?;
    let again = scene.mount("rw")?;
    ensure!(std::fs::read(root.join("synced"))? == b"synced", "what was synced is lost");
    goes_on(&root, true)?;
    again.unmount()?;
    scene.repair()?;
    drop(scene);
    small.unmount()
}
