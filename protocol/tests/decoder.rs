//! What comes over the socket is hostile: it is one whole, bounded message, or an error.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use fuse4fs_protocol::{
    Atime, CacheSize, CheckRequest, CodecError, Cpus, DataMode, EngineOptions, ErrorStatus,
    ErrorsPolicy, ErrorsStatus, FdList, FdRole, Features, FeaturesReport, FilesystemReport,
    Generation, Hello, JournalPlace, JournalReport, LogLevel, MAGIC, MAX_FDS, MAX_MESSAGE,
    MAX_TEXT, MountRequest, OrphansReport, Phase, Protection, RefusalKind, Report, ServingOptions,
    Switch, Text, TextError, ToHelper, ToServer, VERSION_MAX, VERSION_MIN, Verdict, VersionError,
    Welcome, decode, encode,
};
use proptest::prelude::*;

fn malformed(bytes: &[u8]) -> String {
    match decode::<ToHelper>(bytes) {
        Err(CodecError::Malformed(why)) => why,
        other => panic!("{bytes:02x?}: {other:?}"),
    }
}

/// `Refused` with a text of this length, without the text itself.
fn refused_head(len: u64) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 3, 0, 0, 0, 0];
    bytes.extend(len.to_be_bytes());
    bytes
}

#[test]
fn an_empty_packet_is_no_message() {
    malformed(&[]);
}

#[test]
fn a_packet_over_the_limit_is_not_looked_at() {
    let bytes = vec![0; MAX_MESSAGE + 1];
    assert_eq!(decode::<ToHelper>(&bytes), Err(CodecError::TooLong(MAX_MESSAGE + 1)));
}

#[test]
fn bytes_after_the_message_are_an_error() {
    let mut bytes = encode(&ToHelper::Serving { read_only: true }).unwrap();
    bytes.extend([0, 0]);
    assert_eq!(decode::<ToHelper>(&bytes), Err(CodecError::Trailing(2)));
}

#[test]
fn every_shortened_message_is_malformed() {
    let text = Text::lossy("words");
    let bytes = encode(&ToHelper::Refused { kind: RefusalKind::Io, text }).unwrap();
    for len in 0..bytes.len() {
        malformed(&bytes[..len]);
    }
}

#[test]
fn lengths_beyond_all_bounds_neither_allocate_nor_wrap() {
    for len in [u64::MAX, u64::MAX / 2, 1 << 40, 1 << 20, MAX_MESSAGE as u64] {
        malformed(&refused_head(len));
        // The roles of a mount, the same way.
        let mut mount = vec![0, 0, 0, 1];
        mount.extend(len.to_be_bytes());
        assert!(matches!(decode::<ToServer>(&mount), Err(CodecError::Malformed(_))), "{len}");
    }
}

#[test]
fn variants_that_do_not_exist_are_refused() {
    malformed(&[0, 0, 0, 5]);
    // A verdict.
    malformed(&[0, 0, 0, 4, 0, 0, 0, 0, 3]);
    assert!(decode::<ToServer>(&[0, 0, 0, 3]).is_err());
    malformed(&[0xff; 4]);
    // A phase, and a kind of refusal.
    malformed(&[&[0, 0, 0, 1, 0, 0, 0, 4][..], &[0; 16]].concat());
    malformed(&[&[0, 0, 0, 3, 0, 0, 0, 7][..], &[0; 8]].concat());
    assert!(decode::<LogLevel>(&[0, 0, 0, 5]).is_err());
    assert!(decode::<FdRole>(&[0, 0, 0, 7]).is_err());
    assert!(decode::<Switch>(&[0, 0, 0, 3]).is_err());
    assert!(decode::<DataMode>(&[0, 0, 0, 3]).is_err());
    assert!(decode::<Atime>(&[0, 0, 0, 3]).is_err());
}

#[test]
fn a_truth_value_is_zero_or_one() {
    malformed(&[0, 0, 0, 2, 2]);
}

#[test]
fn text_has_no_control_characters_and_is_utf8() {
    for bad in ["\u{1b}[2J", "a\nb", "\0", "\u{7f}", "\u{9b}31m"] {
        let mut bytes = refused_head(bad.len() as u64);
        bytes.extend(bad.as_bytes());
        assert!(malformed(&bytes).contains("control character"), "{bad:?}");
        assert_eq!(Text::try_from(bad.to_owned()), Err(TextError::Control));
    }
    let mut bytes = refused_head(2);
    bytes.extend([0xc3, 0x28]);
    malformed(&bytes);
}

