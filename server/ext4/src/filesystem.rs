//! The mounted file system as its callers see it. The verbs are `impl Filesystem` blocks in `ops/`.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::device::BlockDevice;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::mmp::{Claim, NodeName};
use crate::rules::Rules;
use crate::superblock::Facts;
use crate::usage::Usage;
use crate::volume::Volume;

/// Options of a mount.
#[derive(Clone, Debug)]
pub struct MountOptions {
    /// Nothing is ever written to the device.
    pub read_only: bool,
    /// Do not look at the journal: shows the tree unreplayed.
    pub noload: bool,
    /// Where the superblock is, in 1 KiB units (`sb=`); else the primary one.
    pub superblock: Option<u64>,
    /// The journal's device, for file systems that keep it elsewhere.
    pub journal: Option<Arc<dyn BlockDevice>>,
    /// Bytes that clean metadata may take in memory; see [`Filesystem::set_cache_budget`].
    pub cache_bytes: u64,
    /// What counts for writable mounts, mostly.
    pub writing: WriteOptions,
}

/// Options of a writable mount.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// Flush the device where the order of writes matters (`barrier`); else what the superblock says.
    pub barrier: Option<bool>,
    /// What happens to file data (`data=`); else what the superblock says.
    pub data: Option<DataMode>,
    /// What happens after an error (`errors=`); else what the superblock says.
    pub errors: Option<ErrorPolicy>,
    /// How old a transaction may get before it is committed (`commit=`).
    pub commit_interval: Duration,
    /// What is asked of all verbs; ACLs and `user.` attributes of those that read, too.
    pub rules: Rules,
    /// Where it is mounted, for s_last_mounted.
    pub mount_point: Option<Vec<u8>>,
    /// What other nodes are told who has it.
    pub name: NodeName,
    /// What is to be done wrong.
    #[cfg(test)]
    pub(crate) fault: Option<crate::journal::Fault>,
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self {
            barrier: None,
            data: None,
            errors: None,
            commit_interval: Duration::from_secs(5),
            rules: Rules::default(),
            mount_point: None,
            name: NodeName::default(),
            #[cfg(test)]
            fault: None,
        }
    }
}

/// What happens to file data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DataMode {
    /// It goes through the log, like metadata.
    Journal,
    /// It is on the device before the metadata that leads to it is committed.
    Ordered,
    /// Nothing is promised: after a crash, new files may show old data.
    Writeback,
}

/// What happens after an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorPolicy {
    /// It is recorded, and that is all.
    Continue,
    /// Nothing is written any more.
    ReadOnly,
    /// The process ends.
    Panic,
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
    /// Counted when statfs is first asked; what is free is asked of the allocator where there is one.
    pub(crate) usage: OnceLock<Usage>,
    pub(crate) writing: WriteOptions,
    /// Nothing is written any more because everything is in its place.
    pub(crate) closed: AtomicBool,
    /// What keeps other nodes off.
    pub(crate) claim: Option<Claim>,
}

impl Filesystem {
    /// The checked facts of the superblock.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.volume.geometry
    }

    /// What mount options ask of all verbs.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.volume.rules
    }

    /// What else the superblock says.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// What happens to file data where there is a journal: what the mount asked for, else what the
    /// superblock says (EXT4_DEFM_JMODE), else [`DataMode::Ordered`].
    #[must_use]
    pub fn data_mode(&self) -> DataMode {
        const JMODE: u32 = 0x60;
        const JMODE_DATA: u32 = 0x20;
        const JMODE_WBACK: u32 = 0x60;
        self.writing.data.unwrap_or(match self.facts.default_mount_options & JMODE {
            JMODE_DATA => DataMode::Journal,
            JMODE_WBACK => DataMode::Writeback,
            _ => DataMode::Ordered,
        })
    }

    /// Bytes that what could be read again takes: clean metadata blocks and decoded inodes.
    #[must_use]
    pub fn cache_bytes(&self) -> u64 {
        self.volume.memory().used()
    }

    /// From now on that takes at most about `bytes`; what is too much is dropped at once.
    pub fn set_cache_budget(&self, bytes: u64) {
        self.volume.memory().set_budget(bytes);
    }

    /// Corruption that verbs met and got around since the last call (a broken directory index that
    /// was bypassed, for example): each finding once, for the log. Costs no lock when there is none.
    pub fn take_notices(&self) -> Vec<Error> {
        self.volume.notices.take()
    }
}
