//! A mount that does not wait for other hosts.

use fuse4fs_ext4::Observer;

/// To it, a second has gone by at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hasty;

impl Observer for Hasty {
    fn await_other_node(&self, _: u64, _: u64) {}
}
