//! Opens things once by name, then only by descriptor, so that no name is looked up twice.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, Stat};

/// What a name led to, held by an O_PATH descriptor.
#[derive(Debug)]
pub(crate) struct Pinned {
    fd: OwnedFd,
    stat: Stat,
}

impl Pinned {
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let fd = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { fd, stat })
    }

    /// Attributes at the time of [`Self::at`].
    pub(crate) const fn stat(&self) -> &Stat {
        &self.stat
    }

    /// Where it is now, for people; empty when that cannot be told.
    pub(crate) fn path(&self) -> PathBuf {
        std::fs::read_link(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).unwrap_or_default()
    }

    /// The same object, opened for use.
    pub(crate) fn open(&self, flags: OFlags) -> io::Result<OwnedFd> {
        again(self.fd.as_fd(), flags)
    }
}

impl AsFd for Pinned {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What `fd` holds, opened once more. Somebody else chose it, so it never becomes our terminal.
pub(crate) fn again(fd: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    well_known(&format!("/proc/self/fd/{}", fd.as_raw_fd()), flags | OFlags::NOCTTY)
}

/// What a path leads to, for its place only: no server is asked for attributes, but perhaps for names.
pub(crate) fn place(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// A device or /proc file that has its well-known name.
pub(crate) fn well_known(path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// A log file, made if missing, written at its end.
pub(crate) fn log_file(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o640))?)
}
