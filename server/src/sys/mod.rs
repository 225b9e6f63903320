//! The calls that rustix has no safe form of, and the rings. All unsafe code of the server is here.
#![expect(unsafe_code, reason = "the one place for it; each use says why it is sound")]

pub(crate) mod arena;
#[cfg(feature = "attack")]
pub(crate) mod attack;
pub(crate) mod ring;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// SO_PASSRIGHTS (6.16)
const SO_PASSRIGHTS: libc::c_int = 83;
/// FUSE_DEV_IOC_CLONE
const FUSE_DEV_IOC_CLONE: libc::Ioctl = libc::_IOR::<u32>(229, 0);

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has all threads share one heap: what one of them freed another can use, so that the cache takes no more
/// memory than it counts. Called before the first thread.
pub(crate) fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: the call takes two numbers and changes how later allocations are made.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Takes a descriptor that was inherited across execve, and sets FD_CLOEXEC on it.
///
/// # Errors
/// When it is not open.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes any number; a closed one gives EBADF.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    // SAFETY: it is open, and it is called once, at the start, for a descriptor that the starter
    // of this process has handed over and that nothing else in here knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a fresh /dev/fuse descriptor a further channel of the mount of `of`.
///
/// # Errors
/// EINVAL when either is not a fuse descriptor or `of` is not mounted.
pub(crate) fn clone_channel(fresh: &OwnedFd, of: &OwnedFd) -> io::Result<()> {
    let of = of.as_raw_fd();
    // SAFETY: the command reads one 32-bit number behind the pointer, which lives on the stack.
    check(unsafe { libc::ioctl(fresh.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const of) })
}

/// Has dirty pages of a range of bytes written, and does not wait for it. Advice only: what goes wrong
/// shows at the next fdatasync(2).
pub(crate) fn begin_writeback(fd: &OwnedFd, offset: u64, len: usize) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the call takes no pointer.
    let _ = unsafe { libc::sync_file_range(fd.as_raw_fd(), offset, len, flags) };
}

/// Lets the kernel drop all descriptors that would still come by this socket.
///
/// # Errors
/// ENOPROTOOPT before Linux 6.16.
pub(crate) fn refuse_descriptors(socket: &OwnedFd) -> io::Result<()> {
    let off: libc::c_int = 0;
    let len = libc::socklen_t::try_from(size_of_val(&off)).map_err(io::Error::other)?;
    // SAFETY: the option reads `len` bytes behind the pointer, which lives on the stack.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PASSRIGHTS,
            (&raw const off).cast(),
            len,
        )
    })
}

/// Closes all descriptors but those of `keep`, which is sorted.
///
/// # Errors
/// None that is known of on 5.9 and later.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut first: libc::c_uint = 0;
    for kept in keep {
        let kept = libc::c_uint::try_from(*kept).map_err(io::Error::other)?;
        if kept > first {
            close_range(first, kept.saturating_sub(1))?;
        }
        first = kept.saturating_add(1);
    }
    close_range(first, libc::c_uint::MAX)
}

fn close_range(first: libc::c_uint, last: libc::c_uint) -> io::Result<()> {
    // SAFETY: the caller keeps every descriptor that has an owner in this process; the others were
    // left by whoever started it, and nobody here uses them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ignores a signal.
///
/// # Errors
/// EINVAL for signals that cannot be ignored.
pub(crate) fn ignore(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: SIG_IGN runs no code.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A signal that is blocked in this thread and in those that it starts from now on, so that it can
/// be waited for.
pub(crate) struct BlockedSignal(libc::sigset_t);

impl BlockedSignal {
    /// Blocks `signal`.
    ///
    /// # Errors
    /// EINVAL for a number that is no signal.
    pub(crate) fn new(signal: libc::c_int) -> io::Result<Self> {
        let mut set = std::mem::MaybeUninit::uninit();
        // SAFETY: sigemptyset fills all of the set, so that it is initialised after it; the other
        // calls read and write it only.
        unsafe {
            check(libc::sigemptyset(set.as_mut_ptr()))?;
            let mut set = set.assume_init();
            check(libc::sigaddset(&raw mut set, signal))?;
            match libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) {
                0 => Ok(Self(set)),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// Waits until the signal comes.
    ///
    /// # Errors
    /// None that is known of.
    pub(crate) fn wait(&self) -> io::Result<()> {
        let mut signal = 0;
        // SAFETY: both pointers are to memory that lives until the call returns.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Enters the scheduler's idle class, for good.
///
/// # Errors
/// EPERM where a filter forbids it.
pub(crate) fn become_idle() -> io::Result<()> {
    let none = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `none`, which lives on the stack. Raw, as musl has no such function.
    let result = unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const none)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
