//! A mount that has to wait says what for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::image::Recipe;
use fuse4fs_tests::product::Product;
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

/// The server's test hook has the recovery of this one take seconds.
const SLOW: Recipe =
    Recipe { name: "slow", mke2fs: "-t ext4 -L hold:4", tune2fs: "", options: "rw" };
const SHARED: Recipe =
    Recipe { name: "shared", mke2fs: "-t ext4 -O mmp", tune2fs: "", options: "rw" };
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::test("a mount that waits for another node says so, and for how long", other_node),
        trial::test(
            "a mount that recovers shows how far it is on a terminal, and there only",
            slow,
        ),
        trial::test("a second mount that waits for the first one's server says so", second),
    ]
}

struct Scene {
    product: &'static Product,
    directory: tempfile::TempDir,
    image: PathBuf,
}

fn scene(recipe: Recipe) -> Result<Scene> {
    let product = Product::get()?;
    let directory = tempfile::tempdir()?;
    for name in ["mnt", "again"] {
        std::fs::create_dir(directory.path().join(name))?;
    }
    let image = recipe.make(directory.path())?;
    Ok(Scene { product, directory, image })
}

impl Scene {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn mount(&self, target: &Path) -> Command {
        let mut mount = Command::new(self.product.helper());
        mount.arg(&self.image).arg(target).args(["-o", "rw,server=spawn"]);
        mount
    }
}

fn other_node() -> Result<()> {
    let scene = scene(SHARED)?;
    let output = command::run(&mut scene.mount(&scene.path("mnt")))?;
    ensure!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr)?;
    let mounted = Mounted::adopt(&scene.path("mnt"));
    // EXT4_MMP_UPDATE_INTERVAL twice, and one.
    let wanted = "waiting 11 s to see whether another node has it mounted";
    ensure!(said.lines().count() == 1 && said.contains(wanted), "{said}");
    mounted.unmount()
}

fn slow() -> Result<()> {
    host::need_program("script")?;
    let scene = scene(SLOW)?;
    let mount = scene.mount(&scene.path("mnt"));
    let words: Vec<_> = std::iter::once(mount.get_program()).chain(mount.get_args()).collect();
    let line = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let shown = command::sh("script", ["-qec", &line, "/dev/null"])?;
    Mounted::adopt(&scene.path("mnt")).unmount()?;
    ensure!(
        shown.contains("\r\x1b[K") && shown.contains("recovering the journal, 50 %"),
        "{shown:?}"
    );
    ensure!(shown.ends_with("\r\x1b[K"), "a line is left: {shown:?}");
    // Into a file nothing is drawn.
    scene.product.mount(&scene.image, &scene.path("mnt"), "rw")?.unmount()
}

fn second() -> Result<()> {
    let scene = scene(SLOW)?;
    let piped = |mut mount: Command| mount.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let first = piped(scene.mount(&scene.path("mnt")))?;
    // It has made the superblock by then.
    std::thread::sleep(Duration::from_secs(1));
    let again = piped(scene.mount(&scene.path("again")))?;
    let (first, again) = (command::wait(first, LIMIT)?, command::wait(again, LIMIT)?);
    ensure!(first.status.success() && again.status.success(), "{first:?}, {again:?}");
    let mounts = ["again", "mnt"].map(|name| Mounted::adopt(&scene.path(name)));
    let said = String::from_utf8(again.stderr)?;
    ensure!(said.contains("waiting for its server, for "), "{said}");
    ensure!(first.stderr.is_empty(), "{first:?}");
    mounts.into_iter().try_for_each(Mounted::unmount)
}
