//! What helper, server and kernel say to each other.

use anyhow::Result;
use fuse4fs_protocol::{
    CacheStatus, CheckRequest, EngineOptions, ErrorStatus, ErrorsStatus, FdList, FdRole, Features,
    FilesystemStatus, Hello, JournalStatus, LogLevel, MAGIC, MountRequest, Operation, Operations,
    Phase, RefusalKind, Report, ServerStatus, ServingOptions, Status, Surroundings, Text, ToHelper,
    ToServer, VERSION_MAX, Verdict, Welcome, decode, encode,
};

/// Packets of the helper's conversation with the server, in both directions, and what a server says of
/// itself: what decodes must encode to the same bytes.
pub fn protocol_decode(bytes: &[u8]) {
    if let Ok(message) = decode::<ToServer>(bytes) {
        assert_eq!(encode(&message).as_deref(), Ok(bytes), "{message:?}");
    }
    if let Ok(message) = decode::<ToHelper>(bytes) {
        assert_eq!(encode(&message).as_deref(), Ok(bytes), "{message:?}");
    }
    if let Ok(status) = Status::from_bytes(bytes) {
        let told = status.to_bytes();
        let zeros = told.as_ref().map(|told| bytes.strip_prefix(&told[..]));
        assert!(
            matches!(zeros, Ok(Some(zeros)) if zeros.iter().all(|zero| *zero == 0)),
            "{status:?}"
        );
    }
}

pub(super) fn protocol_seeds() -> Result<Vec<Vec<u8>>> {
    let mount = mount_request(vec![FdRole::Device, FdRole::Fuse, FdRole::FuseClone])?;
    let welcome = welcome(VERSION_MAX);
    let refused = ToHelper::Refused { kind: RefusalKind::Corrupt, text: Text::lossy("damaged") };
    let verdict = Verdict::ReadOnly { why: Text::lossy("damaged"), by_itself: true };
    let report = ToHelper::Report(Box::new(Report { filesystem: None, verdict }));
    Ok(vec![
        encode(&ToServer::Hello(Hello::ours()))?,
        encode(&ToServer::Mount(mount))?,
        encode(&ToServer::Check(check_request(vec![FdRole::Device, FdRole::Journal])?))?,
        encode(&report)?,
        encode(&ToHelper::Welcome(welcome))?,
        encode(&ToHelper::Progress { phase: Phase::Replay, done: 3, total: 7 })?,
        encode(&ToHelper::Serving { read_only: true })?,
        encode(&refused)?,
        status()?.to_bytes()?,
    ])
}

/// A request to mount with such descriptors.
pub(super) fn mount_request(fds: Vec<FdRole>) -> Result<MountRequest> {
    Ok(MountRequest {
        fds: FdList::try_from(fds).map_err(anyhow::Error::msg)?,
        device_name: Text::lossy("loop0"),
        server_pid: 4711,
        read_only: true,
        request_timeout: 300,
        log_level: LogLevel::Info,
        serving: ServingOptions { threads: 4, ..ServingOptions::default() },
        engine: EngineOptions { superblock: Some(8193), ..EngineOptions::default() },
    })
}

/// A request to look at a device, with such descriptors.
pub(super) fn check_request(fds: Vec<FdRole>) -> Result<CheckRequest> {
    Ok(CheckRequest {
        fds: FdList::try_from(fds).map_err(anyhow::Error::msg)?,
        device_name: Text::lossy("loop0"),
        log_level: LogLevel::Info,
        offset: 1 << 20,
        sizelimit: 2 << 20,
        superblock: Some(8193),
        noload: true,
    })
}

/// What a server that was asked for two things tells of itself.
///
/// # Errors
/// None.
pub fn status() -> Result<Status> {
    let operation = |opcode| Operation { opcode, errors: 1, nanoseconds: 7, latencies: [2; _] };
    let operations = vec![operation(1), operation(3)];
    let error =
        ErrorStatus { time: 1, inode: 2, block: 3, code: 4, what: Text::lossy("bad-extent") };
    Ok(Status {
        device: Text::lossy("loop0"),
        uptime: 5,
        server: ServerStatus {
            version: Text::lossy("0.1.0"),
            pid: 4711,
            surroundings: Surroundings::Unit,
            landlock: 6,
            memory_limit: 1 << 30,
            io_uring: true,
            request_timeout: 300,
            nodes: 1,
            open_files: 1,
        },
        filesystem: FilesystemStatus {
            uuid: [7; 16],
            label: Text::lossy("label"),
            features: Text::lossy("extent,64bit"),
            options: Text::lossy("data=ordered"),
            block_size: 4096,
            writable: true,
            shut_down: false,
            cache: CacheStatus::default(),
            dirty_blocks: 1,
            journal: Some(JournalStatus { since_commit: Some(1), ..JournalStatus::default() }),
            errors: ErrorsStatus { count: 1, first: Some(error), last: None },
        },
        operations: Operations::try_from(operations).map_err(anyhow::Error::msg)?,
    })
}

/// A server's first words.
pub(super) fn welcome(version: u16) -> Welcome {
    Welcome { magic: MAGIC, version, features: Features(0), server: Text::lossy("0.1.0") }
}

/// Requests of the kernel, as the server reads them from /dev/fuse.
pub fn fuse_request(bytes: &[u8]) {
    let _ = fuse4fs_server::decode_request(bytes);
}

/// One request of each operation, with a body that fits none too badly: zeros, then two names.
pub(super) fn fuse_seeds() -> Result<Vec<Vec<u8>>> {
    let request = |opcode: u32| {
        let mut body = vec![0; 64];
        body.extend(b"user.name\0other\0");
        let length = u32::try_from(40 + body.len())?;
        let head = [length.to_ne_bytes(), opcode.to_ne_bytes()].concat();
        // unique 7, node 1, then user, group, process and the length of extensions.
        let ids = [7_u64.to_ne_bytes(), 1_u64.to_ne_bytes(), [0; 8], [0; 8]].concat();
        Ok([head, ids, body].concat())
    };
    (1..=53).map(request).collect()
}
