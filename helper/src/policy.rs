//! What root will do, decided before anyone is asked: pure, a table of cases below.
//!
//! Nothing that a server or an image says changes a [`Plan`]; a server can only make the mount
//! not happen.

use std::path::PathBuf;

use fuse4fs_protocol::{EngineOptions, LogLevel};
use rustix::mount::MountAttrFlags;

use crate::options::{Atime, MountFlags, Options};
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
    /// Said on stderr when the mount stands.
    pub(crate) warning: Option<&'static str>,
    pub(crate) attributes: MountAttrFlags,
    /// Keys without a value for fsconfig(2).
    pub(crate) flags: Vec<&'static str>,
    /// Keys with a value for fsconfig(2), besides those that name descriptors and sizes.
    pub(crate) strings: Vec<(&'static str, String)>,
    /// To be opened and handed over.
    pub(crate) journal: Option<PathBuf>,
    pub(crate) engine: EngineOptions,
    pub(crate) request_timeout: u32,
    pub(crate) log_level: LogLevel,
}

/// A changed mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RemountPlan {
    pub(crate) set: MountAttrFlags,
    pub(crate) clear: MountAttrFlags,
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
    let image = image(options, facts.source)?;
    let (read_only, warning) = access(options);
    let mut flags = vec!["allow_other", "default_permissions"];
    flags.extend(read_only.then_some("ro"));
    flags.extend(options.sync.then_some("sync"));
    flags.extend(options.dirsync.then_some("dirsync"));
    flags.extend(options.lazytime.then_some("lazytime"));
    let mut attributes = attributes(&options.flags);
    attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
    Ok(Plan {
        image,
        read_only,
        warning,
        attributes,
        flags,
        strings: options.labels.clone(),
        journal: options.journal_path.clone(),
        engine: engine(options),
        request_timeout: options.request_timeout,
        log_level: options.log_level,
    })
}

/// This version does not write, so every mount is read-only, with a word to those who did not ask for that.
pub(crate) const fn access(options: &Options) -> (bool, Option<&'static str>) {
    let warning = match options.read_only {
        Some(true) => None,
        _ => Some("WARNING: mounted read-only, this version of fuse4fs does not write"),
    };
    (true, warning)
}

/// What the engine is told.
pub(crate) fn engine(options: &Options) -> EngineOptions {
    EngineOptions {
        noload: options.noload,
        superblock: options.superblock,
        errors: options.errors,
        minixdf: options.minixdf,
    }
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

/// Decides whether an ordinary user's mount is possible.
pub(crate) fn decide_user(options: &Options, source: SourceKind) -> Result<(), Failure> {
    match image(options, source)? {
        Some(range) if range != (LoopRange { offset: 0, sizelimit: 0 }) => {
            Err(Failure::mount("offset= and sizelimit= need a loop device; ask root to mount it"))
        }
        _ if options.remount => Err(Failure::mount("remounting is for root")),
        _ if !options.labels.is_empty() => Err(Failure::mount("SELinux contexts are for root")),
        _ => Ok(()),
    }
}

/// Options for fusermount3. Access times do not change on a read-only mount, so they are left out;
/// device files and set-uid programs of an image that somebody made never count.
pub(crate) fn fusermount_options(options: &Options, source: &str, root: bool) -> String {
    let name = source.replace('\\', "\\\\").replace(',', "\\,");
    let mut words = vec!["nosuid", "nodev", "default_permissions"];
    words.extend(access(options).0.then_some("ro"));
    words.extend(options.flags.noexec.then_some("noexec"));
    words.extend((options.allow_other || root).then_some("allow_other"));
    format!("{},subtype=fuse4fs,fsname={name}", words.join(","))
}

fn attributes(flags: &MountFlags) -> MountAttrFlags {
    let mut attributes = match flags.atime {
        Atime::Relative => MountAttrFlags::MOUNT_ATTR_RELATIME,
        Atime::Never => MountAttrFlags::MOUNT_ATTR_NOATIME,
        Atime::Always => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
    };
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSUID, flags.nosuid);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODEV, flags.nodev);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOEXEC, flags.noexec);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NODIRATIME, flags.nodiratime);
    attributes.set(MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, flags.nosymfollow);
    attributes
}

