//! A sequence of verbs of all kinds, as the bytes of an input say, on inodes and names that meet each
//! other.

use std::ops::ControlFlow;
use std::panic::Location;
use std::time::{Duration, Instant};

use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Caller, CorruptKind, Error, Fallocate, FileKind, Filesystem, Inode, InodeFlags, KeepSize,
    Named, NewInode, Open, Overhead, Rename, Result, Seek, SetAttr, SetTime, Timestamp, Trim,
    Unlinked, WriteKind, XattrMode,
};

use super::input::Input;

/// Verbs of one input, at most.
const MAX_VERBS: usize = 64;
/// Inodes that are remembered, at most.
const MAX_KNOWN: usize = 64;
/// Names of the furnished images, and new ones.
pub(super) const NAMES: [&[u8]; 20] = [
    b"d",
    b"big",
    b"frag",
    b"small",
    b"mid",
    b"sparse",
    b"slow",
    b"fast",
    b"acl",
    b"huge",
    b"fifo",
    b"a",
    b"b",
    b"c",
    b"A",
    "\u{c4}pfel".as_bytes(),
    b".",
    b"..",
    b"lost+found",
    b"x",
];
const XATTRS: [&[u8]; 9] = [
    b"user.a",
    b"user.long-name-of-an-attribute",
    b"user.c",
    b"trusted.t",
    b"security.capability",
    b"security.selinux",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"system.data",
];
const LENGTHS: [usize; 12] = [0, 1, 40, 60, 200, 900, 1024, 3000, 4096, 9000, 20_000, 65_536];
const OFFSETS: [u64; 16] = [
    0,
    1,
    59,
    1000,
    1024,
    4096,
    12 << 10,
    20_000,
    100_000,
    268 << 10,
    600_000,
    1 << 20,
    (268 + 65_536) << 10,
    1 << 32,
    (1 << 42) - 5000,
    u64::MAX - 7,
];
const KINDS: [FileKind; 7] = [
    FileKind::Regular,
    FileKind::Directory,
    FileKind::Symlink,
    FileKind::Fifo,
    FileKind::CharDevice,
    FileKind::BlockDevice,
    FileKind::Socket,
];
const FLAGS: [u32; 10] = [
    0,
    InodeFlags::SYNC,
    InodeFlags::IMMUTABLE,
    InodeFlags::APPEND,
    InodeFlags::JOURNAL_DATA,
    InodeFlags::DIRSYNC,
    InodeFlags::EXTENTS,
    InodeFlags::PROJINHERIT,
    InodeFlags::CASEFOLD,
    InodeFlags::NODUMP | InodeFlags::NOATIME | InodeFlags::TOPDIR,
];

/// Who works, and what is known.
#[derive(Debug)]
pub(super) struct Actor {
    known: Vec<InodeNr>,
    /// Inodes of the file system.
    count: u32,
    caller: Caller,
    /// Damage and errors of the device that verbs told, and where that was.
    pub(super) damage: Vec<(&'static Location<'static>, Error)>,
}

impl Actor {
    /// One that knows the inodes the root and the directories in it list.
    pub(super) fn new(fs: &Filesystem) -> Self {
        let now = Timestamp { seconds: 1_700_000_000, nanoseconds: 7 };
        let caller = Caller { uid: 0, gid: 0, group: None, umask: 0o022, now };
        let count = fs.geometry().inodes_count;
        let mut actor = Self { known: vec![InodeNr::ROOT], count, caller, damage: Vec::new() };
        actor.learn(fs, InodeNr::ROOT);
        actor
    }

