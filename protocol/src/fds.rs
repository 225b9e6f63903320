//! File descriptors travel with a message that names each one's role, in order.

use serde::{Deserialize, Serialize};

/// What a passed file descriptor is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum FdRole {
    /// The device; O_RDONLY on a read-only mount, so that a taken-over server cannot write it, else
    /// O_RDWR.
    Device,
    /// The same device opened with O_DIRECT, in the same mode.
    DeviceDirect,
    /// The /dev/fuse descriptor of the mount.
    Fuse,
    /// A further /dev/fuse descriptor, to become a clone of the first (FUSE_DEV_IOC_CLONE).
    FuseClone,
    /// A `memory.pressure` file with a trigger, O_RDWR: POLLPRI says that memory is short.
    MemoryPressure,
    /// The external journal's device, in the same mode as the device.
    Journal,
    /// /proc/loadavg, by which a server whose tasks are a group by themselves for the scheduler knows
    /// when its threads may be of the idle class.
    Load,
}

/// Roles of the descriptors of one message, in the order they were sent; [`crate::MAX_FDS`] at most.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<FdRole>", into = "Vec<FdRole>")]
pub struct FdList(Vec<FdRole>);

impl FdList {
    /// The roles in order.
    #[must_use]
    pub fn roles(&self) -> &[FdRole] {
        &self.0
    }
}

impl TryFrom<Vec<FdRole>> for FdList {
    type Error = String;

    fn try_from(roles: Vec<FdRole>) -> Result<Self, String> {
        if roles.len() > crate::MAX_FDS {
            return Err(format!("{} file descriptors are too many", roles.len()));
        }
        Ok(Self(roles))
    }
}

impl From<FdList> for Vec<FdRole> {
    fn from(list: FdList) -> Self {
        list.0
    }
}