#[test]
fn text_has_a_greatest_length() {
    let longest = "x".repeat(MAX_TEXT);
    assert_eq!(Text::try_from(longest.clone()).map(|text| text.as_str().len()), Ok(MAX_TEXT));
    let over = longest + "x";
    assert_eq!(Text::try_from(over.clone()), Err(TextError::TooLong(MAX_TEXT + 1)));
    let mut bytes = refused_head(over.len() as u64);
    bytes.extend(over.as_bytes());
    assert!(malformed(&bytes).contains("too long"));
}

#[test]
fn a_text_made_of_anything_is_one() {
    let text = Text::lossy(&format!("{}\u{1b}é", "\n".repeat(MAX_TEXT - 2)));
    assert_eq!(text.as_str(), " ".repeat(MAX_TEXT - 1));
    assert!(Text::try_from(String::from(text)).is_ok());
}

#[test]
fn more_descriptors_than_allowed_are_refused() {
    let most = vec![FdRole::FuseClone; MAX_FDS];
    assert!(FdList::try_from(most.clone()).is_ok());
    let over = [most, vec![FdRole::Device]].concat();
    assert!(FdList::try_from(over.clone()).is_err());
    assert!(decode::<FdList>(&encode(&over).unwrap()).is_err());
}

#[test]
fn the_largest_messages_fit_a_packet() {
    let text = Text::lossy(&"x".repeat(MAX_TEXT));
    let mount = MountRequest {
        fds: FdList::try_from(vec![FdRole::FuseClone; MAX_FDS]).unwrap(),
        device_name: text.clone(),
        server_pid: u32::MAX,
        read_only: true,
        request_timeout: u32::MAX,
        log_level: LogLevel::Trace,
        serving: ServingOptions { busy_poll: Some(u32::MAX), ..ServingOptions::default() },
        engine: EngineOptions {
            superblock: Some(u64::MAX),
            mount_point: text.clone(),
            ..EngineOptions::default()
        },
    };
    assert!(encode(&ToServer::Mount(mount)).is_ok());
    assert!(encode(&report_of(&text, [u64::MAX; 3], [true; 6])).is_ok());
    assert!(encode(&ToHelper::Refused { kind: RefusalKind::Io, text }).is_ok());
}

#[test]
fn what_does_not_fit_a_packet_is_not_sent() {
    assert!(encode(&"x".repeat(MAX_MESSAGE)).is_err());
}

#[test]
fn versions_are_agreed_or_refused() {
    let hello = |magic, min, max| Hello { magic, min, max, features: Features(0) };
    assert_eq!(Hello::ours().negotiate(), Ok(VERSION_MAX));
    assert_eq!(hello(MAGIC, 1, 9).negotiate(), Ok(VERSION_MAX));
    assert_eq!(hello(*b"FUSE4FS\0", 2, 2).negotiate(), Err(VersionError::Magic));
    const NEXT: u16 = VERSION_MAX + 1;
    for (min, max) in [(NEXT, 9), (9, VERSION_MAX), (0, 0), (1, 1), (2, 1)] {
        let error = hello(MAGIC, min, max).negotiate();
        assert_eq!(error, Err(VersionError::Range { min, max }), "{min}..{max}");
    }
}

#[test]
fn a_welcome_is_checked() {
    let welcome =
        |magic, version| Welcome { magic, version, features: Features(0), server: Text::default() };
    assert_eq!(welcome(MAGIC, VERSION_MAX).check(), Ok(()));
    assert_eq!(welcome(*b"fuse5fs\0", 1).check(), Err(VersionError::Magic));
    for version in [0, VERSION_MIN - 1, VERSION_MAX + 1, u16::MAX] {
        assert!(welcome(MAGIC, version).check().is_err());
    }
}

#[test]
fn features_are_what_both_have() {
    assert_eq!(Features(0b1100).common(Features(0b0110)), Features(0b0100));
}

