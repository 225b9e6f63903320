//! Node ids of FUSE ↔ inode numbers.
//!
//! They are the same number, but FUSE calls the root 1 and ext4 calls it 2. That makes a node id
//! good for ever, and file handles of NFS survive a restart. Where nothing is written, nothing is ever
//! removed, and FORGET needs no bookkeeping. Elsewhere an inode without names has to stay for as long
//! as the kernel knows it: every answer with a node in it counts as one lookup, FORGET takes them back.
//!
//! # Locking
//! The lock of the counts is a leaf, held for moments.

use foldhash::HashMap;
use std::collections::hash_map::Entry;

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Error, Inode, Refusal};
use parking_lot::Mutex;

use crate::device;

/// FUSE_ROOT_ID
const FUSE_ROOT: u64 = 1;

/// A node as the kernel names it; 0 names none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NodeId(pub(super) u64);

impl NodeId {
    /// The node of an inode.
    pub(super) fn of(inode: InodeNr) -> Self {
        if inode == InodeNr::ROOT { Self(FUSE_ROOT) } else { Self(inode.get().into()) }
    }

    /// Whether it is the root.
    pub(super) fn is_root(self) -> bool {
        self.0 == FUSE_ROOT
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

/// How often the kernel was told of each node; `None` where that does not matter. The root is never
/// forgotten and never counted.
#[derive(Debug)]
pub(super) struct Nodes(Option<Mutex<HashMap<InodeNr, u64>>>);

impl Nodes {
    /// Counts on a mount that can be written.
    pub(super) fn new(writable: bool) -> Self {
        Self(writable.then(Mutex::default))
    }

    /// The kernel is being told of `inode`, which has a name or is new. Not so in a thread that may
    /// not wait and would have had to: its answer is thrown away.
    pub(super) fn found(&self, inode: &Inode) {
        if device::missed() {
            return;
        }
        if let Some(counts) = self.counts_of(inode) {
            let mut counts = counts.lock();
            let count = counts.entry(inode.nr).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The kernel is being told of `inode`, which it named by number.
    ///
    /// # Errors
    /// [`Refusal::Stale`] for an inode without names that the kernel does not know (any more): it is
    /// on its way out, and an NFS file handle must not stop it.
    pub(super) fn found_again(&self, inode: &Inode) -> Result<(), Error> {
        let Some(counts) = self.counts_of(inode).filter(|_| !device::missed()) else {
            return Ok(());
        };
        match counts.lock().entry(inode.nr) {
            Entry::Occupied(mut count) => *count.get_mut() = count.get().saturating_add(1),
            Entry::Vacant(_) if inode.links == 0 => return Err(Refusal::Stale.into()),
            Entry::Vacant(none) => {
                none.insert(1);
            }
        }
        Ok(())
    }

    fn counts_of(&self, inode: &Inode) -> Option<&Mutex<HashMap<InodeNr, u64>>> {
        self.0.as_ref().filter(|_| inode.nr != InodeNr::ROOT)
    }

    /// The kernel takes back `lookups` of `node`. Gives the inode when it knows it no longer: one
    /// without names ends then. More than were counted are as many as were.
    pub(super) fn forget(&self, node: NodeId, lookups: u64) -> Option<InodeNr> {
        let inode = node.inode().ok()?;
        let mut counts = self.0.as_ref()?.lock();
        let count = counts.get_mut(&inode)?;
        *count = count.saturating_sub(lookups);
        if *count > 0 {
            return None;
        }
        counts.remove(&inode);
        Some(inode)
    }

    /// Whether the kernel knows `inode`.
    pub(super) fn knows(&self, inode: InodeNr) -> bool {
        self.0.as_ref().is_some_and(|counts| counts.lock().contains_key(&inode))
    }

    /// Those that the kernel knows, as far as that is counted.
    pub(super) fn known(&self) -> Vec<NodeId> {
        let counts = self.0.as_ref();
        counts
            .map_or_else(Vec::new, |counts| counts.lock().keys().copied().map(NodeId::of).collect())
    }

    /// Gives back memory that was of use while there were more.
    pub(super) fn shrink(&self) {
        if let Some(counts) = &self.0 {
            counts.lock().shrink_to_fit();
        }
    }

    /// How many the kernel knows, as far as that is counted.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |counts| counts.lock().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    fn counts(nodes: &Nodes, nr: u32) -> Option<u64> {
        nodes.0.as_ref()?.lock().get(&InodeNr::new(nr)).copied()
    }

    proptest! {
        #[test]
        fn a_node_is_forgotten_with_its_last_lookup(lookups in prop::collection::vec(1_u64..9, 1..9)) {
            let nodes = Nodes::new(true);
            let total: u64 = lookups.iter().sum();
            let id = InodeNr::new(12);
            *nodes.0.as_ref().unwrap().lock().entry(id).or_default() = total;
            let (last, others) = lookups.split_last().unwrap();
            for some in others {
                prop_assert_eq!(nodes.forget(NodeId(12), *some), None);
            }
            prop_assert_eq!(counts(&nodes, 12), Some(*last));
            prop_assert_eq!(nodes.forget(NodeId(12), *last), Some(id));
            prop_assert_eq!((nodes.forget(NodeId(12), 1), nodes.len()), (None, 0));
        }
    }

    #[test]
    fn those_that_the_kernel_knows_can_be_told_and_take_no_more_than_they_need() {
        let nodes = Nodes::new(true);
        let capacity = || nodes.0.as_ref().unwrap().lock().capacity();
        nodes.0.as_ref().unwrap().lock().extend((10..1000).map(|nr| (InodeNr::new(nr), 1)));
        let many = capacity();
        for nr in 11..1000 {
            nodes.forget(NodeId(nr), 1);
        }
        nodes.shrink();
        assert_eq!(nodes.known(), [NodeId(10)]);
        assert!(capacity() < many / 100, "{} of {many}", capacity());
        assert!(Nodes::new(false).known().is_empty());
    }

    #[test]
    fn more_than_was_counted_is_all_of_it() {
        let nodes = Nodes::new(true);
        nodes.0.as_ref().unwrap().lock().insert(InodeNr::new(12), 2);
        assert_eq!(nodes.forget(NodeId(12), u64::MAX), Some(InodeNr::new(12)));
        assert_eq!(nodes.forget(NodeId(0), 1), None);
        assert_eq!(Nodes::new(false).forget(NodeId(12), 1), None);
    }
}
