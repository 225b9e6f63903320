//! What root will do, decided before anyone is asked: pure, a table of cases below.
//!
//! Nothing that a server or an image says changes a [`Plan`]; a server can only make the mount
//! not happen.

use std::path::PathBuf;

use fuse4fs_protocol::{Atime, EngineOptions, LogLevel, ServingOptions, Switch};
use rustix::mount::{MountAttrFlags, MountFlags};

use crate::options::{Options, Tuning};
use crate::report::Failure;

/// The oldest kernel that has everything a mount relies on.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Smallest block size of the superblock; ext4's own is not known yet.
const BLOCK_SIZE: u32 = 4096;

/// What the source turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SourceKind {
    Block,
    /// A regular file of this many bytes.
    File {
        bytes: u64,
    },
    Directory,
    Other,
}

/// What was found on this machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Facts {
    pub(crate) source: SourceKind,
    pub(crate) target_is_directory: bool,
    /// Major and minor version.
    pub(crate) kernel: (u32, u32),
    /// The source cannot be written, whoever wants to.
    pub(crate) write_protected: bool,
    /// The kernel offers FUSE over io_uring.
    pub(crate) io_uring: bool,
    /// SELinux is there.
    pub(crate) selinux: bool,
}

/// Part of an image file that becomes a loop device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LoopRange {
    pub(crate) offset: u64,
    /// 0 for the rest of the file.
    pub(crate) sizelimit: u64,
}

/// Everything privileged that a mount consists of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Put a loop device in front of the source.
    pub(crate) image: Option<LoopRange>,
    pub(crate) read_only: bool,
    /// Said when the mount stands: it is read-only though nobody asked for that.
    pub(crate) write_protected: bool,
    /// Said with `-v`.
    pub(crate) hint: Option<&'static str>,
    pub(crate) attributes: MountAttrFlags,
    /// Keys without a value for fsconfig(2), besides `ro`.
    pub(crate) flags: Vec<&'static str>,
    /// Keys with a value for fsconfig(2), besides those that name descriptors and sizes.
    pub(crate) strings: Vec<(&'static str, String)>,
    /// To be opened and handed over.
    pub(crate) journal: Option<PathBuf>,
    pub(crate) engine: EngineOptions,
    pub(crate) serving: ServingOptions,
    pub(crate) tuning: Tuning,
    pub(crate) request_timeout: u32,
    pub(crate) log_level: LogLevel,
}

/// A changed mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemountPlan {
    /// For mount(2), all that the mount has afterwards.
    pub(crate) flags: MountFlags,
    /// What the server is told.
    pub(crate) server: Told,
}

/// What a remount says to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Told {
    Nothing,
    /// First, since it may say no.
    ReadWrite,
    /// Last, when the kernel lets nobody write any more.
    ReadOnly,
}

/// Decides a mount.
pub(crate) fn decide(options: &Options, facts: &Facts) -> Result<Plan, Failure> {
    if facts.kernel < OLDEST_KERNEL {
        let (major, minor) = facts.kernel;
        return Err(Failure::mount(format!("Linux {major}.{minor} is too old; 6.1 is needed")));
    }
    if !facts.target_is_directory {
        return Err(Failure::mount("the mount point is not a directory; name an existing one"));
    }
    if options.fakeroot || options.lock_file.is_some() {
        return Err(Failure::mount(
            "fakeroot and lockfile= are for mounts of the program fuse4fs; others lock images anyway",
        ));
    }
    let image = image(options, facts.source)?;
    let read_only = read_only(options, facts.write_protected);
    let mut flags = vec!["allow_other", "default_permissions"];
    flags.extend(options.engine.sync.then_some("sync"));
    flags.extend(options.engine.dirsync.then_some("dirsync"));
    flags.extend(options.engine.lazytime.then_some("lazytime"));
    let mut attributes = attributes(options);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    let hint = io_uring(options.serving.io_uring, facts.io_uring)?;
    Ok(Plan {
        image,
        read_only,
        write_protected: read_only && options.read_only != Some(true),
        hint,
        attributes,
        flags,
        strings: options.labels.clone(),
        journal: options.journal_path.clone(),
        engine: options.engine.clone(),
        serving: serving(options, facts.selinux),
        tuning: options.tuning,
        request_timeout: options.request_timeout,
        log_level: options.log_level,
    })
}

/// As mount(8): read-write unless asked otherwise, and read-only where that is impossible.
pub(crate) fn read_only(options: &Options, write_protected: bool) -> bool {
    options.read_only == Some(true) || write_protected
}

/// Something for `-v` about io_uring, or why there is no mount.
fn io_uring(wanted: Switch, offered: bool) -> Result<Option<&'static str>, Failure> {
    match wanted {
        Switch::On if !offered => Err(Failure::mount(
            "io_uring=on needs FUSE over io_uring, which this kernel lacks or has switched off; \
             on Linux 6.14 and later: echo Y > /sys/module/fuse/parameters/enable_uring",
        )),
        Switch::Auto if !offered => Ok(Some(
            "FUSE over io_uring is off, which costs speed; \
             on Linux 6.14 and later: echo Y > /sys/module/fuse/parameters/enable_uring",
        )),
        _ => Ok(None),
    }
}

/// A label for the whole mount (`context=`) leaves none to store.
fn serving(options: &Options, selinux: bool) -> ServingOptions {
    let whole = options.labels.iter().any(|(name, _)| *name == "context");
    ServingOptions { security_context: selinux && !whole, ..options.serving.clone() }
}

