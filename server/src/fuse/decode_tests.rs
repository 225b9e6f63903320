#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;

fn message(opcode: u32, body: &[u8]) -> Vec<u8> {
    let header = InHeader {
        len: u32::try_from(size_of::<InHeader>() + body.len()).unwrap(),
        opcode,
        unique: 7,
        nodeid: 1,
        ..InHeader::default()
    };
    [header.as_bytes(), body].concat()
}

#[test]
fn a_name_ends_in_its_only_nul() {
    let lookup = message(opcode::LOOKUP, b"hello\0");
    let call = decode(&lookup).unwrap();
    assert!(matches!(call.request, Request::Lookup(b"hello")), "{call:?}");
    for body in [&b"hello"[..], b"", b"\0", b"he\0llo\0", b"hello\0\0"] {
        assert_eq!(decode(&message(opcode::LOOKUP, body)).unwrap_err(), Malformed(Some(7)));
    }
}

#[test]
fn a_fixed_body_is_neither_shorter_nor_longer() {
    let read = abi::ReadIn { offset: 4096, size: 512, ..abi::ReadIn::default() };
    let read = read.as_bytes();
    let call = message(opcode::READ, read);
    let request = decode(&call).unwrap().request;
    assert!(matches!(request, Request::Read { offset: 4096, size: 512 }), "{request:?}");
    assert!(decode(&message(opcode::READ, &read[1..])).is_err());
    assert!(decode(&message(opcode::READ, &[read, &[0]].concat())).is_err());
}

#[test]
fn the_length_in_the_header_is_the_length_read() {
    let mut bytes = message(opcode::STATFS, b"");
    bytes.push(0);
    assert_eq!(decode(&bytes).unwrap_err(), Malformed(Some(7)));
}

#[test]
fn what_is_too_short_for_a_header_has_nobody_to_answer_to() {
    assert_eq!(decode(&[0; 39]).unwrap_err(), Malformed(None));
}

#[test]
fn an_init_of_an_older_kernel_is_padded_with_zeros() {
    let init = abi::InitIn { major: 7, minor: 31, flags2: 9, ..abi::InitIn::default() };
    let bytes = message(opcode::INIT, &init.as_bytes()[..16]);
    let Request::Init(read) = decode(&bytes).unwrap().request else { panic!() };
    assert_eq!((read.minor, read.flags2), (31, 0));
    assert!(decode(&message(opcode::INIT, &init.as_bytes()[..15])).is_err());
}

#[test]
fn everything_that_writes_is_told_from_what_is_unknown() {
    assert!(matches!(decode(&message(opcode::UNLINK, b"x\0")).unwrap().request, Request::Write));
    assert!(matches!(decode(&message(4096, b"")).unwrap().request, Request::Unknown));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn no_body_makes_it_panic(
        number in 0..60_u32,
        body in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        if let Ok(call) = decode(&message(number, &body)) {
            prop_assert_eq!(call.unique, 7);
        }
    }
}
