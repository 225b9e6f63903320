//! A further name for an inode.
//!
//! Kernel: fs/ext4/namei.c `ext4_link`

use std::sync::Arc;

use super::change::{changed, check_new_name, directory};
use crate::caller::Caller;
use crate::dir;
use crate::error::{Refusal, Result};
use crate::filesystem::Filesystem;
use crate::handle::Credits;
use crate::ids::InodeNr;
use crate::inode::{self, Inode, InodeFlags};
use crate::orphan;
use crate::quota;

/// EXT4_LINK_MAX
const LINK_MAX: u16 = 65000;

impl Filesystem {
    /// Gives inode `nr` the name `name` in `parent`.
    ///
    /// # Errors
    /// [`Refusal::NotPermitted`] for a directory and for what is immutable or append-only,
    /// [`Refusal::TooManyLinks`], [`Refusal::CrossDevice`] into another project's directory; as
    /// [`Filesystem::create`].
    pub fn link(
        &self,
        caller: &Caller,
        nr: InodeNr,
        parent: InodeNr,
        name: &[u8],
    ) -> Result<Arc<Inode>> {
        let volume = &self.volume;
        check_new_name(name)?;
        let _locks = self.lock_all(&[nr, parent])?;
        let mut dir = directory(volume, parent)?;
        let mut inode = (*self.inode(nr)?).clone();
        check_linkable(&dir, &inode)?;
        if dir::find(volume, &dir, name)?.is_some() {
            return Err(Refusal::Exists.into());
        }
        let needs = dir::needs(volume, &dir, name)?;
        let who = self.privilege(caller);
        let (claim, mut space) = quota::reserve(volume, &dir, needs.clusters, who)?;
        // Both inodes, and an orphan's place.
        let credits = needs.credits.0.saturating_add(2).saturating_add(orphan::CREDITS.0);
        let mut handle = volume.begin(Credits(credits))?.with(claim);
        // One without links was made by O_TMPFILE.
        if inode.links == 0 {
            orphan::remove(&mut handle, nr)?;
        }
        inode.links = inode.links.saturating_add(1);
        inode.ctime = caller.now;
        dir::insert(&mut handle, &mut dir, name, (nr, inode.kind), &mut space)?;
        changed(&mut dir, caller.now);
        inode::store(&mut handle, &inode)?;
        inode::store(&mut handle, &dir)?;
        self.finish(handle, &[&dir])?;
        inode::get(volume, nr)
    }
}

fn check_linkable(dir: &Inode, inode: &Inode) -> Result<()> {
    let fixed = InodeFlags::IMMUTABLE | InodeFlags::APPEND;
    if inode.is_directory() || inode.flags.has(fixed) {
        return Err(Refusal::NotPermitted.into());
    }
    if inode.links >= LINK_MAX {
        return Err(Refusal::TooManyLinks.into());
    }
    quota::check_project(dir, inode)
}
