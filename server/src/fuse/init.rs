//! FUSE_INIT: which protocol, which abilities, which sizes.

use fuser::{Errno, InitFlags};

use super::abi::{InitIn, InitOut, MAJOR, MINOR, MINOR_MIN};
use super::reply::PAGE;

/// What the mount wants.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Who is asked when a file is opened.
    pub(super) opens: Opens,
    /// Seconds after which the kernel gives up on a request; 0 for never.
    pub(super) request_timeout: u32,
    /// The kernel keeps what is written, and with it sizes and times, until it likes to write it.
    pub(super) writeback_cache: bool,
    /// Security modules may label what is created.
    pub(super) security_labels: bool,
    /// There are ACLs.
    pub(super) acl: bool,
    /// Requests shall name their users, which they do only where ids cannot be mapped.
    pub(super) names_users: bool,
    /// Time stamps have nanoseconds; else whole seconds.
    pub(super) fine_times: bool,
    /// Pages of file content in one message.
    pub(super) max_pages: u16,
    /// Requests that the kernel may have under way in the background (readahead, mostly).
    pub(super) max_background: u16,
    /// Messages may come through rings.
    pub(super) rings: bool,
}

/// Who decides whether a file may be opened, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opens {
    /// Nobody: what the kernel permits works, and OPEN is not sent at all.
    Unasked,
    /// The engine, by its own rules.
    Asked,
    /// The engine, and who opened what is noted: the mount can be written.
    Noted,
}

/// The abilities that are asked for where the kernel has them. ARCHITECTURE.md says of each what it
/// buys and what it must not break.
fn wanted(terms: &Terms) -> InitFlags {
    let mut flags = InitFlags::FUSE_INIT_EXT
        | InitFlags::FUSE_ASYNC_READ
        | InitFlags::FUSE_ASYNC_DIO
        | InitFlags::FUSE_BIG_WRITES
        | InitFlags::FUSE_MAX_PAGES
        | InitFlags::FUSE_PARALLEL_DIROPS
        | InitFlags::FUSE_DO_READDIRPLUS
        | InitFlags::FUSE_CACHE_SYMLINKS
        | InitFlags::FUSE_NO_OPENDIR_SUPPORT
        | InitFlags::FUSE_HAS_IOCTL_DIR
        | InitFlags::FUSE_EXPORT_SUPPORT
        | InitFlags::FUSE_DONT_MASK
        | InitFlags::FUSE_ABORT_ERROR
        | InitFlags::FUSE_EXPLICIT_INVAL_DATA
        | InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP;
    flags.set(InitFlags::FUSE_POSIX_ACL, terms.acl);
    flags.set(InitFlags::FUSE_ALLOW_IDMAP, !terms.names_users);
    match terms.opens {
        Opens::Unasked => flags |= InitFlags::FUSE_NO_OPEN_SUPPORT,
        Opens::Asked => {}
        Opens::Noted => flags |= wanted_for_writing(terms),
    }
    if terms.rings {
        flags |= InitFlags::FUSE_OVER_IO_URING;
    }
    if terms.request_timeout > 0 {
        flags |= InitFlags::FUSE_REQUEST_TIMEOUT;
    }
    flags
}

fn wanted_for_writing(terms: &Terms) -> InitFlags {
    let mut flags = InitFlags::FUSE_ATOMIC_O_TRUNC
        | InitFlags::FUSE_HANDLE_KILLPRIV_V2
        | InitFlags::FUSE_SETXATTR_EXT
        | InitFlags::FUSE_CREATE_SUPP_GROUP;
    flags.set(InitFlags::FUSE_WRITEBACK_CACHE, terms.writeback_cache);
    flags.set(InitFlags::FUSE_SECURITY_CTX, terms.security_labels);
    flags
}

