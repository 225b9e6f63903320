//! ACLs as the kernel's ext4 (6.18) was seen to handle them.
#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use super::access::{Which, after_chmod, change, decide, inherit};
use super::acl::Acl;
use super::*;
use crate::error::Error;
use crate::inode::FileKind;
use crate::testing::{Image, inode};

/// An ACL in short: "u7 U1000:6 g4 m6 o0" has the owner's entry, one for user 1000, the group's, the
/// mask and the others'. "" is none.
fn vfs(text: &str) -> Option<Vec<u8>> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for word in text.split_whitespace() {
        let (head, perm) = word.split_at(word.len() - 1);
        let id = head[1..].trim_end_matches(':').parse().unwrap_or(u32::MAX);
        let tags = [("u", 1_u16), ("U", 2), ("g", 4), ("G", 8), ("m", 16), ("o", 32)];
        let tag = tags.iter().find(|(letter, _)| *letter == &head[..1]).unwrap().1;
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.parse::<u16>().unwrap().to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    (!text.is_empty()).then_some(bytes)
}

fn disk(text: &str) -> Option<Vec<u8>> {
    vfs(text).map(|bytes| Acl::from_vfs(&bytes).unwrap().unwrap().to_disk())
}

/// An inode whose tail holds one list.
fn with_list(which: Which, text: &str, kind: FileKind) -> Inode {
    let mut inode = Inode { kind, tail: vec![0; 200].into(), ..inode(0) };
    let index = if which == Which::Access { ACL_ACCESS } else { ACL_DEFAULT };
    let value = disk(text).unwrap();
    let entry = Entry { index, name: b"", hash: 0, value: Value::Here(&value) };
    inode.tail = xattr::to_inode(&[entry], 200).unwrap();
    inode
}

/// The directory's default list, the mode asked for, the mode given, the access list given.
const INHERITED: &[(&str, u16, u16, &str)] = &[
    ("u7 g5 o1", 0o666, 0o640, ""),
    ("u7 g5 o1", 0o777, 0o751, ""),
    ("u7 g5 o1", 0o640, 0o640, ""),
    ("u7 g5 o1", 0o2755, 0o2751, ""),
    ("u6 g0 o0", 0o666, 0o600, ""),
    ("u6 g0 o0", 0o777, 0o600, ""),
    ("u6 g0 o0", 0o640, 0o600, ""),
    ("u6 g0 o0", 0o2755, 0o2600, ""),
    ("u7 g7 m5 o4", 0o666, 0o644, "u6 g7 m4 o4"),
    ("u7 g7 m5 o4", 0o777, 0o754, "u7 g7 m5 o4"),
    ("u7 g7 m5 o4", 0o640, 0o640, "u6 g7 m4 o0"),
    ("u7 g7 m5 o4", 0o2755, 0o2754, "u7 g7 m5 o4"),
    ("u7 U1000:6 g4 m6 o0", 0o666, 0o660, "u6 U1000:6 g4 m6 o0"),
    ("u7 U1000:6 g4 m6 o0", 0o777, 0o760, "u7 U1000:6 g4 m6 o0"),
    ("u7 U1000:6 g4 m6 o0", 0o640, 0o640, "u6 U1000:6 g4 m4 o0"),
    ("u7 U1000:6 g4 m6 o0", 0o2755, 0o2740, "u7 U1000:6 g4 m4 o0"),
    ("u5 U1:7 U2:3 g6 G100:7 m7 o7", 0o666, 0o466, "u4 U1:7 U2:3 g6 G100:7 m6 o6"),
    ("u5 U1:7 U2:3 g6 G100:7 m7 o7", 0o777, 0o577, "u5 U1:7 U2:3 g6 G100:7 m7 o7"),
    ("u5 U1:7 U2:3 g6 G100:7 m7 o7", 0o640, 0o440, "u4 U1:7 U2:3 g6 G100:7 m4 o0"),
    ("u5 U1:7 U2:3 g6 G100:7 m7 o7", 0o2755, 0o2555, "u5 U1:7 U2:3 g6 G100:7 m5 o5"),
];

#[test]
fn a_new_inode_gets_what_list_and_mode_both_permit() {
    let volume = Image::new(64).volume();
    for &(default, mode, given, access) in INHERITED {
        let dir = with_list(Which::Default, default, FileKind::Directory);
        let heritage = inherit(&volume, &dir, FileKind::Regular, mode, 0o027).unwrap();
        assert_eq!(heritage.permissions, given, "{default} {mode:o}");
        let lists: Vec<_> = heritage.changes().map(|list| list.value.unwrap().to_vec()).collect();
        assert_eq!(lists, disk(access).into_iter().collect::<Vec<_>>(), "{default} {mode:o}");
        let heritage = inherit(&volume, &dir, FileKind::Directory, mode, 0o027).unwrap();
        let lists: Vec<_> = heritage.changes().map(|list| list.value.unwrap().to_vec()).collect();
        let both = disk(default).into_iter().chain(disk(access)).collect::<Vec<_>>();
        assert_eq!((heritage.permissions, lists), (given, both));
    }
}

