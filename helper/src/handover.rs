//! Descriptors on their way to the server, each with its role. All are decided here, before or
//! without a word from the server.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::available_parallelism;

use fuse4fs_protocol::{FdList, FdRole, MAX_THREADS};
use rustix::fs::{OFlags, PROC_SUPER_MAGIC, fstatfs};

use crate::pressure;
use crate::report::Failure;
use crate::superblock::open_fuse;
use crate::sys::open::{again, well_known};

/// Threads of the server that read the connection, at most, when nobody said how many.
const THREADS_BY_CPUS: usize = 8;

/// The descriptors of one mount.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    parts: Vec<(FdRole, OwnedFd)>,
}

impl Handover {
    /// A device, open in this mode, and the same with O_DIRECT where it can do that.
    pub(crate) fn of_device(device: OwnedFd, mode: OFlags) -> Self {
        let direct = again(device.as_fd(), mode | OFlags::DIRECT).ok();
        let mut handover = Self::of_image(device);
        handover.parts.extend(direct.map(|direct| (FdRole::DeviceDirect, direct)));
        handover
    }

    /// An image file that is served without a loop device.
    pub(crate) fn of_image(image: OwnedFd) -> Self {
        Self { parts: vec![(FdRole::Device, image)] }
    }

    /// An external journal.
    pub(crate) fn add_journal(&mut self, journal: OwnedFd) {
        self.parts.push((FdRole::Journal, journal));
    }

    /// The connection, and further descriptors for the server to make clones of it: it cannot
    /// open /dev/fuse itself. One for each of `threads`, which are by the CPUs if 0.
    pub(crate) fn add_connection(&mut self, fuse: OwnedFd, threads: u16) -> Result<(), Failure> {
        self.parts.push((FdRole::Fuse, fuse));
        let count = match threads {
            0 => available_parallelism().map_or(2, usize::from).clamp(2, THREADS_BY_CPUS),
            threads => threads.min(MAX_THREADS).into(),
        };
        // The first thread reads the connection itself.
        for _ in 1..count {
            self.parts.push((FdRole::FuseClone, open_fuse()?));
        }
        Ok(())
    }

    /// What tells the server `pid` that memory is short, if anything does.
    pub(crate) fn add_memory_pressure(&mut self, pid: i32) {
        self.parts.extend(pressure::watch(pid).map(|file| (FdRole::MemoryPressure, file)));
    }

    /// /proc/loadavg, by which the server knows whether CPUs are busy. Only the kernel's own: in some
    /// containers another server makes that file, which ours must not wait for.
    pub(crate) fn add_load(&mut self) {
        let file = well_known("/proc/loadavg", OFlags::RDONLY).ok().filter(is_of_kernel);
        self.parts.extend(file.map(|file| (FdRole::Load, file)));
    }

    pub(crate) fn roles(&self) -> Result<FdList, Failure> {
        let roles: Vec<FdRole> = self.parts.iter().map(|(role, _)| *role).collect();
        FdList::try_from(roles).map_err(Failure::mount)
    }

    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.parts.iter().map(|(_, fd)| fd.as_fd()).collect()
    }
}

/// Whether `file` is in procfs itself.
fn is_of_kernel(file: &OwnedFd) -> bool {
    fstatfs(file).is_ok_and(|stat| stat.f_type == PROC_SUPER_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_told_by_procfs_alone() {
        let mut handover = Handover::default();
        handover.add_load();
        assert_eq!(handover.roles().unwrap().roles(), [FdRole::Load]);
        let other = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_of_kernel(&other.into()));
    }
}
