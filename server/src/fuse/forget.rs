//! What the kernel lets go of, by itself or because it is asked to.

use fuse4fs_ext4::ids::InodeNr;
use tracing::trace;

use super::request::Forgets;
use super::serve::{Answer, Frontend};
use crate::clock;

/// Nodes that one notification names.
const PRUNED_AT_ONCE: usize = 512;

impl Frontend {
    /// Answers FORGET and BATCH_FORGET, to which there is no reply.
    pub(super) fn forget(&self, forgets: &Forgets<'_>) -> Answer {
        for (node, lookups) in forgets.iter() {
            if let Some(inode) = self.nodes.forget(node, lookups) {
                trace!("inode {inode} is not known to the kernel any more");
                self.forgotten(inode);
            }
        }
        Answer::Silent
    }

    /// An inode without names ends now that the kernel has let go of it.
    fn forgotten(&self, inode: InodeNr) {
        self.run(|fs| {
            let was_writable = fs.is_writable();
            if let Err(error) = fs.forget(inode, clock::now()) {
                self.report(fs, was_writable, "forget", &error.into());
            }
        });
    }

    /// Asks the kernel to drop what it keeps of this mount and nobody uses, and waits for that. Not on a
    /// thread that serves requests.
    pub(crate) fn prune(&self) {
        for nodes in self.nodes.known().chunks(PRUNED_AT_ONCE) {
            self.control.prune(nodes);
        }
        // Of those that it has let go of by now.
        self.nodes.shrink();
    }
}
