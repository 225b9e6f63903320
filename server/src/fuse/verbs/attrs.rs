//! Attributes of inodes: those of stat(2), and extended ones.

use fuse4fs_ext4::Refusal;
use fuse4fs_protocol::KEY_XATTR;
use fuser::Errno;

use super::{Answer, Verbs};
use crate::fuse::abi::GetxattrOut;
use crate::fuse::attr;
use crate::fuse::nodes::NodeId;
use crate::fuse::reply::Output;
use crate::fuse::request::Name;

/// What stands for a user whom the kernel does not name: all of them, where it maps ids.
const UNTOLD: u32 = u32::MAX;

impl Verbs<'_> {
    pub(super) fn getattr(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        out.put(&attr::attr_out(self.fs, &*self.inode(node)?))
    }

    pub(super) fn statx(&self, node: NodeId, out: &mut Output<'_>) -> Answer {
        out.put(&attr::statx_out(self.fs, &*self.inode(node)?))
    }

    pub(super) fn getxattr(
        &self,
        node: NodeId,
        name: Name<'_>,
        size: u32,
        out: &mut Output<'_>,
    ) -> Answer {
        if node.is_root() && name.0 == KEY_XATTR.as_bytes() {
            return sized(&self.control.key, size, out);
        }
        sized(&self.fs.xattr(&*self.inode(node)?, name.0)?, size, out)
    }

    /// As on ext4, names under "trusted." are for the superuser only. Where the kernel does not say
    /// who asks, everybody sees those names (their values it guards itself): a superuser who copies a
    /// tree must not lose attributes without a word.
    pub(super) fn listxattr(
        &self,
        node: NodeId,
        uid: u32,
        size: u32,
        out: &mut Output<'_>,
    ) -> Answer {
        let names = self.fs.xattr_names(&*self.inode(node)?)?;
        if matches!(uid, 0 | UNTOLD) {
            return sized(&names, size, out);
        }
        let names = names.split_inclusive(|byte| *byte == 0);
        let shown: Vec<u8> =
            names.filter(|n| !n.starts_with(b"trusted.")).flatten().copied().collect();
        sized(&shown, size, out)
    }
}

/// `value`, or only its size if `room` is 0.
fn sized(value: &[u8], room: u32, out: &mut Output<'_>) -> Answer {
    let size = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
    if room == 0 {
        return out.put(&GetxattrOut { size, padding: 0 });
    }
    if size > room {
        return Err(Refusal::Range.into());
    }
    out.put_bytes(value)
}
