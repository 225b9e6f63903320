//! Words of mount(8) that do not depend on the file system, and those of other programs that stand
//! in the same list.
//!
//! Source: mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS"; systemd.mount(5); fstab(5).

use fuse4fs_protocol::Atime;

use super::Options;

/// Words without a value that change nothing here.
const IGNORED: &[&str] = &[
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "nouser",
    "loop",
    "mand",
    "nomand",
    "silent",
    "loud",
    "default_permissions",
    "iversion",
    "noiversion",
    // As SELinux does: whether labels are stored is the policy's business.
    "seclabel",
];

/// Words with a value that belongs to other programs, or that /proc/mounts shows: mount(8) brings
/// those back with a remount.
const IGNORED_TEXT: &[&str] = &[
    "comment", "uhelper", "helper", "user", "loop", "user_id", "group_id", "blksize", "max_read",
    "subtype",
];

const LABELS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

/// False when the word is unknown.
pub(super) fn word(options: &mut Options, name: &str) -> bool {
    mode(options, name) || flag(options, name) || atime(options, name) || IGNORED.contains(&name)
}

fn mode(options: &mut Options, name: &str) -> bool {
    match name {
        "ro" => options.read_only = Some(true),
        "rw" => options.read_only = Some(false),
        "remount" => options.remount = true,
        "sync" | "async" => options.engine.sync = name == "sync",
        "dirsync" | "nodirsync" => options.engine.dirsync = name == "dirsync",
        "allow_other" => options.allow_other = true,
        _ => return false,
    }
    true
}

fn flag(options: &mut Options, name: &str) -> bool {
    let flags = &mut options.flags;
    match name {
        "suid" | "nosuid" => flags.nosuid = name == "nosuid",
        "dev" | "nodev" => flags.nodev = name == "nodev",
        "exec" | "noexec" => flags.noexec = name == "noexec",
        "symfollow" | "nosymfollow" => flags.nosymfollow = name == "nosymfollow",
        // What an ordinary user may mount cannot be trusted with these, unless a later word says so.
        "user" | "users" => (flags.nosuid, flags.nodev, flags.noexec) = (true, true, true),
        "owner" | "group" => (flags.nosuid, flags.nodev) = (true, true),
        _ => return false,
    }
    true
}

fn atime(options: &mut Options, name: &str) -> bool {
    let engine = &mut options.engine;
    match name {
        "diratime" | "nodiratime" => engine.nodiratime = name == "nodiratime",
        "noatime" => engine.atime = Atime::Never,
        "strictatime" => engine.atime = Atime::Always,
        "atime" | "relatime" | "norelatime" | "nostrictatime" => engine.atime = Atime::Relative,
        "lazytime" | "nolazytime" => engine.lazytime = name == "lazytime",
        _ => return false,
    }
    true
}

/// False when the name is unknown.
pub(super) fn assignment(options: &mut Options, name: &str, value: &str) -> bool {
    if let Some(label) = LABELS.iter().find(|label| **label == name) {
        options.labels.push((label, value.to_owned()));
        return true;
    }
    IGNORED_TEXT.contains(&name)
}
