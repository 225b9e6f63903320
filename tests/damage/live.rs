//! Things that are damaged under the mount before they are read: one call fails and says so, the rest
//! goes on, and it is in the superblock.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::connection::{self, Connection};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::{command, content, trial, watchdog};
use libtest_mimic::Trial;

use crate::objects::{OBJECTS, Object, Place, block_of_group};
use crate::scene::{BLOCK, PLAIN, SUMS, Scene, errno, goes_on, number};

/// Bytes that are inverted where there are checksums.
const INVERTED: usize = 6;
/// What dumpe2fs(8) says before a block.
const INODES: &str = "Inode bitmap at";
const BLOCKS: &str = "Block bitmap at";
/// Of the images here.
const INODES_PER_GROUP: u64 = 256;
const BLOCKS_PER_GROUP: u64 = 8192;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for object in OBJECTS {
        for recipe in [&SUMS, &PLAIN] {
            for access in ["ro", "rw"] {
                let kind = recipe.name;
                let name = format!("{} is damaged under the mount ({kind}, {access})", object.name);
                trials.push(trial::test(name, move || damaged(object, recipe, access)));
            }
        }
    }
    trials.extend([
        trial::test("a group whose inode bitmap is damaged is left alone", || bitmap(INODES)),
        trial::test("a group whose block bitmap is damaged is left alone", || bitmap(BLOCKS)),
        trial::test("an inode that cannot be freed keeps nothing else from the disk", unfreed),
        trial::test(
            "the superblock is damaged under a mount that writes it anew",
            superblock_written,
        ),
        trial::test("the superblock is damaged under a mount that only reads", superblock_read),
        trial::test("group descriptors are damaged under the mount", descriptors),
        trial::test("the journal is damaged under the mount", journal),
    ]);
    trials
}

/// Does `body` with the mount, which must end.
pub(crate) fn step<T>(
    scene: &Scene,
    what: &'static str,
    body: impl FnOnce() -> Result<T>,
) -> Result<T> {
    connection::show()?;
    watchdog::step(what, Some(&Connection::of(&scene.root())?), body)
}

fn damaged(object: &Object, recipe: &Recipe, access: &'static str) -> Result<()> {
    let scene = Scene::new(recipe)?;
    let place = (object.find)(&scene)?;
    let (want, code) = object.error(recipe.name == SUMS.name);
    let hash = content::sha256_of_file(&scene.image)?;
    let mounted = scene.mount(&format!("{access},errors=continue"))?;
    let (root, written) = (scene.root(), access == "rw");
    let damage = Damage::new(&scene, object, &place, recipe)?;
    scene.overwrite(damage.at, &damage.after)?;
    step(&scene, "what is damaged", || {
        let found = errno((object.touch)(&root));
        ensure!(found == want, "{found:?} instead of {want:?}: {:?}", scene.errors()?);
        Ok(())
    })?;
    let errors = scene.errors()?;
    expect_one(&errors, &place, code)?;
    step(&scene, "the rest", || goes_on(&root, written))?;
    step(&scene, "unmount", || mounted.unmount())?;
    scene.overwrite(damage.at, &damage.before)?;
    if written {
        recorded(&scene, &place, code, errors.len())?;
    } else {
        ensure!(content::sha256_of_file(&scene.image)? == hash, "a read-only mount wrote");
    }
    let again = scene.mount("ro")?;
    (object.touch)(&root).context("what is not damaged any more")?;
    again.unmount()?;
    scene.repair()
}

