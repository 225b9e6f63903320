//! What a mount is asked to do, as far as the server decides nothing of it: how it serves, and
//! ext4's mount options.
//!
//! `None` always means that nobody said anything: the superblock's default, else the program's.
//! Kernel: fs/ext4/super.c `ext4_param_specs`, `ext4_apply_sb_mount_options`.

use serde::{Deserialize, Serialize};

use crate::text::Text;

/// An ability that is used where it helps, always, or never.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Switch {
    /// As measured best, where the machine has it.
    #[default]
    Auto,
    /// Or no mount.
    On,
    /// Never.
    Off,
}

/// How many CPUs the machine has. The server cannot look: it sees no /sys. 0 for unknown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Cpus {
    /// Those that there could ever be. FUSE over io_uring wants a queue for each.
    pub possible: u16,
    /// Those that run.
    pub online: u16,
}

/// Bytes for what a server keeps of a disk's metadata and could read again: [`crate::MIN_CACHE`] to
/// [`crate::MAX_CACHE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CacheSize {
    /// What is left to it while the machine is short of memory; not more than `most`.
    pub least: u64,
    /// What it grows to else.
    pub most: u64,
}

impl Default for CacheSize {
    fn default() -> Self {
        Self { least: 4 << 20, most: 16 << 20 }
    }
}

/// How the server answers the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServingOptions {
    /// Threads that answer requests, up to [`crate::MAX_THREADS`]; 0: by the number of CPUs.
    pub threads: u16,
    /// Microseconds that a thread looks for the next request before it sleeps, up to
    /// [`crate::MAX_BUSY_POLL`]; 0 sleeps at once, `None` adapts.
    pub busy_poll: Option<u32>,
    /// FUSE over io_uring instead of /dev/fuse.
    pub io_uring: Switch,
    /// The machine's CPUs.
    pub cpus: Cpus,
    /// Memory for metadata.
    pub cache: CacheSize,
    /// The kernel collects writes; read-write mounts only.
    pub writeback_cache: Switch,
    /// Answer ioctls that ext4 ties to CAP_SYS_ADMIN, though a request shows no capabilities.
    pub admin_ioctls: bool,
    /// Ask the kernel for the security labels of new files: a policy is loaded that stores them.
    pub security_context: bool,
}

/// Mount options that the engine interprets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct EngineOptions {
    /// `noload`, `norecovery`: do not look at the journal.
    pub noload: bool,
    /// `sb=`: the superblock's place in 1 KiB units.
    pub superblock: Option<u64>,
    /// `errors=`, else what the superblock says.
    pub errors: Option<ErrorsPolicy>,
    /// `minixdf`: statfs counts the overhead as used.
    pub minixdf: bool,
    /// `data=`.
    pub data: Option<DataMode>,
    /// `commit=`: seconds between commits, 1 and up.
    pub commit: Option<u32>,
    /// `barrier`, `nobarrier`: flush the device's cache around a commit.
    pub barrier: Option<bool>,
    /// `discard`, `nodiscard`: tell the device which blocks are free.
    pub discard: Option<bool>,
    /// `resuid=`: who else may use the reserved blocks.
    pub resuid: Option<u32>,
    /// `resgid=`: which group may.
    pub resgid: Option<u32>,
    /// `grpid`, `bsdgroups`: a new file gets its directory's group; `sysvgroups`, `nogrpid`: only
    /// where the directory is set-gid.
    pub grpid: Option<bool>,
    /// `auto_da_alloc`: data go out before a rename or truncation that replaces a file.
    pub auto_da_alloc: Option<bool>,
    /// `max_dir_size_kb=`: directories grow no further, in KiB.
    pub max_dir_size_kb: Option<u32>,
    /// `stripe=`: blocks that are allocated at once, for RAID.
    pub stripe: Option<u32>,
    /// `user_xattr`, `nouser_xattr`.
    pub user_xattr: Option<bool>,
    /// `acl`, `noacl`.
    pub acl: Option<bool>,
    /// When reading changes the access time.
    pub atime: Atime,
    /// `nodiratime`: never that of directories.
    pub nodiratime: bool,
    /// `lazytime`: times reach the disk with other changes of the inode, or at its eviction.
    pub lazytime: bool,
    /// `sync`: every change is on the disk before it is answered.
    pub sync: bool,
    /// `dirsync`: the same for changes of directories.
    pub dirsync: bool,
    /// Absolute path of the mount point when it was mounted, for `s_last_mounted`.
    pub mount_point: Text,
}

/// What follows the first corruption.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ErrorsPolicy {
    /// Go on.
    Continue,
    /// Refuse writes from then on.
    RemountReadOnly,
    /// Stop serving.
    Panic,
}

/// What the journal does for file contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum DataMode {
    /// Data are on the disk before the transaction that refers to them commits.
    Ordered,
    /// Data go through the journal.
    Journal,
    /// Data go out whenever.
    Writeback,
}

/// When reading a file updates its access time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Atime {
    /// `relatime`, the kernel's default.
    #[default]
    Relative,
    /// `noatime`.
    Never,
    /// `strictatime`.
    Always,
}
