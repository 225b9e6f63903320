//! An inode as stat(2) and statx(2) show it.

use fuse4fs_ext4::{FileKind, Filesystem, Inode, InodeFlags, Timestamp};

use super::abi;
use super::nodes::NodeId;

/// Seconds for which the kernel may rely on what it was told. This server is the only one that
/// could change anything, so: for ever (68 years).
const FOR_EVER: u64 = 1 << 31;

/// STATX_BASIC_STATS
const BASIC_STATS: u32 = 0x7ff;
/// STATX_BTIME
const BTIME: u32 = 0x800;

/// STATX_ATTR_* of statx(2), with the flags of ext4 that they show.
const ATTRIBUTES: [(u32, u64); 5] = [
    (InodeFlags::IMMUTABLE, 0x10),
    (InodeFlags::APPEND, 0x20),
    (InodeFlags::NODUMP, 0x40),
    (InodeFlags::ENCRYPT, 0x800),
    (InodeFlags::VERITY, 0x10_0000),
];

/// DT_* of the kind.
pub(super) fn dirent_type(kind: FileKind) -> u32 {
    u32::from(kind.type_bits()) >> 12
}

fn mode(inode: &Inode) -> u32 {
    u32::from(inode.kind.type_bits() | inode.permissions)
}

/// What the kernel expects in 32 bits (`new_encode_dev`): 12 bits of major, 20 of minor.
const fn rdev((major, minor): (u32, u32)) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// The other way: major and minor number of what the kernel packed.
pub(super) const fn unpacked_rdev(packed: u32) -> (u32, u32) {
    ((packed >> 8) & 0xfff, (packed & 0xff) | ((packed >> 12) & 0xf_ff00))
}

/// The kind that the S_IF* bits of `mode` name; a regular file where there are none.
pub(super) const fn kind_of(mode: u32) -> Option<FileKind> {
    Some(match mode & 0o170_000 {
        0o010_000 => FileKind::Fifo,
        0o020_000 => FileKind::CharDevice,
        0o040_000 => FileKind::Directory,
        0o060_000 => FileKind::BlockDevice,
        0 | 0o100_000 => FileKind::Regular,
        0o120_000 => FileKind::Symlink,
        0o140_000 => FileKind::Socket,
        _ => return None,
    })
}

/// The size to show: that of an encrypted symlink is not i_size. One whose target cannot be read
/// can still be looked at.
fn size(fs: &Filesystem, inode: &Inode) -> u64 {
    fs.stat_size(inode).unwrap_or(inode.size)
}

/// `struct fuse_attr` of `inode`.
pub(super) fn attr(fs: &Filesystem, inode: &Inode) -> abi::Attr {
    abi::Attr {
        ino: inode.nr.get().into(),
        size: size(fs, inode),
        blocks: inode.shown_blocks512(),
        atime: inode.atime.seconds.cast_unsigned(),
        mtime: inode.mtime.seconds.cast_unsigned(),
        ctime: inode.ctime.seconds.cast_unsigned(),
        atimensec: inode.atime.nanoseconds,
        mtimensec: inode.mtime.nanoseconds,
        ctimensec: inode.ctime.nanoseconds,
        mode: mode(inode),
        nlink: inode.links.into(),
        uid: inode.uid,
        gid: inode.gid,
        rdev: rdev(inode.rdev),
        blksize: fs.geometry().block_size,
        flags: 0,
    }
}

/// The reply to GETATTR.
pub(super) fn attr_out(fs: &Filesystem, inode: &Inode) -> abi::AttrOut {
    abi::AttrOut { attr_valid: FOR_EVER, attr: attr(fs, inode), ..abi::AttrOut::default() }
}

/// The reply to LOOKUP.
pub(super) fn entry_out(fs: &Filesystem, inode: &Inode) -> abi::EntryOut {
    abi::EntryOut {
        nodeid: NodeId::of(inode.nr).0,
        generation: inode.generation.into(),
        entry_valid: FOR_EVER,
        attr_valid: FOR_EVER,
        attr: attr(fs, inode),
        ..abi::EntryOut::default()
    }
}

/// The reply to LOOKUP of a name that is not there, which the kernel remembers.
pub(super) fn no_entry_out() -> abi::EntryOut {
    abi::EntryOut { entry_valid: FOR_EVER, ..abi::EntryOut::default() }
}

/// The reply to STATX.
pub(super) fn statx_out(fs: &Filesystem, inode: &Inode) -> abi::StatxOut {
    let shown = ATTRIBUTES.iter().filter(|(flag, _)| inode.flags.has(*flag));
    let stat = abi::Statx {
        mask: if inode.crtime.is_some() { BASIC_STATS | BTIME } else { BASIC_STATS },
        blksize: fs.geometry().block_size,
        attributes: shown.fold(0, |all, (_, attribute)| all | attribute),
        nlink: inode.links.into(),
        uid: inode.uid,
        gid: inode.gid,
        mode: u16::try_from(mode(inode)).unwrap_or(0),
        ino: inode.nr.get().into(),
        size: size(fs, inode),
        blocks: inode.shown_blocks512(),
        attributes_mask: ATTRIBUTES.iter().fold(0, |all, (_, attribute)| all | attribute),
        atime: time(inode.atime),
        btime: time(inode.crtime.unwrap_or_default()),
        ctime: time(inode.ctime),
        mtime: time(inode.mtime),
        rdev_major: inode.rdev.0,
        rdev_minor: inode.rdev.1,
        ..abi::Statx::default()
    };
    abi::StatxOut { attr_valid: FOR_EVER, stat, ..abi::StatxOut::default() }
}

fn time(at: Timestamp) -> abi::StatxTime {
    abi::StatxTime { sec: at.seconds, nsec: at.nanoseconds, reserved: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_packed_as_the_kernel_unpacks_them() {
        assert_eq!(rdev((8, 1)), 0x801);
        assert_eq!(rdev((0xfff, 0xf_ffff)), 0xffff_ffff);
        for device in [(8, 1), (300, 70_000), (0xfff, 0xf_ffff)] {
            assert_eq!(unpacked_rdev(rdev(device)), device);
        }
    }

    #[test]
    fn the_type_of_a_directory_entry_is_the_top_of_the_mode() {
        assert_eq!(dirent_type(FileKind::Regular), 8);
        assert_eq!(dirent_type(FileKind::Symlink), 10);
    }
}
