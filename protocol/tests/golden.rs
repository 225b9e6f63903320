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
    Atime, CacheSize, CheckRequest, Cpus, DataMode, EngineOptions, ErrorStatus, ErrorsPolicy,
    ErrorsStatus, FdList, FdRole, Features, FeaturesReport, FilesystemReport, Generation, Hello,
    JournalPlace, JournalReport, LogLevel, MAGIC, MountRequest, OrphansReport, Phase, Protection,
    RefusalKind, Report, ServingOptions, Switch, Text, ToHelper, ToServer, Verdict, Welcome,
    decode, encode,
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
    is(&ToServer::Hello(Hello::ours()), "00000000 6675736534667300 0003 0003 0000000000000000");
}

#[test]
fn welcome() {
    is(
        &ToHelper::Welcome(Welcome {
            magic: MAGIC,
            version: 3,
            features: Features(3),
            server: Text::lossy("0.1.0"),
        }),
        "00000000 6675736534667300 0003 0000000000000003
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
        FdRole::Load,
    ];
    is(
        &ToServer::Mount(MountRequest {
            fds: FdList::try_from(roles).unwrap(),
            device_name: Text::lossy("sdb1"),
            server_pid: 4711,
            read_only: true,
            request_timeout: 300,
            log_level: LogLevel::Trace,
            serving: serving_with_everything(),
            engine: engine_with_everything(),
        }),
        "00000001          ; Mount
         0000000000000007 00000000 00000001 00000002 00000003 00000004 00000005 00000006 ; roles
         0000000000000004 73646231 ; sdb1
         00001267          ; the server's process number
         01                ; read-only
         0000012c          ; 300 seconds
         00000004          ; Trace
         000c              ; threads
         01 00000032       ; busy_poll, µs
         00000001          ; io_uring on
         00f0 0004         ; possible and online CPUs
         0000000000400000 0000000020000000 ; bytes of the cache, least and most
         00000002          ; writeback_cache off
         01 01             ; admin_ioctls, security_context
         01                ; noload
         01 0000000000002001 ; superblock
         01 00000002       ; Panic
         01                ; minixdf
         01 00000001       ; data=journal
         01 0000001e       ; commit
         01 00             ; nobarrier
         01 01             ; discard
         01 000003e8 01 000003e9 ; resuid, resgid
         01 01             ; grpid
         01 00             ; noauto_da_alloc
         01 00000400       ; max_dir_size_kb
         01 00000010       ; stripe
         01 00 01 00       ; nouser_xattr, noacl
         00000002 01       ; strictatime, nodiratime
         01                ; lazytime
         01 01             ; sync, dirsync
         0000000000000004 2f6d6e74 ; /mnt",
    );
}

fn serving_with_everything() -> ServingOptions {
    ServingOptions {
        threads: 12,
        busy_poll: Some(50),
        io_uring: Switch::On,
        cpus: Cpus { possible: 240, online: 4 },
        cache: CacheSize { least: 1 << 22, most: 1 << 29 },
        writeback_cache: Switch::Off,
        admin_ioctls: true,
        security_context: true,
    }
}

fn engine_with_everything() -> EngineOptions {
    EngineOptions {
        noload: true,
        superblock: Some(8193),
        errors: Some(ErrorsPolicy::Panic),
        minixdf: true,
        data: Some(DataMode::Journal),
        commit: Some(30),
        barrier: Some(false),
        discard: Some(true),
        resuid: Some(1000),
        resgid: Some(1001),
        grpid: Some(true),
        auto_da_alloc: Some(false),
        max_dir_size_kb: Some(1024),
        stripe: Some(16),
        user_xattr: Some(false),
        acl: Some(false),
        atime: Atime::Always,
        nodiratime: true,
        lazytime: true,
        sync: true,
        dirsync: true,
        mount_point: Text::lossy("/mnt"),
    }
}

