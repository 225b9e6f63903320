//! What fast commits mean for the tree, written to the device: the final state of each inode, block and
//! name that they change, through handles.
//!
//! What could be refused is found out before the first change. All of it is in one transaction as long as
//! that has room, and that transaction takes the place of the fast commits: until it is committed, a
//! crash leaves them to be replayed. Where the kernel's replay leaves counts to e2fsck (the links of
//! directories, the blocks of new ones) they are made right.
//! # Locking
//! None: nobody else knows the volume yet.
//! Kernel: fs/ext4/fast_commit.c, "Replay Path Routines"

use core::ops::ControlFlow;
use std::ops::Range;

use super::space::{self, Moved};
use crate::alloc::{self, Privilege, Reservation, exact};
use crate::dir;
use crate::disk::extent::{self, Extent, MAX_UNWRITTEN};
use crate::edits::{Backing, Edited, Names};
use crate::error::{CorruptKind, Error, Place, Refusal, Result, Unmountable};
use crate::evict;
use crate::handle::{Credits, Handle};
use crate::ids::{BlockNr, InodeNr, LogicalBlock};
use crate::inode::{self, FileKind, Inode, InodeFlags};
use crate::map::{self, Mapping, State};
use crate::orphan;
use crate::quota::{self, Charge};
use crate::volume::Volume;
use crate::xattr;

/// Runs of blocks that are counted in all.
const BUDGET: u32 = 1 << 18;

/// Writes the edits of `view`, which sees the same device as `volume`, and commits them.
///
/// # Errors
/// [`Unmountable::ReplayDamaged`] before anything was written; corruption, I/O errors.
pub(crate) fn apply(volume: &Volume, view: &Volume) -> Result<()> {
    let Some(moved) = space::moved(view)? else { return Err(damaged("they are too many")) };
    check(volume, view, &moved)?;
    let mut apply = Apply { volume, view, budget: BUDGET };
    apply.take(&moved.used)?;
    for edited in view.edits().iter() {
        let (before, after) = space::existence(view, &edited);
        match (before, after) {
            (before, true) => apply.inode(&edited, before)?,
            (Some(before), false) => apply.end(before)?,
            (None, false) => {}
        }
    }
    let recount = apply.changes_directories();
    for edited in view.edits().iter().filter(|edited| space::existence(view, edited).1) {
        if let Some(names) = edited.names {
            apply.names(edited.inode, names, recount)?;
        }
    }
    apply.free(&moved.freed)?;
    volume.sync()
}

fn damaged(why: &'static str) -> Error {
    Unmountable::ReplayDamaged { why }.into()
}

/// Looks for what cannot be, before anything is changed.
fn check(volume: &Volume, view: &Volume, moved: &Moved) -> Result<()> {
    for run in &moved.used {
        let mut rest = run.clone();
        while !rest.is_empty() {
            let part = exact::part(volume, &rest);
            let part = part.ok_or_else(|| damaged("fast commits give away blocks outside"))?;
            if !exact::is_free(volume, &part)? {
                return Err(damaged("fast commits give away blocks that are in use"));
            }
            rest.start = rest.start.saturating_add(part.clusters().into());
        }
    }
    for edited in view.edits().iter() {
        let (before, after) = space::existence(view, &edited);
        let nr = edited.inode;
        if nr != InodeNr::ROOT && volume.geometry.is_special(nr) {
            return Err(damaged("fast commits change an inode of the file system's own"));
        }
        if after && before.is_none() && alloc::inode_in_use(volume, nr)? {
            return Err(damaged("fast commits give away an inode that is in use"));
        }
        let fresh = edited.names.is_some_and(Names::is_fresh);
        if after && fresh && inode::get(view, nr)?.flags.has(InodeFlags::INLINE_DATA) {
            return Err(damaged("fast commits make a directory in an inode"));
        }
    }
    Ok(())
}

struct Apply<'v> {
    volume: &'v Volume,
    view: &'v Volume,
    budget: u32,
}

