//! The mount API: a superblock is made first and attached last.
//!
//! Source: fsopen(2), fsconfig(2), fsmount(2), move_mount(2), mount_setattr(2);
//! Documentation/filesystems/fuse.rst, "Control filesystem".
#![allow(unsafe_code, reason = "mount_setattr is not in rustix")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Access, AtFlags, OFlags, StatxFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags};

/// A file system being configured.
#[derive(Debug)]
pub(crate) struct Context(OwnedFd);

impl Context {
    pub(crate) fn open(fs_type: &str) -> io::Result<Self> {
        Ok(Self(rustix::mount::fsopen(fs_type, FsOpenFlags::FSOPEN_CLOEXEC)?))
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_string(&self.0, key, value)?)
    }

    pub(crate) fn flag(&self, key: &str) -> io::Result<()> {
        Ok(rustix::mount::fsconfig_set_flag(&self.0, key)?)
    }

    /// A superblock that did not exist before.
    ///
    /// # Errors
    /// EBUSY: the device is in use. EOPNOTSUPP, EINVAL: older than Linux 6.6.
    pub(crate) fn create_exclusive(&self) -> Result<(), Errno> {
        rustix::mount::fsconfig_create_exclusive(&self.0)
    }

    /// A superblock, new or the one that the device has already.
    ///
    /// # Errors
    /// EBUSY: the device is in use by something else.
    pub(crate) fn create(&self) -> Result<(), Errno> {
        rustix::mount::fsconfig_create(&self.0)
    }

    /// A mount of the superblock, attached nowhere.
    pub(crate) fn mount(self, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        Ok(rustix::mount::fsmount(&self.0, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
    }

    /// What the kernel has to say about the last failure, "" if nothing.
    pub(crate) fn messages(&self) -> String {
        let mut words = Vec::new();
        let mut line = [0; 512];
        // One message a read; the kernel keeps eight.
        for _ in 0..8 {
            let Ok(len) = rustix::io::read(&self.0, &mut line) else { break };
            let text = String::from_utf8_lossy(line.get(..len).unwrap_or_default()).into_owned();
            let text = text.get(2..).unwrap_or_default().trim().to_owned();
            if !text.is_empty() {
                words.push(text);
            }
        }
        words.join("; ")
    }
}

/// Attaches a mount at the directory that `target` holds.
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(rustix::mount::move_mount(mount, "", target, "", flags)?)
}

/// Device number (major, minor) and mount id of what `fd` is on, without asking its server.
pub(crate) fn device_and_mount_id(fd: BorrowedFd<'_>) -> io::Result<(u32, u32, u64)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT;
    let statx = rustix::fs::statx(fd, "", flags, StatxFlags::MNT_ID)?;
    Ok((statx.stx_dev_major, statx.stx_dev_minor, statx.stx_mnt_id))
}

/// Asks the server for the attributes of the root: answered once it serves. May hang.
pub(crate) fn ask_for_root(mount: BorrowedFd<'_>) -> io::Result<()> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_FORCE_SYNC;
    rustix::fs::statx(mount, "", flags, StatxFlags::BASIC_STATS)?;
    Ok(())
}

/// Makes the mount visible to nobody else: a new mount namespace with it as root.
pub(crate) fn attach_privately(mount: BorrowedFd<'_>) -> io::Result<()> {
    use rustix::mount::MountPropagationFlags as Propagation;
    // SAFETY: unshare of the mount namespace alone touches no memory; the caller is a process of
    // one thread, made for this.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change("/", Propagation::PRIVATE | Propagation::REC)?;
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, rustix::fs::Mode::empty())?;
    attach(mount, root.as_fd())
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Makes the one mount whose root `mount` holds read-only; its server is not asked.
pub(crate) fn make_read_only(mount: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = MountAttr {
        set: MountAttrFlags::MOUNT_ATTR_RDONLY.bits().into(),
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is a C string and the structure lives during the call, with its size given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets all flags of the mount whose root `root` holds, and of its superblock. May wait for the server.
///
/// # Errors
/// EBUSY: it shall become read-only, and something on it is open for writing.
pub(crate) fn remount(root: BorrowedFd<'_>, flags: MountFlags) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", root.as_raw_fd());
    Ok(rustix::mount::mount_remount(path, flags, c"")?)
}

/// The control file system, held by a mount of our own: /sys/fs/fuse may not be mounted here.
#[derive(Debug)]
pub(crate) struct Connections(OwnedFd);

impl Connections {
    pub(crate) fn open() -> io::Result<Self> {
        let context = Context::open("fusectl")?;
        context.create()?;
        Ok(Self(context.mount(MountAttrFlags::empty())?))
    }

    /// Whether the superblock on device `major:minor` is one of FUSE.
    pub(crate) fn exist(&self, major: u32, minor: u32) -> bool {
        rustix::fs::accessat(&self.0, number(major, minor), Access::EXISTS, AtFlags::empty())
            .is_ok()
    }

    /// Ends the connection of the superblock on device `major:minor`: every request fails, every waiter goes on.
    pub(crate) fn abort(&self, major: u32, minor: u32) -> io::Result<()> {
        let file = rustix::fs::openat(
            &self.0,
            format!("{}/abort", number(major, minor)),
            OFlags::WRONLY | OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )?;
        rustix::io::write(&file, b"1")?;
        Ok(())
    }
}

/// A connection's directory: the kernel's dev_t, 12 bits of major, 20 of minor.
fn number(major: u32, minor: u32) -> String {
    ((u64::from(major) << 20) | u64::from(minor)).to_string()
}
