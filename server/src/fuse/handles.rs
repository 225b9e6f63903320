//! Open files of mounts that can be written.
//!
//! The kernel names an open file by the number that OPEN answered with. What is noted with it is
//! what later requests do not say: WRITE from the page cache names the uid of whoever flushes.
//!
//! # Locking
//! The table's lock is a leaf, held for moments.

use foldhash::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use fuser::Errno;
use parking_lot::RwLock;

use super::nodes::NodeId;
use super::request::Handle;

/// Of the flags of OPEN: by execve(2). include/linux/fs.h
const FMODE_EXEC: u32 = 0x20;

/// What an open file was opened with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct OpenFile {
    pub(super) node: NodeId,
    /// Who opened it; 0 may use the blocks that are reserved for the superuser.
    pub(super) uid: u32,
    /// O_* of open(2).
    pub(super) flags: u32,
}

/// All open files.
#[derive(Debug, Default)]
pub(super) struct Handles {
    files: RwLock<HashMap<Handle, OpenFile>>,
    last: AtomicU64,
}

impl Handles {
    /// A number for a file that was opened. None is used twice.
    pub(super) fn open(&self, file: OpenFile) -> Handle {
        let handle = Handle(self.last.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        self.files.write().insert(handle, file);
        handle
    }

    /// What was opened under that number.
    ///
    /// # Errors
    /// EBADF for a number that is not in use, or is that of another node.
    pub(super) fn get(&self, handle: Handle, node: NodeId) -> Result<OpenFile, Errno> {
        let file = self.files.read().get(&handle).copied();
        file.filter(|file| file.node == node).ok_or(Errno::EBADF)
    }

    /// The last descriptor was closed.
    ///
    /// # Errors
    /// As [`Handles::get`].
    pub(super) fn release(&self, handle: Handle, node: NodeId) -> Result<OpenFile, Errno> {
        let file = self.get(handle, node)?;
        self.files.write().remove(&handle);
        Ok(file)
    }

    /// Whether `node` is a program that runs.
    pub(super) fn runs(&self, node: NodeId) -> bool {
        self.files.read().values().any(|file| file.node == node && file.flags & FMODE_EXEC != 0)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.files.read().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: OpenFile = OpenFile { node: NodeId(12), uid: 7, flags: 2 };

    #[test]
    fn a_handle_is_good_for_its_node_until_it_is_released() {
        let handles = Handles::default();
        let (one, other) = (handles.open(FILE), handles.open(FILE));
        assert_ne!(one, other);
        assert_eq!(handles.get(one, NodeId(12)).unwrap(), FILE);
        assert_eq!(handles.get(one, NodeId(13)).unwrap_err().code(), libc::EBADF);
        assert_eq!(handles.release(one, NodeId(12)).unwrap(), FILE);
        assert!(handles.release(one, NodeId(12)).is_err());
        assert_eq!(handles.len(), 1);
    }

    #[test]
    fn a_program_runs_until_it_is_released() {
        let handles = Handles::default();
        handles.open(FILE);
        assert!(!handles.runs(NodeId(12)));
        let program = handles.open(OpenFile { flags: 0x20 | 0x8000, ..FILE });
        assert!(handles.runs(NodeId(12)) && !handles.runs(NodeId(13)));
        handles.release(program, NodeId(12)).unwrap();
        assert!(!handles.runs(NodeId(12)));
    }

    #[test]
    fn handle_0_is_never_given_out() {
        assert!(Handles::default().get(Handle(0), NodeId(12)).is_err());
        assert_ne!(Handles::default().open(FILE), Handle(0));
    }
}
