//! What the kernel may ask for, with all arguments checked and typed.
#![allow(
    dead_code,
    reason = "some fields serve traces alone, and derived Debug does not count as a use"
)]

use core::fmt;

use fuse4fs_ext4::Timestamp;
use zerocopy::FromBytes;

use super::abi;
use super::nodes::NodeId;

/// One request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call<'a> {
    /// Names the request in its reply. Bit 63 says that it was sent before and then lost.
    pub(crate) unique: u64,
    /// The node it is about.
    pub(crate) node: NodeId,
    /// Who asks. Both are 0xffff_ffff where the kernel maps ids for each mount, but for creations.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// What is asked.
    pub(crate) request: Request<'a>,
}

/// An open file, by the number that OPEN or CREATE answered with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Handle(pub(crate) u64);

/// Bytes of a file or of an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Data<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Data<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A name in a directory or of an attribute, without its NUL: 1 byte or more, none of them NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name<'a>(pub(crate) &'a [u8]);

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Request<'a> {
    Init(abi::InitIn),
    Lookup(Name<'a>),
    /// FORGET and BATCH_FORGET, which have no reply.
    Forget(Forgets<'a>),
    Getattr,
    Statx,
    Setattr(SetAttr),
    Readlink,
    Symlink {
        name: Name<'a>,
        target: Name<'a>,
        extras: Extras<'a>,
    },
    Mknod {
        name: Name<'a>,
        /// S_IF* and permissions.
        mode: u32,
        /// As `new_encode_dev` packs it.
        rdev: u32,
        umask: u32,
        extras: Extras<'a>,
    },
    Mkdir {
        name: Name<'a>,
        mode: u32,
        umask: u32,
        extras: Extras<'a>,
    },
    Unlink(Name<'a>),
    Rmdir(Name<'a>),
    /// RENAME and RENAME2.
    Rename {
        name: Name<'a>,
        to: NodeId,
        new_name: Name<'a>,
        /// RENAME_* of renameat2(2).
        flags: u32,
    },
    /// A new name, in the directory of the call, for `of`.
    Link {
        of: NodeId,
        name: Name<'a>,
    },
    Open(Opening),
    /// A file that is there is opened, as of O_CREAT.
    Create {
        name: Name<'a>,
        new: NewFile<'a>,
    },
    /// A file without a name.
    Tmpfile(NewFile<'a>),
    Read {
        handle: Handle,
        offset: u64,
        size: u32,
        /// O_* of the open file.
        flags: u32,
    },
    Write(Write<'a>),
    /// close(2) of one of its descriptors.
    Flush(Handle),
    /// The last descriptor was closed.
    Release(Handle),
    Fsync {
        handle: Handle,
        data_only: bool,
    },
    Fallocate {
        handle: Handle,
        offset: u64,
        length: u64,
        /// FALLOC_FL_* of fallocate(2).
        mode: u32,
    },
    /// COPY_FILE_RANGE and its 64-bit form, whose reply is wider.
    CopyFileRange {
        from: (Handle, u64),
        to: (NodeId, Handle, u64),
        length: u64,
        flags: u64,
        wide: bool,
    },
    Lseek {
        handle: Handle,
        offset: u64,
        whence: u32,
    },
    Opendir,
    Readdir {
        cookie: u64,
        size: u32,
        plus: bool,
    },
    Releasedir,
    Fsyncdir {
        data_only: bool,
    },
    Statfs,
    Syncfs,
    Setxattr {
        name: Name<'a>,
        value: Data<'a>,
        /// XATTR_CREATE, XATTR_REPLACE.
        flags: u32,
        /// The SGID bit goes, where this changes the access ACL.
        kill_sgid: bool,
    },
    Getxattr {
        name: Name<'a>,
        size: u32,
    },
    Listxattr {
        size: u32,
    },
    Removexattr(Name<'a>),
    Ioctl {
        handle: Handle,
        command: u32,
        input: Data<'a>,
        out_size: u32,
        /// FUSE_IOCTL_*: of a directory, of a 32-bit program.
        flags: u32,
    },
    Bmap {
        block: u64,
        block_size: u32,
    },
    /// The request of that `unique` is to end early.
    Interrupt(u64),
    Destroy,
    /// The kernel does by itself what it asks for, once it knows that it can: ACCESS (it looks at
    /// the modes), POLL (a file is always ready), GETLK, SETLK, SETLKW (no other host has locks).
    Unneeded,
    /// What the kernel sends of itself, without waiting for an answer.
    NotifyReply,
    /// An operation that is not known here.
    Unknown,
}

/// How long the answer to a request may take: transports choose by it where a request is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Memory, or a few metadata blocks.
    Quick,
    /// File data or names: one request's worth of the device.
    Data,
    /// Metadata in memory; now and then it waits until there is room in the journal.
    Change,
    /// As long as it takes: a commit, a flush, or work that grows with a file.
    Long,
}

impl Request<'_> {
    /// How long it may take.
    pub(crate) const fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Readdir { .. } | Self::Write(_) => Class::Data,
            Self::Setattr(SetAttr { size: Some(_), .. })
            | Self::Fsync { .. }
            | Self::Fsyncdir { .. }
            | Self::Syncfs
            | Self::Fallocate { .. }
            | Self::CopyFileRange { .. }
            | Self::Ioctl { .. }
            | Self::Destroy => Class::Long,
            Self::Open(_) | Self::Forget(_) | Self::Release(_) => Class::Change,
            change if change.is_change() => Class::Change,
            _ => Class::Quick,
        }
    }

    /// Whether it asks for a change of a name, of content or of attributes.
    pub(crate) const fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Setattr(_)
                | Self::Symlink { .. }
                | Self::Mknod { .. }
                | Self::Mkdir { .. }
                | Self::Unlink(_)
                | Self::Rmdir(_)
                | Self::Rename { .. }
                | Self::Link { .. }
                | Self::Create { .. }
                | Self::Tmpfile(_)
                | Self::Write(_)
                | Self::Fallocate { .. }
                | Self::CopyFileRange { .. }
                | Self::Setxattr { .. }
                | Self::Removexattr(_)
        )
    }

    /// The verb's name in log lines.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Init(_) => "init",
            Self::Lookup(_) => "lookup",
            Self::Forget(_) => "forget",
            Self::Getattr => "getattr",
            Self::Statx => "statx",
            Self::Setattr(_) => "setattr",
            Self::Readlink => "readlink",
            Self::Symlink { .. } => "symlink",
            Self::Mknod { .. } => "mknod",
            Self::Mkdir { .. } => "mkdir",
            Self::Unlink(_) => "unlink",
            Self::Rmdir(_) => "rmdir",
            Self::Rename { .. } => "rename",
            Self::Link { .. } => "link",
            Self::Open(_) => "open",
            Self::Create { .. } => "create",
            Self::Tmpfile(_) => "tmpfile",
            Self::Read { .. } => "read",
            Self::Write(_) => "write",
            Self::Flush(_) => "flush",
            Self::Release(_) => "release",
            Self::Fsync { .. } => "fsync",
            Self::Fallocate { .. } => "fallocate",
            Self::CopyFileRange { .. } => "copy_file_range",
            Self::Lseek { .. } => "lseek",
            Self::Opendir => "opendir",
            Self::Readdir { .. } => "readdir",
            Self::Releasedir => "releasedir",
            Self::Fsyncdir { .. } => "fsyncdir",
            Self::Statfs => "statfs",
            Self::Syncfs => "syncfs",
            Self::Setxattr { .. } => "setxattr",
            Self::Getxattr { .. } => "getxattr",
            Self::Listxattr { .. } => "listxattr",
            Self::Removexattr(_) => "removexattr",
            Self::Ioctl { .. } => "ioctl",
            Self::Bmap { .. } => "bmap",
            Self::Interrupt(_) => "interrupt",
            Self::Destroy => "destroy",
            Self::Unneeded => "unneeded",
            Self::NotifyReply => "notify_reply",
            Self::Unknown => "unknown",
        }
    }
}

