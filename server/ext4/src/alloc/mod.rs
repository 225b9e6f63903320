//! Free blocks and inodes: who gets which, and that nobody gets more than there is.
//!
//! [`reserve`] is the only place where blocks run out: what it promised, [`allocate`] delivers. Freed
//! blocks count as free at once, but are given out again only when the transaction that freed them
//! has committed: until then a crash could bring back what they held. Blocks that hold the file
//! system's own metadata are never given out or freed, whatever the bitmaps say ([`check_blocks`]).
//! Units: reservations are in clusters, which are blocks without bigalloc; runs are in blocks.
//! # Locking
//! Rank "group" ([`Space`]'s shards), below an open handle and above blocks; one at a time. The
//! counters, the windows' table and the queue of freed runs are leaves.
//! Kernel: fs/ext4/mballoc.c, balloc.c, ialloc.c, block_validity.c

mod bitmaps;
mod block;
mod claims;
mod cluster;
mod discard;
pub(crate) mod exact;
mod inode;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod model_tests;
mod orlov;
mod prefetch;
mod reserve;
mod search;
mod space;
#[cfg(test)]
mod tests;
mod validity;

pub(crate) use block::{ALLOCATE, Goal, Run, allocate, free, free_credits, release};
pub(crate) use cluster::{clusters, clusters_spanned};
pub(crate) use discard::{set_discard, take_discards, trim};
pub(crate) use inode::{
    ALLOCATE_INODE, FREE_INODE, allocate_inode, free_inode, inode_in_use, take_inode,
};
pub(crate) use reserve::{Privilege, Reservation, reserve, totals, try_reserve};
pub(crate) use space::{Space, open};
pub(crate) use validity::check_blocks;
