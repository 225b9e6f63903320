//! What ioctls show and do.

use std::time::{Duration, Instant};

use fuse4fs_ext4::{Error, Inode, InodeFlags, Refusal};
use fuser::Errno;
use zerocopy::IntoBytes;

use super::changes::caller;
use super::{Answer, Verbs};
use crate::fuse::abi::IoctlOut;
use crate::fuse::command::{Command, TrimRange};
use crate::fuse::ioctl::{self, XFLAGS};
use crate::fuse::reply::Output;
use crate::fuse::request::Call;

/// How long one FITRIM may take: whoever waits for it cannot be interrupted, and the kernel gives up
/// on requests some day.
const TRIM_TIME: Duration = Duration::from_secs(60);

impl Verbs<'_> {
    pub(super) fn ioctl(
        &self,
        call: &Call<'_>,
        (command, input): (u32, &[u8]),
        room: u32,
        out: &mut Output<'_>,
    ) -> Answer {
        let Some(change) = Command::parse(command, input)? else {
            return ioctl::ioctl(self.fs, &*self.inode(call.node)?, (command, room), out);
        };
        out.put(&IoctlOut::default())?;
        match change {
            Command::Flags(flags) => self.set_flags(call, flags),
            Command::Attributes { xflags, project } => self.set_attributes(call, xflags, project),
            Command::Generation(generation) => self.set_generation(call, generation),
            Command::Label(label) => {
                self.control.admit(call.uid)?;
                Ok(self.fs.set_label(label)?)
            }
            Command::Trim(range) => self.trim(call, range, out),
            Command::Checkpoint { dry } => {
                self.control.admit(call.uid)?;
                if dry { Ok(()) } else { Ok(self.fs.checkpoint()?) }
            }
            Command::ShutDown => {
                self.control.admit(call.uid)?;
                self.control.go_down();
                self.fs.shut_down()?;
                out.put(&0_u32)
            }
        }
    }

    /// Owner and capabilities were checked by the kernel: it knows both flags and project.
    fn set_flags(&self, call: &Call<'_>, flags: u32) -> Answer {
        self.fs.set_flags(&caller(call), call.node.inode()?, InodeFlags::new(flags))?;
        self.control.changed(call.node);
        Ok(())
    }

    /// What has no FS_XFLAG_* stays as it is.
    fn set_attributes(&self, call: &Call<'_>, xflags: u32, project: u32) -> Answer {
        let inode = self.inode(call.node)?;
        let flags = XFLAGS.iter().fold(visible(&inode), |flags, (flag, xflag)| {
            if xflags & xflag != 0 { flags.with(*flag) } else { flags.without(*flag) }
        });
        self.fs.set_fileattr(&caller(call), inode.nr, flags, Some(project))?;
        self.control.changed(call.node);
        Ok(())
    }

    /// The kernel does not know this one, and lets everybody ask.
    fn set_generation(&self, call: &Call<'_>, generation: u32) -> Answer {
        let inode = self.inode(call.node)?;
        if call.uid != 0 && call.uid != inode.uid {
            return Err(Errno::EPERM.into());
        }
        match self.fs.set_generation(&caller(call), inode.nr, generation) {
            Err(Error::Refused(Refusal::NotSupported)) => Err(Errno::ENOTTY.into()),
            result => {
                result?;
                self.control.changed(call.node);
                Ok(())
            }
        }
    }

    fn trim(&self, call: &Call<'_>, range: TrimRange, out: &mut Output<'_>) -> Answer {
        self.control.admit(call.uid)?;
        let now = Instant::now();
        let deadline = now.checked_add(TRIM_TIME).unwrap_or(now);
        let len = self.fs.trim(range.trim(), deadline)?;
        out.put_bytes(range.done(len).as_bytes())
    }
}

/// The flags that the caller may know of.
fn visible(inode: &Inode) -> InodeFlags {
    InodeFlags::new(ioctl::visible_flags(inode))
}
