//! A rich tree, made through a mounted file system.
//!
//! What a file system cannot hold (an attribute too large, a name too long, a time out of range) is
//! left out or clamped by it; the comparison is with what it then shows.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{
    AtFlags, CWD, FallocateFlags, FileType, IFlags, Mode, Timespec, Timestamps, XattrFlags,
};

/// Fills `root`, whose blocks are `block` bytes.
///
/// # Errors
/// What the file system says.
pub fn populate(root: &Path, block: u64) -> Result<()> {
    type Part = fn(&Path, u64) -> Result<()>;
    let parts: [(&str, Part); 8] = [
        ("edges", edges),
        ("layouts", layouts),
        ("links", links),
        ("special", special),
        ("names", names),
        ("metadata", metadata),
        ("attributes", attributes),
        ("directories", directories),
    ];
    for (name, part) in parts {
        let directory = root.join(name);
        fs::create_dir(&directory)?;
        part(&directory, block).context(name)?;
    }
    Ok(())
}

/// Bytes in which any misplaced KiB shows: each repeats its own number and the file's tag.
#[must_use]
pub fn pattern(tag: &str, offset: u64, length: usize) -> Vec<u8> {
    let byte = |index: usize| {
        let position = offset + index as u64;
        let record = format!("{tag:8.8}{:08x}", position >> 10);
        record.as_bytes()[(position & 15) as usize]
    };
    if length <= 1024 {
        return (0..length).map(byte).collect();
    }
    let kib = |start: usize| pattern(tag, offset + start as u64, (length - start).min(1024));
    (0..length).step_by(1024).flat_map(kib).collect()
}

fn put(file: &File, tag: &str, offset: u64, length: u64) -> Result<()> {
    file.write_all_at(&pattern(tag, offset, usize::try_from(length)?), offset)?;
    Ok(())
}

fn create(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path);
    file.with_context(|| path.display().to_string())
}

/// What this file system cannot hold is left out.
fn if_it_fits(result: rustix::io::Result<()>) -> Result<()> {
    use rustix::io::Errno;
    match result {
        Err(
            Errno::NOSPC
            | Errno::TOOBIG
            | Errno::RANGE
            | Errno::NAMETOOLONG
            | Errno::OPNOTSUPP
            | Errno::FBIG,
        ) => Ok(()),
        other => Ok(other?),
    }
}

fn edges(directory: &Path, block: u64) -> Result<()> {
    let sizes = [0, 1, 59, 60, 61, 155, 156, 157, block - 1, block, block + 1, 12 * block - 1];
    for size in sizes.into_iter().chain([12 * block, 12 * block + 1, 13 * block + 7]) {
        put(&create(&directory.join(format!("size-{size}")))?, "edge", 0, size)?;
    }
    Ok(())
}

fn layouts(directory: &Path, block: u64) -> Result<()> {
    put(&create(&directory.join("plain"))?, "plain", 0, 300 * 1024 + 13)?;
    let sparse = create(&directory.join("sparse"))?;
    let per_block = block / 4;
    let (single, double) = (12 + per_block, 12 + per_block + per_block * per_block);
    for nr in
        [0, 11, 12, 13, single - 1, single, single + 1, double - 1, double, double + per_block + 9]
    {
        let written = sparse.write_all_at(&pattern("sparse", nr * block, 100), nr * block);
        if_it_fits(
            written
                .map_err(|e| rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO)),
        )?;
    }
    let fragmented = create(&directory.join("fragmented"))?;
    for nr in 0..600 {
        put(&fragmented, "frag", 2 * nr * block, block)?;
    }
    fragmented.sync_all()?;
    create(&directory.join("hole-only"))?.set_len(3 * block + 17)?;
    fallocated(directory, block)
}

