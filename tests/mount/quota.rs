//! Limits of quotas, set offline, as system calls meet them.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;

const BLOCK: u64 = 4096;
const RECIPE: Recipe =
    Recipe { name: "quota", mke2fs: "-t ext4 -b 4096 -O quota", tune2fs: "", options: "rw" };
const USER: u32 = 1000;
/// What [`USER`] has before there are limits: a directory and a block in a file.
const USED: (u64, u64) = (2 * BLOCK, 2);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("a limit refuses what is past it, to the block and the inode", at_the_limit),
        trial::test("chown(2) to somebody at a limit is refused, but for a known root", given_away),
    ]
}

/// An image in which [`USER`] may have `more` blocks and inodes, mounted.
fn limited(more: (u64, u64), options: &str, check: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
    let root = directory.path().join("mnt");
    fs::create_dir(&root)?;
    let image = RECIPE.make(directory.path())?;
    let mounted = product.mount(&image, &root, "rw")?;
    fs::create_dir(root.join("home"))?;
    chown(root.join("home"), Some(USER), Some(USER))?;
    as_user(&root, "printf content > home/file")?;
    mounted.unmount()?;
    set_limits(&image, USED.0 / 1024 + more.0 * BLOCK / 1024, USED.1 + more.1)?;
    image::check(&image)?;
    let mounted = product.mount(&image, &root, options)?;
    check(&root)?;
    mounted.unmount()?;
    image::check(&image)
}

/// Runs a script as [`USER`] in `root`.
fn as_user(root: &Path, script: &str) -> Result<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).current_dir(root).uid(USER).gid(USER);
    command::succeed(&mut shell)
}

/// Sets the hard limits of [`USER`] in the file of user quotas: KiB and inodes. There must be an
/// entry (`struct v2r1_disk_dqblk`, in blocks of 1 KiB behind a head of 16 bytes).
fn set_limits(image: &Path, kib: u64, inodes: u64) -> Result<()> {
    let debugfs =
        |request: &str| command::succeed(Command::new("debugfs").args(["-R", request]).arg(image));
    let copy = image.with_extension("quota");
    debugfs(&format!("dump <3> {}", copy.display()))?;
    let file = fs::read(copy)?;
    let leaves = file.chunks(1024).enumerate().skip(2);
    let places = leaves.flat_map(|(leaf, _)| (0..14).map(move |at| leaf * 1024 + 16 + at * 72));
    let is_user = |at: &usize| file.get(*at..*at + 4) == Some(&USER.to_le_bytes());
    let at = places.filter(|at| at % 1024 <= 1024 - 72).find(is_user).context("no entry")? as u64;
    let block: u64 = debugfs(&format!("bmap <3> {}", at / BLOCK))?.trim().parse()?;
    let entry = block * BLOCK + at % BLOCK;
    let image = OpenOptions::new().write(true).open(image)?;
    image.write_all_at(&inodes.to_le_bytes(), entry + 8)?;
    image.write_all_at(&kib.to_le_bytes(), entry + 32)?;
    Ok(())
}

fn at_the_limit() -> Result<()> {
    limited((5, 2), "rw", |root| {
        let said = as_user(root, "dd if=/dev/zero of=home/file bs=64k count=1 conv=notrunc");
        ensure!(format!("{said:?}").contains("Disk quota exceeded"), "{said:?}");
        let file = fs::metadata(root.join("home/file"))?;
        ensure!((file.len(), file.blocks() * 512) == (6 * BLOCK, 6 * BLOCK), "{file:?}");
        as_user(root, "rm home/file && touch home/1 home/2 home/3")?;
        ensure!(as_user(root, "touch home/4").is_err());
        ensure!(as_user(root, "mkdir home/4").is_err());
        as_user(root, "rm home/1 && ln -s target home/4 && printf content > home/2")?;
        // What root makes is root's, and what it adds to a file of its own.
        fs::write(root.join("home/root's"), [1; 40 * 4096])?;
        Ok(())
    })
}

fn given_away() -> Result<()> {
    let give = |root: &Path, blocks: usize| -> Result<std::io::Result<()>> {
        let file = root.join(format!("{blocks}"));
        fs::write(&file, vec![1; blocks * 4096])?;
        File::open(&file)?.sync_all()?;
        Ok(chown(&file, Some(USER), None))
    };
    let refused = |given: std::io::Result<()>| {
        given.err().as_ref().and_then(Errno::from_io_error) == Some(Errno::DQUOT)
    };
    limited((5, 2), "rw", |root| {
        ensure!(refused(give(root, 6)?), "past the limit of blocks");
        give(root, 4)??;
        give(root, 1)??;
        ensure!(refused(give(root, 0)?), "past the limit of inodes");
        Ok(())
    })?;
    // The kernel says who asks.
    limited((5, 2), "rw,admin_ioctls", |root| Ok(give(root, 6)??))
}
