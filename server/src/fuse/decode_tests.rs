#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::fuse::request::Class;

/// Decodes what came in one piece.
fn decode(bytes: &[u8]) -> Result<Call<'_>, Malformed> {
    let (header, body) = InHeader::read_from_prefix(bytes).unwrap();
    super::decode(&header, Body::Whole(body), Dialect::default())
}

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
    assert!(matches!(call.request, Request::Lookup(Name(b"hello"))), "{call:?}");
    for body in [&b"hello"[..], b"", b"\0", b"he\0llo\0", b"hello\0\0"] {
        assert_eq!(decode(&message(opcode::LOOKUP, body)).unwrap_err(), Malformed);
    }
}

#[test]
fn a_fixed_body_is_neither_shorter_nor_longer() {
    let read = abi::ReadIn { offset: 4096, size: 512, ..abi::ReadIn::default() };
    let read = read.as_bytes();
    let call = message(opcode::READ, read);
    let request = decode(&call).unwrap().request;
    assert!(matches!(request, Request::Read { offset: 4096, size: 512, .. }), "{request:?}");
    assert!(decode(&message(opcode::READ, &read[1..])).is_err());
    assert!(decode(&message(opcode::READ, &[read, &[0]].concat())).is_err());
}

#[test]
fn the_length_in_the_header_is_the_length_read() {
    let mut bytes = message(opcode::STATFS, b"");
    bytes.push(0);
    assert_eq!(decode(&bytes).unwrap_err(), Malformed);
}

#[test]
fn a_body_in_two_parts_is_the_same_request() {
    let fixed = abi::GetxattrIn { size: 9, padding: 0 };
    let whole = message(opcode::GETXATTR, &[fixed.as_bytes(), b"user.x\0"].concat());
    let (header, _) = InHeader::read_from_prefix(&whole).unwrap();
    let op_in = [fixed.as_bytes(), &[0xff; 120]].concat();
    let split = |payload| {
        super::decode(&header, Body::Split { op_in: &op_in, payload }, Dialect::default())
    };
    let request = split(b"user.x\0").unwrap().request;
    assert_eq!(request.class(), Class::Quick);
    assert!(matches!(request, Request::Getxattr { name: Name(b"user.x"), size: 9 }), "{request:?}");
    assert!(split(b"user.xy\0").is_err(), "longer than the header says");
    assert!(split(b"user\0").is_err(), "shorter than the header says");
}

#[test]
fn an_init_of_an_older_kernel_is_padded_with_zeros() {
    let init = abi::InitIn { major: 7, minor: 31, flags2: 9, ..abi::InitIn::default() };
    let bytes = message(opcode::INIT, &init.as_bytes()[..16]);
    let Request::Init(read) = decode(&bytes).unwrap().request else { panic!() };
    assert_eq!((read.minor, read.flags2), (31, 0));
    assert!(decode(&message(opcode::INIT, &init.as_bytes()[..15])).is_err());
}

/// A request with this body, in one piece and in two.
fn both(opcode: u32, fixed: &[u8], rest: &[u8], dialect: Dialect) -> String {
    let whole = message(opcode, &[fixed, rest].concat());
    let (header, body) = InHeader::read_from_prefix(&whole).unwrap();
    let whole = super::decode(&header, Body::Whole(body), dialect).unwrap();
    let op_in = [fixed, &[0; 128][fixed.len()..]].concat();
    let split = Body::Split { op_in: &op_in, payload: rest };
    let split = super::decode(&header, split, dialect).unwrap();
    assert_eq!(format!("{whole:?}"), format!("{split:?}"));
    format!("{:?}", whole.request)
}

fn plain(opcode: u32, fixed: &[u8], rest: &[u8]) -> String {
    both(opcode, fixed, rest, Dialect::default())
}

#[test]
fn what_setattr_does_not_name_stays_as_it_is() {
    let fixed = abi::SetattrIn {
        valid: fattr::SIZE | fattr::ATIME | fattr::ATIME_NOW | fattr::MTIME | fattr::KILL_SUIDGID,
        size: 9,
        mtime: u64::MAX,
        mtimensec: 5,
        mode: 0o777,
        ..abi::SetattrIn::default()
    };
    let bytes = message(opcode::SETATTR, fixed.as_bytes());
    let Request::Setattr(set) = decode(&bytes).unwrap().request else { panic!() };
    let mtime = SetTime::At(Timestamp { seconds: -1, nanoseconds: 5 });
    let want = SetAttr {
        size: Some(9),
        atime: Some(SetTime::Now),
        mtime: Some(mtime),
        kill_suidgid: true,
        ..SetAttr::default()
    };
    assert_eq!(set, want);
    let unknown = abi::SetattrIn { valid: 1 << 12, ..fixed };
    assert!(decode(&message(opcode::SETATTR, unknown.as_bytes())).is_err());
    let late = abi::SetattrIn { mtimensec: 1_000_000_000, ..fixed };
    assert!(decode(&message(opcode::SETATTR, late.as_bytes())).is_err());
}

#[test]
fn names_come_in_twos_where_there_are_two() {
    let rename = abi::Rename2In { newdir: 9, flags: 1, padding: 0 };
    let request = plain(opcode::RENAME2, rename.as_bytes(), b"old\0new\0");
    assert_eq!(request, "Rename { name: \"old\", to: NodeId(9), new_name: \"new\", flags: 1 }");
    for rest in [&b"old\0"[..], b"old\0new", b"\0new\0", b"old\0\0", b"old\0new\0more\0"] {
        let body = [rename.as_bytes(), rest].concat();
        assert!(decode(&message(opcode::RENAME2, &body)).is_err(), "{rest:?}");
    }
    let request = plain(opcode::SYMLINK, b"", b"name\0target\0");
    assert!(request.starts_with("Symlink { name: \"name\", target: \"target\""), "{request}");
}

