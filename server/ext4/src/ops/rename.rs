//! rename(2) and renameat2(2).
//!
//! # Locking
//! Moving a directory to another parent takes the rename lock, so that no two moves make a cycle;
//! then all inodes involved are locked in ascending order, and the names looked up once more.
//! Kernel: fs/ext4/namei.c `ext4_rename`, `ext4_cross_rename`; fs/namei.c `lock_rename`

use parking_lot::MutexGuard;

use super::change::{changed, check_new_name, check_removable, directory};
use super::unlink::{Unlinked, drop_links};
use crate::alloc::{self, Reservation};
use crate::caller::Caller;
use crate::dir::{self, Needs};
use crate::error::{CorruptKind, Error, Place, Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::{Credits, Handle};
use crate::ids::InodeNr;
use crate::inode::{self, Birth, FileKind, Inode, WriteGuard};
use crate::quota::{Amount, Charge, Claim, check_project};
use crate::volume::Volume;

/// What happens to an inode that has the new name already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Rename {
    /// It loses the name.
    #[default]
    Replace,
    /// RENAME_NOREPLACE: nothing, and the call fails.
    NoReplace,
    /// RENAME_EXCHANGE: it gets the old one, and must be there.
    Exchange,
    /// RENAME_WHITEOUT: it loses the name, and a whiteout takes the old one.
    Whiteout,
}

/// One entry: a directory and a name in it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The directory.
    pub parent: InodeNr,
    /// The name.
    pub name: &'a [u8],
}

/// Directories deeper than this are taken for a cycle.
const MAX_DEPTH: u32 = 1 << 16;

/// Both directories' blocks and inodes, both moved inodes with their "..", an orphan, a whiteout.
const RENAME: u32 = 32;

impl Filesystem {
    /// Moves `from` to `to`. Returns what lost its name to it.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], `Exists`, `IsDirectory`, `NotDirectory`, `NotEmpty`, `Invalid` (a
    /// directory into itself), `NotPermitted`, `TooManyLinks`, `CrossDevice`; as
    /// [`Filesystem::create`].
    pub fn rename(
        &self,
        caller: &Caller,
        from: Named<'_>,
        to: Named<'_>,
        how: Rename,
    ) -> Result<Option<Unlinked>> {
        check_new_name(from.name).and_then(|()| check_new_name(to.name)).map_err(dots)?;
        let mut job = self.lock_rename(from, to)?;
        if job.victim.as_ref().is_some_and(|victim| victim.nr == job.moved.nr) {
            return Ok(None);
        }
        job.check(&self.volume, how)?;
        let needs = match &job.victim {
            Some(_) => Needs { clusters: 0, credits: Credits(1) },
            None => dir::needs(&self.volume, job.to_dir(), to.name)?,
        };
        let who = self.privilege(caller);
        let mut claim = match how {
            Rename::Whiteout => self.claim(caller, &job.dir, Amount { bytes: 0, inodes: 1 })?,
            _ => Claim::new(&self.volume, who),
        };
        let grown = Amount::clusters(&self.volume.geometry, needs.clusters);
        claim.add(&Charge::of(job.to_dir()), grown)?;
        let mut space = alloc::reserve(&self.volume, needs.clusters, who)?;
        let credits = needs.credits.0.saturating_add(RENAME);
        let mut handle = self.volume.begin(Credits(credits))?.with(claim);
        let lost = match how {
            Rename::Exchange => job.exchange(&mut handle, caller).map(|()| None)?,
            _ => job.replace(&mut handle, caller, how, &mut space)?,
        };
        job.store(&mut handle)?;
        let dirs = [Some(&job.dir), job.other.as_ref()];
        let dirs: Vec<&Inode> = dirs.into_iter().flatten().collect();
        self.finish(handle, &dirs)?;
        Ok(lost)
    }

