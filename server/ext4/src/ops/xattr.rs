//! Extended attributes.

use std::sync::Arc;

use crate::alloc;
use crate::caller::Caller;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::Credits;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags, Timestamp};
use crate::quota::{self, Charge, Claim};
use crate::xattr::access::{self, Which};
use crate::xattr::{self, Change, Mode, Set};

impl Filesystem {
    /// The value of the attribute `name` (with its prefix, for example `user.mime_type`). POSIX ACLs
    /// come in the format of the VFS (version 2, `linux/posix_acl_xattr.h`).
    ///
    /// # Errors
    /// [`crate::Refusal::NoData`], `NotSupported` for an unknown prefix, `Invalid` for a prefix and
    /// nothing behind it, `Range` for a name over 255 bytes; corruption and I/O errors.
    pub fn xattr(&self, inode: &Inode, name: &[u8]) -> Result<Vec<u8>> {
        self.check_served(name)?;
        xattr::get(&self.volume, inode, name, |nr| inode::get(&self.volume, nr))
            .map_err(|error| error.at_inode(inode.nr))
    }

    /// The names of all attributes, each followed by a NUL, as listxattr(2) wants them. `trusted.`
    /// names are among them: hiding those from a caller without CAP_SYS_ADMIN is the frontend's.
    ///
    /// # Errors
    /// Corruption and I/O errors.
    pub fn xattr_names(&self, inode: &Inode) -> Result<Vec<u8>> {
        let names = xattr::names(&self.volume, inode).map_err(|error| error.at_inode(inode.nr))?;
        let rules = &self.volume.rules;
        if rules.acl && rules.user_xattr {
            return Ok(names);
        }
        let served = |name: &&[u8]| self.check_served(name.strip_suffix(b"\0").unwrap_or(name));
        let names = names.split_inclusive(|byte| *byte == 0);
        Ok(names.filter(|name| served(name).is_ok()).flatten().copied().collect())
    }

    /// Whether the mount has such attributes (`noacl`, `nouser_xattr`).
    fn check_served(&self, name: &[u8]) -> Result<()> {
        let rules = &self.volume.rules;
        let served = match Which::of(name) {
            Some(_) => rules.acl,
            None => rules.user_xattr || !name.starts_with(b"user."),
        };
        if served { Ok(()) } else { Err(Refusal::NotSupported.into()) }
    }

    /// Sets the attribute `name` of `nr`. `drop_sgid` says that the caller may not keep set-gid when
    /// an access ACL is set (FUSE_SETXATTR_ACL_KILL_SGID). The inode as it is then: an ACL changes
    /// the mode.
    ///
    /// # Errors
    /// Those of [`Filesystem::xattr`] for the name; [`Refusal::Exists`] and `NoData` by `mode`;
    /// `NotPermitted` for immutable and append-only inodes; `NoSpace`, `Quota`, `ReadOnly`;
    /// corruption and I/O errors.
    pub fn set_xattr(
        &self,
        caller: &Caller,
        nr: InodeNr,
        (name, value): (&[u8], &[u8]),
        mode: Mode,
        drop_sgid: bool,
    ) -> Result<Arc<Inode>> {
        self.change_xattr(caller, nr, name, (Some(value), mode, drop_sgid))
    }

    /// Removes the attribute `name` of `nr`.
    ///
    /// # Errors
    /// As [`Filesystem::set_xattr`]; [`Refusal::NoData`] if it is not there, but an absent ACL is
    /// removed without complaint, as the kernel does.
    pub fn remove_xattr(&self, caller: &Caller, nr: InodeNr, name: &[u8]) -> Result<Arc<Inode>> {
        self.change_xattr(caller, nr, name, (None, Mode::Replace, false))
    }

    fn change_xattr(
        &self,
        caller: &Caller,
        nr: InodeNr,
        name: &[u8],
        (value, mode, drop_sgid): (Option<&[u8]>, Mode, bool),
    ) -> Result<Arc<Inode>> {
        self.check_served(name)?;
        let _lock = self.lock(nr)?;
        let mut inode = (*self.inode(nr)?).clone();
        if inode.flags.has(InodeFlags::IMMUTABLE | InodeFlags::APPEND) {
            return Err(Refusal::NotPermitted.into());
        }
        let list;
        let change = match Which::of(name) {
            Some(which) => {
                (inode.permissions, list) = access::decide(&inode, which, value, drop_sgid)?;
                access::change(which, list.as_deref())
            }
            None => Change::new(name, value, mode)?,
        };
        self.apply(caller, inode, None, &[change])
    }

    /// Stores an inode that was changed, with `ctime` or else now in it, and with it changes of its
    /// attributes. New owners must have room for all that it has. The caller holds its lock.
    pub(super) fn apply(
        &self,
        caller: &Caller,
        mut inode: Inode,
        ctime: Option<Timestamp>,
        changes: &[Change<'_>],
    ) -> Result<Arc<Inode>> {
        let (volume, nr) = (&self.volume, inode.nr);
        inode.ctime = ctime.unwrap_or(caller.now);
        let (owners, who) = (Charge::of(&inode), self.privilege(caller));
        quota::prepare(volume, &owners)?;
        let mut claim = Claim::new(volume, who);
        claim.transfer(&*self.inode(nr)?, &inode)?;
        let (mut clusters, mut credits) = (0_u64, 1_u32);
        for change in changes {
            let needs = xattr::needs(volume, &inode, *change);
            let needs = needs.map_err(|error| error.at_inode(nr))?;
            claim.add(&owners, needs.charged)?;
            clusters = clusters.saturating_add(needs.clusters);
            credits = credits.saturating_add(xattr::credits(volume).0);
        }
        let mut space = alloc::reserve(volume, clusters, who)?;
        let mut handle = volume.begin(Credits(credits))?.with(claim);
        for change in changes {
            let mut set = Set { handle: &mut handle, inode: &mut inode, space: &mut space };
            xattr::set(&mut set, *change).map_err(|error| error.at_inode(nr))?;
        }
        inode::store(&mut handle, &inode)?;
        handle.stop()?;
        self.inode(nr)
    }
}
