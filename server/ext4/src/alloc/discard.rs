//! Free runs on their way to the device's discard: nobody may get them meanwhile, or the discard
//! would destroy what was written there.
//!
//! With `-o discard` freed runs stop here after their commit; FITRIM fetches what is free.
//! # Locking
//! A batch holds no lock: its runs are claims of their groups until it is dropped.
//! Kernel: fs/ext4/mballoc.c `ext4_process_freed_data`, `ext4_try_to_trim_range`

use std::ops::Range;
use std::sync::atomic::Ordering;

use super::bitmaps;
use super::block::Run;
use super::claims::Why;
use super::search::{self, length};
use super::space::{Space, settle};
use crate::error::Result;
use crate::group;
use crate::ids::{GroupNr, InodeNr};
use crate::volume::Volume;

/// Runs that are kept back until the batch is dropped. Whoever has it tells the device first, or not.
#[derive(Debug)]
pub(crate) struct Discards<'v> {
    volume: &'v Volume,
    space: &'v Space,
    runs: Vec<(GroupNr, Range<u32>)>,
}

impl Discards<'_> {
    /// The runs, in no order.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        let geometry = &self.volume.geometry;
        self.runs.iter().map(|(group, run)| Run {
            first: geometry.cluster_block(*group, run.start),
            len: length(run).saturating_mul(geometry.cluster_blocks),
        })
    }
}

impl Drop for Discards<'_> {
    fn drop(&mut self) {
        for (nr, run) in &self.runs {
            // The runs came out of these groups.
            let Ok(group) = self.space.group(*nr) else { continue };
            let mut state = group.lock();
            state.claims.discarded(run.start);
            group.settle(&state, self.space, length(run));
        }
    }
}

/// Whether freed runs are to be discarded after their commit (`-o discard`).
///
/// # Errors
/// [`crate::Refusal::ReadOnly`].
pub(crate) fn set_discard(volume: &Volume, on: bool) -> Result<()> {
    Space::of(volume)?.discard.store(on, Ordering::Relaxed);
    Ok(())
}

/// What was freed and committed since the last call, if [`set_discard`] is on.
///
/// # Errors
/// [`crate::Refusal::ReadOnly`].
pub(crate) fn take_discards(volume: &Volume) -> Result<Discards<'_>> {
    settle(volume)?;
    let space = Space::of(volume)?;
    let runs = core::mem::take(&mut *space.discards.lock());
    Ok(Discards { volume, space, runs })
}

/// The free runs of `least` clusters and more among the clusters `range` of `group`: for FITRIM. What
/// is in windows or promised is left out.
///
/// # Errors
/// [`crate::Refusal::ReadOnly`]; corruption and I/O errors.
pub(crate) fn trim(
    volume: &Volume,
    nr: GroupNr,
    range: Range<u32>,
    least: u32,
) -> Result<Discards<'_>> {
    let space = Space::of(volume)?;
    let group = space.group(nr)?;
    bitmaps::warm(volume, group::descriptor(volume, nr)?.block_bitmap);
    let mut state = group.lock();
    let mut runs = Vec::new();
    if !state.bad_blocks {
        let desc = group::descriptor(volume, nr)?;
        let bitmap = bitmaps::blocks(volume, nr, &desc).map_err(|error| error.at_group(nr))?;
        let busy = state.claims.over(bitmap.bytes(), InodeNr::default(), false);
        let end = range.end.min(volume.geometry.clusters_in_group(nr));
        runs = search::runs(&busy, range.start, end).collect();
    }
    runs.retain(|run| length(run) >= least.max(1) && space.reserve.hold(length(run).into()));
    for run in &runs {
        group.usable.fetch_sub(length(run), Ordering::Relaxed);
        state.claims.insert(run.clone(), Why::Discard);
    }
    drop(state);
    Ok(Discards { volume, space, runs: runs.into_iter().map(|run| (nr, run)).collect() })
}
