//! How a mount is doing: what a server answers to [`IOC_STATUS`](crate::IOC_STATUS).
//!
//! Anybody may ask, so there is nothing in it that only some may know: no name of a file, no content.
//! Whoever asks believes none of it: a taken-over server says what it likes.
//!
//! The bytes are a version and a length, 16 bits each, big-endian; so many bytes of a [`Status`]; zeros.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::codec::{CodecError, decode, encode};
use crate::ioctl::STATUS_BYTES;
use crate::operations::Operations;
use crate::text::Text;

/// The version of [`Status`] that is written and read here.
pub const STATUS_VERSION: u16 = 1;
/// Bytes in front of the value.
const HEAD: usize = 4;

/// A mount, its server and its file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Status {
    /// The device's name in log lines, for example `sdb1`.
    pub device: Text,
    /// Seconds since serving began.
    pub uptime: u64,
    /// The process.
    pub server: ServerStatus,
    /// What it serves.
    pub filesystem: FilesystemStatus,
    /// What the kernel asked for since serving began.
    pub operations: Operations,
}

/// A server, as it sees itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Version of the program.
    pub version: Text,
    /// Its process number where mount.fuse4fs ran, which told it; 0 if that did not know.
    pub pid: u32,
    /// Who confined it before it confined itself.
    pub surroundings: Surroundings,
    /// The ABI of Landlock in force; 0 where the kernel has none.
    pub landlock: u16,
    /// Bytes of memory that it may have.
    pub memory_limit: u64,
    /// Requests come over io_uring.
    pub io_uring: bool,
    /// Seconds after which the kernel gives up on a request; 0 for never.
    pub request_timeout: u32,
    /// Inodes that the kernel knows; 0 on a read-only mount, where nobody needs to know.
    pub nodes: u64,
    /// Files that are open, where the kernel tells.
    pub open_files: u64,
}

/// What a server was started in. A system call filter and limits are its own in each of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Surroundings {
    /// systemd's unit: namespaces, and a filter of its own.
    Unit,
    /// Namespaces that mount.fuse4fs made.
    Namespaces,
    /// No namespaces: the host has none for this user.
    Bare,
}

/// A mounted file system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FilesystemStatus {
    /// Its UUID.
    pub uuid: [u8; 16],
    /// Its label.
    pub label: Text,
    /// Names of its features, as dumpe2fs(8) has them, separated by commas.
    pub features: Text,
    /// Options in force, separated by commas.
    pub options: Text,
    /// Bytes of a block.
    pub block_size: u32,
    /// Changes are taken.
    pub writable: bool,
    /// Everything fails since EXT4_IOC_SHUTDOWN.
    pub shut_down: bool,
    /// Metadata blocks and decoded inodes in memory.
    pub cache: CacheStatus,
    /// Metadata blocks that are newer than on their places.
    pub dirty_blocks: u64,
    /// The log, if changes go through one.
    pub journal: Option<JournalStatus>,
    /// Damage and device errors.
    pub errors: ErrorsStatus,
}

/// What memory holds of the disk and could be read again. Counts begin with the mount, and anew when it is made
/// read-write again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CacheStatus {
    /// Bytes.
    pub bytes: u64,
    /// Bytes, at most.
    pub budget: u64,
    /// How many blocks or inodes.
    pub entries: u64,
    /// Found in memory.
    pub hits: u64,
    /// Read from the disk.
    pub misses: u64,
}

/// A journal that is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Blocks of the log.
    pub blocks: u32,
    /// Those that can be written before the oldest ones have to be given up.
    pub free_blocks: u32,
    /// The block that is written next.
    pub head: u32,
    /// The transaction that changes go to.
    pub running: u32,
    /// The last transaction that no crash undoes.
    pub committed: u32,
    /// Transactions that are committed, and not all in their places.
    pub unwritten: u32,
    /// Transactions committed since the mount.
    pub commits: u64,
    /// Blocks that these took in the log.
    pub logged_blocks: u64,
    /// Milliseconds since the last commit; `None` before the first.
    pub since_commit: Option<u64>,
    /// An error has stopped it: nothing is written any more.
    pub aborted: bool,
}

/// What was found wrong since e2fsck(8) looked, as the superblock counts it, and since then.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ErrorsStatus {
    /// How many.
    pub count: u32,
    /// The first, if it is known.
    pub first: Option<ErrorStatus>,
    /// The last, if it is known.
    pub last: Option<ErrorStatus>,
}

/// One error.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// Seconds since 1970.
    pub time: u64,
    /// The inode it is about, or 0.
    pub inode: u32,
    /// The block it is about, or 0.
    pub block: u64,
    /// EXT4_ERR_*, or 0.
    pub code: u8,
    /// The code of fuse4fs-errors(7), or a function of another driver.
    pub what: Text,
}

/// Why bytes are no status.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StatusError {
    /// Another version.
    #[error(
        "the server tells its status in version {0}, and this program reads {STATUS_VERSION}; \
         use a fuse4fs of the server's version"
    )]
    Version(u16),
    /// A length that cannot be, or something behind it.
    #[error("a status of a wrong length")]
    Length,
    /// What is no value.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Status {
    /// As the ioctl answers it, without the zeros.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] if that has no room.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CodecError> {
        let value = encode(self)?;
        let too_long = || CodecError::TooLong(value.len());
        let len = u16::try_from(value.len()).map_err(|_| too_long())?;
        if value.len().saturating_add(HEAD) > STATUS_BYTES {
            return Err(too_long());
        }
        Ok([&STATUS_VERSION.to_be_bytes()[..], &len.to_be_bytes(), &value].concat())
    }

    /// What a server answered, with or without the zeros.
    ///
    /// # Errors
    /// Anything but exactly one status of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StatusError> {
        let (version, rest) = bytes.split_first_chunk().ok_or(StatusError::Length)?;
        let version = u16::from_be_bytes(*version);
        if version != STATUS_VERSION {
            return Err(StatusError::Version(version));
        }
        let (len, rest) = rest.split_first_chunk().ok_or(StatusError::Length)?;
        let len = usize::from(u16::from_be_bytes(*len));
        let (value, zeros) = rest.split_at_checked(len).ok_or(StatusError::Length)?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(StatusError::Length);
        }
        Ok(decode(value)?)
    }
}
