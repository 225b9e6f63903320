//! What mount options ask of all verbs.
//!
//! Kernel: fs/ext4/super.c `ext4_apply_options`

use crate::superblock::Facts;

/// EXT4_DEFM_BSDGROUPS: s_default_mount_opts asks for `grpid`.
const DEFAULT_GRPID: u32 = 0x2;
/// EXT4_DEFM_DISCARD
const DEFAULT_DISCARD: u32 = 0x400;

/// When reading changes the access time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Atime {
    /// If it is not newer than content and attributes, or a day old.
    #[default]
    Relative,
    /// Never.
    Never,
    /// Always.
    Always,
}

/// Options that any verb may have to look at. `None`: what the superblock says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    /// When reading changes the access time.
    pub atime: Atime,
    /// Never that of directories (`nodiratime`).
    pub no_directory_atime: bool,
    /// Access times reach the disk with other changes of the inode, by a sync, or after a day.
    pub lazytime: bool,
    /// Every change is durable before it is answered (`sync`).
    pub sync: bool,
    /// Changes of directories are (`dirsync`).
    pub dirsync: bool,
    /// New inodes get their directory's group (`grpid`).
    pub grpid: Option<bool>,
    /// There are ACLs.
    pub acl: bool,
    /// There are attributes under `user.`
    pub user_xattr: bool,
    /// KiB that a directory may have before it grows no further; 0 for no limit.
    pub max_dir_size_kb: u32,
    /// Who else may use the reserved blocks.
    pub reserve_uid: Option<u32>,
    /// Whose members may.
    pub reserve_gid: Option<u32>,
    /// The device is told which blocks are free, after their commit (`discard`).
    pub discard: Option<bool>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            atime: Atime::default(),
            no_directory_atime: false,
            lazytime: false,
            sync: false,
            dirsync: false,
            grpid: None,
            acl: true,
            user_xattr: true,
            max_dir_size_kb: 0,
            reserve_uid: None,
            reserve_gid: None,
            discard: None,
        }
    }
}

impl Rules {
    /// The same with what the superblock says where nobody else did.
    pub(crate) fn settled(&self, facts: &Facts) -> Self {
        let default = |bit| Some(facts.default_mount_options & bit != 0);
        Self {
            grpid: self.grpid.or(default(DEFAULT_GRPID)),
            discard: self.discard.or(default(DEFAULT_DISCARD)),
            reserve_uid: self.reserve_uid.or(Some(facts.reserved_uid)),
            reserve_gid: self.reserve_gid.or(Some(facts.reserved_gid)),
            ..self.clone()
        }
    }
}