#[test]
fn a_mount_with_defaults() {
    is(
        &ToServer::Mount(MountRequest {
            fds: FdList::default(),
            device_name: Text::default(),
            server_pid: 0,
            read_only: false,
            request_timeout: 0,
            log_level: LogLevel::default(),
            serving: ServingOptions::default(),
            engine: EngineOptions::default(),
        }),
        "00000001 0000000000000000 0000000000000000 00000000 00 00000000 00000002
         0000 00 00000000 0000 0000 ; threads to CPUs
         0000000000400000 0000000001000000 ; cache
         00000000 00 00 ; writeback_cache to security_context
         00 00 00 00                 ; noload, superblock, errors, minixdf
         00 00 00 00 00 00 00 00     ; data to auto_da_alloc
         00 00 00 00                 ; max_dir_size_kb to acl
         00000000 00 00 00 00        ; relatime
         0000000000000000            ; no mount point",
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
fn choices_have_their_numbers() {
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
    for (switch, number) in
        [(Switch::Auto, "00000000"), (Switch::On, "00000001"), (Switch::Off, "00000002")]
    {
        is(&switch, number);
    }
    for (mode, number) in [
        (DataMode::Ordered, "00000000"),
        (DataMode::Journal, "00000001"),
        (DataMode::Writeback, "00000002"),
    ] {
        is(&mode, number);
    }
    for (atime, number) in
        [(Atime::Relative, "00000000"), (Atime::Never, "00000001"), (Atime::Always, "00000002")]
    {
        is(&atime, number);
    }
}

#[test]
fn a_check() {
    is(
        &ToServer::Check(CheckRequest {
            fds: FdList::try_from(vec![FdRole::Device, FdRole::Journal]).unwrap(),
            device_name: Text::lossy("sdb1"),
            log_level: LogLevel::Info,
            offset: 1 << 20,
            sizelimit: 2 << 20,
            superblock: Some(8193),
            noload: true,
        }),
        "00000002          ; Check
         0000000000000002 00000000 00000005 ; roles
         0000000000000004 73646231 ; sdb1
         00000002          ; Info
         0000000000100000 0000000000200000 ; offset, sizelimit
         01 0000000000002001 ; superblock
         01                ; noload",
    );
}

#[test]
fn a_report_with_everything() {
    let text = Text::lossy;
    let error = ErrorStatus { time: 1, inode: 12, block: 34, code: 5, what: text("f") };
    let filesystem = FilesystemReport {
        generation: Generation::Ext4,
        uuid: [7; 16],
        label: text("l"),
        block_size: 4096,
        blocks: 256,
        features: FeaturesReport { written: text("w"), read: text("r"), refused: text("x") },
        clean: true,
        failed: false,
        errors: ErrorsStatus { count: 3, first: None, last: Some(error) },
        made: 1,
        mounted: 2,
        last_mounted: text("/"),
        checked: 3,
        mount_count: 4,
        max_mount_count: -1,
        journal: JournalReport {
            place: JournalPlace::External([8; 16]),
            needs_recovery: true,
            transactions: Some(5),
            fast_commits: 6,
            remarks: text("m"),
        },
        orphans: Some(OrphansReport { freed: 7, cut: 8 }),
        protection: Some(Protection::Mounted { node: text("n"), device: text("d"), time: 9 }),
        quota: [true, false, true],
    };
    let verdict = Verdict::ReadOnly { why: text("y"), by_itself: true };
    is(
        &ToHelper::Report(Box::new(Report { filesystem: Some(filesystem), verdict })),
        "00000004 01       ; Report of a file system
         00000002          ; ext4
         07070707070707070707070707070707 ; UUID
         0000000000000001 6c 00001000 0000000000000100 ; l, bytes of a block, blocks
         0000000000000001 77 0000000000000001 72 0000000000000001 78 ; features
         01 00             ; clean, failed
         00000003 00 01 0000000000000001 0000000c 0000000000000022 05 0000000000000001 66
                           ; errors: count, none, time, inode, block, code, f
         0000000000000001 0000000000000002 0000000000000001 2f ; made, mounted, /
         0000000000000003 0004 ffff ; checked, mounts, at most
         00000002 08080808080808080808080808080808 ; external journal
         01 01 00000005 00000006 0000000000000001 6d ; needs recovery: 5, 6; m
         01 00000007 00000008 ; orphans
         01 00000002 0000000000000001 6e 0000000000000001 64 0000000000000009 ; mounted
         01 00 01          ; quota
         00000001 0000000000000001 79 01 ; read-only, y, by itself",
    );
}

#[test]
fn verdicts_and_states_have_their_numbers() {
    for (verdict, number) in [
        (Verdict::ReadWrite, "00000000"),
        (Verdict::Unmountable { why: Text::lossy("y") }, "00000002 0000000000000001 79"),
    ] {
        is(
            &ToHelper::Report(Box::new(Report { filesystem: None, verdict })),
            &format!("00000004 00 {number}"),
        );
    }
    for (generation, number) in [(Generation::Ext2, "00000000"), (Generation::Ext3, "00000001")] {
        is(&generation, number);
    }
    is(&JournalPlace::None, "00000000");
    is(&JournalPlace::Internal, "00000001");
    is(&Protection::Free, "00000000");
    is(&Protection::Checked { node: Text::lossy("n") }, "00000001 0000000000000001 6e");
    is(&Protection::Unknown { why: Text::lossy("y") }, "00000003 0000000000000001 79");
}