/// Block size for the superblock of a device with sectors of this many bytes.
pub(crate) fn block_size(sector: u32) -> u32 {
    sector.max(BLOCK_SIZE)
}

fn image(options: &Options, source: SourceKind) -> Result<Option<LoopRange>, Failure> {
    let range = LoopRange { offset: options.offset, sizelimit: options.sizelimit };
    match source {
        SourceKind::Block if range.offset != 0 || range.sizelimit != 0 => Err(Failure::mount(
            "offset= and sizelimit= are for image files; for a device use losetup or partitions",
        )),
        SourceKind::Block => Ok(None),
        SourceKind::File { bytes } => {
            image_range(range, bytes)?;
            Ok(Some(range))
        }
        SourceKind::Directory => {
            Err(Failure::mount("is a directory; name a block device or an image file"))
        }
        SourceKind::Other => {
            Err(Failure::mount("is neither a block device nor a file; name one of these"))
        }
    }
}

/// Checks that a part of an image exists.
pub(crate) fn image_range(range: LoopRange, bytes: u64) -> Result<(), Failure> {
    if bytes == 0 {
        return Err(Failure::mount("the file is empty; no file system is in it"));
    }
    if range.offset >= bytes {
        return Err(Failure::mount(format!(
            "offset={} is behind the end of the file, which has {bytes} bytes",
            range.offset
        )));
    }
    Ok(())
}

/// Decides whether an ordinary user's mount is possible, perhaps with something to say for `-v`.
pub(crate) fn decide_user(
    options: &Options,
    source: SourceKind,
    uring: bool,
    foreground: bool,
) -> Result<Option<&'static str>, Failure> {
    match image(options, source)? {
        Some(range) if range != (LoopRange { offset: 0, sizelimit: 0 }) => {
            Err(Failure::mount("offset= and sizelimit= need a loop device; ask root to mount it"))
        }
        _ if options.remount => Err(Failure::mount("remounting is for root")),
        _ if options.lock_file.is_some() && !foreground => Err(Failure::mount(
            "lockfile= needs -f: else nobody is left to remove the file; images are locked anyway",
        )),
        _ if !options.labels.is_empty() => Err(Failure::mount("SELinux contexts are for root")),
        _ => io_uring(options.serving.io_uring, uring),
    }
}

/// What an ordinary user's server is to do. With ACLs the kernel checks permissions (fuse.h, FUSE_POSIX_ACL),
/// which `fakeroot` asks it not to.
pub(crate) fn engine_of_user(options: &Options) -> EngineOptions {
    let acl = if options.fakeroot { Some(false) } else { options.engine.acl };
    EngineOptions { acl, ..options.engine.clone() }
}

/// Options for fusermount3. Access times are left to the server; device files and set-uid programs of
/// an image that somebody made never count.
pub(crate) fn fusermount_options(
    options: &Options,
    source: &str,
    read_only: bool,
    root: bool,
) -> String {
    let name = source.replace('\\', "\\\\").replace(',', "\\,");
    let mut words = vec!["nosuid", "nodev"];
    words.extend((!options.fakeroot).then_some("default_permissions"));
    words.extend(read_only.then_some("ro"));
    words.extend(options.flags.noexec.then_some("noexec"));
    words.extend((options.allow_other || root).then_some("allow_other"));
    format!("{},subtype=fuse4fs,fsname={name}", words.join(","))
}

fn attributes(options: &Options) -> MountAttrFlags {
    let flags = &options.flags;
    let mut attributes = match options.engine.atime {
        Atime::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
        Atime::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
        Atime::Always => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.nosuid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, flags.nodev);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, flags.noexec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, options.engine.nodiratime);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, flags.nosymfollow);
    attributes
}

/// Decides `-o remount` of a mount that is read-only `now`, or not.
///
/// The server is asked whenever that changes: what it may do with the device is decided by the
/// descriptor that it got when it was mounted.
pub(crate) fn decide_remount(options: &Options, now: bool) -> RemountPlan {
    let read_only = options.read_only.unwrap_or(now);
    let server = match (now, read_only) {
        (true, false) => Told::ReadWrite,
        (false, true) => Told::ReadOnly,
        _ => Told::Nothing,
    };
    RemountPlan { flags: remount_flags(options, read_only), server }
}

fn remount_flags(options: &Options, read_only: bool) -> MountFlags {
    let engine = &options.engine;
    let mut flags = match engine.atime {
        Atime::Relative => MountFlags::RELATIME,
        Atime::Never => MountFlags::NOATIME,
        Atime::Always => MountFlags::STRICTATIME,
    };
    for (flag, wanted) in [
        (MountFlags::RDONLY, read_only),
        (MountFlags::NOSUID, options.flags.nosuid),
        (MountFlags::NODEV, options.flags.nodev),
        (MountFlags::NOEXEC, options.flags.noexec),
        (MountFlags::NOSYMFOLLOW, options.flags.nosymfollow),
        (MountFlags::NODIRATIME, engine.nodiratime),
        (MountFlags::SYNCHRONOUS, engine.sync),
        (MountFlags::DIRSYNC, engine.dirsync),
        (MountFlags::LAZYTIME, engine.lazytime),
    ] {
        flags.set(flag, wanted);
    }
    flags
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