/// What is wanted of what is offered. Ids cannot be mapped without permissions checked by the
/// kernel, which ACLs bring with them: the kernel would give up the mount.
fn settle(terms: &Terms, offered: u64) -> InitFlags {
    let mut flags = wanted(terms).intersection(InitFlags::from_bits_retain(offered));
    if !flags.contains(InitFlags::FUSE_POSIX_ACL) {
        flags.remove(InitFlags::FUSE_ALLOW_IDMAP);
    }
    // Without this the second half of the flags is not looked at.
    if !flags.contains(InitFlags::FUSE_INIT_EXT) {
        flags = InitFlags::from_bits_retain(flags.bits() & u64::from(u32::MAX));
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
    let flags = settle(terms, offered);
    let page = u32::try_from(PAGE).unwrap_or(u32::MAX);
    let timeout = u16::try_from(terms.request_timeout).unwrap_or(u16::MAX);
    let reply = InitOut {
        max_readahead: asked.max_readahead,
        flags: low(flags.bits()),
        flags2: low(flags.bits() >> 32),
        max_background: terms.max_background,
        // As the kernel has it: three quarters.
        congestion_threshold: terms.max_background.saturating_sub(terms.max_background / 4),
        max_write: u32::from(terms.max_pages).saturating_mul(page),
        time_gran: if terms.fine_times { 1 } else { 1_000_000_000 },
        max_pages: terms.max_pages,
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

    const TERMS: Terms = Terms {
        opens: Opens::Unasked,
        request_timeout: 300,
        writeback_cache: false,
        security_labels: false,
        acl: true,
        names_users: false,
        fine_times: true,
        max_pages: 256,
        max_background: 64,
        rings: false,
    };

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
    fn each_ability_can_be_missing_by_itself_on_every_protocol_since_7_36() {
        for opens in [Opens::Unasked, Opens::Asked, Opens::Noted] {
            let terms = Terms { opens, writeback_cache: true, security_labels: true, ..TERMS };
            for minor in MINOR_MIN..=MINOR {
                for bit in 0..u64::BITS {
                    let offered = !(1 << bit);
                    let (reply, settled) = negotiate(&kernel(minor, offered), &terms).unwrap();
                    let flags = u64::from(reply.flags) | u64::from(reply.flags2) << 32;
                    assert_eq!(settled.unwrap().bits(), flags);
                    assert_eq!(flags & !offered, 0, "7.{minor} without bit {bit}");
                    let has = |flag: InitFlags| flags & flag.bits() != 0;
                    assert!(!has(InitFlags::FUSE_ALLOW_IDMAP) || has(InitFlags::FUSE_POSIX_ACL));
                    assert!(reply.flags2 == 0 || has(InitFlags::FUSE_INIT_EXT));
                    let timed = reply.request_timeout > 0;
                    assert_eq!(timed, has(InitFlags::FUSE_REQUEST_TIMEOUT));
                }
            }
        }
    }

    #[test]
    fn what_is_for_writing_is_asked_for_on_mounts_that_are_written() {
        let noted = Terms { opens: Opens::Noted, ..TERMS };
        let settled = |terms: &Terms| negotiate(&kernel(45, u64::MAX), terms).unwrap().1.unwrap();
        let more = settled(&noted).difference(settled(&TERMS));
        assert_eq!(more, wanted_for_writing(&noted));
        assert!(!more.contains(InitFlags::FUSE_WRITEBACK_CACHE));
        let lost = settled(&TERMS).difference(settled(&noted));
        assert_eq!(lost, InitFlags::FUSE_NO_OPEN_SUPPORT, "truncation at open would be lost");
        let cached = Terms { writeback_cache: true, security_labels: true, ..noted };
        let more = settled(&cached).difference(settled(&noted));
        assert_eq!(more, InitFlags::FUSE_WRITEBACK_CACHE | InitFlags::FUSE_SECURITY_CTX);
    }

    #[test]
    fn ids_are_not_mapped_where_users_have_to_be_named() {
        for names_users in [false, true] {
            let terms = Terms { names_users, ..TERMS };
            let settled = negotiate(&kernel(45, u64::MAX), &terms).unwrap().1.unwrap();
            assert_eq!(settled.contains(InitFlags::FUSE_ALLOW_IDMAP), !names_users);
        }
    }

    #[test]
    fn times_are_as_fine_as_the_inodes_hold() {
        let coarse = Terms { fine_times: false, ..TERMS };
        let (reply, _) = negotiate(&kernel(45, u64::MAX), &coarse).unwrap();
        assert_eq!(reply.time_gran, 1_000_000_000);
    }

    #[test]
    fn a_kernel_that_can_gets_the_request_timeout() {
        let (reply, settled) = negotiate(&kernel(45, u64::MAX), &TERMS).unwrap();
        assert_eq!(reply.request_timeout, 300);
        assert_eq!(reply.flags2, 1 << 10 | 1 << 8 | 1 << 4);
        assert!(settled.unwrap().contains(InitFlags::FUSE_REQUEST_TIMEOUT));
    }

    #[test]
    fn a_timeout_past_what_the_message_holds_is_cut() {
        let terms = Terms { request_timeout: 100_000, ..TERMS };
        let (reply, _) = negotiate(&kernel(45, u64::MAX), &terms).unwrap();
        assert_eq!(reply.request_timeout, u16::MAX);
    }

    #[test]
    fn rings_are_used_where_there_are_some_and_the_kernel_can() {
        let flag = InitFlags::FUSE_OVER_IO_URING;
        let settled = |offered, rings| {
            let terms = Terms { rings, ..TERMS };
            negotiate(&kernel(45, offered), &terms).unwrap().1.unwrap().contains(flag)
        };
        assert!(settled(u64::MAX, true));
        assert!(!settled(!flag.bits(), true));
        assert!(!settled(u64::MAX, false));
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