    /// Locks everything that a rename touches.
    fn lock_rename<'a>(&'a self, from: Named<'a>, to: Named<'a>) -> Result<Job<'a>> {
        let volume = &self.volume;
        loop {
            let moved = self.named(from.parent, from.name)?;
            let victim = match self.named(to.parent, to.name) {
                Err(Error::Refused(Refusal::NotFound)) => None,
                found => Some(found?),
            };
            let moves_directory =
                from.parent != to.parent && inode::get(volume, moved)?.is_directory();
            let exchanged = victim.filter(|_| from.parent != to.parent);
            let across = moves_directory
                || exchanged
                    .is_some_and(|nr| inode::get(volume, nr).is_ok_and(|i| i.is_directory()));
            let tree = across.then(|| self.lock_tree()).transpose()?;
            let mut all = vec![from.parent, to.parent, moved];
            all.extend(victim);
            let locks = self.lock_all(&all)?;
            let dir = directory(volume, from.parent)?;
            let other = match to.parent == from.parent {
                true => None,
                false => Some(directory(volume, to.parent)?),
            };
            let to_dir = other.as_ref().unwrap_or(&dir);
            if dir::find(volume, &dir, from.name)? != Some(moved)
                || dir::find(volume, to_dir, to.name)? != victim
            {
                continue;
            }
            let moved = (*self.target(&dir, from.name, moved)?).clone();
            let victim = match victim {
                Some(nr) => Some((*self.target(to_dir, to.name, nr)?).clone()),
                None => None,
            };
            let is_tree = moved.is_directory() || victim.as_ref().is_some_and(Inode::is_directory);
            if other.is_some() && is_tree && !across {
                continue;
            }
            let job = Job { from, to, dir, other, moved, victim, _locks: locks, _tree: tree };
            if across {
                job.check_ancestry(volume)?;
            }
            return Ok(job);
        }
    }
}

/// "." and ".." can neither be moved nor replaced.
fn dots(error: Error) -> Error {
    match error {
        Error::Refused(Refusal::Exists) => Refusal::Busy.into(),
        other => other,
    }
}

/// A rename, with all it touches locked.
struct Job<'a> {
    from: Named<'a>,
    to: Named<'a>,
    /// The directory of the old name.
    dir: Inode,
    /// That of the new name, if it is another one.
    other: Option<Inode>,
    moved: Inode,
    victim: Option<Inode>,
    _locks: Vec<WriteGuard>,
    /// Held while a directory changes its parent.
    _tree: Option<MutexGuard<'a, ()>>,
}