/// What OPEN says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opening {
    /// O_* of open(2).
    pub(crate) flags: u32,
    /// SUID and SGID go when O_TRUNC truncates.
    pub(crate) kill_suidgid: bool,
}

impl Opening {
    /// Whether the file is cut, as on Linux also for those who go on to read only; the kernel has seen to it
    /// that they may write.
    pub(crate) const fn cuts(self) -> bool {
        self.flags & libc::O_TRUNC.cast_unsigned() != 0
    }

    /// Whether a file that is cut is opened for reading only. The kernel learns too late then that it is a
    /// program that runs: its `fuse_open` has dropped the pages before anybody looks.
    pub(crate) const fn cuts_to_read(self) -> bool {
        self.cuts() && self.flags & libc::O_ACCMODE.cast_unsigned() == 0
    }
}

/// What CREATE and TMPFILE say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewFile<'a> {
    pub(crate) opening: Opening,
    /// S_IF* and permissions.
    pub(crate) mode: u32,
    pub(crate) umask: u32,
    pub(crate) extras: Extras<'a>,
}

/// What comes with a creation besides.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Extras<'a> {
    /// Security labels to set.
    pub(crate) labels: Labels<'a>,
    /// The group of the directory, if the caller is in it without it being the caller's first.
    pub(crate) group: Option<u32>,
}

