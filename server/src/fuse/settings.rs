//! What a front end is told when it is made.

use fuse4fs_ext4::Overhead;
use fuse4fs_protocol::Surroundings;

use super::reply::PAGE;

/// What the mount request says about serving.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The device's name in log lines.
    pub(crate) device_name: String,
    /// How statfs counts.
    pub(crate) overhead: Overhead,
    /// Seconds after which the kernel gives up on a request; 0 for never.
    pub(crate) request_timeout: u32,
    /// Files can be written.
    pub(crate) writable: bool,
    /// Written data stays with the kernel until it likes to write it.
    pub(crate) writeback_cache: bool,
    /// Security modules may label what is created.
    pub(crate) security_labels: bool,
    /// There are ACLs.
    pub(crate) acl: bool,
    /// Ioctls that take CAP_SYS_ADMIN on ext4 are answered to the superuser.
    pub(crate) admin_ioctls: bool,
    /// Pages of file content in one message.
    pub(crate) max_pages: u16,
    /// Requests that the kernel may have under way in the background.
    pub(crate) max_background: u16,
    /// Messages may come through rings.
    pub(crate) rings: bool,
    /// What the status says of this process.
    pub(crate) process: Process,
}

/// What confines this process, and what it is called outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process {
    /// Its number where the helper is; 0 if that does not know.
    pub(crate) pid: u32,
    pub(crate) surroundings: Surroundings,
    /// The ABI of Landlock in force; 0 for none.
    pub(crate) landlock: u16,
    /// Bytes of memory that it may have.
    pub(crate) memory_limit: u64,
}

impl Settings {
    /// Bytes of a reply without its header, at most.
    pub(crate) fn max_reply(&self) -> usize {
        usize::from(self.max_pages).saturating_mul(PAGE)
    }

    /// Bytes of a request, at most: its content and what is in front of it.
    pub(crate) fn max_request(&self) -> usize {
        self.max_reply().saturating_add(PAGE)
    }
}
