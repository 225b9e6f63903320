//! Small images for inputs to stand on: one for each set of features, with a tree that has one of
//! everything. The same each time: an input must mean the same tomorrow.

use std::process::Command;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{
    Caller, Error, Fallocate, FileKind, Filesystem, InodeFlags, KeepSize, MountOptions, NewInode,
    Refusal, SetAttr, Timestamp, WriteKind, XattrMode,
};

use super::layout::Layout;
use super::observer::Hasty;
use super::overlay::Overlay;
use super::verbs::acl;
use crate::command;
use crate::crash::writable;
use crate::shared::Golden;

const UUID: &str = "6f8a1c5e-0f43-4f0e-9d77-0a5f3c1b2e4d";

/// How an image comes about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Make {
    /// By mke2fs with these arguments, of so many KiB; furnished.
    Clean(&'static str, u32),
    /// The same, as a crash leaves it: with a log, and with orphans.
    Dirty(&'static str, u32),
    /// A golden one.
    Golden(&'static str),
}

use Make::{Clean, Dirty};

pub(super) const EXT2: Make = Clean("-t ext2 -b 1024 -N 96", 2048);
const REVISION_0: Make = Clean("-t ext2 -r 0 -b 1024 -N 96", 2048);
pub(super) const EXT3: Make = Clean("-t ext3 -b 1024 -J size=1 -N 96", 4096);
pub(super) const EXT4: Make = Clean("-t ext4 -b 1024 -J size=1 -N 96", 4096);
pub(super) const LARGE_BLOCKS: Make = Clean("-t ext4 -b 4096 -O ^has_journal -N 96", 4096);
pub(super) const INLINE: Make = Clean("-t ext4 -b 1024 -O inline_data,^has_journal -N 96", 2048);
pub(super) const INLINE_EA: Make =
    Clean("-t ext4 -b 4096 -I 512 -O inline_data,ea_inode,^has_journal -N 96", 4096);
pub(super) const BIGALLOC: Make =
    Clean("-t ext4 -b 1024 -C 4096 -O bigalloc,inline_data -J size=1 -N 96", 4096);
pub(super) const CASEFOLD: Make =
    Clean("-t ext4 -b 1024 -O casefold,^has_journal -E encoding=utf8 -N 96", 2048);
pub(super) const QUOTA: Make = Clean(
    "-t ext4 -b 1024 -O quota,project,^has_journal -E quotatype=usrquota:grpquota:prjquota -N 96",
    2048,
);
pub(super) const MMP: Make = Clean("-t ext4 -b 1024 -O mmp,^has_journal -N 96", 2048);
const EA_INODE: Make = Clean("-t ext4 -b 1024 -O ea_inode,^has_journal -N 96", 2048);
const META_BG: Make = Clean(
    "-t ext4 -b 1024 -O meta_bg,^resize_inode,^metadata_csum,uninit_bg,^has_journal -g 512 -N 96",
    2048,
);
const FLAT: Make =
    Clean("-t ext4 -b 1024 -O ^flex_bg,^64bit,sparse_super2,^has_journal -g 1024 -N 96", 3072);
pub(super) const DIRTY: Make = Dirty("-t ext4 -b 1024 -J size=1 -N 96", 4096);
const DIRTY_32: Make = Dirty("-t ext4 -b 1024 -O ^64bit -J size=1 -N 96", 4096);
const DIRTY_EXT3: Make = Dirty("-t ext3 -b 1024 -J size=1 -N 96", 4096);
const DIRTY_ORPHANS: Make =
    Dirty("-t ext4 -b 1024 -O orphan_file,inline_data -J size=1 -N 96", 4096);
const DIRTY_QUOTA: Make =
    Dirty("-t ext4 -b 1024 -O quota,ea_inode -E quotatype=usrquota:grpquota -J size=1 -N 96", 4096);

/// Those of each kind of metadata, for sequences of verbs.
pub(super) const ALL: &[Make] = &[
    EXT2,
    REVISION_0,
    EXT3,
    EXT4,
    LARGE_BLOCKS,
    INLINE,
    INLINE_EA,
    BIGALLOC,
    CASEFOLD,
    QUOTA,
    MMP,
    EA_INODE,
    META_BG,
    FLAT,
    DIRTY,
    DIRTY_32,
    DIRTY_EXT3,
    DIRTY_ORPHANS,
    DIRTY_QUOTA,
];

/// Those with a log to be replayed.
pub(super) const LOGS: &[Make] = &[
    DIRTY,
    DIRTY_32,
    DIRTY_EXT3,
    DIRTY_ORPHANS,
    DIRTY_QUOTA,
    Make::Golden("dj-ext4-1k-fc"),
    Make::Golden("dj-ext4-4k-fc"),
    Make::Golden("dj-ext4-1k-v1async"),
    Make::Golden("dj-ext4-1k-async"),
    Make::Golden("dj-ext4-1k-escape"),
    Make::Golden("dj-db-v2-64"),
    Make::Golden("dj-db-v3-64"),
    Make::Golden("dj-db-none-32"),
];

/// Those that nothing here can make, or with more in them; to be read.
pub(super) const GOLDEN: &[Make] = &[
    Make::Golden("ext4-inline"),
    Make::Golden("ext4-bigalloc-1k-16k"),
    Make::Golden("ext4-casefold"),
    Make::Golden("ext4-quota-project"),
    Make::Golden("ext2-1k"),
    Make::Golden("ext4-metabg-nocsum"),
    Make::Golden("dj-ext4-1k-nocsum-32"),
    Make::Golden("ext4-1k-i1024"),
    Make::Golden("ext4-hash-legacy"),
    Make::Golden("ext4-hash-tea"),
    Make::Golden("ext4-eainode"),
    Make::Golden("ext4-csumseed"),
    Make::Golden("ext4-64k"),
    Make::Golden("ext4-1k"),
];

/// An image with its layout.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) image: Arc<[u8]>,
    pub(super) layout: Layout,
}

impl Make {
    fn base(self) -> Result<Base> {
        let image: Arc<[u8]> = match self {
            Clean(arguments, kib) => furnished(&formatted(arguments, kib)?, false)?,
            Dirty(arguments, kib) => furnished(&formatted(arguments, kib)?, true)?,
            Self::Golden(name) => {
                let directory = tempfile::tempdir()?;
                std::fs::read(Golden::named(name)?.unpack(directory.path())?)?
            }
        }
        .into();
        let layout = Layout::of(&image)?;
        Ok(Base { image, layout })
    }
}

/// Bases that are made when they are first asked for.
#[derive(Debug)]
pub(super) struct Bases {
    makes: &'static [Make],
    made: Vec<OnceLock<Base>>,
}

impl Bases {
    pub(super) fn new(makes: &'static [Make]) -> Self {
        Self { makes, made: makes.iter().map(|_| OnceLock::new()).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.makes.len()
    }

    /// Base `which`, counted around.
    pub(super) fn get(&self, which: usize) -> &Base {
        let which = which % self.makes.len();
        self.made[which].get_or_init(|| {
            let make = self.makes[which];
            make.base().with_context(|| format!("{make:?}")).unwrap_or_else(super::no_stage)
        })
    }
}

fn formatted(arguments: &str, kib: u32) -> Result<Arc<[u8]>> {
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("image");
    let mut mke2fs = Command::new("mke2fs");
    mke2fs.env("E2FSPROGS_FAKE_TIME", "1700000000");
    mke2fs.args(["-q", "-F", "-m", "1", "-U", UUID, "-E", &format!("nodiscard,hash_seed={UUID}")]);
    mke2fs.args(arguments.split_whitespace()).arg(&image).arg(format!("{kib}k"));
    command::succeed(&mut mke2fs)?;
    Ok(std::fs::read(&image)?.into())
}

fn furnished(image: &Arc<[u8]>, dirty: bool) -> Result<Vec<u8>> {
    let device = Arc::new(Overlay::new(image.clone()));
    let options = MountOptions { read_only: false, ..writable() };
    let fs = Filesystem::mount(device.clone(), &options, &Hasty)?;
    let home = Home { fs: &fs };
    home.furnish()?;
    fs.sync()?;
    if !dirty {
        fs.unmount()?;
        return Ok(device.contents());
    }
    fs.checkpoint()?;
    home.in_the_log()?;
    fs.sync()?;
    let crashed = device.contents();
    fs.unmount()?;
    Ok(crashed)
}

/// Puts one of everything into an empty file system; what it cannot have is left out.
struct Home<'a> {
    fs: &'a Filesystem,
}

const CALLER: Caller = Caller {
    uid: 0,
    gid: 0,
    group: None,
    umask: 0o022,
    now: Timestamp { seconds: 1_700_000_000, nanoseconds: 7 },
};
const ROOT: InodeNr = InodeNr::ROOT;

/// Fine if it cannot be had here.
fn if_possible<T>(result: fuse4fs_ext4::Result<T>) -> Result<()> {
    match result {
        Err(Error::Refused(
            Refusal::NotSupported | Refusal::NoSpace | Refusal::TooBig | Refusal::NameTooLong,
        )) => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

impl Home<'_> {
    fn make(&self, parent: InodeNr, name: &str, kind: FileKind, target: &[u8]) -> Result<InodeNr> {
        let new = NewInode { kind, permissions: 0o755, rdev: (1, 3), target, label: None };
        Ok(self.fs.create(&CALLER, parent, name.as_bytes(), &new)?.nr)
    }

    fn file(&self, name: &str, pieces: &[(u64, usize)]) -> Result<InodeNr> {
        let nr = self.make(ROOT, name, FileKind::Regular, b"")?;
        for (offset, len) in pieces {
            let bytes = vec![b'c'; *len];
            let kind = WriteKind::Direct { kill_set_id: false };
            if_possible(self.fs.write(&CALLER, nr, kind, (*offset, &bytes)))?;
        }
        Ok(nr)
    }

    fn attribute(&self, nr: InodeNr, name: &str, value: &[u8]) -> Result<()> {
        let attribute = (name.as_bytes(), value);
        if_possible(self.fs.set_xattr(&CALLER, nr, attribute, XattrMode::Any, false))
    }

    fn furnish(&self) -> Result<()> {
        let small = self.file("small", &[(0, 40)])?;
        self.file("mid", &[(0, 3000)])?;
        let holes: Vec<_> = (0..380).map(|index| (index * 2048, 600)).collect();
        self.file("frag", &holes)?;
        self.file(
            "sparse",
            &[(0, 10), (13 << 10, 10), (300 << 10, 10), ((268 + 65_536 + 9) << 10, 9)],
        )?;
        let unwritten = self.file("unwritten", &[(0, 10)])?;
        let what = Fallocate::Allocate(KeepSize::Yes);
        if_possible(self.fs.fallocate(&CALLER, unwritten, what, (2048, 20_000)))?;
        self.make(ROOT, "fast", FileKind::Symlink, &[b't'; 30])?;
        self.make(ROOT, "slow", FileKind::Symlink, &[b't'; 200])?;
        self.make(ROOT, "fifo", FileKind::Fifo, b"")?;
        self.make(ROOT, "chr", FileKind::CharDevice, b"")?;
        self.directories(small)?;
        self.attributes(small)
    }

    /// One of few names, and one with an index.
    fn directories(&self, small: InodeNr) -> Result<()> {
        let few = self.make(ROOT, "d", FileKind::Directory, b"")?;
        if_possible(self.fs.set_flags(&CALLER, few, InodeFlags::new(InodeFlags::CASEFOLD)))?;
        for name in ["a", "\u{c4}pfel", "c"] {
            self.fs.link(&CALLER, small, few, name.as_bytes())?;
        }
        self.make(few, "b", FileKind::Directory, b"")?;
        let big = self.make(ROOT, "big", FileKind::Directory, b"")?;
        if_possible(self.fs.set_flags(&CALLER, big, InodeFlags::new(InodeFlags::CASEFOLD)))?;
        for number in 0..160 {
            let name = format!("{number:03}{}", "n".repeat(200));
            self.fs.link(&CALLER, small, big, name.as_bytes())?;
        }
        Ok(())
    }

    fn attributes(&self, small: InodeNr) -> Result<()> {
        self.attribute(small, "user.a", b"in the inode")?;
        for name in ["huge", "shared"] {
            let nr = self.file(name, &[(0, 10)])?;
            self.attribute(nr, "user.a", &[b'v'; 500])?;
            self.attribute(nr, "trusted.t", &[b'v'; 100])?;
            self.attribute(nr, "user.c", &[b'v'; 9000])?;
        }
        let listed = self.make(ROOT, "acl", FileKind::Directory, b"")?;
        self.attribute(listed, "system.posix_acl_access", &acl(0o75257))?;
        self.attribute(listed, "system.posix_acl_default", &acl(0o75257))?;
        for (name, uid) in [("a", 1000), ("c", 70_000)] {
            let nr = self.file(name, &[(0, 2000)])?;
            let set = SetAttr { uid: Some(uid), gid: Some(uid), ..SetAttr::default() };
            self.fs.setattr(&CALLER, nr, &set)?;
        }
        Ok(())
    }

    /// Changes of which the log has more than one copy, blocks that are revoked, and orphans.
    fn in_the_log(&self) -> Result<()> {
        self.file("b", &[(0, 2000)])?;
        self.fs.sync()?;
        let dir = self.make(ROOT, "gone", FileKind::Directory, b"")?;
        self.make(dir, "x", FileKind::Fifo, b"")?;
        self.fs.sync()?;
        for (parent, name) in [(dir, "x"), (ROOT, "mid")] {
            let gone = self.fs.unlink(&CALLER, parent, name.as_bytes())?;
            self.fs.forget(gone.inode, CALLER.now)?;
        }
        let gone = self.fs.rmdir(&CALLER, ROOT, b"gone")?;
        self.fs.forget(gone.inode, CALLER.now)?;
        self.fs.sync()?;
        // The kernel has these open still.
        self.fs.unlink(&CALLER, ROOT, b"a")?;
        self.fs.unlink(&CALLER, ROOT, b"fifo")?;
        Ok(())
    }
}