#[test]
fn data_is_as_long_as_was_said() {
    let write =
        abi::WriteIn { fh: 3, offset: 7, size: 4, write_flags: 5, ..abi::WriteIn::default() };
    let request = plain(opcode::WRITE, write.as_bytes(), b"data");
    assert_eq!(
        request,
        "Write(Write { handle: Handle(3), offset: 7, data: 4 bytes, flags: 0, from_cache: true, \
         kill_suidgid: true })"
    );
    let body = [write.as_bytes(), b"more data"].concat();
    assert!(decode(&message(opcode::WRITE, &body)).is_err());
}

#[test]
fn setxattr_is_as_long_as_was_settled() {
    let short = abi::SetxattrInCompat { size: 2, flags: 1 };
    let request = plain(opcode::SETXATTR, short.as_bytes(), b"user.a\0ab");
    assert!(request.contains("value: 2 bytes, flags: 1, kill_sgid: false"), "{request}");
    let long = abi::SetxattrIn { size: 2, flags: 1, setxattr_flags: 1, padding: 0 };
    let ext = Dialect { setxattr_ext: true };
    let request = both(opcode::SETXATTR, long.as_bytes(), b"user.a\0ab", ext);
    assert!(request.contains("value: 2 bytes, flags: 1, kill_sgid: true"), "{request}");
}

#[test]
fn as_many_nodes_are_forgotten_as_were_counted() {
    let fixed = abi::BatchForgetIn { count: 2, dummy: 0 };
    let ones = [[12_u64, 3], [13, 1]];
    let bytes = message(opcode::BATCH_FORGET, &[fixed.as_bytes(), ones.as_bytes()].concat());
    let Request::Forget(forgets) = decode(&bytes).unwrap().request else { panic!() };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(NodeId(12), 3), (NodeId(13), 1)]);
    for count in [0, 1, 3, u32::MAX] {
        let fixed = abi::BatchForgetIn { count, dummy: 0 };
        let body = [fixed.as_bytes(), ones.as_bytes()].concat();
        assert!(decode(&message(opcode::BATCH_FORGET, &body)).is_err(), "{count}");
    }
    let bytes = message(opcode::FORGET, &4_u64.to_ne_bytes());
    let Request::Forget(forgets) = decode(&bytes).unwrap().request else { panic!() };
    assert_eq!(forgets.iter().collect::<Vec<_>>(), [(NodeId(1), 4)]);
}

/// A creation with these extensions behind the name.
fn mkdir(extensions: &[u8]) -> Result<String, Malformed> {
    let fixed = abi::MkdirIn { mode: 0o755, umask: 0o22 };
    let body = [fixed.as_bytes(), b"dir\0", extensions].concat();
    let mut bytes = message(opcode::MKDIR, &body);
    let units = u16::try_from(extensions.len() / 8).unwrap();
    bytes[36..38].copy_from_slice(&units.to_ne_bytes());
    decode(&bytes).map(|call| format!("{:?}", call.request))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

#[test]
fn creations_carry_labels_and_a_group() {
    let group = words(&[16, abi::EXT_GROUPS, 1, 100]);
    // struct fuse_secctx: 5 bytes of value, then the name.
    let label = [&words(&[5, 0])[..], b"security.x\0value"].concat();
    let labels = [&words(&[8 + 24, 1])[..], &label].concat();
    assert_eq!(labels.len() % 8, 0);
    let request = mkdir(&[&labels[..], &group].concat()).unwrap();
    let extras = "extras: Extras { labels: [(\"security.x\", 5 bytes)], group: Some(100) }";
    assert!(request.contains(extras), "{request}");
    assert!(mkdir(&[]).unwrap().contains("group: None"));
}

#[test]
fn extensions_that_are_not_what_they_say_are_refused() {
    for bad in [
        words(&[16, abi::EXT_GROUPS, 2, 100]),
        words(&[16, abi::EXT_GROUPS + 1, 1, 100]),
        words(&[24, abi::EXT_GROUPS, 1, 100]),
        words(&[7, abi::EXT_GROUPS]),
        words(&[0, abi::EXT_GROUPS, 0, 0]),
        words(&[16, 1, 100, 0]),
        words(&[16, 0, 0, 0]),
    ] {
        assert_eq!(mkdir(&bad).unwrap_err(), Malformed, "{bad:?}");
    }
    let mut lookup = message(opcode::LOOKUP, &[b"name\0", &words(&[16, 32, 1, 100])[..]].concat());
    lookup[36..38].copy_from_slice(&2_u16.to_ne_bytes());
    assert!(decode(&lookup).is_err(), "only creations have extensions");
}

#[test]
fn a_request_that_was_sent_before_is_the_same_request() {
    let mut bytes = message(opcode::STATFS, b"");
    bytes[8..16].copy_from_slice(&(7_u64 | 1 << 63).to_ne_bytes());
    assert_eq!(decode(&bytes).unwrap().unique, 7 | 1 << 63);
}

#[test]
fn an_operation_that_is_unknown_is_no_malformed_one() {
    for body in [&b""[..], b"whatever"] {
        let bytes = message(4096, body);
        let request = decode(&bytes).unwrap().request;
        assert!(matches!(request, Request::Unknown), "{request:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 40..300)) {
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
