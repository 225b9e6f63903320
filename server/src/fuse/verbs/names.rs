//! Names in directories, and what they lead to.

use fuse4fs_ext4::{Error, Refusal};

use super::{Answer, Verbs};
use crate::clock;
use crate::fuse::nodes::NodeId;
use crate::fuse::reply::Output;
use crate::fuse::request::Name;
use crate::fuse::{attr, readdir};

impl Verbs<'_> {
    /// "." finds the node itself whatever it is: file handles of NFS are opened so. The kernel compares
    /// generations.
    pub(super) fn lookup(&self, parent: NodeId, name: Name<'_>, out: &mut Output<'_>) -> Answer {
        let parent = self.inode(parent)?;
        if name.0 == b"." {
            out.put(&attr::entry_out(self.fs, &parent))?;
            return Ok(self.nodes.found_again(&parent)?);
        }
        match self.fs.lookup(&parent, name.0) {
            Ok(inode) => {
                out.put(&attr::entry_out(self.fs, &inode))?;
                self.nodes.found(&inode);
                Ok(())
            }
            Err(Error::Refused(Refusal::NotFound)) => out.put(&attr::no_entry_out()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn readdir(
        &self,
        node: NodeId,
        (cookie, size, plus): (u64, u32, bool),
        out: &mut Output<'_>,
    ) -> Answer {
        let dir = self.inode(node)?;
        // First, as who may not wait must not count what it finds when this is not for it.
        self.fs.accessed(&dir, clock::now());
        readdir::readdir((self.fs, self.nodes), &dir, (cookie, size, plus), out)
    }

    pub(super) fn readlink(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        let inode = self.inode(node)?;
        out.put_bytes(&self.fs.readlink(&inode)?)?;
        self.fs.accessed(&inode, clock::now());
        Ok(())
    }
}
