//! What a server tells of itself: its bytes once and for all, and what is none of it. Whoever reads it
//! believes nobody.
#![allow(
    clippy::as_conversions,
    clippy::arithmetic_side_effects,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

use fuse4fs_protocol::{
    CacheStatus, CodecError, ErrorStatus, ErrorsStatus, FilesystemStatus, JournalStatus,
    LATENCY_BUCKETS, OPCODES, Operation, Operations, STATUS_BYTES, ServerStatus, Status,
    StatusError, Surroundings, Text, operation_name,
};
use proptest::prelude::*;

fn operation(opcode: u16) -> Operation {
    let mut latencies = [0; LATENCY_BUCKETS];
    latencies[3] = 7;
    Operation { opcode, errors: 1, nanoseconds: 4096, latencies }
}

fn server() -> ServerStatus {
    ServerStatus {
        version: Text::lossy("0.1.0"),
        pid: 4711,
        surroundings: Surroundings::Namespaces,
        landlock: 6,
        memory_limit: 1 << 30,
        io_uring: true,
        request_timeout: 300,
        nodes: 12,
        open_files: 3,
    }
}

fn status() -> Status {
    let cache = CacheStatus { bytes: 1, budget: 2, entries: 3, hits: 4, misses: 5 };
    let error = ErrorStatus {
        time: 1_700_000_000,
        inode: 12,
        block: 34,
        code: 5,
        what: Text::lossy("bad-extent"),
    };
    let journal = JournalStatus {
        blocks: 1024,
        free_blocks: 1000,
        head: 25,
        running: 9,
        committed: 8,
        unwritten: 2,
        commits: 7,
        logged_blocks: 70,
        since_commit: Some(1500),
        aborted: true,
    };
    Status {
        device: Text::lossy("sdb1"),
        uptime: 77,
        server: server(),
        filesystem: FilesystemStatus {
            uuid: *b"0123456789abcdef",
            label: Text::lossy("né"),
            features: Text::lossy("extent"),
            options: Text::lossy("data=ordered"),
            block_size: 4096,
            writable: true,
            shut_down: false,
            cache,
            dirty_blocks: 6,
            journal: Some(journal),
            errors: ErrorsStatus { count: 1, first: None, last: Some(error) },
        },
        operations: Operations::try_from(vec![operation(1)]).unwrap(),
    }
}

/// Blanks and what follows `;` in a line are for readers.
const GOLDEN: &str = "
    0001                     ; version of the status
    020d                     ; bytes that follow
    0000000000000004 73646231 ; sdb1
    000000000000004d         ; uptime
    0000000000000005 302e312e30 ; 0.1.0
    00001267                 ; pid
    00000001 0006            ; namespaces, Landlock
    0000000040000000         ; memory_limit
    01 0000012c              ; io_uring, request_timeout
    000000000000000c 0000000000000003 ; nodes, open files
    30313233343536373839616263646566 ; UUID
    0000000000000003 6ec3a9  ; label
    0000000000000006 657874656e74
    000000000000000c 646174613d6f726465726564
    00001000 01 00           ; block size, writable, shut down
    0000000000000001 0000000000000002 0000000000000003 0000000000000004 0000000000000005
    0000000000000006         ; dirty blocks
    01 00000400 000003e8 00000019 00000009 00000008 00000002
    0000000000000007 0000000000000046 01 00000000000005dc 01
    00000001 00              ; errors, no first one
    01 000000006553f100 0000000c 0000000000000022 05 000000000000000a 6261642d657874656e74
    0000000000000001         ; operations
    0001 0000000000000001 0000000000001000
    0000000000000000 0000000000000000 0000000000000000 0000000000000007";

fn golden() -> Vec<u8> {
    let digits: String = GOLDEN
        .lines()
        .map(|line| line.split(';').next().unwrap())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()).collect::<Vec<_>>())
        .collect();
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap());
    // The buckets without anything.
    bytes.chain([0; (LATENCY_BUCKETS - 4) * 8]).collect()
}

#[test]
fn the_bytes_of_a_status() {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(hex(&status().to_bytes().unwrap()), hex(&golden()));
    assert_eq!(Status::from_bytes(&golden()), Ok(status()));
}