impl<'v> Apply<'v> {
    /// Takes blocks, so that nothing that is allocated for maps and directories is one of them.
    fn take(&self, used: &[Range<u64>]) -> Result<()> {
        for run in used {
            let mut rest = run.clone();
            while let Some(part) = exact::part(self.volume, &rest) {
                let mut space = self.reserve(part.clusters().into())?;
                let mut handle = self.volume.begin(exact::TAKE)?;
                exact::take(&mut handle, &mut space, &part)?;
                handle.stop()?;
                rest.start = rest.start.saturating_add(part.clusters().into());
            }
        }
        Ok(())
    }

    fn free(&self, freed: &[Range<u64>]) -> Result<()> {
        let ratio = u64::from(self.volume.geometry.cluster_blocks);
        for run in freed {
            let mut rest = run.clone();
            while let Some(part) = exact::part(self.volume, &rest) {
                let first = BlockNr::new(rest.start.saturating_mul(ratio));
                let blocks = part.clusters().saturating_mul(self.volume.geometry.cluster_blocks);
                let mut handle = self.volume.begin(alloc::free_credits(self.volume, blocks))?;
                handle.forget(first, blocks)?;
                alloc::free(&mut handle, first, blocks)?;
                handle.stop()?;
                rest.start = rest.start.saturating_add(part.clusters().into());
            }
        }
        Ok(())
    }