/// Bytes of the image before and after.
struct Damage {
    at: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Damage {
    fn new(scene: &Scene, object: &Object, place: &Place, recipe: &Recipe) -> Result<Self> {
        if recipe.name == PLAIN.name {
            let (at, after) = (place.at, object.nonsense.to_vec());
            return Ok(Self { at, before: scene.bytes(at, after.len())?, after });
        }
        let at = place.at + object.inverted;
        let before = scene.bytes(at, INVERTED)?;
        Ok(Self { at, after: before.iter().map(|byte| !byte).collect(), before })
    }
}

/// One line with inode, block and code, for each time that the kernel asked: it asks again for pages that
/// it could not read ahead.
fn expect_one(errors: &[String], place: &Place, code: &str) -> Result<()> {
    let [line, others @ ..] = errors else { anyhow::bail!("nothing was logged") };
    ensure!(others.iter().all(|other| other == line), "not the same line: {errors:#?}");
    let inode = place.inode.map(|inode| format!("inode #{inode}: "));
    let block = place.names_block.then(|| format!("block {}: ", place.at / BLOCK));
    let code = format!("[{code}]");
    for part in [inode, block, Some(code)].into_iter().flatten() {
        ensure!(line.contains(&part), "no \"{part}\" in: {line}");
    }
    Ok(())
}

/// The superblock tells of errors, of which the first and last are this one.
pub(crate) fn recorded(scene: &Scene, place: &Place, code: &str, count: usize) -> Result<()> {
    let field = |name: &str| Ok::<_, anyhow::Error>(scene.field(name)?.unwrap_or_default());
    ensure!(field("FS Error count")? == count.to_string(), "count: {}", field("FS Error count")?);
    ensure!(field("Filesystem state")?.ends_with("with errors"), "{}", field("Filesystem state")?);
    for which in ["First", "Last"] {
        let function = field(&format!("{which} error function"))?;
        ensure!(function == code, "{which}: {function}");
        if let Some(inode) = place.inode {
            let told = field(&format!("{which} error inode #"))?;
            ensure!(told == inode.to_string(), "{which}: inode {told}");
        }
        if place.names_block {
            let (told, want) = (field(&format!("{which} error block #"))?, place.at / BLOCK);
            ensure!(told == want.to_string(), "{which}: block {told}");
        }
    }
    Ok(())
}

/// Where the next new file goes first, and goes no more when the bitmap there is damaged.
fn bitmap(what: &str) -> Result<()> {
    let scene = Scene::new(&SUMS)?;
    let root = scene.root();
    let mounted = scene.mount("rw")?;
    std::fs::write(root.join("probe"), "content")?;
    mounted.unmount()?;
    let group = group_of(&scene, "/probe", what)?;
    let at = block_of_group(&scene, group, what)? * BLOCK;
    let mounted = scene.mount("rw,errors=continue")?;
    let before = scene.bytes(at, INVERTED)?;
    scene.overwrite(at, &before.iter().map(|byte| !byte).collect::<Vec<_>>())?;
    step(&scene, "another group", || {
        std::fs::write(root.join("new"), "content")?;
        goes_on(&root, true)
    })?;
    let errors = scene.errors()?;
    let [line] = errors.as_slice() else { anyhow::bail!("not one line: {errors:#?}") };
    let place = format!("group {group}: ");
    ensure!(line.contains(&place) && line.contains("[bitmap-checksum]"), "{line}");
    step(&scene, "unmount", || mounted.unmount())?;
    let place = Place { at, inode: None, names_block: true };
    recorded(&scene, &place, "bitmap-checksum", 1)?;
    scene.overwrite(at, &before)?;
    ensure!(group_of(&scene, "/new", what)? != group, "taken from the damaged group");
    scene.repair()
}

/// The group of the file's inode, or of its first block.
fn group_of(scene: &Scene, path: &str, what: &str) -> Result<u64> {
    let said = scene.debugfs(&format!("stat {path}"))?;
    Ok(match what {
        INODES => (number(&said, "Inode:")? - 1) / INODES_PER_GROUP,
        _ => (number(&said, "(0):")? - 1) / BLOCKS_PER_GROUP,
    })
}

/// Its attributes are damaged when its last name goes: it stays an orphan, to the end of the mount too.
fn unfreed() -> Result<()> {
    let scene = Scene::new(&SUMS)?;
    let object = OBJECTS.iter().find(|object| object.codes[0] == "xattr-checksum");
    let object = object.context("no attributes")?;
    let place = (object.find)(&scene)?;
    let damage = Damage::new(&scene, object, &place, &SUMS)?;
    let mounted = scene.mount("rw,errors=continue")?;
    let root = scene.root();
    scene.overwrite(damage.at, &damage.after)?;
    step(&scene, "changes", || {
        std::fs::remove_file(root.join("attributes"))?;
        Ok(std::fs::write(root.join("kept"), "kept")?)
    })?;
    for how in ["remount,ro", "remount,rw"] {
        let mut mount = Command::new("mount");
        mount.args(["-t", "fuse4fs", "-o", how]).arg(&root);
        step(&scene, how, || command::succeed(&mut mount))?;
    }
    std::fs::write(root.join("last"), "last")?;
    step(&scene, "unmount", || mounted.unmount())?;
    ensure!(!scene.errors()?.is_empty(), "nothing was logged");
    let features = scene.field("Filesystem features")?.unwrap_or_default();
    ensure!(!features.contains("needs_recovery"), "not unmounted to the end: {features}");
    let again = scene.mount("ro")?;
    for name in ["kept", "last"] {
        ensure!(std::fs::read(root.join(name))? == name.as_bytes(), "{name} is lost");
    }
    again.unmount()?;
    scene.overwrite(damage.at, &damage.before)?;
    scene.repair()
}

fn superblock_written() -> Result<()> {
    let scene = Scene::new(&SUMS)?;
    let mounted = scene.mount("rw")?;
    scene.overwrite(BLOCK, &[0; BLOCK as usize])?;
    let root = scene.root();
    step(&scene, "all", || goes_on(&root, true))?;
    step(&scene, "unmount", || mounted.unmount())?;
    ensure!(scene.errors()?.is_empty(), "{:?}", scene.errors()?);
    fuse4fs_tests::image::check(&scene.image)
}

fn superblock_read() -> Result<()> {
    let scene = Scene::new(&SUMS)?;
    let mounted = scene.mount("ro")?;
    let before = scene.bytes(BLOCK, BLOCK as usize)?;
    scene.overwrite(BLOCK + 4, &[0xff; 4])?;
    let root = scene.root();
    step(&scene, "all", || goes_on(&root, false))?;
    step(&scene, "unmount", || mounted.unmount())?;
    let refused = scene.product.try_mount(&scene.image, &root, "ro")?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(32) && said.contains("checksum"), "{said}");
    scene.overwrite(BLOCK, &before)?;
    let again = scene.mount("ro")?;
    goes_on(&root, false)?;
    again.unmount()?;
    scene.repair()
}