fn text() -> impl Strategy<Value = Text> {
    any::<String>().prop_map(|text| Text::lossy(&text))
}

fn role() -> impl Strategy<Value = FdRole> {
    prop::sample::select(vec![
        FdRole::Device,
        FdRole::DeviceDirect,
        FdRole::Fuse,
        FdRole::FuseClone,
        FdRole::MemoryPressure,
        FdRole::Journal,
        FdRole::Load,
    ])
}

fn switch() -> impl Strategy<Value = Switch> {
    prop::sample::select(vec![Switch::Auto, Switch::On, Switch::Off])
}

fn serving() -> impl Strategy<Value = ServingOptions> {
    let tuning = (any::<u16>(), any::<Option<u32>>(), switch(), switch());
    (tuning, any::<[bool; 2]>()).prop_map(
        |((threads, busy_poll, io_uring, writeback_cache), [admin_ioctls, security_context])| {
            ServingOptions {
                threads,
                busy_poll,
                io_uring,
                cpus: Cpus { possible: threads, online: threads / 2 },
                cache: CacheSize { least: threads.into(), most: u64::MAX },
                writeback_cache,
                admin_ioctls,
                security_context,
            }
        },
    )
}

fn engine() -> impl Strategy<Value = EngineOptions> {
    let errors = prop::option::of(prop::sample::select(vec![
        ErrorsPolicy::Continue,
        ErrorsPolicy::RemountReadOnly,
        ErrorsPolicy::Panic,
    ]));
    let data = prop::option::of(prop::sample::select(vec![
        DataMode::Ordered,
        DataMode::Journal,
        DataMode::Writeback,
    ]));
    let atime = prop::sample::select(vec![Atime::Relative, Atime::Never, Atime::Always]);
    let choices = (errors, data, atime, text(), any::<Option<u64>>());
    let flags = (any::<[bool; 6]>(), any::<[Option<bool>; 6]>());
    (choices, flags, any::<[Option<u32>; 5]>()).prop_map(
        |((errors, data, atime, mount_point, superblock), (flags, wishes), numbers)| {
            let [noload, minixdf, nodiratime, lazytime, sync, dirsync] = flags;
            let [barrier, discard, grpid, auto_da_alloc, user_xattr, acl] = wishes;
            let [commit, resuid, resgid, max_dir_size_kb, stripe] = numbers;
            EngineOptions {
                noload,
                superblock,
                errors,
                minixdf,
                data,
                commit,
                barrier,
                discard,
                resuid,
                resgid,
                grpid,
                auto_da_alloc,
                max_dir_size_kb,
                stripe,
                user_xattr,
                acl,
                atime,
                nodiratime,
                lazytime,
                sync,
                dirsync,
                mount_point,
            }
        },
    )
}

fn to_server() -> impl Strategy<Value = ToServer> {
    let hello = (any::<[u8; 8]>(), any::<u16>(), any::<u16>(), any::<u64>()).prop_map(
        |(magic, min, max, features)| {
            ToServer::Hello(Hello { magic, min, max, features: Features(features) })
        },
    );
    let level = prop::sample::select(vec![LogLevel::Error, LogLevel::Info, LogLevel::Trace]);
    let roles = prop::collection::vec(role(), 0..=MAX_FDS);
    let words = (text(), any::<u32>(), any::<bool>(), any::<u32>(), level);
    let mount = (roles, words, serving(), engine()).prop_map(|(roles, words, serving, engine)| {
        let (device_name, server_pid, read_only, request_timeout, log_level) = words;
        let fds = FdList::try_from(roles).unwrap();
        ToServer::Mount(MountRequest {
            fds,
            device_name,
            server_pid,
            read_only,
            request_timeout,
            log_level,
            serving,
            engine,
        })
    });
    let places = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<bool>());
    let check = (text(), places).prop_map(|(device_name, places)| {
        let (offset, sizelimit, superblock, noload) = places;
        let (fds, log_level) = (FdList::default(), LogLevel::Warn);
        ToServer::Check(CheckRequest {
            fds,
            device_name,
            log_level,
            offset,
            sizelimit,
            superblock,
            noload,
        })
    });
    prop_oneof![hello, mount, check]
}