    fn reserve(&self, clusters: u64) -> Result<Reservation<'v>> {
        alloc::reserve(self.volume, clusters, Privilege::Reserve)
    }

    /// Changes `inode` in a handle of its own, with what one more run in its map takes.
    fn change<T>(
        &self,
        inode: &mut Inode,
        at: LogicalBlock,
        change: impl FnOnce(&mut Handle<'_>, &mut Inode, &mut Reservation<'_>) -> Result<T>,
    ) -> Result<T> {
        let mut space = self.reserve(map::split_cost(self.volume, inode, at)?)?;
        let mut handle = self.volume.begin(Credits(map::CHANGE.saturating_add(map::REMOVE)))?;
        let value = change(&mut handle, inode, &mut space)?;
        inode::store(&mut handle, inode)?;
        handle.stop()?;
        Ok(value)
    }

    /// Brings an inode that is in use now to its final state, names aside. `before`: what had its
    /// number on the disk.
    fn inode(&mut self, edited: &Edited<'_>, before: Option<Inode>) -> Result<()> {
        let target = inode::get(self.view, edited.inode)?;
        let mut next = (*target).clone();
        let kept = before.clone().filter(|_| !edited.was_freed);
        match &kept {
            Some(old) => (next.blocks512, next.xattr_block) = (old.blocks512, old.xattr_block),
            None => self.begin(&mut next, before)?,
        }
        let counted = match kept.filter(|_| edited.ranges().next().is_some()) {
            Some(old) => map::clusters(self.volume, &old, &mut self.budget).map_err(too_many)?,
            None => 0,
        };
        for (logical, len, backing) in edited.ranges() {
            self.range(&mut next, logical..logical.saturating_add(len), backing)?;
        }
        if edited.ranges().next().is_some() {
            let now = map::clusters(self.volume, &next, &mut self.budget).map_err(too_many)?;
            let sectors = |clusters| map::sectors(&self.volume.geometry, clusters);
            next.blocks512 =
                next.blocks512.saturating_sub(sectors(counted)).saturating_add(sectors(now));
        }
        let mut handle = self.volume.begin(Credits(1))?;
        inode::store(&mut handle, &next)?;
        handle.stop()
    }

    /// Puts a new inode where there was none, or after the one that was there.
    fn begin(&self, next: &mut Inode, before: Option<Inode>) -> Result<()> {
        let nr = next.nr;
        if let Some(old) = &before {
            self.strip(old.clone())?;
        }
        (next.blocks512, next.xattr_block) = (0, None);
        if next.flags.has(InodeFlags::EXTENTS) {
            next.block = [0; 60];
            extent::init_root_unless_there(&mut next.block);
        }
        quota::prepare(self.volume, &Charge::of(next))?;
        let raw = inode::record(self.view, nr)?;
        let credits = alloc::ALLOCATE_INODE.0.saturating_add(alloc::FREE_INODE.0);
        let mut handle = self.volume.begin(Credits(credits.saturating_add(2)))?;
        if let Some(old) = &before {
            // It may have been of another kind, which is counted.
            alloc::free_inode(&mut handle, old)?;
        }
        alloc::take_inode(&mut handle, nr, next.is_directory())?;
        inode::prepare(&mut handle, nr, &raw)?;
        inode::store(&mut handle, next)?;
        handle.stop()
    }

    /// Takes all from an inode whose number goes to another; its blocks are freed with the others.
    fn strip(&self, mut old: Inode) -> Result<()> {
        if old.flags.has(InodeFlags::EXTENTS) && evict::has_map(self.volume, &old) {
            self.detach_all(&mut old)?;
        }
        let mut handle =
            self.volume.begin(Credits(xattr::credits(self.volume).0.saturating_add(1)))?;
        xattr::remove_all(&mut handle, &mut old)?;
        old.blocks512 = 0;
        inode::store(&mut handle, &old)?;
        let owners = Charge { blocks512: 0, ..Charge::of(&old) };
        quota::charge(&mut handle, &owners, &Charge { inodes: 0, ..owners })?;
        handle.stop()
    }

    fn detach_all(&self, old: &mut Inode) -> Result<()> {
        let mut at = 0;
        while at < map::LIMIT {
            let mapping = map::lookup(self.volume, old, LogicalBlock::new(at))?;
            let end = at.saturating_add(mapping.blocks());
            if matches!(mapping, Mapping::Hole { .. }) {
                at = end;
                continue;
            }
            self.detach(old, at..end)?;
        }
        Ok(())
    }

    fn detach(&self, inode: &mut Inode, range: Range<u32>) -> Result<()> {
        let last = LogicalBlock::new(range.end.saturating_sub(1));
        self.change(inode, last, |handle, inode, space| map::detach(handle, inode, range, space))
    }

    /// Makes the blocks of `range` what `backing` says.
    fn range(&self, inode: &mut Inode, range: Range<u32>, backing: Backing) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let here = LogicalBlock::new(at);
            let found = map::lookup(self.volume, inode, here)?;
            let len = found.blocks().min(range.end.saturating_sub(at));
            let end = at.saturating_add(len);
            let (wanted, unwritten) = match backing.after(at.saturating_sub(range.start)) {
                Backing::Hole => (None, false),
                Backing::Unwritten(first) => (Some(first), true),
                Backing::Written(first) => (Some(first), false),
            };
            match (found, wanted) {
                (Mapping::Hole { .. }, None) => at = end,
                (Mapping::Hole { .. }, Some(first)) => {
                    let len = u16::try_from(len).unwrap_or(u16::MAX).min(MAX_UNWRITTEN);
                    let run = Extent { at: here, first, len, unwritten };
                    self.change(inode, here, |handle, inode, space| {
                        map::attach(handle, inode, run, space)
                    })?;
                    at = at.saturating_add(len.into());
                }
                (Mapping::Written { first, .. } | Mapping::Unwritten { first, .. }, Some(same))
                    if first == same =>
                {
                    at = at.saturating_add(self.convert(inode, (here, len), unwritten)?);
                }
                _ => self.detach(inode, at..end)?,
            }
        }
        Ok(())
    }

    /// Gives blocks that are mapped already their state. How many it was; at least 1.
    fn convert(
        &self,
        inode: &mut Inode,
        (at, len): (LogicalBlock, u32),
        unwritten: bool,
    ) -> Result<u32> {
        let state = if unwritten { State::Unwritten } else { State::Written };
        let done = self.change(inode, at, |handle, inode, space| {
            map::convert(handle, inode, (at, len), state, space)
        })?;
        Ok(done.max(1))
    }

    /// An inode that lost its last name: the mount finishes with it as with other orphans.
    fn end(&self, mut inode: Inode) -> Result<()> {
        inode.links = 0;
        let mut handle = self.volume.begin(orphan::CREDITS)?;
        inode::store(&mut handle, &inode)?;
        inode::forget(self.volume, inode.nr);
        orphan::prepend(&mut handle, inode.nr)?;
        handle.stop()
    }

    /// Whether a directory comes or goes, so that links of others change.
    fn changes_directories(&self) -> bool {
        self.view.edits().iter().any(|edited| {
            let (before, after) = space::existence(self.view, &edited);
            let gone = before.is_some_and(|inode| inode.is_directory()) && !after;
            gone || edited.names.is_some_and(Names::is_fresh)
        })
    }

    fn names(&self, nr: InodeNr, names: &Names, recount: bool) -> Result<()> {
        let mut dir = (*inode::get(self.volume, nr)?).clone();
        if names.is_fresh() {
            self.directory(&mut dir, names)?;
        }
        for key in names.removed() {
            let mut handle = self.volume.begin(Credits(4))?;
            dir::remove(&mut handle, &mut dir, key)?;
            inode::store(&mut handle, &dir)?;
            handle.stop()?;
        }
        for added in names.after(0).filter(|added| !matches!(&*added.name, b"." | b"..")) {
            let needs = dir::needs(self.volume, &dir, &added.name)?;
            let mut space = self.reserve(needs.clusters)?;
            let mut handle = self.volume.begin(Credits(needs.credits.0.saturating_add(1)))?;
            let target = (added.inode, added.kind);
            dir::insert(&mut handle, &mut dir, &added.name, target, &mut space)?;
            inode::store(&mut handle, &dir)?;
            handle.stop()?;
        }
        // A directory with too many subdirectories has 1 link for good.
        if !recount || dir.links == 1 && !names.is_fresh() {
            return Ok(());
        }
        dir.links = self.links(&dir)?;
        let mut handle = self.volume.begin(Credits(1))?;
        inode::store(&mut handle, &dir)?;
        handle.stop()
    }

    /// Makes a new directory's first block.
    fn directory(&self, dir: &mut Inode, names: &Names) -> Result<()> {
        let parent = names.get(b"..").unwrap_or(InodeNr::ROOT);
        dir.flags = dir.flags.without(InodeFlags::INDEX);
        let needs = dir::init_needs(self.volume);
        let mut space = self.reserve(needs.clusters)?;
        let mut handle = self.volume.begin(Credits(needs.credits.0.saturating_add(1)))?;
        dir::init(&mut handle, dir, parent, &mut space)?;
        inode::store(&mut handle, dir)?;
        handle.stop()
    }

    /// What i_links_count of `dir` should be.
    fn links(&self, dir: &Inode) -> Result<u16> {
        let (mut links, mut failed) = (2_u16, None);
        dir::iterate(self.volume, dir, 0, &mut |entry| {
            if matches!(entry.name, b"." | b"..") {
                return ControlFlow::Continue(());
            }
            let is_directory = match entry.kind {
                Some(kind) => Ok(kind == FileKind::Directory),
                None => inode::get(self.volume, entry.inode).map(|inode| inode.is_directory()),
            };
            match is_directory {
                Ok(is_directory) => links = links.saturating_add(is_directory.into()),
                Err(error) => {
                    failed = Some(error);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        })?;
        failed.map_or(Ok(links), Err)
    }
}

/// Counting was given up.
fn too_many(error: Error) -> Error {
    match error {
        Error::Refused(Refusal::TooBig) => {
            let kind = CorruptKind::FreeCount { what: "block" };
            Error::corrupt(Place::default(), kind)
        }
        other => other,
    }
}
