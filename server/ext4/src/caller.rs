//! Who asks for a change, and when.

use crate::inode::Timestamp;

/// The caller of a verb, as the kernel's request names it. Capabilities are not known: user 0
/// stands for whoever has them all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The user for access to files (fsuid).
    pub uid: u32,
    /// The group for access to files (fsgid).
    pub gid: u32,
    /// A supplementary group, where the request tells one that matters.
    pub group: Option<u32>,
    /// Permission bits that new files shall not get, 0..=0o777.
    pub umask: u16,
    /// What the clock says.
    pub now: Timestamp,
}

impl Caller {
    /// Whether the caller is in `group`, as far as the request tells.
    #[must_use]
    pub fn in_group(&self, group: u32) -> bool {
        self.gid == group || self.group == Some(group)
    }

    /// Whether the caller may do what takes a capability.
    #[must_use]
    pub const fn is_root(&self) -> bool {
        self.uid == 0
    }
}