#[test]
fn the_kernel_hands_out_zeros_behind_it() {
    let mut bytes = status().to_bytes().unwrap();
    bytes.resize(STATUS_BYTES, 0);
    assert_eq!(Status::from_bytes(&bytes), Ok(status()));
    bytes[STATUS_BYTES - 1] = 1;
    assert_eq!(Status::from_bytes(&bytes), Err(StatusError::Length));
}

#[test]
fn another_version_is_said_to_be_one() {
    for version in [0_u16, 2, u16::MAX] {
        let mut bytes = status().to_bytes().unwrap();
        bytes[..2].copy_from_slice(&version.to_be_bytes());
        let error = Status::from_bytes(&bytes).unwrap_err();
        assert_eq!(error, StatusError::Version(version));
        assert!(error.to_string().contains(&format!("version {version}")), "{error}");
    }
}

#[test]
fn what_is_cut_short_or_goes_on_is_none() {
    let bytes = status().to_bytes().unwrap();
    for len in 0..bytes.len() {
        assert!(Status::from_bytes(&bytes[..len]).is_err(), "{len}");
    }
    // One byte more, or less, than the value has.
    for change in [-1_i32, 1] {
        let mut other = [&bytes[..], &[0]].concat();
        let len = i32::from(u16::from_be_bytes([other[2], other[3]])) + change;
        other[2..4].copy_from_slice(&u16::try_from(len).unwrap().to_be_bytes());
        assert!(matches!(Status::from_bytes(&other), Err(StatusError::Codec(_))), "{change}");
    }
}

#[test]
fn operations_are_known_and_each_is_told_once() {
    let is_taken = |codes: &[u16]| {
        Operations::try_from(codes.iter().map(|code| operation(*code)).collect::<Vec<_>>()).is_ok()
    };
    assert!(is_taken(&[]) && is_taken(&[0, 1, 52]));
    for codes in [&[1_u16, 1][..], &[3, 1], &[7], &[54], &[u16::MAX]] {
        assert!(!is_taken(codes), "{codes:?}");
    }
    // The same as it comes from a server.
    let two = [operation(3), operation(3)];
    let bytes = fuse4fs_protocol::encode(&two.to_vec()).unwrap();
    assert!(fuse4fs_protocol::decode::<Operations>(&bytes).is_err());
}

#[test]
fn no_text_holds_an_escape_sequence() {
    let bytes = golden();
    let at = bytes.windows(4).position(|window| window == b"sdb1").unwrap();
    for bad in [0x1b, 0x07, b'\n', 0] {
        let mut bytes = bytes.clone();
        bytes[at] = bad;
        assert!(matches!(Status::from_bytes(&bytes), Err(StatusError::Codec(_))), "{bad:#x}");
    }
}

#[test]
fn a_server_that_was_asked_for_everything_has_room_to_say_so() {
    let opcodes = u16::try_from(OPCODES).unwrap();
    let all = (0..opcodes).filter(|opcode| operation_name(*opcode).is_some()).map(operation);
    let mut status = status();
    status.operations = Operations::try_from(all.collect::<Vec<_>>()).unwrap();
    let long = |len| Text::lossy(&"x".repeat(len));
    status.filesystem.features = long(1000);
    status.filesystem.options = long(1000);
    status.to_bytes().unwrap();
    status.device = long(4095);
    assert!(matches!(status.to_bytes(), Err(CodecError::TooLong(_))));
}

proptest! {
    /// One way to write a status: what decodes is what encoding gives.
    #[test]
    fn a_changed_status_is_another_one_or_an_error(
        place in any::<prop::sample::Index>(),
        value in any::<u8>(),
    ) {
        let mut bytes = status().to_bytes().unwrap();
        let place = place.index(bytes.len());
        bytes[place] = value;
        if let Ok(other) = Status::from_bytes(&bytes) {
            prop_assert_eq!(other.to_bytes().unwrap(), bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_status_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Status::from_bytes(&[&[0, 1], &bytes[..]].concat());
    }
}
