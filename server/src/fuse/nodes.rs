//! Node ids of FUSE ↔ inode numbers.
//!
//! They are the same number, but FUSE calls the root 1 and ext4 calls it 2. That makes a node id
//! good for ever, so FORGET needs no bookkeeping and file handles of NFS survive a restart.

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Error, Refusal};

/// FUSE_ROOT_ID
const FUSE_ROOT: u64 = 1;

/// A node as the kernel names it; 0 names none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NodeId(pub(super) u64);

impl NodeId {
    /// The node of an inode.
    pub(super) fn of(inode: InodeNr) -> Self {
        if inode == InodeNr::ROOT { Self(FUSE_ROOT) } else { Self(inode.get().into()) }
    }

    /// The inode of a node. Which of them are free or reserved is the engine's to say.
    ///
    /// # Errors
    /// [`Refusal::Stale`] for ids that [`NodeId::of`] never gives.
    pub(super) fn inode(self) -> Result<InodeNr, Error> {
        match u32::try_from(self.0).map(InodeNr::new) {
            Ok(_) if self.0 == FUSE_ROOT => Ok(InodeNr::ROOT),
            Ok(InodeNr::ROOT) | Err(_) => Err(Refusal::Stale.into()),
            Ok(inode) if inode.get() == 0 => Err(Refusal::Stale.into()),
            Ok(inode) => Ok(inode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_1_for_fuse_and_2_for_ext4() {
        assert_eq!(NodeId::of(InodeNr::ROOT), NodeId(1));
        assert_eq!(NodeId(1).inode().unwrap(), InodeNr::ROOT);
    }

    #[test]
    fn other_inodes_keep_their_numbers() {
        assert_eq!(NodeId::of(InodeNr::new(12)), NodeId(12));
        assert_eq!(NodeId(12).inode().unwrap(), InodeNr::new(12));
    }

    #[test]
    fn ids_that_were_never_given_out_are_stale() {
        for id in [0, 2, 1 << 32, u64::MAX] {
            assert!(matches!(NodeId(id).inode(), Err(Error::Refused(Refusal::Stale))), "{id}");
        }
    }
}
