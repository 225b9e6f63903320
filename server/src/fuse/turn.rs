//! A mount becomes read-only, and read-write again (`protocol/src/ioctl.rs`).

use std::sync::Arc;

use fuse4fs_ext4::{Error, Filesystem};
use fuse4fs_protocol::SetReadOnly;
use fuser::Errno;
use tracing::{error, info};

use super::abi::IoctlOut;
use super::nodes::NodeId;
use super::reply::Output;
use super::serve::{Answer, Frontend, Phase};
use crate::clock;

impl Frontend {
    /// Answers IOC_SET_READ_ONLY.
    pub(super) fn turn(&self, node: NodeId, asked: &[u8], out: &mut Output<'_>) -> Answer {
        let Some(asked) = SetReadOnly::from_bytes(asked) else {
            return Answer::Error(Errno::EINVAL);
        };
        if !node.is_root() || asked.key != self.control.key {
            return Answer::Error(Errno::EPERM);
        }
        // No verb is under way.
        let _all = self.verbs.write();
        let result = if asked.read_only { self.turn_read_only() } else { self.turn_writable() };
        match result {
            Err(errno) => Answer::Error(errno),
            Ok(()) if out.put(&IoctlOut::default()).is_ok() => Answer::Reply,
            Ok(()) => Answer::Error(Errno::EIO),
        }
    }

    /// As at an unmount, but what is there can still be read. The kernel has seen to it that no file
    /// is open for writing and none without a name is open at all.
    fn turn_read_only(&self) -> Result<(), Errno> {
        let fs = match &*self.phase.lock() {
            Phase::Serving(fs) => Arc::clone(fs),
            Phase::Starting(_) => return Err(Errno::EAGAIN),
            Phase::Ended => return Err(Errno::EIO),
        };
        if !fs.is_writable() {
            return Ok(());
        }
        let name = &self.settings.device_name;
        self.finish(&fs).map_err(|error| {
            error!("EXT4-fs ({name}): making it read-only: {error}");
            Errno::EIO
        })?;
        self.control.set_turned(true);
        info!("EXT4-fs ({name}): re-mounted ro.");
        Ok(())
    }

    /// Ends writing: inodes without a name are freed, and everything is home. One that cannot be freed is
    /// reported, and no reason to lose what waits to be written.
    ///
    /// # Errors
    /// As [`Filesystem::unmount`].
    pub(super) fn finish(&self, fs: &Filesystem) -> Result<(), Error> {
        let writable = fs.is_writable();
        if let Err(error) = fs.forget_all(clock::now()) {
            self.report(fs, writable, "forget", &error.into());
        }
        fs.unmount()
    }

    /// By mounting once more what this mount left in order.
    fn turn_writable(&self) -> Result<(), Errno> {
        let mut phase = self.phase.lock();
        match &*phase {
            Phase::Serving(fs) if fs.is_writable() => return Ok(()),
            Phase::Serving(_) => {}
            Phase::Starting(_) => return Err(Errno::EAGAIN),
            Phase::Ended => return Err(Errno::EIO),
        }
        let fs = self.control.reopened().ok_or(Errno::EROFS)?;
        *phase = Phase::Serving(fs);
        self.control.set_turned(false);
        info!("EXT4-fs ({}): re-mounted r/w.", self.settings.device_name);
        Ok(())
    }
}
