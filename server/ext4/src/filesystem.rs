//! The mounted file system as its callers see it. The verbs are `impl Filesystem` blocks in `ops/`.

use std::sync::{Arc, OnceLock};

use crate::device::BlockDevice;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::superblock::Facts;
use crate::usage::Usage;
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

/// A mounted file system. All verbs take `&self` and may run in parallel.
#[derive(Debug)]
pub struct Filesystem {
    pub(crate) volume: Volume,
    pub(crate) facts: Facts,
    /// Counted when statfs is first asked; nothing changes it on a read-only mount.
    pub(crate) usage: OnceLock<Usage>,
}

impl Filesystem {
    /// The checked facts of the superblock.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.volume.geometry
    }

    /// What else the superblock says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Corruption that verbs met and got around since the last call (a broken directory index that
    /// was bypassed, for example): each finding once, for the log. Costs no lock when there is none.
    pub fn take_notices(&self) -> Vec<Error> {
        self.volume.notices.take()
    }
}
