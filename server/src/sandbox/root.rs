//! An empty, read-only root in place of the host's.

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount_change,
    move_mount, unmount,
};

use super::{SandboxError, Step};

/// Replaces the root of this mount namespace, which must be this process's own, by an empty tmpfs.
///
/// # Errors
/// When the namespace is not one's own or lacks privilege.
pub(super) fn empty() -> Result<(), SandboxError> {
    // Nothing that follows shall be seen by the host.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).step("making mounts private")?;
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).step("opening tmpfs")?;
    fsconfig_set_string(&context, "size", "4k").step("sizing the empty root")?;
    fsconfig_set_string(&context, "mode", "0555").step("sizing the empty root")?;
    fsconfig_set_flag(&context, "ro").step("making the empty root read-only")?;
    fsconfig_create(&context).step("creating the empty root")?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let tree = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        .step("mounting the empty root")?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&tree, "", CWD, "/", flags).step("attaching the empty root")?;
    rustix::process::fchdir(&tree).step("entering the empty root")?;
    change_root().step("changing to the empty root")?;
    rustix::process::chdir("/").step("entering the empty root")
}

/// The old root comes to lie over the new one and is taken off from there. Where the old one is the
/// kernel's initial rootfs, which cannot be pivoted away, it stays below, out of reach: no
/// descriptor leads there and chroot(2) is not permitted from here on.
fn change_root() -> Result<(), Errno> {
    match rustix::process::pivot_root(".", ".") {
        Ok(()) => unmount(".", UnmountFlags::DETACH),
        Err(Errno::INVAL) => rustix::process::chroot("."),
        Err(error) => Err(error),
    }
}