/// Attributes and values that security modules want on a new inode.
#[derive(Clone, Copy, Default)]
pub(crate) struct Labels<'a>(pub(super) &'a [u8]);

impl<'a> Labels<'a> {
    /// The next label: the attribute's name and its value, and where the one after it starts.
    pub(super) fn split(bytes: &'a [u8]) -> Option<((Name<'a>, Data<'a>), &'a [u8])> {
        let (fixed, rest) = abi::Secctx::read_from_prefix(bytes).ok()?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        let (name, after) = rest.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
        let value = after.get(1..)?.get(..usize::try_from(fixed.size).ok()?)?;
        let taken = size_of::<abi::Secctx>().checked_add(end)?.checked_add(1)?;
        let len = taken.checked_add(value.len())?.checked_next_multiple_of(8)?;
        Some(((Name(name), Data(value)), bytes.get(len..)?))
    }

    /// Name and value of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Name<'a>, Data<'a>)> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (label, after) = Self::split(rest)?;
            rest = after;
            Some(label)
        })
    }
}

impl fmt::Debug for Labels<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A time stamp to set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SetTime {
    /// The server's clock.
    Now,
    At(Timestamp),
}

/// What SETATTR says; `None` leaves an attribute as it is.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct SetAttr {
    pub(crate) handle: Option<Handle>,
    /// S_IF* and permissions.
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<SetTime>,
    pub(crate) mtime: Option<SetTime>,
    pub(crate) ctime: Option<SetTime>,
    /// SUID and SGID go.
    pub(crate) kill_suidgid: bool,
}

/// What WRITE says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Write<'a> {
    pub(crate) handle: Handle,
    pub(crate) offset: u64,
    pub(crate) data: Data<'a>,
    /// O_* of the open file.
    pub(crate) flags: u32,
    /// It comes from the page cache: the handle is any that can write, the caller is not who wrote.
    pub(crate) from_cache: bool,
    /// SUID and SGID go.
    pub(crate) kill_suidgid: bool,
}

impl Write<'_> {
    /// Whether it is to be durable when it is answered: O_SYNC or O_DSYNC.
    pub(crate) const fn is_sync(&self) -> bool {
        self.flags & (libc::O_SYNC | libc::O_DSYNC).cast_unsigned() != 0
    }
}

/// Nodes that the kernel forgets, with how many lookups of each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Forgets<'a> {
    One(NodeId, u64),
    /// Whole [`abi::ForgetOne`]s.
    Batch(Data<'a>),
}

impl Forgets<'_> {
    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, u64)> {
        let (one, batch) = match self {
            Self::One(node, lookups) => (Some((*node, *lookups)), &[][..]),
            Self::Batch(data) => (None, data.0),
        };
        let batch = batch.chunks_exact(size_of::<abi::ForgetOne>());
        let batch = batch.filter_map(|bytes| abi::ForgetOne::read_from_bytes(bytes).ok());
        one.into_iter().chain(batch.map(|one| (NodeId(one.nodeid), one.nlookup)))
    }
}
