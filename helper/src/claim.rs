//! The device, claimed so that nobody else mounts, formats or checks it, and open for the server.
//!
//! The claim is the superblock's, of type fuseblk: it comes first, and the descriptor that writes
//! after it. Where the kernel keeps mounted devices from being written by anyone
//! (CONFIG_BLK_DEV_WRITE_MOUNTED=n), that descriptor claims the device itself, and the superblock is
//! of type fuse: then umount(2) does not wait for the server.
//! Kernel: block/bdev.c `bdev_may_open`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::handover::Handover;
use crate::policy::Plan;
use crate::report::{Explain, Failure};
use crate::source::Journal;
use crate::superblock::{self, Claimant, Created, Device, Unattached};
use crate::sys::open::again;
use crate::sys::vfs::Connections;

/// A superblock, and what its server gets.
pub(crate) struct Claimed<'a> {
    pub(crate) unattached: Unattached<'a>,
    pub(crate) handover: Handover,
    pub(crate) claimant: Claimant,
}

/// What a claim is made of.
#[derive(Clone, Copy)]
pub(crate) struct Claim<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) device: &'a Device,
    pub(crate) journal: Option<&'a Journal>,
    pub(crate) connections: &'a Connections,
}

impl<'a> Claim<'a> {
    /// None when the device is in use.
    pub(crate) fn make(self) -> Result<Option<Claimed<'a>>, Failure> {
        let claimant = Claimant::Superblock;
        let Some((unattached, fuse)) = self.superblock(claimant)? else { return Ok(None) };
        match again(self.device.fd.as_fd(), self.mode()) {
            Ok(fd) => self.claimed(unattached, fuse, fd, claimant).map(Some),
            Err(error) if is_forbidden(&error) && !self.plan.read_only => {
                drop(unattached);
                self.by_descriptor()
            }
            Err(error) => Err(error).or_mount_failure("cannot open the device"),
        }
    }

    fn by_descriptor(self) -> Result<Option<Claimed<'a>>, Failure> {
        let fd = match again(self.device.fd.as_fd(), self.mode() | OFlags::EXCL) {
            Ok(fd) => fd,
            Err(error) if Errno::from_io_error(&error) == Some(Errno::BUSY) => return Ok(None),
            Err(error) => return Err(error).or_mount_failure("cannot open the device for writing"),
        };
        let claimant = Claimant::Descriptor;
        let Some((unattached, fuse)) = self.superblock(claimant)? else { return Ok(None) };
        self.claimed(unattached, fuse, fd, claimant).map(Some)
    }

    fn mode(self) -> OFlags {
        if self.plan.read_only { OFlags::RDONLY } else { OFlags::RDWR }
    }

    fn superblock(self, claimant: Claimant) -> Result<Option<(Unattached<'a>, OwnedFd)>, Failure> {
        let fuse = superblock::open_fuse()?;
        match superblock::create(self.plan, self.device, &fuse, claimant)? {
            Created::New(context) => {
                let Self { plan, device, connections, .. } = self;
                let made = Unattached::new(context, (plan, device), connections, claimant)?;
                Ok(Some((made, fuse)))
            }
            // One of the two would be unused: the server goes again before it has read a byte.
            Created::Existing(_) | Created::Busy => Ok(None),
        }
    }

    fn claimed(
        self,
        unattached: Unattached<'a>,
        fuse: OwnedFd,
        fd: OwnedFd,
        claimant: Claimant,
    ) -> Result<Claimed<'a>, Failure> {
        let mut handover = Handover::of_device(fd, self.mode());
        if let Some(journal) = self.journal {
            handover.add_journal(journal.open(self.plan.read_only)?);
        }
        handover.add_connection(fuse, self.plan.serving.threads)?;
        Ok(Claimed { unattached, handover, claimant })
    }
}

fn is_forbidden(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::PERM)
}
