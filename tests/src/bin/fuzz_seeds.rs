//! Writes the seeds of all fuzz targets below the directory given, one folder a target.

use std::path::PathBuf;

use anyhow::{Context, Result};
use fuse4fs_tests::fuzz::targets;

fn main() -> Result<()> {
    let root: PathBuf = std::env::args_os().nth(1).context("usage: fuzz-seeds DIRECTORY")?.into();
    for target in targets() {
        let directory = root.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (nr, seed) in (target.seeds)().context(target.name)?.iter().enumerate() {
            std::fs::write(directory.join(format!("seed-{nr:02}")), seed)?;
        }
    }
    Ok(())
}
