//! Directories that the kernel made: the same names in the same order, found and resumed anywhere.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::{FileKind, Filesystem, Inode};
use fuse4fs_tests::engine_walk::{self, Name};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::{self, Recipe};
use fuse4fs_tests::sys::EncryptionKey;
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

const fn recipe(name: &'static str, mke2fs: &'static str) -> Recipe {
    Recipe { name, mke2fs, tune2fs: "", options: "rw" }
}

const PLAIN: &[Recipe] = &[
    recipe("dirs-1k", "-t ext4 -b 1024 -N 9000"),
    recipe("dirs-4k", "-t ext4 -b 4096 -N 9000"),
    recipe("dirs-unindexed", "-t ext4 -b 1024 -N 9000 -O ^dir_index"),
    recipe("dirs-inline", "-t ext4 -b 1024 -I 512 -N 9000 -O inline_data"),
    recipe("dirs-inline-unindexed", "-t ext4 -b 1024 -I 512 -N 9000 -O inline_data,^dir_index"),
    recipe("dirs-ext3", "-t ext3 -b 1024 -N 9000"),
    recipe("dirs-untyped", "-t ext4 -b 1024 -N 9000 -O ^filetype"),
];

const ENCRYPTED: &[Recipe] = &[
    recipe("encrypted-1k", "-t ext4 -b 1024 -O encrypt"),
    recipe("encrypted-4k", "-t ext4 -b 4096 -O encrypt"),
    recipe("encrypted-unindexed", "-t ext4 -b 1024 -O encrypt,^dir_index"),
    recipe("encrypted-inline", "-t ext4 -b 1024 -I 512 -O encrypt,inline_data"),
];

pub(crate) fn trials() -> Vec<Trial> {
    let plain = |recipe: &'static Recipe| {
        trial::test(format!("{}: directories list as the kernel's", recipe.name), move || {
            directories_are_as_the_kernels(recipe, fill)
        })
    };
    let encrypted = |recipe: &'static Recipe| {
        trial::test(
            format!("{}: without the key, names are the kernel's", recipe.name),
            move || directories_are_as_the_kernels(recipe, fill_encrypted),
        )
    };
    PLAIN.iter().map(plain).chain(ENCRYPTED.iter().map(encrypted)).collect()
}

fn directories_are_as_the_kernels(recipe: &Recipe, fill: fn(&Path) -> Result<()>) -> Result<()> {
    host::need_root()?;
    let directory = tempfile::tempdir()?;
    let mountpoint = directory.path().join("mnt");
    fs::create_dir(&mountpoint)?;
    let image = recipe.make(directory.path())?;
    let mounted = Mounted::kernel(&image, &mountpoint, "rw")?;
    fill(mounted.path())?;
    mounted.unmount()?;
    image::check(&image)?;
    let mounted = Mounted::kernel(&image, &mountpoint, "ro")?;
    let fs = engine_walk::mount(&image)?;
    let mut directories = 0;
    engine_walk::for_each_directory(&fs, &mut |dir, path, names| {
        directories += 1;
        compare(&fs, dir, names, &mounted.path().join(OsStr::from_bytes(path)))
    })?;
    ensure!(directories > 4, "{directories} directories only");
    ensure!(fs.take_notices().is_empty(), "corruption in what the kernel made");
    mounted.unmount()
}

/// Many directories that grew, shrank, and hold names of all lengths and bytes.
fn fill(root: &Path) -> Result<()> {
    let touch = |path: &Path| File::create(path).map(drop);
    for (name, count) in
        [("none", 0), ("few", 3), ("one-block", 20), ("grown", 300), ("large", 4000)]
    {
        let dir = root.join(name);
        fs::create_dir(&dir)?;
        for number in 0..count {
            touch(&dir.join(format!("{number:05}-{}", "n".repeat(number % 90))))?;
        }
    }
    // Leaves with gaps, empty ones, and names put into the gaps.
    for number in (0..4000).filter(|number| number % 3 != 0 || (1000..1400).contains(number)) {
        fs::remove_file(root.join(format!("large/{number:05}-{}", "n".repeat(number % 90))))?;
    }
    for number in 0..200 {
        touch(&root.join(format!("large/late-{number}")))?;
    }
    let odd = root.join("odd");
    fs::create_dir(&odd)?;
    for byte in (1..=255_u8).filter(|byte| !b"./".contains(byte)) {
        touch(&odd.join(OsStr::from_bytes(&[byte])))?;
        touch(&odd.join(OsStr::from_bytes(&[b'x', byte, b'y'])))?;
    }
    for length in 3..=255 {
        touch(&odd.join("l".repeat(length)))?;
    }
    Ok(())
}

/// Encrypted trees with short and long names and targets; the key is gone afterwards.
fn fill_encrypted(root: &Path) -> Result<()> {
    let key = match EncryptionKey::add(File::open(root)?) {
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOTTY) => {
            return trial::skip("the running kernel has no fscrypt");
        }
        added => added?,
    };
    for padding in [0, 3] {
        let dir = root.join(format!("padded-{padding}"));
        fs::create_dir(&dir)?;
        key.protect(File::open(&dir)?, padding)?;
        for length in [1, 15, 16, 17, 32, 33, 100, 144, 145, 148, 149, 150, 160, 161, 177, 200, 255]
        {
            fs::write(dir.join("n".repeat(length)), "content")?;
        }
        for length in [1, 10, 40, 57, 58, 100, 149, 150, 300, 900] {
            symlink("t".repeat(length), dir.join(format!("symlink-{length}")))?;
        }
        fs::create_dir_all(dir.join("below/deeper"))?;
        fs::create_dir(dir.join("large"))?;
        for number in 0..500 {
            File::create(dir.join(format!("large/{number:05}-{}", "n".repeat(number % 200))))?;
        }
    }
    Ok(key.remove(File::open(root)?)?)
}

fn compare(fs: &Filesystem, dir: &Inode, names: &[Name], path: &Path) -> Result<()> {
    // The kernel's order, which has "." and ".." among the others where ours has them first.
    let mut listed = Vec::new();
    for entry in fs::read_dir(path).with_context(|| path.display().to_string())? {
        let entry = entry?;
        listed.push((entry.file_name().into_vec(), entry.ino()));
    }
    let found: Vec<_> =
        names.iter().skip(2).map(|name| (name.name.clone(), u64::from(name.inode.get()))).collect();
    ensure!(names[0].name == b"." && names[1].name == b"..", "no dots first");
    ensure!(found == listed, "{} names of {} agree", common(&found, &listed), listed.len());
    for (index, name) in names.iter().enumerate() {
        let inode = fs.lookup(dir, &name.name)?;
        ensure!(inode.nr == name.inode, "lookup finds another inode");
        if inode.kind == FileKind::Symlink {
            let path = path.join(OsStr::from_bytes(&name.name));
            ensure!(fs.readlink(&inode)? == fs::read_link(&path)?.into_os_string().into_vec());
            ensure!(fs.stat_size(&inode)? == fs::symlink_metadata(&path)?.size(), "size");
        }
        // From every cookie, exactly what is left; all of it from some.
        let limit = if index % 97 == 0 { usize::MAX } else { 2 };
        let rest = engine_walk::names(fs, dir, name.cookie, limit)?;
        let wanted = &names[index + 1..];
        ensure!(rest == wanted[..limit.min(wanted.len())], "resumed after entry {index}");
    }
    Ok(())
}

fn common(one: &[(Vec<u8>, u64)], other: &[(Vec<u8>, u64)]) -> usize {
    let one: HashSet<_> = one.iter().collect();
    other.iter().filter(|name| one.contains(name)).count()
}