fn fallocated(directory: &Path, block: u64) -> Result<()> {
    let allocate = |name: &str, written: u64, mode: FallocateFlags, offset: u64, length: u64| {
        let file = create(&directory.join(name))?;
        put(&file, name, 0, written)?;
        file.sync_all()?;
        if_it_fits(rustix::fs::fallocate(&file, mode, offset, length))?;
        anyhow::Ok(file)
    };
    allocate("unwritten", 0, FallocateFlags::empty(), 0, 64 * block)?;
    let mixed = allocate("mixed", 0, FallocateFlags::empty(), 0, 64 * block)?;
    for nr in 0..16 {
        put(&mixed, "mixed", 4 * nr * block, block)?;
    }
    allocate("past-end", 5, FallocateFlags::KEEP_SIZE, 0, 40 * block)?;
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    allocate("punched", 20 * block, punch, 2 * block, 3 * block)?;
    allocate("zeroed", 20 * block, FallocateFlags::ZERO_RANGE, 3 * block + 100, 5 * block)?;
    Ok(())
}

fn links(directory: &Path, block: u64) -> Result<()> {
    put(&create(&directory.join("target"))?, "target", 0, 100)?;
    for nr in 0..9 {
        fs::hard_link(directory.join("target"), directory.join(format!("hard-{nr}")))?;
    }
    let lengths = [1, 58, 59, 60, 61, 155, 156, 1000, block - 2, block - 1, 4095];
    for length in BTreeSet::from(lengths) {
        let target = "x".repeat(usize::try_from(length)?);
        let made = rustix::fs::symlink(target.as_str(), directory.join(format!("sym-{length}")));
        if_it_fits(made)?;
    }
    symlink("target", directory.join("good"))?;
    symlink("/nowhere/../x", directory.join("dangling"))?;
    Ok(symlink("loop", directory.join("loop"))?)
}

fn special(directory: &Path, _: u64) -> Result<()> {
    let make = |name: &str, kind, major, minor| {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(CWD, directory.join(name), kind, Mode::from_raw_mode(0o640), device)
    };
    make("fifo", FileType::Fifo, 0, 0)?;
    make("socket", FileType::Socket, 0, 0)?;
    make("null", FileType::CharacterDevice, 1, 3)?;
    make("large-chr", FileType::CharacterDevice, 300, 70_000)?;
    make("loop", FileType::BlockDevice, 7, 0)?;
    Ok(make("large-blk", FileType::BlockDevice, 4095, 1_048_575)?)
}

fn names(directory: &Path, _: u64) -> Result<()> {
    let long = [b'a'; 255];
    let odd: [&[u8]; 13] = [
        &long,
        b"\xff\xfe\x80not-utf8",
        b"new\nline",
        b" lead",
        b"trail ",
        b"-dash",
        b"back\\slash",
        b"..dots",
        b"...",
        "\u{2603}".as_bytes(),
        b"\x01ctl\x7f",
        b"CASE",
        b"case",
    ];
    for name in odd {
        fs::write(directory.join(OsStr::from_bytes(name)), name)?;
    }
    let mut deep = directory.join("deep");
    fs::create_dir(&deep)?;
    for level in 0..40 {
        deep.push(format!("level-{level}"));
        fs::create_dir(&deep)?;
    }
    Ok(fs::write(deep.join("bottom"), "bottom")?)
}

fn metadata(directory: &Path, _: u64) -> Result<()> {
    for mode in [0o0, 0o4755, 0o2755, 0o6711, 0o1777, 0o777] {
        let path = directory.join(format!("mode-{mode:04o}"));
        create(&path)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for (uid, gid) in
        [(65534, 65534), (65535, 65535), (65536, 100_000), (u32::MAX - 1, u32::MAX - 2)]
    {
        let path = directory.join(format!("owner-{uid}"));
        create(&path)?;
        chown(&path, Some(uid), Some(gid))?;
    }
    let bounds =
        [-(1 << 31), -1, 0, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 33) + 5, 15_032_385_535];
    for seconds in bounds {
        let path = directory.join(format!("time{seconds}"));
        create(&path)?;
        let time = |tv_nsec| Timespec { tv_sec: seconds, tv_nsec };
        let times =
            Timestamps { last_access: time(123_456_789), last_modification: time(987_654_321) };
        rustix::fs::utimensat(CWD, &path, &times, AtFlags::empty())?;
    }
    let flags = [IFlags::NODUMP, IFlags::NOATIME, IFlags::SYNC, IFlags::APPEND, IFlags::IMMUTABLE];
    for (nr, flag) in flags.into_iter().enumerate() {
        let file = create(&directory.join(format!("flag-{nr}")))?;
        let now = rustix::fs::ioctl_getflags(&file)?;
        rustix::fs::ioctl_setflags(&file, now | flag)?;
    }
    Ok(())
}