    fn learn(&mut self, fs: &Filesystem, nr: InodeNr) {
        let Some(dir) = self.note(fs.inode(nr)) else { return };
        let listed = fs.readdir(&dir, 0, &mut |entry| {
            if !self.known.contains(&entry.inode) && entry.inode.get() > 10 {
                self.known.push(entry.inode);
            }
            if self.known.len() < MAX_KNOWN / 2 {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        self.note(listed);
    }

    /// Keeps what tells of damage; refusals are as good as answers.
    #[track_caller]
    pub(super) fn note<T>(&mut self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Error::Refused(_)) => None,
            Err(error) => {
                self.damage.push((Location::caller(), error));
                None
            }
        }
    }

    /// Does what `input` says, to its end or for as long as that may take. True if it says to go on
    /// with the file system mounted anew.
    pub(super) fn work(&mut self, fs: &Filesystem, input: &mut Input<'_>) -> bool {
        for _ in 0..MAX_VERBS {
            if input.is_empty() {
                return false;
            }
            match input.byte() % 40 {
                0 => return true,
                verb @ 1..=14 => self.names(fs, verb, input),
                verb @ 15..=24 => self.content(fs, verb, input),
                verb @ 25..=31 => self.attributes(fs, verb, input),
                verb => self.whole(fs, verb, input),
            }
        }
        false
    }

    /// One that is known, or any: those that no directory may name are refused. But what holds the value of
    /// an attribute is told from damage by nobody who comes to it as a file.
    fn nr(&self, fs: &Filesystem, input: &mut Input<'_>) -> InodeNr {
        match input.byte() {
            255 => {
                let any = InodeNr::new(1 + input.word() % self.count);
                if is_value(fs, any) { InodeNr::ROOT } else { any }
            }
            at => self.known[usize::from(at) % self.known.len()],
        }
    }

    fn inode(&mut self, fs: &Filesystem, input: &mut Input<'_>) -> Option<std::sync::Arc<Inode>> {
        let nr = self.nr(fs, input);
        self.note(fs.inode(nr))
    }

    fn remember(&mut self, nr: InodeNr) {
        if self.known.len() < MAX_KNOWN {
            self.known.push(nr);
        }
    }

    /// What lost its name goes at once or at the end.
    fn unlinked(&mut self, fs: &Filesystem, unlinked: Option<Unlinked>, input: &mut Input<'_>) {
        if let Some(unlinked) = unlinked
            && input.byte() & 1 == 0
        {
            self.note(fs.forget(unlinked.inode, self.caller.now));
        }
    }

    fn names(&mut self, fs: &Filesystem, verb: u8, input: &mut Input<'_>) {
        let (caller, parent) = (self.caller, self.nr(fs, input));
        let name = name(input);
        match verb {
            1..=3 => {
                let made = fs.create(&caller, parent, &name, &new(input));
                if let Some(inode) = self.note(made) {
                    self.remember(inode.nr);
                }
            }
            4 => self.many(fs, parent, input),
            5 => {
                let made = fs.tmpfile(&caller, parent, &new(input));
                if let Some(inode) = self.note(made) {
                    self.remember(inode.nr);
                }
            }
            6 => {
                let nr = self.nr(fs, input);
                self.note(fs.link(&caller, nr, parent, &name));
            }
            7 | 8 => {
                let gone = self.note(fs.unlink(&caller, parent, &name));
                self.unlinked(fs, gone, input);
            }
            9 => {
                let gone = self.note(fs.rmdir(&caller, parent, &name));
                self.unlinked(fs, gone, input);
            }
            10 | 11 => {
                let how = input.pick(&[
                    Rename::Replace,
                    Rename::NoReplace,
                    Rename::Exchange,
                    Rename::Whiteout,
                ]);
                let (to, new_name) = (self.nr(fs, input), self::name(input));
                let (from, to) =
                    (Named { parent, name: &name }, Named { parent: to, name: &new_name });
                let gone = self.note(fs.rename(&caller, from, to, how)).flatten();
                self.unlinked(fs, gone, input);
            }
            _ => {
                let Some(dir) = self.note(fs.inode(parent)) else { return };
                if let Some(inode) = self.note(fs.lookup(&dir, &name)) {
                    self.remember(inode.nr);
                }
                let cookie = u64::from(input.word()) << (input.byte() % 32);
                let mut left = 50;
                let listed = fs.readdir(&dir, cookie, &mut |_| {
                    left -= 1;
                    if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                self.note(listed);
            }
        }
    }

    /// Many names at once, or as many fewer, so that directories grow and shrink.
    fn many(&mut self, fs: &Filesystem, parent: InodeNr, input: &mut Input<'_>) {
        let (nr, count, width) = (self.nr(fs, input), input.byte() % 64, input.byte());
        let remove = input.byte() & 1 != 0;
        for number in 0..count {
            let name = format!("{number:03}{}", "n".repeat(usize::from(width % 250)));
            if remove {
                if let Some(gone) = self.note(fs.unlink(&self.caller, parent, name.as_bytes())) {
                    self.note(fs.forget(gone.inode, self.caller.now));
                }
            } else {
                self.note(fs.link(&self.caller, nr, parent, name.as_bytes()));
            }
        }
    }

    fn content(&mut self, fs: &Filesystem, verb: u8, input: &mut Input<'_>) {
        let (caller, nr) = (self.caller, self.nr(fs, input));
        let (at, len) = (offset(input), input.pick(&LENGTHS));
        match verb {
            15..=17 => {
                let kinds = [
                    WriteKind::Direct { kill_set_id: false },
                    WriteKind::Direct { kill_set_id: true },
                    WriteKind::Cached,
                ];
                let kind = input.pick(&kinds);
                self.note(fs.write(&caller, nr, kind, (at, &vec![input.byte(); len])));
            }
            18 => self.fragments(fs, nr, at, input),
            19 => drop(self.note(fs.truncate(&caller, nr, at))),
            20 | 21 => {
                let keep = input.pick(&[KeepSize::Yes, KeepSize::No]);
                let whats =
                    [Fallocate::Allocate(keep), Fallocate::PunchHole, Fallocate::ZeroRange(keep)];
                let what = input.pick(&whats);
                let len = (len as u64) << (input.byte() % 4);
                self.note(fs.fallocate(&caller, nr, what, (at, len)));
            }
            22 => {
                let to = (self.nr(fs, input), offset(input));
                self.note(fs.copy_file_range(&caller, (nr, at), to, len as u64));
            }
            _ => {
                let Some(inode) = self.note(fs.inode(nr)) else { return };
                self.note(fs.read(&inode, at, &mut vec![0; len]));
                self.note(fs.read_plan(&inode, (at, len), &mut Vec::new()));
                self.note(fs.bmap(&inode, at / 1024, 1024));
                self.note(fs.seek(&inode, at, input.pick(&[Seek::Data, Seek::Hole])));
                fs.accessed(&inode, caller.now);
            }
        }
    }

    /// A block here and there.
    fn fragments(&mut self, fs: &Filesystem, nr: InodeNr, at: u64, input: &mut Input<'_>) {
        let (count, step) = (u64::from(input.byte() % 64), 1 + u64::from(input.byte() % 8));
        let what = input.byte() % 4;
        for index in 0..count {
            let at = at.saturating_add(index * step * 1024);
            let kind = WriteKind::Direct { kill_set_id: false };
            match what {
                0 | 1 => drop(self.note(fs.write(&self.caller, nr, kind, (at, &[7; 600])))),
                2 => {
                    let range = (at, 1024);
                    self.note(fs.fallocate(&self.caller, nr, Fallocate::PunchHole, range));
                }
                _ => {
                    let what = Fallocate::Allocate(KeepSize::Yes);
                    self.note(fs.fallocate(&self.caller, nr, what, (at, 1024)));
                }
            }
        }
    }

    fn attributes(&mut self, fs: &Filesystem, verb: u8, input: &mut Input<'_>) {
        let (caller, nr) = (self.caller, self.nr(fs, input));
        match verb {
            25 => {
                let bits = input.byte();
                let when = i64::from(input.word().cast_signed()) << (input.byte() % 8);
                let time = Timestamp { seconds: when, nanoseconds: 999_999_999 };
                let when = if bits & 128 == 0 { SetTime::At(time) } else { SetTime::Now };
                let set = SetAttr {
                    mode: (bits & 1 != 0).then(|| input.half() & 0o7777),
                    uid: (bits & 2 != 0).then(|| input.pick(&[0, 1000, 70_000])),
                    gid: (bits & 4 != 0).then(|| input.pick(&[0, 1000, 70_000])),
                    atime: (bits & 8 != 0).then_some(when),
                    mtime: (bits & 16 != 0).then_some(when),
                    ctime: (bits & 32 != 0).then_some(time),
                    kill_privileges: bits & 64 != 0,
                };
                self.note(fs.setattr(&caller, nr, &set));
            }
            26..=28 => {
                let name = input.pick(&XATTRS);
                let mode = input.pick(&[XattrMode::Any, XattrMode::Create, XattrMode::Replace]);
                let value = value(name, input);
                let drop_sgid = input.byte() & 1 != 0;
                self.note(fs.set_xattr(&caller, nr, (name, &value), mode, drop_sgid));
            }
            29 => drop(self.note(fs.remove_xattr(&caller, nr, input.pick(&XATTRS)))),
            30 => {
                let Some(inode) = self.inode(fs, input) else { return };
                self.note(fs.xattr_names(&inode));
                self.note(fs.xattr(&inode, input.pick(&XATTRS)));
                self.note(fs.readlink(&inode));
                self.note(fs.stat_size(&inode));
            }
            _ => {
                let flags = InodeFlags::new(input.pick(&FLAGS));
                let project = (input.byte() & 1 != 0).then(|| input.byte().into());
                self.note(fs.set_fileattr(&caller, nr, flags, project));
            }
        }
    }

    /// What is about the whole file system, or who asks.
    fn whole(&mut self, fs: &Filesystem, verb: u8, input: &mut Input<'_>) {
        match verb {
            32 => {
                let nr = self.nr(fs, input);
                self.note(fs.fsync(nr, input.byte() & 1 != 0));
            }
            33 => drop(self.note(fs.sync())),
            34 => {
                let later = Instant::now() + Duration::from_secs(60);
                self.note(fs.commit_if_due(later));
            }
            35 => {
                self.note(fs.checkpoint());
                self.note(fs.discard_freed());
            }
            36 => {
                let deadline = Instant::now() + Duration::from_secs(1);
                let trim = Trim { start: input.word().into(), len: input.word().into(), least: 0 };
                self.note(fs.trim(trim, deadline));
                self.note(fs.statfs(Overhead::Subtract));
                self.note(fs.set_label(b"fuzzed"));
            }
            37 => {
                let ids = [0, 1000, 70_000];
                self.caller.uid = input.pick(&ids);
                self.caller.gid = input.pick(&ids);
                self.caller.now.seconds += i64::from(input.byte());
            }
            38 => {
                let how = input.pick(&[Open::Read, Open::Append, Open::Write]);
                let Some(inode) = self.inode(fs, input) else { return };
                if self.note(fs.open(&inode, how)).is_some() {
                    self.note(fs.close(inode.nr));
                }
            }
            _ => {
                let nr = self.nr(fs, input);
                self.note(fs.set_generation(&self.caller, nr, input.word()));
            }
        }
    }

    /// All that is unlinked goes, as at an unmount.
    pub(super) fn forget_all(&mut self, fs: &Filesystem) {
        self.note(fs.forget_all(self.caller.now));
    }
}

fn is_value(fs: &Filesystem, nr: InodeNr) -> bool {
    matches!(fs.inode(nr), Err(Error::Corrupt { kind: CorruptKind::InodeFlags { .. }, .. }))
}

fn offset(input: &mut Input<'_>) -> u64 {
    match input.byte() {
        at @ 0..=127 => OFFSETS[usize::from(at) % OFFSETS.len()],
        _ => u64::from(input.half()) << (input.byte() % 8),
    }
}

fn name(input: &mut Input<'_>) -> Vec<u8> {
    match input.byte() {
        at @ 0..=199 => NAMES[usize::from(at) % NAMES.len()].to_vec(),
        200..=229 => format!("{:03}{}", input.byte() % 64, "n".repeat(200)).into_bytes(),
        230 => vec![b'm'; 256],
        len => input.take(usize::from(len - 230)).to_vec(),
    }
}

fn new<'a>(input: &mut Input<'_>) -> NewInode<'a> {
    const TARGET: &[u8] = &[b't'; 300];
    let len = input.pick(&[1, 59, 60, 200, 300, 0]);
    NewInode {
        kind: input.pick(&KINDS),
        permissions: input.half() & 0o7777,
        rdev: (input.byte().into(), input.byte().into()),
        target: &TARGET[..len],
        label: (input.byte() & 1 != 0).then_some((b"security.selinux", b"a label")),
    }
}

/// A value that suits the attribute, or any.
fn value(name: &[u8], input: &mut Input<'_>) -> Vec<u8> {
    if name.starts_with(b"system.posix_acl") && input.byte() & 3 != 0 {
        return acl(input.half());
    }
    let len = input.pick(&LENGTHS);
    vec![input.byte(); len]
}

/// An access list in the format of system calls, whose permissions are the bits of `bits`.
pub(super) fn acl(bits: u16) -> Vec<u8> {
    let mut list = 2_u32.to_le_bytes().to_vec();
    let lines = [(1_u16, u32::MAX), (2, 1000), (4, u32::MAX), (0x10, u32::MAX), (0x20, u32::MAX)];
    for (index, (tag, id)) in lines.into_iter().enumerate() {
        list.extend(tag.to_le_bytes());
        list.extend((bits >> (3 * index) & 7).to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}
