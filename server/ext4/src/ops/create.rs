//! New inodes with a name: create(2), mknod(2), mkdir(2), symlink(2); and O_TMPFILE, without one.
//!
//! Kernel: fs/ext4/namei.c `ext4_create`, `ext4_mkdir`, `ext4_symlink`, `ext4_tmpfile`

use std::sync::Arc;

use super::change::{changed, check_new_name, directory};
use crate::alloc::{self, Reservation};
use crate::caller::Caller;
use crate::dir;
use crate::error::{Refusal, Result};
use crate::features::Incompat;
use crate::filesystem::Filesystem;
use crate::handle::{Credits, Handle};
use crate::ids::{InodeNr, LogicalBlock, in_memory, on_disk};
use crate::inode::{self, Birth, FileKind, Inode, InodeFlags};
use crate::map::{self, Mapping, State};
use crate::orphan;
use crate::quota::{self, Amount, Charge, Claim};
use crate::volume::Volume;
use crate::xattr::access::{self, Inherited};
use crate::xattr::{self, Change, Mode, Set};

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewInode<'a> {
    /// What it is.
    pub kind: FileKind,
    /// Permission bits as asked for, 0..=0o7777; the verb applies umask and default ACL.
    pub permissions: u16,
    /// Major and minor number of a device node.
    pub rdev: (u32, u32),
    /// A symbolic link's target.
    pub target: &'a [u8],
    /// A security label to be born with: the attribute's name and value.
    pub label: Option<(&'a [u8], &'a [u8])>,
}

/// Longest target that fits i_block with its NUL.
const FAST_SYMLINK: usize = 59;

/// Blocks that any of these verbs may change beside names, attributes and content: those of a new
/// inode and its record, the directory's inode, an orphan's place.
const BASE: u32 = alloc::ALLOCATE_INODE.0 + 2 + orphan::CREDITS.0;

impl Filesystem {
    /// Makes an inode called `name` in directory `parent`.
    ///
    /// # Errors
    /// [`Refusal::Exists`], `NameTooLong`, `NotDirectory`, `NotFound` (the directory was removed),
    /// `NotPermitted` (it is immutable), `NoKey`, `TooManyLinks`, `NoSpace`, `Quota`, `ReadOnly`;
    /// corruption and I/O errors.
    pub fn create(
        &self,
        caller: &Caller,
        parent: InodeNr,
        name: &[u8],
        new: &NewInode<'_>,
    ) -> Result<Arc<Inode>> {
        let volume = &self.volume;
        check_new_name(name)?;
        check_target(volume, new)?;
        let _lock = self.lock(parent)?;
        let mut dir = directory(volume, parent)?;
        if dir::find(volume, &dir, name)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        if new.kind == FileKind::Directory {
            dir::check_links(volume, &dir)?;
        }
        let names = dir::needs(volume, &dir, name)?;
        let heritage = access::inherit(volume, &dir, new.kind, new.permissions, caller.umask)?;
        let clusters = names.clusters.saturating_add(own_clusters(volume, new, &heritage));
        let mut claim = self.claim(caller, &dir, own_charge(volume, new, &heritage)?)?;
        claim.add(&Charge::of(&dir), Amount::clusters(&volume.geometry, names.clusters))?;
        let mut space = alloc::reserve(volume, clusters, self.privilege(caller))?;
        let credits = credits(volume, new, names.credits);
        let mut handle = volume.begin(credits)?.with(claim);
        let maker = Maker { caller, dir: &dir, name, new, heritage: &heritage };
        let mut inode = maker.make(&mut handle, &mut space)?;
        if new.kind == FileKind::Directory {
            dir::init(&mut handle, &mut inode, dir.nr, &mut space)?;
            dir::add_link(volume, &mut dir);
        }
        dir::insert(&mut handle, &mut dir, name, (inode.nr, new.kind), &mut space)?;
        changed(&mut dir, caller.now);
        inode::store(&mut handle, &inode)?;
        inode::store(&mut handle, &dir)?;
        self.finish(handle, &[&dir])?;
        inode::get(volume, inode.nr)
    }

