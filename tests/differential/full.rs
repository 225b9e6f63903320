//! A disk filled to its last block: every block is used, none is lost, nothing breaks.

use std::fs::File;
use std::io::Write;

use anyhow::{Result, ensure};
use fuse4fs_tests::operation::Generator;
use fuse4fs_tests::{apply, host, image, mount_walk, trial};
use libtest_mimic::Trial;

use crate::pair::{self, RECIPES};

pub(crate) fn trial() -> Trial {
    trial::test("a disk can be filled to the last block and emptied again", || {
        host::need_root()?;
        for recipe in
            RECIPES.iter().filter(|recipe| matches!(recipe.name, "default" | "ext2" | "bigalloc"))
        {
            fill(recipe)?;
        }
        Ok(())
    })
}

fn fill(recipe: &image::Recipe) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let file = recipe.make(directory.path())?;
    let target = directory.path().join("mnt");
    std::fs::create_dir(&target)?;
    let mounted = pair::mount(&file, &target, "rw")?;
    let before = mount_walk::counts(&target)?;
    std::fs::create_dir(target.join("t"))?;
    let mut filler = File::create(target.join("filler"))?;
    let chunk = vec![0x5a; 1 << 16];
    let full = loop {
        if let Err(error) = filler.write_all(&chunk) {
            break error;
        }
    };
    ensure!(full.raw_os_error() == Some(28), "{full}");
    // Delayed allocation may tell only now.
    let _ = filler.sync_all();
    drop(filler);
    let full = mount_walk::counts(&target)?;
    // Random operations on a full disk: any may fail for space, none may break anything.
    let mut generator = Generator::new(42, "t");
    let mut refused = 0;
    for _ in 0..1500 {
        refused += usize::from(apply::is_full(&apply::apply(&target, &generator.next())));
    }
    ensure!(refused > 0, "nothing was ever refused on a full disk");
    // The kernel keeps a fiftieth back for its delayed allocation.
    let slack = before.blocks / 40;
    ensure!(full.free < slack, "{}: {} blocks were never used", recipe.name, full.free);
    apply::empty(&target)?;
    let emptied = pair::settled(&target)?;
    ensure!(before.free.abs_diff(emptied.free) <= 8, "blocks leak: {before:?}, then {emptied:?}");
    mounted.unmount()?;
    image::check(&file)
}
