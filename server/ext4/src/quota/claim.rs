//! Claims: what a verb may add to the usage of owners, so that limits hold exactly.
//!
//! A claim is made before a handle is begun, and refused when it would pass a limit; until it is
//! dropped, others see it as used. The handle takes it along: what is charged there is taken from it,
//! the rest goes back with the handle. Who may pass limits claims nothing, and is charged all the same.
//! Nor is anything claimed for owners without limits: nobody can set any while the file system is
//! mounted.
//! # Locking
//! That of quota files, for moments.
//! Kernel: fs/quota/dquot.c `__dquot_alloc_space`, `dquot_alloc_inode`, `__dquot_transfer`

use super::file::File;
use super::{Charge, Kind, value_inodes};
use crate::alloc::{self, Privilege, Reservation};
use crate::error::Result;
use crate::geometry::Geometry;
use crate::inode::Inode;
use crate::volume::Volume;

/// What limits are about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) bytes: u64,
    pub(crate) inodes: u64,
}

impl Amount {
    /// Whole clusters.
    pub(crate) fn clusters(geometry: &Geometry, clusters: u64) -> Self {
        let each = u64::from(geometry.cluster_blocks).saturating_mul(geometry.block_size.into());
        Self { bytes: clusters.saturating_mul(each), inodes: 0 }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    pub(super) fn minus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(other.bytes),
            inodes: self.inodes.saturating_sub(other.inodes),
        }
    }

    fn min(self, other: Self) -> Self {
        Self { bytes: self.bytes.min(other.bytes), inodes: self.inodes.min(other.inodes) }
    }
}

/// What a verb may still add to what owners use.
#[derive(Debug)]
pub(crate) struct Claim<'v> {
    volume: &'v Volume,
    is_limited: bool,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    kind: Kind,
    id: u32,
    left: Amount,
}

impl<'v> Claim<'v> {
    /// An empty claim of `who`.
    pub(crate) fn new(volume: &'v Volume, who: Privilege) -> Self {
        Self { volume, is_limited: who != Privilege::Root, parts: Vec::new() }
    }

    /// Claims `more` for `owners`.
    ///
    /// # Errors
    /// [`crate::Refusal::Quota`]; corruption of a quota file, I/O errors.
    pub(crate) fn add(&mut self, owners: &Charge, more: Amount) -> Result<()> {
        self.add_where(owners, more, |_| true)
    }

    /// Claims for new owners all that `from` is charged for, of the kinds in which `to` has others.
    ///
    /// # Errors
    /// As [`Claim::add`].
    pub(crate) fn transfer(&mut self, from: &Inode, to: &Inode) -> Result<()> {
        let (old, new) = (Charge::of(from), Charge::of(to));
        if !self.is_limited || (old.uid, old.gid, old.project) == (new.uid, new.gid, new.project) {
            return Ok(());
        }
        let inodes = value_inodes(self.volume, from)?.saturating_add(old.inodes);
        let all = Amount { bytes: old.blocks512.saturating_mul(512), inodes };
        self.add_where(&new, all, |kind| old.id(kind) != new.id(kind))
    }

    fn add_where(
        &mut self,
        owners: &Charge,
        more: Amount,
        concerns: impl Fn(Kind) -> bool,
    ) -> Result<()> {
        let Some(quotas) = self.volume.quotas.get() else { return Ok(()) };
        if !self.is_limited || more == Amount::default() {
            return Ok(());
        }
        for (kind, file) in quotas.files.iter().filter(|(kind, _)| concerns(*kind)) {
            let id = owners.id(*kind);
            if file.lock().promise(self.volume, id, more)? {
                self.parts.push(Part { kind: *kind, id, left: more });
            }
        }
        Ok(())
    }

    /// `amount` was charged to `id` in the file of `kind`, whose lock the caller holds.
    pub(super) fn charged(&mut self, file: &mut File, (kind, id): (Kind, u32), amount: Amount) {
        let mut rest = amount;
        for part in self.parts.iter_mut().filter(|part| (part.kind, part.id) == (kind, id)) {
            let taken = part.left.min(rest);
            (part.left, rest) = (part.left.minus(taken), rest.minus(taken));
            file.give_back(id, taken);
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let Some(quotas) = self.volume.quotas.get() else { return };
        for part in &self.parts {
            let file = quotas.files.iter().find(|(kind, _)| *kind == part.kind);
            if let Some((_, file)) = file {
                file.lock().give_back(part.id, part.left);
            }
        }
    }
}

/// Claims and reserves `clusters` that `who` adds to `inode`.
///
/// # Errors
/// Those of [`Claim::add`] and [`alloc::reserve`].
pub(crate) fn reserve<'v>(
    volume: &'v Volume,
    inode: &Inode,
    clusters: u64,
    who: Privilege,
) -> Result<(Claim<'v>, Reservation<'v>)> {
    let mut claim = Claim::new(volume, who);
    claim.add(&Charge::of(inode), Amount::clusters(&volume.geometry, clusters))?;
    Ok((claim, alloc::reserve(volume, clusters, who)?))
}