/// A report with all fields made of these.
fn report_of(text: &Text, numbers: [u64; 3], flags: [bool; 6]) -> ToHelper {
    let [a, b, c] = numbers;
    let text = || text.clone();
    let error = || ErrorStatus { time: a, inode: 1, block: b, code: 2, what: text() };
    let filesystem = FilesystemReport {
        generation: if flags[0] { Generation::Ext2 } else { Generation::Ext4 },
        uuid: u128::from(a).to_be_bytes(),
        label: text(),
        block_size: u32::MAX,
        blocks: b,
        features: FeaturesReport { written: text(), read: text(), refused: text() },
        clean: flags[1],
        failed: flags[2],
        errors: ErrorsStatus { count: 7, first: Some(error()), last: flags[3].then(error) },
        made: a,
        mounted: b,
        last_mounted: text(),
        checked: c,
        mount_count: 9,
        max_mount_count: i16::MIN,
        journal: JournalReport {
            place: if flags[4] { JournalPlace::External([1; 16]) } else { JournalPlace::None },
            needs_recovery: flags[5],
            transactions: flags[0].then_some(u32::MAX),
            fast_commits: 1,
            remarks: text(),
        },
        orphans: flags[1].then_some(OrphansReport { freed: 1, cut: u32::MAX }),
        protection: Some(if flags[2] {
            Protection::Mounted { node: text(), device: text(), time: c }
        } else {
            Protection::Unknown { why: text() }
        }),
        quota: [flags[3], flags[4], flags[5]],
    };
    let verdict = match flags[0] {
        true => Verdict::ReadOnly { why: text(), by_itself: flags[1] },
        false => Verdict::Unmountable { why: text() },
    };
    ToHelper::Report(Box::new(Report { filesystem: flags[5].then_some(filesystem), verdict }))
}

fn to_helper() -> impl Strategy<Value = ToHelper> {
    let welcome = (any::<[u8; 8]>(), any::<u16>(), any::<u64>(), text()).prop_map(
        |(magic, version, features, server)| {
            ToHelper::Welcome(Welcome { magic, version, features: Features(features), server })
        },
    );
    let phase = prop::sample::select(vec![Phase::Starting, Phase::Replay, Phase::Orphans]);
    let progress = (phase, any::<u64>(), any::<u64>())
        .prop_map(|(phase, done, total)| ToHelper::Progress { phase, done, total });
    let serving = any::<bool>().prop_map(|read_only| ToHelper::Serving { read_only });
    let kind = prop::sample::select(vec![RefusalKind::NotExt4, RefusalKind::Internal]);
    let refused = (kind, text()).prop_map(|(kind, text)| ToHelper::Refused { kind, text });
    let report = (text(), any::<[u64; 3]>(), any::<[bool; 6]>())
        .prop_map(|(text, numbers, flags)| report_of(&text, numbers, flags));
    prop_oneof![welcome, progress, serving, refused, report]
}

proptest! {
    #[test]
    fn what_is_sent_arrives(to_server in to_server(), to_helper in to_helper()) {
        prop_assert_eq!(decode::<ToServer>(&encode(&to_server).unwrap()), Ok(to_server));
        prop_assert_eq!(decode::<ToHelper>(&encode(&to_helper).unwrap()), Ok(to_helper));
    }

    /// One way to write a message: what decodes is what encoding gives.
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = decode::<ToHelper>(&bytes) {
            prop_assert_eq!(encode(&message).unwrap(), bytes.clone());
        }
        if let Ok(message) = decode::<ToServer>(&bytes) {
            prop_assert_eq!(encode(&message).unwrap(), bytes);
        }
    }

    /// The same, near real messages: single bytes changed.
    #[test]
    fn a_changed_message_is_another_one_or_an_error(
        message in to_server(),
        answer in to_helper(),
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = encode(&message).unwrap();
        let at = place.index(bytes.len());
        bytes[at] = value;
        if let Ok(other) = decode::<ToServer>(&bytes) {
            prop_assert_eq!(encode(&other).unwrap(), bytes);
        }
        let mut bytes = encode(&answer).unwrap();
        let at = place.index(bytes.len());
        bytes[at] = value;
        if let Ok(other) = decode::<ToHelper>(&bytes) {
            prop_assert_eq!(encode(&other).unwrap(), bytes);
        }
    }
}