/// They were read at the mount, and are written anew with the first change in a group.
fn descriptors() -> Result<()> {
    for access in ["ro", "rw"] {
        let scene = Scene::new(&SUMS)?;
        let mounted = scene.mount(&format!("{access},errors=continue"))?;
        let (at, len) = (2 * BLOCK, 8 * 64);
        let before = scene.bytes(at, len)?;
        scene.overwrite(at, &vec![0xff; len])?;
        let (root, written) = (scene.root(), access == "rw");
        step(&scene, "all", || {
            for name in std::fs::read_dir(root.join("inodes"))? {
                name?.metadata()?;
            }
            goes_on(&root, written)
        })?;
        step(&scene, "unmount", || mounted.unmount())?;
        ensure!(scene.errors()?.is_empty(), "{:?}", scene.errors()?);
        if !written {
            scene.overwrite(at, &before)?;
        }
        fuse4fs_tests::image::check(&scene.image)?;
    }
    Ok(())
}

/// The log is read at the mount only: what is written to it later is whole, and home at the end.
fn journal() -> Result<()> {
    let scene = Scene::new(&SUMS)?;
    let first = number(&scene.debugfs("stat <8>")?, "(0-4095):")?;
    let mounted = scene.mount("rw")?;
    let root = scene.root();
    std::fs::write(root.join("first"), "content")?;
    scene.overwrite(first * BLOCK, &vec![0xff; 4096 * BLOCK as usize])?;
    step(&scene, "all", || goes_on(&root, true))?;
    std::fs::write(root.join("last"), "content")?;
    step(&scene, "unmount", || mounted.unmount())?;
    ensure!(scene.errors()?.is_empty(), "{:?}", scene.errors()?);
    fuse4fs_tests::image::check(&scene.image)?;
    let again = scene.mount("ro")?;
    for name in ["first", "last"] {
        ensure!(std::fs::read(root.join(name))? == b"content", "{name} has other bytes");
    }
    again.unmount()
}
