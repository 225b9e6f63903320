//! FUSE_INIT: which protocol, which abilities, which sizes.

use fuser::{Errno, InitFlags};

use super::abi::{InitIn, InitOut, MAJOR, MINOR, MINOR_MIN};
use super::reply::{MAX_PAYLOAD, PAGE};

/// Requests that the kernel may have under way in the background (readahead, mostly).
const MAX_BACKGROUND: u16 = 64;
/// Background requests from which on it calls the device congested: three quarters.
const CONGESTION: u16 = 48;

/// What the mount wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Whether a file can be refused when it is opened. If not, OPEN is not sent at all.
    pub(super) opens: Opens,
    /// Seconds after which the kernel gives up on a request; 0 for never.
    pub(super) request_timeout: u32,
}

/// Who decides whether a file may be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opens {
    /// Nobody: what the kernel permits works.
    Unasked,
    /// The engine, by its own rules.
    Asked,
}

/// The abilities that are asked for where the kernel has them.
fn wanted(terms: &Terms) -> InitFlags {
    let mut flags = InitFlags::FUSE_INIT_EXT
        | InitFlags::FUSE_ASYNC_READ
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_BIG_WRITES
        | InitFlags::FUSE_MAX_PAGES
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_READDIRPLUS_AUTO
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_NO_OPENDIR_SUPPORT
        | InitFlags::FUSE_HAS_IOCTL_DIR
        | InitFlags::FUSE_EXPORT_SUPPORT
        | InitFlags::FUSE_POSIX_ACL
        | InitFlags::FUSE_DONT_MASK
        // Nobody but this server changes a file, so a new mtime never means stale pages.
        | InitFlags::FUSE_EXPLICIT_INVAL_DATA
        | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
    if terms.opens == Opens::Unasked {
        flags |= InitFlags::FUSE_NO_OPEN_SUPPORT;
    }
    if terms.request_timeout > 0 {
        flags |= InitFlags::FUSE_REQUEST_TIMEOUT;
    }
    flags
}

/// Answers INIT, and tells which abilities are in use. `None` means that the kernel's major version
/// is newer than ours, and that it will ask again with ours.
///
/// # Errors
/// EPROTO for a kernel that is too old.
pub(super) fn negotiate(
    asked: &InitIn,
    terms: &Terms,
) -> Result<(InitOut, Option<InitFlags>), Errno> {
    let reply = InitOut { major: MAJOR, minor: MINOR, ..InitOut::default() };
    if asked.major > MAJOR {
        return Ok((reply, None));
    }
    if asked.major < MAJOR || asked.minor < MINOR_MIN {
        return Err(Errno::EPROTO);
    }
    let offered = u64::from(asked.flags) | u64::from(asked.flags2) << 32;
    let flags = wanted(terms).intersection(InitFlags::from_bits_retain(offered));
    let timeout = u16::try_from(terms.request_timeout).unwrap_or(u16::MAX);
    let reply = InitOut {
        max_readahead: asked.max_readahead,
        flags: low(flags.bits()),
        flags2: low(flags.bits() >> 32),
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION,
        max_write: u32::try_from(MAX_PAYLOAD).unwrap_or(u32::MAX),
        time_gran: 1,
        max_pages: u16::try_from(MAX_PAYLOAD / PAGE).unwrap_or(u16::MAX),
        request_timeout: if flags.contains(InitFlags::FUSE_REQUEST_TIMEOUT) { timeout } else { 0 },
        ..reply
    };
    Ok((reply, Some(flags)))
}

/// The low half.
fn low(bits: u64) -> u32 {
    u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]
    use super::*;

    const TERMS: Terms = Terms { opens: Opens::Unasked, request_timeout: 300 };

    fn kernel(minor: u32, offered: u64) -> InitIn {
        InitIn {
            major: 7,
            minor,
            max_readahead: 131_072,
            flags: offered as u32,
            flags2: (offered >> 32) as u32,
            unused: [0; 11],
        }
    }

    #[test]
    fn nothing_is_asked_for_that_the_kernel_does_not_offer() {
        let (reply, _) = negotiate(&kernel(38, 1), &TERMS).unwrap();
        assert_eq!((reply.flags, reply.flags2, reply.request_timeout), (1, 0, 0));
    }

    #[test]
    fn a_kernel_that_can_gets_the_request_timeout() {
        let (reply, settled) = negotiate(&kernel(45, u64::MAX), &TERMS).unwrap();
        assert_eq!(reply.request_timeout, 300);
        assert_eq!(reply.flags2, 1 << 10 | 1 << 4);
        assert!(settled.unwrap().contains(InitFlags::FUSE_REQUEST_TIMEOUT));
    }

    #[test]
    fn a_timeout_past_what_the_message_holds_is_cut() {
        let terms = Terms { request_timeout: 100_000, ..TERMS };
        let (reply, _) = negotiate(&kernel(45, u64::MAX), &terms).unwrap();
        assert_eq!(reply.request_timeout, u16::MAX);
    }

    #[test]
    fn open_is_sent_only_where_the_engine_has_a_say() {
        let asked = Terms { opens: Opens::Asked, ..TERMS };
        let flag = InitFlags::FUSE_NO_OPEN_SUPPORT.bits() as u32;
        assert_ne!(negotiate(&kernel(45, u64::MAX), &TERMS).unwrap().0.flags & flag, 0);
        assert_eq!(negotiate(&kernel(45, u64::MAX), &asked).unwrap().0.flags & flag, 0);
    }

    #[test]
    fn a_kernel_of_another_major_version_is_told_ours_or_refused() {
        let newer = InitIn { major: 8, ..kernel(0, 0) };
        let (reply, settled) = negotiate(&newer, &TERMS).unwrap();
        assert_eq!((reply.major, settled.is_none()), (7, true));
        assert!(negotiate(&InitIn { major: 6, ..kernel(0, 0) }, &TERMS).is_err());
        assert!(negotiate(&kernel(35, 0), &TERMS).is_err());
    }
}
