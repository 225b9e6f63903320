//! Uses a file system that may hold anything, a bounded number of times in every way there is.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, Inode, Open, Overhead, Seek};

use super::stage::Use;

const MAX_INODES: usize = 100;
const MAX_NAMES: usize = 120;
const MAX_SEEKS: usize = 16;

/// Uses what is to be used.
pub(super) fn file_system(fs: &Filesystem, used: &Use) {
    let _ = (fs.statfs(Overhead::Subtract), fs.statfs(Overhead::Include));
    match used {
        Use::Inodes(numbers) => {
            for nr in numbers {
                one(fs, *nr);
            }
        }
        Use::Everything => everything(fs),
    }
}

fn everything(fs: &Filesystem) {
    let mut seen = HashSet::from([InodeNr::ROOT]);
    let mut pending = VecDeque::from([InodeNr::ROOT]);
    while let Some(nr) = pending.pop_front() {
        for child in one(fs, nr) {
            if seen.len() < MAX_INODES && seen.insert(child) {
                pending.push_back(child);
            }
        }
    }
}

/// Every verb on one inode; returns what it lists.
fn one(fs: &Filesystem, nr: InodeNr) -> Vec<InodeNr> {
    let Ok(inode) = fs.inode(nr) else { return Vec::new() };
    attributes(fs, &inode);
    let _ = (fs.open(&inode, Open::Read), fs.readlink(&inode));
    content(fs, &inode);
    directory(fs, &inode)
}

fn attributes(fs: &Filesystem, inode: &Inode) {
    let names = fs.xattr_names(inode).unwrap_or_default();
    for name in names.split(|byte| *byte == 0).take(MAX_NAMES) {
        let _ = fs.xattr(inode, name);
    }
    for name in ["user.none", "system.posix_acl_access", "unknown.prefix", ""] {
        let _ = fs.xattr(inode, name.as_bytes());
    }
}

fn content(fs: &Filesystem, inode: &Inode) {
    let mut buffer = vec![0; 16 << 10];
    let offsets = [0, inode.size / 2, inode.size.saturating_sub(100), inode.size, u64::MAX - 5];
    for offset in offsets {
        if let Ok(read) = fs.read(inode, offset, &mut buffer) {
            assert!(read as u64 <= inode.size.saturating_sub(offset), "read past the end");
        }
    }
    let mut offset = 0;
    for _ in 0..MAX_SEEKS {
        let Ok(data) = fs.seek(inode, offset, Seek::Data) else { break };
        assert!(data >= offset, "SEEK_DATA went back");
        let Ok(hole) = fs.seek(inode, data, Seek::Hole) else { break };
        assert!(hole > data && hole <= inode.size, "SEEK_HOLE from data at {data} gave {hole}");
        offset = hole;
    }
}

fn directory(fs: &Filesystem, inode: &Inode) -> Vec<InodeNr> {
    let mut listed = Vec::new();
    let _ = fs.readdir(inode, 0, &mut |entry| {
        listed.push((entry.name.to_vec(), entry.inode, entry.cookie));
        if listed.len() < MAX_NAMES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    });
    for (name, _, cookie) in listed.iter().step_by(8) {
        let _ = fs.lookup(inode, name);
        let _ = fs.readdir(inode, *cookie, &mut |_| ControlFlow::Break(()));
    }
    let _ = fs.readdir(inode, u64::MAX / 2, &mut |_| ControlFlow::Break(()));
    let _ = fs.readdir(inode, 0x0123_4567_89ab, &mut |_| ControlFlow::Break(()));
    for name in ["absent", ".", ".."] {
        let _ = fs.lookup(inode, name.as_bytes());
    }
    listed.into_iter().map(|(_, nr, _)| nr).collect()
}