/// The VFS form of an ACL: version 2, then (tag, permissions, id) each.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn attributes(directory: &Path, block: u64) -> Result<()> {
    let set = |file: &str, name: &str, value: &[u8]| {
        let path = directory.join(file);
        if !path.exists() {
            create(&path)?;
        }
        if_it_fits(rustix::fs::setxattr(&path, name, value, XattrFlags::empty()))
    };
    set("small", "user.a", b"1")?;
    set("small", "user.empty", b"")?;
    set("small", "trusted.t", b"trusted")?;
    set("small", "security.other", b"\x01\x00\xff")?;
    for nr in 0..8 {
        set("block", &format!("user.key-{nr}"), &vec![b'A' + nr; (block / 16) as usize])?;
    }
    set("large", "user.large", &pattern("large", 0, (block - 200) as usize))?;
    set("huge", "user.huge", &pattern("huge", 0, 20_000))?;
    set("huge-too", "user.huge", &pattern("huge", 0, 20_000))?;
    for nr in 0..4 {
        set(&format!("shared-{nr}"), "user.shared", &[b'S'; 300])?;
    }
    set("long-name", &format!("user.{}", "n".repeat(250)), b"v")?;
    const NONE: u32 = u32::MAX;
    let access = [
        (1, 6, NONE),
        (2, 4, 1000),
        (2, 7, 70_000),
        (4, 4, NONE),
        (8, 5, 50),
        (16, 7, NONE),
        (32, 0, NONE),
    ];
    set("acl", "system.posix_acl_access", &acl(&access))?;
    fs::create_dir(directory.join("dir"))?;
    set("dir", "user.d", b"on a directory")?;
    let default = [(1, 7, NONE), (2, 5, 1001), (4, 5, NONE), (16, 7, NONE), (32, 5, NONE)];
    set("dir", "system.posix_acl_default", &acl(&default))?;
    let link = directory.join("link");
    symlink("nowhere", &link)?;
    if_it_fits(rustix::fs::lsetxattr(&link, "trusted.s", b"on a link", XattrFlags::empty()))
}

fn directories(directory: &Path, _: u64) -> Result<()> {
    let source = directory.join("source");
    fs::write(&source, "many names")?;
    let linked = |parent: &Path, name: String| -> io::Result<()> {
        // A link costs no inode; ext limits them to 65000 for a file.
        fs::hard_link(&source, parent.join(name))
    };
    let large = directory.join("large");
    fs::create_dir(&large)?;
    for nr in 0..3000 {
        linked(&large, format!("entry-{nr:05}-{}", "abcdefgh".get(..nr % 9).unwrap_or_default()))?;
    }
    let holes = directory.join("holes");
    fs::create_dir(&holes)?;
    for nr in 0..600 {
        linked(&holes, format!("victim-{nr:04}{}", "v".repeat(nr % 40)))?;
    }
    for nr in (0..600).step_by(3) {
        fs::remove_file(holes.join(format!("victim-{nr:04}{}", "v".repeat(nr % 40))))?;
    }
    let emptied = directory.join("emptied");
    fs::create_dir(&emptied)?;
    for nr in 0..200 {
        linked(&emptied, format!("gone-{nr:03}{}", "w".repeat(60)))?;
    }
    for nr in 0..200 {
        fs::remove_file(emptied.join(format!("gone-{nr:03}{}", "w".repeat(60))))?;
    }
    for nr in 0..30 {
        fs::create_dir(directory.join(format!("sub-{nr:02}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::pattern;

    #[test]
    fn a_pattern_depends_on_the_place_alone() {
        let all = pattern("tag", 0, 5000);
        assert_eq!(all.len(), 5000);
        assert_eq!(pattern("tag", 1500, 2000), all[1500..3500]);
        assert_ne!(all[0..16], all[1024..1040]);
    }
}
