//! Golden and dirty images against their truths.

use anyhow::{Result, ensure};
use fuse4fs_tests::shared::Golden;
use fuse4fs_tests::{content, engine_walk, trial};
use libtest_mimic::Trial;

pub(crate) fn trials(image: &Golden) -> Vec<Trial> {
    let name = &image.name;
    let (tree, counts) = (image.clone(), image.clone());
    vec![
        trial::test(
            format!("{name}: the tree equals the truth and the image stays as it was"),
            move || the_tree_equals_the_truth(&tree),
        ),
        trial::test(format!("{name}: statfs counts as the kernel does"), move || {
            statfs_counts_as_the_kernel(&counts)
        }),
    ]
}

fn the_tree_equals_the_truth(golden: &Golden) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let image = golden.unpack(directory.path())?;
    let truth = golden.truth()?;
    ensure!(content::sha256_of_file(&image)? == truth.image_hash, "unpacked to another image");
    let found = engine_walk::walk(&engine_walk::mount(&image)?)?;
    truth.expect(&found)?;
    ensure!(content::sha256_of_file(&image)? == truth.image_hash, "reading changed the image");
    Ok(())
}

fn statfs_counts_as_the_kernel(golden: &Golden) -> Result<()> {
    let truth = golden.truth()?;
    let Some(want) = truth.counts else {
        return trial::skip("made without a kernel: its truth has no counts");
    };
    if truth.has_orphans {
        return trial::skip("the truth was taken after orphans were freed");
    }
    let directory = tempfile::tempdir()?;
    let found = engine_walk::counts(&engine_walk::mount(&golden.unpack(directory.path())?)?)?;
    ensure!(found == want, "expected {want:?}, found {found:?}");
    Ok(())
}