impl Job<'_> {
    fn to_dir(&self) -> &Inode {
        self.other.as_ref().unwrap_or(&self.dir)
    }

    fn to_dir_mut(&mut self) -> &mut Inode {
        self.other.as_mut().unwrap_or(&mut self.dir)
    }

    /// Everything that can refuse.
    fn check(&self, volume: &Volume, how: Rename) -> Result<()> {
        check_removable(&self.dir, &self.moved)?;
        check_project(self.to_dir(), &self.moved)?;
        let to_dir = self.to_dir();
        let Some(victim) = &self.victim else {
            if how == Rename::Exchange {
                return Err(Refusal::NotFound.into());
            }
            if self.moved.is_directory() && self.other.is_some() {
                dir::check_links(volume, to_dir)?;
            }
            return Ok(());
        };
        check_removable(to_dir, victim)?;
        match how {
            Rename::NoReplace => return Err(Refusal::Exists.into()),
            Rename::Exchange => {
                check_project(&self.dir, victim)?;
                return self.check_exchanged_links(volume, victim);
            }
            Rename::Replace | Rename::Whiteout => {}
        }
        match (self.moved.is_directory(), victim.is_directory()) {
            (true, false) => return Err(Refusal::NotDirectory.into()),
            (false, true) => return Err(Refusal::IsDirectory.into()),
            (true, true) if !dir::is_empty(volume, victim)? => return Err(Refusal::NotEmpty.into()),
            _ => {}
        }
        Ok(())
    }

    /// A directory that is exchanged for a file counts in another parent from then on.
    fn check_exchanged_links(&self, volume: &Volume, victim: &Inode) -> Result<()> {
        match (self.moved.is_directory(), victim.is_directory()) {
            _ if self.other.is_none() => Ok(()),
            (true, false) => dir::check_links(volume, self.to_dir()),
            (false, true) => dir::check_links(volume, &self.dir),
            _ => Ok(()),
        }
    }

    /// No directory moves to below itself. The caller holds the rename lock, so no ancestor of
    /// either directory is moved meanwhile.
    fn check_ancestry(&self, volume: &Volume) -> Result<()> {
        if self.moved.is_directory() && is_below(volume, self.to_dir().nr, self.moved.nr)? {
            return Err(Refusal::Invalid.into());
        }
        if let Some(victim) = self.victim.as_ref().filter(|victim| victim.is_directory())
            && is_below(volume, self.dir.nr, victim.nr)?
        {
            return Err(Refusal::NotEmpty.into());
        }
        Ok(())
    }

    /// The old name goes, the new one names the moved inode.
    fn replace(
        &mut self,
        handle: &mut Handle<'_>,
        caller: &Caller,
        how: Rename,
        space: &mut Reservation<'_>,
    ) -> Result<Option<Unlinked>> {
        let (from, to) = (self.from.name, self.to.name);
        // First of all, because inodes may have run out.
        let whiteout = match how {
            Rename::Whiteout => Some(whiteout(handle, caller, &self.dir, from)?),
            _ => None,
        };
        let (nr, kind) = (self.moved.nr, self.moved.kind);
        let moved_directory = kind == FileKind::Directory;
        let had_victim = self.victim.is_some();
        if had_victim {
            dir::replace(handle, self.to_dir_mut(), to, nr, kind)?;
        } else {
            dir::insert(handle, self.to_dir_mut(), to, (nr, kind), space)?;
        }
        match &whiteout {
            Some(whiteout) => {
                dir::replace(handle, &mut self.dir, from, whiteout.nr, whiteout.kind)?;
                inode::store(handle, whiteout)?;
            }
            None => {
                dir::remove(handle, &mut self.dir, from)?;
            }
        }
        let mut lost = None;
        if let Some(mut victim) = self.victim.take() {
            let left = if victim.is_directory() { 0 } else { victim.links.saturating_sub(1) };
            lost = Some(drop_links(handle, caller, &mut victim, left)?);
        }
        if moved_directory {
            self.count_moved_directory(handle, had_victim)?;
        }
        self.moved.ctime = caller.now;
        self.touch(caller);
        Ok(lost)
    }

    /// The parents' link counts and the moved directory's "..".
    fn count_moved_directory(&mut self, handle: &mut Handle<'_>, had_victim: bool) -> Result<()> {
        // The old parent has one subdirectory less; with one parent that is the victim.
        if self.other.is_some() || had_victim {
            dir::drop_link(&mut self.dir);
        }
        let Some(other) = &mut self.other else { return Ok(()) };
        if !had_victim {
            dir::add_link(handle.volume(), other);
        }
        dir::set_parent(handle, &mut self.moved, other.nr)
    }

    /// Both names stay, each with the other's inode.
    fn exchange(&mut self, handle: &mut Handle<'_>, caller: &Caller) -> Result<()> {
        let Some(mut victim) = self.victim.take() else { return Err(Refusal::NotFound.into()) };
        let (nr, kind) = (self.moved.nr, self.moved.kind);
        let to = self.to.name;
        dir::replace(handle, self.to_dir_mut(), to, nr, kind)?;
        dir::replace(handle, &mut self.dir, self.from.name, victim.nr, victim.kind)?;
        if let Some(other) = &mut self.other {
            match (self.moved.is_directory(), victim.is_directory()) {
                (true, false) => {
                    dir::drop_link(&mut self.dir);
                    dir::add_link(handle.volume(), other);
                }
                (false, true) => {
                    dir::drop_link(other);
                    dir::add_link(handle.volume(), &mut self.dir);
                }
                _ => {}
            }
            if self.moved.is_directory() {
                dir::set_parent(handle, &mut self.moved, other.nr)?;
            }
            if victim.is_directory() {
                dir::set_parent(handle, &mut victim, self.dir.nr)?;
            }
        }
        (self.moved.ctime, victim.ctime) = (caller.now, caller.now);
        self.touch(caller);
        inode::store(handle, &victim)
    }

    fn touch(&mut self, caller: &Caller) {
        changed(&mut self.dir, caller.now);
        if let Some(other) = &mut self.other {
            changed(other, caller.now);
        }
    }

    fn store(&self, handle: &mut Handle<'_>) -> Result<()> {
        inode::store(handle, &self.moved)?;
        inode::store(handle, &self.dir)?;
        self.other.as_ref().map_or(Ok(()), |other| inode::store(handle, other))
    }
}

/// The device node that hides a name of a lower layer of overlayfs.
fn whiteout(handle: &mut Handle<'_>, caller: &Caller, dir: &Inode, name: &[u8]) -> Result<Inode> {
    let kind = FileKind::CharDevice;
    let found = alloc::allocate_inode(handle, dir, kind, name)?;
    let (nr, generation) = (found.nr, found.generation);
    let birth = Birth { nr, generation, parent: dir, kind, permissions: 0, rdev: (0, 0), caller };
    inode::init(handle, &birth)
}

/// Whether directory `nr` is `top` or lies below it.
fn is_below(volume: &Volume, nr: InodeNr, top: InodeNr) -> Result<bool> {
    let mut at = nr;
    for _ in 0..MAX_DEPTH {
        if at == top {
            return Ok(true);
        }
        if at == InodeNr::ROOT {
            return Ok(false);
        }
        let dir = inode::get(volume, at)?;
        at = dir::find(volume, &dir, b"..")?.ok_or(Refusal::NotFound)?;
    }
    let kind = CorruptKind::DirLinkedToItself { inode: at.get() };
    Err(Error::corrupt(Place::inode(nr), kind))
}
