//! Descriptors on their way to the server, each with its role. All are decided here, before or
//! without a word from the server.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread::available_parallelism;

use fuse4fs_protocol::{FdList, FdRole};
use rustix::fs::OFlags;

use crate::report::{Explain, Failure};
use crate::superblock::{Device, open_fuse};
use crate::sys::open::{again, well_known};

/// Threads of the server that read the connection, at most.
const MAX_CLONES: usize = 8;
const CGROUPS: &str = "/sys/fs/cgroup";

/// The descriptors of one mount.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    parts: Vec<(FdRole, OwnedFd)>,
}

impl Handover {
    /// Descriptors of the device, one of them with O_DIRECT where it can do that.
    pub(crate) fn open(device: &Device, journal: Option<&OwnedFd>) -> Result<Self, Failure> {
        let mut handover = Self::default();
        let fd = device.fd.try_clone().or_mount_failure("cannot duplicate the device")?;
        handover.parts.push((FdRole::Device, fd));
        if let Ok(direct) = again(device.fd.as_fd(), OFlags::RDONLY | OFlags::DIRECT) {
            handover.parts.push((FdRole::DeviceDirect, direct));
        }
        handover.add_journal(journal)?;
        Ok(handover)
    }

    /// An image file that is served without a loop device.
    pub(crate) fn of_image(image: OwnedFd, journal: Option<&OwnedFd>) -> Result<Self, Failure> {
        let mut handover = Self { parts: vec![(FdRole::Device, image)] };
        handover.add_journal(journal)?;
        Ok(handover)
    }

    fn add_journal(&mut self, journal: Option<&OwnedFd>) -> Result<(), Failure> {
        if let Some(journal) = journal {
            let journal = journal.try_clone().or_mount_failure("cannot duplicate the journal")?;
            self.parts.push((FdRole::Journal, journal));
        }
        Ok(())
    }

    /// The connection, and further descriptors for the server to make clones of it: it cannot
    /// open /dev/fuse itself.
    pub(crate) fn add_connection(&mut self, fuse: OwnedFd) -> Result<(), Failure> {
        self.parts.push((FdRole::Fuse, fuse));
        let cpus = available_parallelism().map_or(2, usize::from);
        for _ in 0..cpus.clamp(2, MAX_CLONES) {
            self.parts.push((FdRole::FuseClone, open_fuse()?));
        }
        Ok(())
    }

    /// `memory.pressure` of the server's cgroup, else of the machine, if there is any.
    pub(crate) fn add_memory_pressure(&mut self, server_pid: i32) {
        let file = cgroup(server_pid)
            .map(|path| format!("{path}/memory.pressure"))
            .into_iter()
            .chain(["/proc/pressure/memory".to_owned()])
            .find_map(|path| well_known(&path, OFlags::RDWR | OFlags::NONBLOCK).ok());
        self.parts.extend(file.map(|file| (FdRole::MemoryPressure, file)));
    }

    pub(crate) fn roles(&self) -> Result<FdList, Failure> {
        let roles: Vec<FdRole> = self.parts.iter().map(|(role, _)| *role).collect();
        FdList::try_from(roles).map_err(Failure::mount)
    }

    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.parts.iter().map(|(_, fd)| fd.as_fd()).collect()
    }
}

/// Directory of a process's cgroup (version 2). The root cgroup has no pressure of its own.
fn cgroup(pid: i32) -> Option<String> {
    if pid <= 0 {
        return None;
    }
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    if path.is_empty() || Path::new(path).components().any(|part| part.as_os_str() == "..") {
        return None;
    }
    Some(format!("{CGROUPS}/{path}"))
}
