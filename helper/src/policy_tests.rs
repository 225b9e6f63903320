use super::*;

const BLOCK: Facts = Facts {
    source: SourceKind::Block,
    target_is_directory: true,
    kernel: (6, 18),
    write_protected: false,
    io_uring: true,
    selinux: false,
};

fn options(list: &str) -> Options {
    Options::parse(&[list.to_owned()], false).unwrap()
}

fn refusal(list: &str, facts: Facts) -> String {
    decide(&options(list), &facts).unwrap_err().text
}

fn file(bytes: u64) -> Facts {
    Facts { source: SourceKind::File { bytes }, ..BLOCK }
}

#[test]
fn everyone_is_let_in_and_the_kernel_checks_permissions() {
    let plan = decide(&options("ro"), &BLOCK).unwrap();
    assert_eq!(plan.flags, ["allow_other", "default_permissions"]);
    assert!(plan.image.is_none());
}

#[test]
fn a_mount_is_read_write_unless_asked_otherwise_or_the_source_is_write_protected() {
    // Options, write-protected; read-only, and whether that is told.
    for (list, write_protected, read_only, told) in [
        ("defaults", false, false, false),
        ("rw", false, false, false),
        ("ro,rw", false, false, false),
        ("ro", false, true, false),
        ("rw,ro", false, true, false),
        ("defaults", true, true, true),
        // mount(8) says rw to a helper whoever said nothing.
        ("rw", true, true, true),
        ("ro", true, true, false),
    ] {
        for source in [SourceKind::Block, SourceKind::File { bytes: 4096 }] {
            let facts = Facts { source, write_protected, ..BLOCK };
            let plan = decide(&options(list), &facts).unwrap();
            assert_eq!((plan.read_only, plan.write_protected), (read_only, told), "{list}");
            let flag = MountAttrFlags::MOUNT_ATTR_RDONLY;
            assert_eq!(plan.attributes.contains(flag), read_only, "{list}");
        }
    }
}

#[test]
fn what_is_written_through_at_once_is_told_to_the_kernel() {
    let plan = decide(&options("sync,dirsync,lazytime"), &BLOCK).unwrap();
    let all = ["allow_other", "default_permissions", "sync", "dirsync", "lazytime"];
    assert_eq!(plan.flags, all);
    assert!(plan.engine.sync && plan.engine.dirsync && plan.engine.lazytime);
}

#[test]
fn io_uring_is_a_wish_a_must_or_unwanted() {
    let off = Facts { io_uring: false, ..BLOCK };
    for (list, facts, hint) in [
        ("rw", BLOCK, false),
        ("rw", off, true),
        ("io_uring=on", BLOCK, false),
        ("io_uring=off", BLOCK, false),
        ("io_uring=off", off, false),
    ] {
        let plan = decide(&options(list), &facts).unwrap();
        assert_eq!(plan.hint.is_some(), hint, "{list}");
        let user =
            decide_user(&options(list), SourceKind::File { bytes: 1 }, facts.io_uring, false);
        assert_eq!(user.unwrap().is_some(), hint, "{list}");
    }
    assert!(refusal("io_uring=on", off).contains("echo Y >"));
    assert!(decide_user(&options("io_uring=on"), SourceKind::Block, false, false).is_err());
}

#[test]
fn labels_of_files_are_wanted_where_selinux_stores_them() {
    let selinux = Facts { selinux: true, ..BLOCK };
    for (list, facts, wanted) in [
        ("rw", BLOCK, false),
        ("rw", selinux, true),
        ("rootcontext=a:b:c", selinux, true),
        ("context=a:b:c", selinux, false),
    ] {
        let plan = decide(&options(list), &facts).unwrap();
        assert_eq!(plan.serving.security_context, wanted, "{list}");
    }
}

#[test]
fn flags_of_the_mount_are_the_callers() {
    let cases = [
        ("nosuid,nodev,noexec", "NOSUID NODEV NOEXEC RELATIME"),
        ("noatime,nodiratime", "NOATIME NODIRATIME"),
        ("strictatime,nosymfollow", "STRICTATIME NOSYMFOLLOW"),
        ("user", "NOSUID NODEV NOEXEC RELATIME"),
        ("user,exec,suid,dev", "RELATIME"),
    ];
    for (list, names) in cases {
        let expected = names
            .split(' ')
            .map(|name| MountAttrFlags::from_name(&format!("MOUNT_ATTR_{name}")).unwrap());
        let expected = expected.collect::<MountAttrFlags>();
        let plan = decide(&options(list), &BLOCK).unwrap();
        assert_eq!(plan.attributes - MountAttrFlags::MOUNT_ATTR_RDONLY, expected, "{list}");
    }
}

#[test]
fn an_image_becomes_a_loop_device_of_the_wanted_part() {
    let plan = decide(&options("offset=1M,sizelimit=2M"), &file(4 << 20)).unwrap();
    assert_eq!(plan.image, Some(LoopRange { offset: 1 << 20, sizelimit: 2 << 20 }));
}

#[test]
fn what_cannot_be_mounted_is_refused_with_what_to_do() {
    let no_directory = Facts { target_is_directory: false, ..BLOCK };
    let directory = Facts { source: SourceKind::Directory, ..BLOCK };
    let fifo = Facts { source: SourceKind::Other, ..BLOCK };
    let old = Facts { kernel: (5, 15), ..BLOCK };
    for (list, facts, words) in [
        ("ro", no_directory, "not a directory"),
        ("ro", directory, "is a directory"),
        ("ro", fifo, "neither a block device"),
        ("ro", old, "5.15 is too old"),
        ("ro", file(0), "empty"),
        ("ro,offset=1M", file(1 << 20), "behind the end"),
        ("ro,offset=1M", BLOCK, "for image files"),
    ] {
        let text = refusal(list, facts);
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn labels_go_to_the_kernel_as_they_are() {
    let plan = decide(&options(r#"context="a:b:c:s0:c1,c2""#), &BLOCK).unwrap();
    assert_eq!(plan.strings, [("context", "a:b:c:s0:c1,c2".to_owned())]);
}

#[test]
fn a_remount_sets_all_flags_and_asks_the_server_when_writing_begins_or_ends() {
    use MountFlags as F;
    for (list, now, flags, server) in [
        ("remount,ro", false, F::RDONLY | F::RELATIME, Told::ReadOnly),
        ("remount,ro", true, F::RDONLY | F::RELATIME, Told::Nothing),
        ("remount,rw", true, F::RELATIME, Told::ReadWrite),
        ("remount,rw", false, F::RELATIME, Told::Nothing),
        ("remount,noexec", true, F::RDONLY | F::NOEXEC | F::RELATIME, Told::Nothing),
        ("remount,nosuid,noatime", false, F::NOSUID | F::NOATIME, Told::Nothing),
        ("remount,sync,strictatime", false, F::SYNCHRONOUS | F::STRICTATIME, Told::Nothing),
    ] {
        let plan = decide_remount(&options(list), now);
        assert_eq!(plan, RemountPlan { flags, server }, "{list}, read-only {now}");
    }
}

#[test]
fn fusermount3_gets_the_mode_and_a_name_that_cannot_be_mistaken_for_options() {
    for (read_only, root, expected) in [
        (true, false, "nosuid,nodev,default_permissions,ro,subtype=fuse4fs,fsname=a\\,b"),
        (false, true, "nosuid,nodev,default_permissions,allow_other,subtype=fuse4fs,fsname=a\\,b"),
    ] {
        let words = fusermount_options(&options("rw"), "a,b", read_only, root);
        assert_eq!(words, expected);
    }
}