/// Decides `-o remount`: flags of the mount change, the file system stays read-only.
pub(crate) fn decide_remount(options: &Options) -> Result<RemountPlan, Failure> {
    if options.read_only == Some(false) {
        return Err(Failure::mount(
            "cannot be remounted read-write, this version of fuse4fs does not write",
        ));
    }
    let set = attributes(&options.flags);
    let settable = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC
        | MountAttrFlags::MOUNT_ATTR_NODIRATIME
        | MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW
        | MountAttrFlags::MOUNT_ATTR__ATIME;
    Ok(RemountPlan { set, clear: settable.difference(set) | MountAttrFlags::MOUNT_ATTR__ATIME })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: Facts =
        Facts { source: SourceKind::Block, target_is_directory: true, kernel: (6, 18) };

    fn options(list: &str) -> Options {
        Options::parse(&[list.to_owned()], false).unwrap()
    }

    fn refusal(list: &str, facts: Facts) -> String {
        decide(&options(list), &facts).unwrap_err().text
    }

    fn file(bytes: u64) -> Facts {
        Facts { source: SourceKind::File { bytes }, ..BLOCK }
    }

    #[test]
    fn a_device_is_mounted_read_only_for_everyone_with_the_kernels_permission_checks() {
        let plan = decide(&options("ro"), &BLOCK).unwrap();
        assert_eq!(plan.flags, ["allow_other", "default_permissions", "ro"]);
        assert!(plan.read_only && plan.image.is_none() && plan.warning.is_none());
        let expected = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_RELATIME;
        assert_eq!(plan.attributes, expected);
    }

    #[test]
    fn who_did_not_ask_for_read_only_is_told() {
        for list in ["rw", "defaults", "ro,rw"] {
            let plan = decide(&options(list), &BLOCK).unwrap();
            assert!(plan.read_only && plan.warning.is_some(), "{list}");
        }
    }

    #[test]
    fn flags_of_the_mount_are_the_callers() {
        let cases = [
            ("nosuid,nodev,noexec", "NOSUID NODEV NOEXEC RELATIME"),
            ("noatime,nodiratime", "NOATIME NODIRATIME"),
            ("strictatime,nosymfollow", "STRICTATIME NOSYMFOLLOW"),
            ("user", "NOSUID NODEV NOEXEC RELATIME"),
            ("user,exec,suid,dev", "RELATIME"),
        ];
        for (list, names) in cases {
            let expected = names
                .split(' ')
                .map(|name| MountAttrFlags::from_name(&format!("MOUNT_ATTR_{name}")).unwrap());
            let expected = expected.collect::<MountAttrFlags>();
            let plan = decide(&options(list), &BLOCK).unwrap();
            assert_eq!(plan.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY, expected, "{list}");
        }
    }

    #[test]
    fn an_image_becomes_a_loop_device_of_the_wanted_part() {
        let plan = decide(&options("offset=1M,sizelimit=2M"), &file(4 << 20)).unwrap();
        assert_eq!(plan.image, Some(LoopRange { offset: 1 << 20, sizelimit: 2 << 20 }));
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_with_what_to_do() {
        let no_directory = Facts { target_is_directory: false, ..BLOCK };
        let directory = Facts { source: SourceKind::Directory, ..BLOCK };
        let fifo = Facts { source: SourceKind::Other, ..BLOCK };
        let old = Facts { kernel: (5, 15), ..BLOCK };
        for (list, facts, words) in [
            ("ro", no_directory, "not a directory"),
            ("ro", directory, "is a directory"),
            ("ro", fifo, "neither a block device"),
            ("ro", old, "5.15 is too old"),
            ("ro", file(0), "empty"),
            ("ro,offset=1M", file(1 << 20), "behind the end"),
            ("ro,offset=1M", BLOCK, "for image files"),
        ] {
            let text = refusal(list, facts);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn labels_go_to_the_kernel_as_they_are() {
        let plan = decide(&options(r#"context="a:b:c:s0:c1,c2""#), &BLOCK).unwrap();
        assert_eq!(plan.strings, [("context", "a:b:c:s0:c1,c2".to_owned())]);
    }

    #[test]
    fn a_remount_changes_flags_and_never_makes_it_writable() {
        let plan = decide_remount(&options("remount,ro,noexec")).unwrap();
        assert!(plan.set.contains(MountAttrFlags::MOUNT_ATTR_NOEXEC));
        assert!(plan.clear.contains(MountAttrFlags::MOUNT_ATTR_NOSUID));
        assert!(!plan.clear.contains(MountAttrFlags::MOUNT_ATTR_RDONLY));
        assert!(decide_remount(&options("remount,rw")).is_err());
    }
}