    /// Makes a regular file without a name, which [`Filesystem::link`] can give it. Until then it
    /// is an orphan: [`Filesystem::release`] frees it.
    ///
    /// # Errors
    /// As [`Filesystem::create`]; [`Refusal::Invalid`] for any other kind.
    pub fn tmpfile(
        &self,
        caller: &Caller,
        parent: InodeNr,
        new: &NewInode<'_>,
    ) -> Result<Arc<Inode>> {
        if new.kind != FileKind::Regular {
            return Err(Refusal::Invalid.into());
        }
        let volume = &self.volume;
        let _lock = self.lock_shared(parent)?;
        let dir = directory(volume, parent)?;
        let heritage = access::inherit(volume, &dir, new.kind, new.permissions, caller.umask)?;
        let clusters = own_clusters(volume, new, &heritage);
        let claim = self.claim(caller, &dir, own_charge(volume, new, &heritage)?)?;
        let mut space = alloc::reserve(volume, clusters, self.privilege(caller))?;
        let mut handle = volume.begin(credits(volume, new, Credits(0)))?.with(claim);
        let maker = Maker { caller, dir: &dir, name: b"", new, heritage: &heritage };
        let mut inode = maker.make(&mut handle, &mut space)?;
        inode.links = 0;
        orphan::add(&mut handle, inode.nr)?;
        inode::store(&mut handle, &inode)?;
        handle.stop()?;
        inode::get(volume, inode.nr)
    }
}

impl Filesystem {
    /// Claims `new` for whom an inode belongs to that the caller makes in `dir`.
    ///
    /// # Errors
    /// [`Refusal::Quota`]; `NoSpace` for a quota file that has to grow; corruption, I/O errors.
    pub(super) fn claim(&self, caller: &Caller, dir: &Inode, new: Amount) -> Result<Claim<'_>> {
        let owners = inode::owners(&self.volume, dir, caller);
        quota::prepare(&self.volume, &owners)?;
        let mut claim = Claim::new(&self.volume, self.privilege(caller));
        claim.add(&owners, new)?;
        Ok(claim)
    }
}

/// A target must be there, fit a block, and hold no NUL.
fn check_target(volume: &Volume, new: &NewInode<'_>) -> Result<()> {
    if new.kind != FileKind::Symlink {
        return Ok(());
    }
    if new.target.is_empty() {
        return Err(Refusal::NotFound.into());
    }
    if new.target.contains(&0) {
        return Err(Refusal::Invalid.into());
    }
    // PATH_MAX, and with the NUL no more than a block.
    let most = in_memory(volume.block_size().into()).min(4096);
    if new.target.len() >= most {
        return Err(Refusal::NameTooLong.into());
    }
    Ok(())
}

/// Clusters of its content.
fn content_clusters(volume: &Volume, new: &NewInode<'_>) -> u64 {
    match new.kind {
        FileKind::Directory => dir::init_needs(volume).clusters,
        FileKind::Symlink if new.target.len() > FAST_SYMLINK => 1,
        _ => 0,
    }
}

/// What the inode's owners are charged: exactly if it holds its attributes, and at most if not.
fn own_charge(volume: &Volume, new: &NewInode<'_>, heritage: &Inherited) -> Result<Amount> {
    let (geometry, incompat) = (&volume.geometry, volume.geometry.features.incompat);
    let label = new.label.map(|(name, value)| Change::new(name, Some(value), Mode::Any));
    let label = label.transpose()?;
    let has_none = label.is_none() && heritage.changes().next().is_none();
    let inside = xattr::fit_in_inode(geometry, heritage.changes().chain(label));
    let is_inline =
        new.kind == FileKind::Directory && has_none && incompat.contains(Incompat::INLINE_DATA);
    let clusters = match inside {
        true if is_inline => 0,
        true => content_clusters(volume, new),
        false => own_clusters(volume, new, heritage),
    };
    let values = u64::from(!inside && label.is_some() && incompat.contains(Incompat::EA_INODE));
    let inodes = Amount { bytes: 0, inodes: values.saturating_add(1) };
    Ok(Amount::clusters(geometry, clusters).plus(inodes))
}