#[test]
fn the_umask_counts_only_without_a_default_list_and_symlinks_get_nothing() {
    let volume = Image::new(64).volume();
    let plain = Inode { kind: FileKind::Directory, ..inode(0) };
    let heritage = inherit(&volume, &plain, FileKind::Regular, 0o4666, 0o027).unwrap();
    assert_eq!((heritage.permissions, heritage.blocks_needed()), (0o4640, 0));
    let dir = with_list(Which::Default, "u7 U1:7 g7 m7 o7", FileKind::Directory);
    let heritage = inherit(&volume, &dir, FileKind::Symlink, 0o777, 0o027).unwrap();
    assert_eq!((heritage.permissions, heritage.blocks_needed()), (0o777, 0));
}

/// The list that is set, the mode before and after, the list kept, and what chmod 1624 makes of it.
const SET: &[(&str, u16, u16, &str, &str)] = &[
    ("u7 g5 o1", 0o644, 0o751, "", ""),
    ("u7 g5 o1", 0o2711, 0o2751, "", ""),
    ("u6 g0 o0", 0o644, 0o600, "", ""),
    ("u6 g0 o0", 0o2711, 0o2600, "", ""),
    ("u7 g7 m5 o4", 0o644, 0o754, "u7 g7 m5 o4", "u6 g7 m2 o4"),
    ("u7 g7 m5 o4", 0o2711, 0o2754, "u7 g7 m5 o4", "u6 g7 m2 o4"),
    ("u7 U1000:6 g4 m6 o0", 0o644, 0o760, "u7 U1000:6 g4 m6 o0", "u6 U1000:6 g4 m2 o4"),
    ("u7 U1000:6 g4 m6 o0", 0o2711, 0o2760, "u7 U1000:6 g4 m6 o0", "u6 U1000:6 g4 m2 o4"),
    (
        "u5 U1:7 U2:3 g6 G100:7 m7 o7",
        0o644,
        0o577,
        "u5 U1:7 U2:3 g6 G100:7 m7 o7",
        "u6 U1:7 U2:3 g6 G100:7 m2 o4",
    ),
    (
        "u5 U1:7 U2:3 g6 G100:7 m7 o7",
        0o2711,
        0o2577,
        "u5 U1:7 U2:3 g6 G100:7 m7 o7",
        "u6 U1:7 U2:3 g6 G100:7 m2 o4",
    ),
];

#[test]
fn mode_and_access_list_follow_each_other() {
    let volume = Image::new(64).volume();
    for &(text, mode, after, kept, changed) in SET {
        let before = Inode { permissions: mode, ..inode(0) };
        let list = vfs(text);
        let decided = decide(&before, Which::Access, list.as_deref(), false).unwrap();
        assert_eq!(decided, (after, disk(kept)), "{text} {mode:o}");
        let (without, _) = decide(&before, Which::Access, list.as_deref(), true).unwrap();
        assert_eq!(without, after & !0o2000);
        if !kept.is_empty() {
            let inode = with_list(Which::Access, kept, FileKind::Regular);
            assert_eq!(after_chmod(&volume, &inode, 0o1624).unwrap(), disk(changed));
        }
    }
    assert_eq!(decide(&inode(0), Which::Access, None, false).unwrap(), (0o644, None));
    assert_eq!(after_chmod(&volume, &inode(0), 0o1624).unwrap(), None);
}

#[test]
fn lists_that_cannot_be_are_refused() {
    let refused = |bytes: &[u8]| match Acl::from_vfs(bytes) {
        Err(Error::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    for text in [
        "u7 g7",
        "u7 o7 g7",
        "u7 u7 g7 o7",
        "u7 U1:7 g7 o7",
        "u7 g7 G1:7 o7",
        "u8 g7 o7",
        "u7 g7 m7 m7 o7",
        "u7 U:7 g7 m7 o7",
        "u7 g7 o7 m7",
        "g7 o7",
    ] {
        assert_eq!(refused(&vfs(text).unwrap()), Refusal::Invalid, "{text}");
    }
    assert_eq!(refused(&[2, 0, 0]), Refusal::Invalid);
    assert_eq!(refused(&[2, 0, 0, 0, 1]), Refusal::Invalid);
    assert_eq!(refused(&[1, 0, 0, 0]), Refusal::NotSupported);
    assert_eq!(Acl::from_vfs(&[2, 0, 0, 0]).unwrap(), None);
    let set = |kind, which| {
        let inode = Inode { kind, ..inode(0) };
        decide(&inode, which, vfs("u7 g7 o7").as_deref(), false).is_ok()
    };
    assert!(!set(FileKind::Symlink, Which::Access));
    assert!(!set(FileKind::Regular, Which::Default));
    assert!(set(FileKind::Directory, Which::Default));
    assert_eq!(change(Which::Default, None).index, ACL_DEFAULT);
}
