//! A full disk: with every number of free blocks, and of free inodes, that a verb could want.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use fuse4fs_ext4::device::MemDevice;
use fuse4fs_ext4::{Error, ErrorPolicy, Filesystem, Overhead, Refusal};

use crate::tools::*;
use crate::verb::{Kind, Verb, look, make_witness, must_be_clean, see_witness};

/// Free clusters, or inodes, that are tried: none to so many.
const MOST: u64 = 200;
/// After so many successes in a row more space makes no difference.
const ENOUGH: u32 = 3;

/// How often a verb was refused, and how often it was done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) refused: u64,
    pub(crate) done: u64,
}

/// What runs out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    Blocks,
    Inodes,
}

/// Tries `verb` with 0, 1, 2, ... of what it wants, until there is enough. `None` if this kind refuses
/// it, whatever there is.
pub(crate) fn fill(verb: &Verb, kind: &Kind, kib: usize, want: Want) -> Result<Option<Tally>> {
    let full = kind.made(kib, |fs| {
        make_witness(fs)?;
        (verb.setup)(fs)?;
        match want {
            Want::Blocks => take_blocks(fs),
            Want::Inodes => take_inodes(fs),
        }
    })?;
    let (mut tally, mut row) = (Tally::default(), 0);
    for left in 0..MOST {
        match attempt(verb, kind, &full, (want, left))
            .with_context(|| format!("{left} {want:?}"))?
        {
            Some(true) => (tally.done, row) = (tally.done + 1, row + 1),
            Some(false) => {
                ensure!(row == 0, "refused with {left} {want:?} free, and not with fewer");
                tally.refused += 1;
            }
            None => return Ok(None),
        }
        if row == ENOUGH {
            return Ok(Some(tally));
        }
    }
    // What never fits, like a value without inodes for values.
    Ok(None)
}

/// True if it was done, false if it was refused.
fn attempt(
    verb: &Verb,
    kind: &Kind,
    full: &[u8],
    (want, left): (Want, u64),
) -> Result<Option<bool>> {
    let device = Arc::new(MemDevice::new(full.to_vec()));
    let fs = kind.mount(device.clone(), ErrorPolicy::ReadOnly)?;
    match want {
        Want::Blocks if left > 0 => give_blocks(&fs, left)?,
        Want::Inodes => (0..left).try_for_each(|nr| unlink(&fs, &format!("spare/{nr}")))?,
        Want::Blocks => {}
    }
    fs.sync()?;
    let before = free(&fs)?;
    let acted = (verb.act)(&fs);
    ensure!(fs.is_writable(), "writing has ended: {acted:?}");
    let done = match acted {
        Ok(()) => true,
        Err(Error::Refused(Refusal::NoSpace)) => false,
        Err(Error::Refused(Refusal::NotSupported)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    fs.sync()?;
    let after = free(&fs)?;
    if !done && verb.extent == crate::verb::Extent::Whole {
        ensure!(after == before, "refused, and {before:?} free became {after:?}");
    }
    fs.unmount()?;
    let bytes = device.contents();
    must_be_clean(&bytes)?;
    look(bytes, |fs| {
        see_witness(fs)?;
        if done { (verb.done)(fs) } else { Ok(()) }
    })?;
    Ok(Some(done))
}

fn free(fs: &Filesystem) -> Result<(u64, u64)> {
    let found = fs.statfs(Overhead::Include)?;
    Ok((found.free, found.inodes_free))
}

const BLOCK: u64 = 1024;

/// Writes until nothing is left.
fn take_blocks(fs: &Filesystem) -> Result<()> {
    let nr = file(fs, "filler")?;
    let mut at = 0;
    let full = loop {
        match write(fs, nr, at, 64 << 10, 0x5a) {
            Ok(()) => at += 64 << 10,
            Err(error) => break error,
        }
    };
    ensure!(matches!(full, Error::Refused(Refusal::NoSpace)), "{full}");
    fs.sync()?;
    // The last cluster's blocks may have been mapped in part only.
    let (left, _) = free(fs)?;
    ensure!(left == 0, "{left} blocks cannot be had");
    Ok(())
}

/// Frees `clusters` of the filler's last.
fn give_blocks(fs: &Filesystem, clusters: u64) -> Result<()> {
    let nr = at(fs, "filler")?;
    let cluster = u64::from(fs.geometry().cluster_blocks) * BLOCK;
    let size = fs.inode(nr)?.size.div_ceil(cluster) * cluster;
    fs.truncate(&caller(), nr, size - clusters * cluster)?;
    Ok(())
}

fn take_inodes(fs: &Filesystem) -> Result<()> {
    dir(fs, "spare")?;
    for index in 0.. {
        match file(fs, &format!("spare/{index}")) {
            Ok(_) => {}
            Err(Error::Refused(Refusal::NoSpace)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    let (_, left) = free(fs)?;
    ensure!(left == 0, "{left} inodes cannot be had");
    Ok(())
}
