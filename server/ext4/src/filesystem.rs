//! The mounted file system as its callers see it. The verbs are `impl Filesystem` blocks in `ops/`.

use std::sync::Arc;

use crate::device::BlockDevice;
use crate::error::Result;
use crate::geometry::Geometry;
use crate::volume::Volume;

/// Options of a mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Nothing is ever written to the device. The only mode so far.
    pub read_only: bool,
    /// Do not look at the journal: shows the tree unreplayed.
    pub noload: bool,
    /// Where the superblock is, in 1 KiB units (`sb=`); else the primary one.
    pub superblock: Option<u64>,
    /// The journal's device, for file systems that keep it elsewhere.
    pub journal: Option<Arc<dyn BlockDevice>>,
    /// Budget of the metadata cache in bytes.
    pub cache_bytes: u64,
}

impl core::fmt::Debug for dyn BlockDevice {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("BlockDevice").field("size", &self.size()).finish()
    }
}

/// Hears what a mount is doing. Called from the mounting thread.
pub trait Observer: Sync {
    /// Recovery has looked at `done` of `total` log blocks.
    fn replay(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// Something a person should know although the mount goes on.
    fn notice(&self, notice: Notice) {
        let _ = notice;
    }
}

/// An observer that listens to nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {}

/// What a person should know about a mount that succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// The log was replayed: this many transactions, of which the last was complete.
    Replayed {
        /// Committed transactions.
        transactions: u32,
    },
}

/// A mounted file system. All verbs take `&self` and may run in parallel.
#[derive(Debug)]
pub struct Filesystem {
    pub(crate) volume: Volume,
}

impl Filesystem {
    /// The checked facts of the superblock.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.volume.geometry
    }
}