/// Clusters of the inode's own: content and attributes, at most.
fn own_clusters(volume: &Volume, new: &NewInode<'_>, heritage: &Inherited) -> u64 {
    // With an attribute block, unless the lists have one already; with ea_inode a long label has more.
    let label = new.label.map_or(0, |(_, value)| {
        on_disk(value.len()).div_ceil(volume.block_size().into()).saturating_add(3)
    });
    heritage.blocks_needed().saturating_add(label).saturating_add(content_clusters(volume, new))
}

/// The names' blocks, content with its map, three attributes at most (two lists and a label), and
/// [`BASE`].
fn credits(volume: &Volume, new: &NewInode<'_>, names: Credits) -> Credits {
    let content = match new.kind {
        FileKind::Directory | FileKind::Symlink => map::CHANGE.saturating_add(1),
        _ => 0,
    };
    let attributes =
        xattr::credits(volume).0.saturating_mul(if new.label.is_some() { 3 } else { 2 });
    let sum = names.0.saturating_add(content).saturating_add(attributes);
    Credits(sum.saturating_add(BASE))
}

/// Makes one inode in an open handle.
struct Maker<'a> {
    caller: &'a Caller,
    dir: &'a Inode,
    name: &'a [u8],
    new: &'a NewInode<'a>,
    heritage: &'a Inherited,
}

impl Maker<'_> {
    fn make(&self, handle: &mut Handle<'_>, space: &mut Reservation<'_>) -> Result<Inode> {
        let (volume, new) = (handle.volume(), self.new);
        let found = alloc::allocate_inode(handle, self.dir, new.kind, self.name)?;
        let birth = Birth {
            nr: found.nr,
            generation: found.generation,
            parent: self.dir,
            kind: new.kind,
            permissions: self.heritage.permissions,
            rdev: new.rdev,
            caller: self.caller,
        };
        let mut inode = inode::init(handle, &birth)?;
        match new.kind {
            FileKind::Regular => map::init(&mut inode, &volume.geometry),
            FileKind::Symlink => self.symlink(handle, &mut inode, space)?,
            _ => {}
        }
        let label = new.label.map(|(name, value)| Change::new(name, Some(value), Mode::Any));
        for change in self.heritage.changes().map(Ok).chain(label) {
            xattr::set(&mut Set { handle, inode: &mut inode, space }, change?)?;
        }
        Ok(inode)
    }

    /// A short target lies in i_block, a longer one in a block of its own, which is metadata.
    fn symlink(
        &self,
        handle: &mut Handle<'_>,
        inode: &mut Inode,
        space: &mut Reservation<'_>,
    ) -> Result<()> {
        let target = self.new.target;
        inode.size = on_disk(target.len());
        if target.len() <= FAST_SYMLINK {
            inode.flags = InodeFlags::new(inode.flags.bits() & !InodeFlags::EXTENTS);
            inode.block = [0; 60];
            inode.block.iter_mut().zip(target).for_each(|(to, from)| *to = *from);
            return Ok(());
        }
        map::init(inode, &handle.volume().geometry);
        let range = (LogicalBlock::new(0), 1);
        let mapping = map::allocate(handle, inode, range, State::Written, space)?;
        let Mapping::Written { first: block, .. } = mapping else {
            return Err(Refusal::NoSpace.into());
        };
        handle.create(block, |bytes| {
            bytes.iter_mut().zip(target).for_each(|(to, from)| *to = *from);
            Ok(())
        })
    }
}
