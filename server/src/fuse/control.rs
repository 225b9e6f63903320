//! The mount as a whole: who may ask for what, and whether it still runs.
//!
//! # Locking
//! None: flags and what is set once.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use fuse4fs_ext4::Filesystem;
use fuse4fs_protocol::KEY_BYTES;
use fuser::Errno;
use zerocopy::IntoBytes;

use super::abi::{InvalInodeOut, NOTIFY_INVAL_INODE, NOTIFY_PRUNE, PruneOut};
use super::nodes::NodeId;

/// Mounts the file system once more, for writing.
pub(crate) type Reopen = Box<dyn Fn() -> Option<Arc<Filesystem>> + Send + Sync>;
/// Sends a notification: its code and its bytes.
pub(super) type Notify = Box<dyn Fn(i32, &[u8]) + Send + Sync>;

/// The state of a mount beside its file system.
pub(super) struct Control {
    /// Ioctls that take CAP_SYS_ADMIN on ext4 are answered (`admin_ioctls`).
    admin_ioctls: bool,
    /// What only those with CAP_SYS_ADMIN can read.
    pub(super) key: [u8; KEY_BYTES],
    is_down: AtomicBool,
    is_turned: AtomicBool,
    reopen: OnceLock<Reopen>,
    notify: OnceLock<Notify>,
    can_prune: AtomicBool,
}

impl Control {
    /// A mount that runs.
    pub(super) fn new(admin_ioctls: bool) -> Self {
        // Random numbers of the system are behind these.
        let random = || RandomState::new().hash_one(KEY_BYTES);
        let key = (u128::from(random()) << 64 | u128::from(random())).to_ne_bytes();
        Self {
            admin_ioctls,
            key,
            is_down: AtomicBool::new(false),
            is_turned: AtomicBool::new(false),
            reopen: OnceLock::new(),
            notify: OnceLock::new(),
            can_prune: AtomicBool::new(false),
        }
    }

    /// Whether user `uid` may do what takes CAP_SYS_ADMIN on ext4. A request does not show that, so
    /// it has to be the superuser, and the mount has to permit it.
    ///
    /// # Errors
    /// EPERM.
    pub(super) fn admit(&self, uid: u32) -> Result<(), Errno> {
        if self.admin_ioctls && uid == 0 { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Stops everything: whatever is asked from now on fails.
    pub(super) fn go_down(&self) {
        self.is_down.store(true, Ordering::SeqCst);
    }

    /// Whether everything was stopped.
    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::SeqCst)
    }

    /// Notes whether the mount was made read-only, everything being in its place.
    pub(super) fn set_turned(&self, turned: bool) {
        self.is_turned.store(turned, Ordering::SeqCst);
    }

    /// How the mount becomes read-write again.
    pub(super) fn reopen_by(&self, reopen: Reopen) {
        // Set once, by whoever mounted it.
        let _ = self.reopen.set(reopen);
    }

    /// The file system, for writing again; `None` if there is no way back.
    pub(super) fn reopened(&self) -> Option<Arc<Filesystem>> {
        let is_turned = self.is_turned.load(Ordering::SeqCst) && !self.is_down();
        is_turned.then(|| self.reopen.get())??()
    }

    /// How the kernel is told what it did not ask for.
    pub(super) fn notify_by(&self, notify: Notify) {
        // The first transport does it for all.
        let _ = self.notify.set(notify);
    }

    /// The attributes of `node` have changed in a way that the kernel does not see.
    pub(super) fn changed(&self, node: NodeId) {
        if let Some(notify) = self.notify.get() {
            // A negative offset: of the attributes only.
            let what = InvalInodeOut { ino: node.0, off: -1, len: 0 };
            notify(NOTIFY_INVAL_INODE, what.as_bytes());
        }
    }

    /// Notes whether the kernel drops nodes when it is asked to.
    pub(super) fn can_prune(&self, can: bool) {
        self.can_prune.store(can, Ordering::Relaxed);
    }

    /// The kernel need not keep any of `nodes` that nobody uses.
    pub(super) fn prune(&self, nodes: &[NodeId]) {
        if let Some(notify) = self.notify.get().filter(|_| self.can_prune.load(Ordering::Relaxed)) {
            let count = u32::try_from(nodes.len()).unwrap_or(0);
            let mut message = PruneOut { count, ..PruneOut::default() }.as_bytes().to_vec();
            message.extend(nodes.iter().flat_map(|node| node.0.to_ne_bytes()));
            notify(NOTIFY_PRUNE, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_superuser_of_a_mount_that_permits_it_is_admitted() {
        assert!(Control::new(true).admit(0).is_ok());
        for (permitted, uid) in [(true, 1000), (true, u32::MAX), (false, 0)] {
            let refused = Control::new(permitted).admit(uid).unwrap_err();
            assert_eq!(refused.code(), libc::EPERM);
        }
    }

    #[test]
    fn a_kernel_that_can_is_told_which_nodes_to_drop() {
        let control = Control::new(false);
        let (told, heard) = std::sync::mpsc::channel();
        control.notify_by(Box::new(move |code, bytes| told.send((code, bytes.to_vec())).unwrap()));
        control.prune(&[NodeId(3)]);
        control.can_prune(true);
        control.prune(&[NodeId(7), NodeId(8)]);
        let words = [2_u64, 0, 7, 8].map(u64::to_le_bytes).concat();
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [(NOTIFY_PRUNE, words)]);
    }

    #[test]
    fn each_mount_has_a_key_of_its_own() {
        assert_ne!(Control::new(false).key, Control::new(false).key);
    }
}
