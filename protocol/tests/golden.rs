//! The bytes of every message, once and for all: a change here is a new protocol version.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use fuse4fs_protocol::{
    EngineOptions, ErrorsPolicy, FdList, FdRole, Features, Hello, LogLevel, MAGIC, MountRequest,
    Phase, RefusalKind, Text, ToHelper, ToServer, Welcome, decode, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Checks both directions; blanks and what follows `;` in a line of `golden` are for readers.
#[track_caller]
fn is<M>(message: &M, golden: &str)
where
    M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let digits: String = golden
        .lines()
        .map(|line| line.split(';').next().unwrap())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>())
        .collect();
    let bytes = encode(message).unwrap();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, digits);
    assert_eq!(&decode::<M>(&bytes).unwrap(), message);
}

#[test]
fn hello() {
    is(
        &ToServer::Hello(Hello { magic: MAGIC, min: 1, max: 2, features: Features(0x0102) }),
        "00000000          ; Hello
         6675736534667300  ; fuse4fs
         0001 0002         ; versions
         0000000000000102  ; features",
    );
}

#[test]
fn the_opening_of_this_build() {
    is(&ToServer::Hello(Hello::ours()), "00000000 6675736534667300 0001 0001 0000000000000000");
}

#[test]
fn welcome() {
    is(
        &ToHelper::Welcome(Welcome {
            magic: MAGIC,
            version: 1,
            features: Features(3),
            server: Text::lossy("0.1.0"),
        }),
        "00000000 6675736534667300 0001 0000000000000003
         0000000000000005 302e312e30 ; 0.1.0",
    );
}

#[test]
fn a_mount_with_everything() {
    let roles = vec![
        FdRole::Device,
        FdRole::DeviceDirect,
        FdRole::Fuse,
        FdRole::FuseClone,
        FdRole::MemoryPressure,
        FdRole::Journal,
    ];
    is(
        &ToServer::Mount(MountRequest {
            fds: FdList::try_from(roles).unwrap(),
            device_name: Text::lossy("sdb1"),
            read_only: true,
            request_timeout: 300,
            log_level: LogLevel::Trace,
            engine: EngineOptions {
                noload: true,
                superblock: Some(8193),
                errors: Some(ErrorsPolicy::Panic),
                minixdf: true,
            },
        }),
        "00000001          ; Mount
         0000000000000006 00000000 00000001 00000002 00000003 00000004 00000005 ; roles
         0000000000000004 73646231 ; sdb1
         01                ; read-only
         0000012c          ; 300 seconds
         00000004          ; Trace
         01                ; noload
         01 0000000000002001 ; superblock
         01 00000002       ; Panic
         01                ; minixdf",
    );
}

#[test]
fn a_mount_with_defaults() {
    is(
        &ToServer::Mount(MountRequest {
            fds: FdList::default(),
            device_name: Text::default(),
            read_only: false,
            request_timeout: 0,
            log_level: LogLevel::default(),
            engine: EngineOptions::default(),
        }),
        "00000001 0000000000000000 0000000000000000 00 00000000 00000002 00 00 00 00",
    );
}

#[test]
fn progress() {
    for (phase, number) in [
        (Phase::Starting, "00000000"),
        (Phase::MultiMountProtection, "00000001"),
        (Phase::Replay, "00000002"),
        (Phase::Orphans, "00000003"),
    ] {
        is(
            &ToHelper::Progress { phase, done: 1, total: u64::MAX },
            &format!("00000001 {number} 0000000000000001 ffffffffffffffff"),
        );
    }
}

#[test]
fn serving() {
    is(&ToHelper::Serving { read_only: true }, "00000002 01");
    is(&ToHelper::Serving { read_only: false }, "00000002 00");
}

#[test]
fn refused() {
    for (kind, number) in [
        (RefusalKind::NotExt4, "00000000"),
        (RefusalKind::Unsupported, "00000001"),
        (RefusalKind::Corrupt, "00000002"),
        (RefusalKind::Io, "00000003"),
        (RefusalKind::Busy, "00000004"),
        (RefusalKind::BadOption, "00000005"),
        (RefusalKind::Internal, "00000006"),
    ] {
        is(
            &ToHelper::Refused { kind, text: Text::lossy("né") },
            &format!("00000003 {number} 0000000000000003 6ec3a9"),
        );
    }
}

#[test]
fn levels_and_policies_have_their_numbers() {
    for (level, number) in [
        (LogLevel::Error, "00000000"),
        (LogLevel::Warn, "00000001"),
        (LogLevel::Info, "00000002"),
        (LogLevel::Debug, "00000003"),
        (LogLevel::Trace, "00000004"),
    ] {
        is(&level, number);
    }
    for (policy, number) in [
        (ErrorsPolicy::Continue, "00000000"),
        (ErrorsPolicy::RemountReadOnly, "00000001"),
        (ErrorsPolicy::Panic, "00000002"),
    ] {
        is(&policy, number);
    }
}
