//! Fuzz targets as plain functions: `tests/fuzz` runs them under libFuzzer, the test binary `fuzz` runs
//! the same ones over seeds, small mutations of them, and every input that once failed.
//!
//! A target for an on-disk structure splices the input over that structure in a golden image from
//! which metadata checksums were removed, then mounts it and uses what the structure describes. So
//! each parser is met behind its real callers, with the loops and allocations they make of it.
//! A panic, a hang or a memory blow-up is a finding; any error is fine.

mod exercise;
mod stage;
mod stages;

use std::sync::OnceLock;

use anyhow::Result;

use stage::Stage;

/// One fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, that of the file in `tests/fuzz/fuzz_targets`.
    pub name: &'static str,
    /// Runs one input.
    pub run: fn(&[u8]),
    /// Inputs to start from.
    pub seeds: fn() -> Result<Vec<Vec<u8>>>,
}

macro_rules! on_disk_targets {
    ($( $(#[$doc:meta])* $name:ident = $make:path; )*) => {
        $(
            $(#[$doc])*
            pub fn $name(bytes: &[u8]) {
                stage_of(stringify!($name), $make, |stage| stage.run(bytes));
            }
        )*

        const ON_DISK: &[Target] = &[ $( Target {
            name: stringify!($name),
            run: $name,
            seeds: || Ok($make()?.seeds()),
        }, )* ];
    };
}

on_disk_targets! {
    /// The superblock, by probe and mount.
    superblock = stages::superblock;
    /// Group descriptors of 32 and 64 bytes.
    group_desc = stages::group_desc;
    /// Inodes of every kind, with what they hold inside: inline data, attributes, extent roots.
    inode = stages::inode;
    /// Extent tree nodes.
    extent_node = stages::extent_node;
    /// Indirect blocks.
    indirect_block = stages::indirect_block;
    /// Blocks of directories without an index.
    dir_block = stages::dir_block;
    /// Index root and nodes of directories with one, three levels of them.
    dx_node = stages::dx_node;
    /// Attribute blocks, and inodes that hold attribute values.
    xattr_block = stages::xattr_block;
    /// The log: its superblock, descriptor, revoke and commit blocks.
    jbd2 = stages::jbd2;
    /// The fast-commit area of the log.
    fast_commit = stages::fast_commit;
}

/// All targets.
#[must_use]
pub fn targets() -> Vec<Target> {
    let mut all = ON_DISK.to_vec();
    all.push(Target { name: "image", run: image, seeds: image_seeds });
    all.push(Target { name: "protocol_decode", run: protocol_decode, seeds: protocol_seeds });
    all.push(Target { name: "fuse_request", run: fuse_request, seeds: fuse_seeds });
    all
}

/// Scattered edits anywhere a walk of a whole image reads, then that walk.
pub fn image(bytes: &[u8]) {
    static STAGES: OnceLock<Vec<Stage>> = OnceLock::new();
    let stages = STAGES.get_or_init(|| stages::whole_images().unwrap_or_else(no_stage));
    let Some((which, edits)) = bytes.split_first() else { return };
    if let Some(stage) = stages.get(usize::from(*which) % stages.len()) {
        stage.run_edits(edits);
    }
}

fn image_seeds() -> Result<Vec<Vec<u8>>> {
    let count = u8::try_from(stages::whole_images()?.len())?;
    Ok((0..count).map(|which| vec![which, 0, 0, 56, 0, 2, 0x53, 0xef]).collect())
}

/// Packets of the helper's conversation with the server, in both directions: what decodes must encode
/// to the same bytes.
pub fn protocol_decode(bytes: &[u8]) {
    use fuse4fs_protocol::{ToHelper, ToServer, decode, encode};
    if let Ok(message) = decode::<ToServer>(bytes) {
        assert_eq!(encode(&message).as_deref(), Ok(bytes), "{message:?}");
    }
    if let Ok(message) = decode::<ToHelper>(bytes) {
        assert_eq!(encode(&message).as_deref(), Ok(bytes), "{message:?}");
    }
}

fn protocol_seeds() -> Result<Vec<Vec<u8>>> {
    use fuse4fs_protocol::{
        EngineOptions, FdList, FdRole, Features, Hello, LogLevel, MAGIC, MountRequest, Phase,
        RefusalKind, ServingOptions, Text, ToHelper, ToServer, Welcome, encode,
    };
    let fds = vec![FdRole::Device, FdRole::Fuse, FdRole::FuseClone];
    let mount = MountRequest {
        fds: FdList::try_from(fds).map_err(anyhow::Error::msg)?,
        device_name: Text::lossy("loop0"),
        read_only: true,
        request_timeout: 300,
        log_level: LogLevel::Info,
        serving: ServingOptions { threads: 4, ..ServingOptions::default() },
        engine: EngineOptions { superblock: Some(8193), ..EngineOptions::default() },
    };
    let welcome =
        Welcome { magic: MAGIC, version: 2, features: Features(0), server: Text::lossy("0.1.0") };
    let refused = ToHelper::Refused { kind: RefusalKind::Corrupt, text: Text::lossy("damaged") };
    Ok(vec![
        encode(&ToServer::Hello(Hello::ours()))?,
        encode(&ToServer::Mount(mount))?,
        encode(&ToHelper::Welcome(welcome))?,
        encode(&ToHelper::Progress { phase: Phase::Replay, done: 3, total: 7 })?,
        encode(&ToHelper::Serving { read_only: true })?,
        encode(&refused)?,
    ])
}

/// Requests of the kernel, as the server reads them from /dev/fuse.
pub fn fuse_request(bytes: &[u8]) {
    let _ = fuse4fs_server::decode_request(bytes);
}

/// One request of each operation, with a body that fits none too badly: zeros, then two names.
fn fuse_seeds() -> Result<Vec<Vec<u8>>> {
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

/// Builds a stage once a process; the name keeps them apart.
fn stage_of(name: &'static str, make: fn() -> Result<Stage>, then: impl FnOnce(&Stage)) {
    use std::collections::HashMap;
    use std::sync::Mutex;
    static STAGES: Mutex<Option<HashMap<&'static str, &'static Stage>>> = Mutex::new(None);
    let stage = {
        let mut stages = STAGES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *stages
            .get_or_insert_default()
            .entry(name)
            .or_insert_with(|| Box::leak(Box::new(make().unwrap_or_else(no_stage))))
    };
    then(stage);
}

#[expect(clippy::panic, reason = "a fuzzer without its images must not look green")]
fn no_stage<T>(error: anyhow::Error) -> T {
    panic!("cannot set up the fuzz target: {error:#}")
}
