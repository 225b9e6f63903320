//! What `errors=` asks for, by option and by the superblock: what the next calls get, what the log and the
//! superblock say afterwards. The kernel's ext4 does the same, but for panic, which is not tried.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::host::Mounted;
use fuse4fs_tests::product::Traces;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;
use rustix::io::Errno;

use crate::live::{recorded, step};
use crate::objects::{DIRECTORY, Place, create};
use crate::scene::{SUMS, Scene, errno, goes_on};

/// `errors=`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Policy {
    Continue,
    ReadOnly,
    Panic,
}

/// Who says so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Option,
    Superblock,
}

impl Policy {
    const fn name(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::ReadOnly => "remount-ro",
            Self::Panic => "panic",
        }
    }
}

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for policy in [Policy::Continue, Policy::ReadOnly, Policy::Panic] {
        for source in [Source::Option, Source::Superblock] {
            let name = format!("errors={} by {source:?}, to its end", policy.name());
            trials.push(trial::test(name, move || ours(policy, source)));
            if policy != Policy::Panic {
                let name = format!("errors={} by {source:?} is what it is to ext4", policy.name());
                trials.push(trial::test(name, move || kernels(policy, source)));
            }
        }
    }
    trials.push(trial::test("errors=panic ends a mount that only reads", panic_read_only));
    trials
}

/// An image with a damaged directory, what mounts it as `policy` says, and the bytes as they were.
struct Damaged {
    scene: Scene,
    options: String,
    place: Place,
    before: Vec<u8>,
}

impl Damaged {
    fn new(policy: Policy, source: Source, access: &str) -> Result<Self> {
        let scene = Scene::new(&SUMS)?;
        let mut options = access.to_owned();
        // What the superblock says otherwise is overruled by the option.
        let (said, other) =
            (policy.name(), if policy == Policy::Continue { "remount-ro" } else { "continue" });
        let default = if source == Source::Superblock { said } else { other };
        let mut tune2fs = std::process::Command::new("tune2fs");
        command::succeed(tune2fs.args(["-e", default]).arg(&scene.image))?;
        if source == Source::Option {
            options += &format!(",errors={said}");
        }
        let place = (DIRECTORY.find)(&scene)?;
        let at = place.at + DIRECTORY.inverted;
        let before = scene.bytes(at, 6)?;
        scene.overwrite(at, &before.iter().map(|byte| !byte).collect::<Vec<_>>())?;
        Ok(Self { scene, options, place, before })
    }

    /// Undoes the damage; then e2fsck makes it sound.
    fn heal(&self) -> Result<()> {
        self.scene.overwrite(self.place.at + DIRECTORY.inverted, &self.before)?;
        self.scene.repair()
    }
}

/// What calls after the damage get.
#[derive(PartialEq, Eq, Debug)]
struct Answers {
    list: Option<Errno>,
    create: Option<Errno>,
    write: Option<Errno>,
    read: Option<Errno>,
}

fn answers(root: &Path) -> Result<Answers> {
    let open = OpenOptions::new().write(true).open(root.join("inodes/3"))?;
    Ok(Answers {
        list: answer((DIRECTORY.touch)(root)),
        create: answer(create(&root.join("new"))),
        write: answer(open.write_at(b"changed", 0)),
        read: answer(std::fs::read(root.join("sound/file"))),
    })
}

/// The errno of a call. One during which the server ends is told that, later ones that it has.
fn answer<T>(result: std::io::Result<T>) -> Option<Errno> {
    match errno(result) {
        Some(Errno::CONNABORTED) => Some(Errno::NOTCONN),
        errno => errno,
    }
}

fn expected(policy: Policy) -> Answers {
    let (bad, ro, gone) = (Some(Errno::BADMSG), Some(Errno::ROFS), Some(Errno::NOTCONN));
    match policy {
        Policy::Continue => Answers { list: bad, create: None, write: None, read: None },
        Policy::ReadOnly => Answers { list: bad, create: ro, write: ro, read: None },
        Policy::Panic => Answers { list: gone, create: gone, write: gone, read: gone },
    }
}

fn ours(policy: Policy, source: Source) -> Result<()> {
    let damaged = Damaged::new(policy, source, "rw")?;
    let (scene, root) = (&damaged.scene, damaged.scene.root());
    let before = Traces::now(scene.product, scene.directory.path())?;
    let mounted = scene.mount(&damaged.options)?;
    let synced = File::create(root.join("synced"))?;
    synced.write_all_at(b"before the damage", 0)?;
    synced.sync_all()?;
    let found = step(scene, "calls", || answers(&root))?;
    ensure!(found == expected(policy), "{found:?} instead of {:?}", expected(policy));
    let said = scene.log()?;
    let ends = ["Remounting filesystem read-only", "errors=panic: serving ends"];
    let want: [bool; 2] = [policy != Policy::Continue, policy == Policy::Panic];
    ensure!(ends.map(|line| said.contains(line)) == want, "{want:?}: {said}");
    let fsync = errno(synced.sync_all());
    ensure!(fsync.is_some() == (policy != Policy::Continue), "fsync: {fsync:?}");
    drop(synced);
    if policy != Policy::Panic {
        goes_on(&root, policy == Policy::Continue)?;
        ensure!(access(&root)?.split(',').any(|word| word == "rw"), "the mount's flags changed");
    }
    step(scene, "unmount", || mounted.unmount())?;
    before.expect_unchanged(scene.product, scene.directory.path())?;
    recorded(scene, &damaged.place, "dir-checksum", 1)?;
    damaged.heal()?;
    let again = scene.mount("ro")?;
    ensure!(std::fs::read(root.join("synced"))? == b"before the damage", "what was synced is lost");
    ensure!(root.join("new").exists() == (policy == Policy::Continue), "new");
    again.unmount()
}

/// The mount's options in mountinfo, and the superblock's.
fn access(root: &Path) -> Result<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let place = root.to_str().context("a path of words")?;
    let line =
        table.lines().find(|line| line.split(' ').nth(4) == Some(place)).context("no mount")?;
    Ok(line.split(' ').nth(5).unwrap_or_default().to_owned())
}

fn kernels(policy: Policy, source: Source) -> Result<()> {
    let damaged = Damaged::new(policy, source, "rw")?;
    let (scene, root) = (&damaged.scene, damaged.scene.root());
    let mounted = Mounted::kernel(&scene.image, &root, &damaged.options)?;
    let found = answers(&root)?;
    ensure!(found == expected(policy), "{found:?} instead of {:?}", expected(policy));
    mounted.unmount()?;
    let inode = scene.field("First error inode #")?;
    ensure!(inode == damaged.place.inode.map(|inode| inode.to_string()), "inode {inode:?}");
    damaged.heal()
}

fn panic_read_only() -> Result<()> {
    let damaged = Damaged::new(Policy::Panic, Source::Option, "ro")?;
    let (scene, root) = (&damaged.scene, damaged.scene.root());
    let mounted = scene.mount(&damaged.options)?;
    goes_on(&root, false)?;
    let found = step(scene, "a list", || Ok(answer((DIRECTORY.touch)(&root))))?;
    ensure!(found == Some(Errno::NOTCONN), "{found:?}");
    step(scene, "unmount", || mounted.unmount())?;
    ensure!(scene.field("FS Error count")?.is_none(), "a read-only mount wrote");
    damaged.heal()
}
