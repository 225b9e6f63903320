//! Answers that are lies: whoever asked gets an error, and the mount goes on.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_server::attack::{Action, LIES};
use fuse4fs_tests::{sys, trial, watchdog};
use libtest_mimic::Trial;

use crate::stage::Stage;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::test("a lie is an error for whoever asked", told)]
}

fn told() -> Result<()> {
    let stage = Stage::new()?;
    let attacked = stage.mount(&stage.image("lies")?, "mnt", "rw")?;
    let root = attacked.mounted.path().to_owned();
    let mut wrong = Vec::new();
    for lie in LIES {
        let path = root.join(lie.name);
        let got = watchdog::step(lie.name, Some(&attacked.connection), || {
            Ok(act(lie.action, &path).err().map_or(0, |error| error.raw_os_error().unwrap_or(-1)))
        })?;
        if !lie.gets.contains(&got) {
            wrong.push(format!("{}: {got}, not {:?}", lie.name, lie.gets));
        }
        let read = fs::read(root.join("file")).with_context(|| format!("after {}", lie.name))?;
        ensure!(read.len() == 4096, "after {}", lie.name);
    }
    let log = fs::read_to_string(stage.log("mnt"))?;
    for lie in LIES {
        ensure!(log.contains(&format!("attack lie {}:", lie.name)), "not told: {}", lie.name);
    }
    attacked.end()?;
    ensure!(wrong.is_empty(), "{wrong:#?}");
    stage.leave()
}

fn act(action: Action, path: &Path) -> io::Result<()> {
    match action {
        Action::Stat => fs::symlink_metadata(path).map(drop),
        Action::StatOpen => fs::File::open(path)?.metadata().map(drop),
        Action::Descend => {
            let within = path.join(path.file_name().unwrap_or_default());
            fs::symlink_metadata(within).map(drop)
        }
        Action::Open => fs::File::open(path).map(drop),
        Action::Read => fs::read(path).map(drop),
        Action::Write => fs::OpenOptions::new().write(true).open(path)?.write_all(b"x"),
        // Some have no end.
        Action::List => fs::read_dir(path)?.take(1000).try_for_each(|entry| entry.map(drop)),
        Action::Readlink => fs::read_link(path).map(drop),
        Action::Getxattr => {
            let size = rustix::fs::lgetxattr(path, "user.x", &mut [0_u8; 0]);
            size.map(drop).map_err(io::Error::from)
        }
        Action::Listxattr => {
            let list = rustix::fs::llistxattr(path, &mut [0_u8; 256]);
            list.map(drop).map_err(io::Error::from)
        }
        Action::Ioctl => Ok(sys::version(fs::File::open(path)?).map(drop)?),
    }
}
