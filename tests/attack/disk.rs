//! What a disk can hold that is dangerous by itself: programs with set-id bits, and devices.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};
use fuse4fs_tests::host::{self, Mounted};
use fuse4fs_tests::{command, trial};
use libtest_mimic::Trial;

use crate::stage::Stage;

const NOBODY: &str = "65534";

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::test("nosuid and nodev make set-id programs and devices harmless", harmless)]
}

fn harmless() -> Result<()> {
    host::need_program("setpriv")?;
    let stage = Stage::new()?;
    fs::set_permissions(stage.directory.path(), Permissions::from_mode(0o755))?;
    let image = stage.image("none")?;
    let root = stage.directory.path().join("mnt");
    fs::create_dir(&root)?;
    let filled = Mounted::kernel(&image, &root, "rw")?;
    fs::copy("/usr/bin/id", root.join("id"))?;
    fs::set_permissions(root.join("id"), Permissions::from_mode(0o4755))?;
    command::sh("mknod", ["-m", "666", &root.join("zero").display().to_string(), "c", "1", "5"])?;
    filled.unmount()?;
    command::sh("e2label", [image.as_os_str(), "".as_ref()])?;

    let attacked = stage.mount(&image, "mnt", "rw,nosuid,nodev")?;
    ensure!(user(&root)? == NOBODY, "the set-id bit was honoured");
    let opened = File::open(root.join("zero")).map(drop).map_err(|error| error.kind());
    ensure!(opened == Err(std::io::ErrorKind::PermissionDenied), "the device: {opened:?}");
    attacked.end()?;

    // As SECURITY.md says: root mounted it so.
    let attacked = stage.mount(&image, "mnt", "rw")?;
    ensure!(user(&root)? == "0", "without nosuid the bit means nothing");
    File::open(root.join("zero"))?;
    attacked.end()?;
    stage.leave()
}

/// As whom the program there runs when nobody starts it.
fn user(root: &Path) -> Result<String> {
    let mut id = Command::new("setpriv");
    id.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(root.join("id"))
        .arg("-u");
    Ok(command::succeed(&mut id)?.trim().to_owned())
}
