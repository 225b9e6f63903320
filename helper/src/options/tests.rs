use fuse4fs_protocol::{Atime, CacheSize, Cpus, DataMode, ErrorsPolicy, Switch};

use super::*;
use crate::report::Exit;

fn parse(list: &str) -> Result<Options, Failure> {
    Options::parse(&[list.to_owned()], false)
}

#[test]
fn the_later_word_wins() {
    let options = parse("ro,noexec,noatime,rw,exec,strictatime,sync,async").unwrap();
    assert_eq!(options.read_only, Some(false));
    assert_eq!(options.engine.atime, Atime::Always);
    assert!(!options.flags.noexec && !options.engine.sync);
}

#[test]
fn a_users_mount_is_secured_unless_a_later_word_lifts_it() {
    let flags = parse("user=alice,users,exec").unwrap().flags;
    assert!(flags.nosuid && flags.nodev && !flags.noexec);
    let flags = parse("owner").unwrap().flags;
    assert!(flags.nosuid && flags.nodev && !flags.noexec);
}

#[test]
fn commas_in_quotes_belong_to_the_value() {
    let options = parse(r#"ro,context="system_u:object_r:tmp_t:s0:c1,c2",noexec"#).unwrap();
    assert_eq!(options.labels, [("context", "system_u:object_r:tmp_t:s0:c1,c2".to_owned())]);
    assert!(options.flags.noexec);
    assert!(parse(r#"context="open"#).is_err());
}

#[test]
fn sizes_take_suffixes_and_do_not_wrap() {
    assert_eq!(parse("offset=1048576").unwrap().offset, 1 << 20);
    assert_eq!(parse("offset=1M,sizelimit=3GiB").unwrap().sizelimit, 3 << 30);
    for bad in ["offset=", "offset=k", "offset=-1", "offset=1x", "offset=99999999999T"] {
        assert_eq!(parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
    }
}

#[test]
fn servers_are_chosen_by_name_or_place() {
    let of = |list| parse(list).unwrap().server;
    assert_eq!(of("ro"), ServerChoice::Any);
    assert_eq!(of("server=systemd"), ServerChoice::Systemd(DEFAULT_SOCKET.into()));
    assert_eq!(of("server=systemd:/a:b"), ServerChoice::Systemd("/a:b".into()));
    assert_eq!(of("server=spawn:/x"), ServerChoice::Spawn(Some("/x".into())));
    assert!(parse("server=inetd").is_err() && parse("server=spawn:").is_err());
}

#[test]
fn what_fstab_lines_for_ext4_hold_is_accepted() {
    let line = "defaults,noauto,x-systemd.automount,X-foo,_netdev,nofail,comment=a,user_xattr,\
        acl,data=ordered,commit=5,barrier=1,nobarrier,delalloc,nodelalloc,errors=remount-ro,\
        discard,journal_checksum,stripe=32,loop,loop=/dev/loop0,default_permissions,,\
        resuid=0,uhelper=udisks2,relatime,nodiratime,lazytime,minixdf,bsddf";
    let options = parse(line).unwrap();
    assert_eq!(options.engine.errors, Some(ErrorsPolicy::RemountReadOnly));
    assert!(!options.engine.minixdf);
}

#[test]
fn an_unknown_option_is_named_unless_sloppy() {
    let failure = parse("ro,frobnicate=3").unwrap_err();
    assert_eq!(failure.exit, Exit::Usage);
    assert!(failure.text.contains("'frobnicate=3'"), "{}", failure.text);
    assert!(Options::parse(&["ro,frobnicate=3".into()], true).is_ok());
}

#[test]
fn what_would_change_the_result_is_refused_even_when_sloppy() {
    for word in ["dax", "dax=always", "inlinecrypt", "usrquota", "usrjquota=a", "abort"] {
        assert!(Options::parse(&[word.to_owned()], true).is_err(), "{word}");
    }
    assert!(Options::parse(&["errors=explode".to_owned()], true).is_err());
}

#[test]
fn numbers_have_ranges() {
    assert_eq!(parse("request_timeout=0").unwrap().request_timeout, 0);
    for bad in [
        "request_timeout=4294967296",
        "server_timeout=0",
        "commit=soon",
        "commit=2147484",
        "sb=-1",
        "barrier=-1",
        "resuid=4294967296",
        "stripe=",
        "threads=33",
        "busy_poll=1001",
        "busy_poll=",
        "read_ahead_kb=65537",
        "max_ratio=101",
        "io_uring=yes",
        "writeback_cache=",
        "data=none",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

/// One engine option of a list.
fn engine<T>(list: &str, get: impl Fn(&EngineOptions) -> T) -> T {
    get(&parse(list).unwrap().engine)
}

#[test]
fn ext4s_words_mean_what_they_mean_to_ext4() {
    for (list, expected) in [
        ("ro", None),
        ("data=ordered", Some(DataMode::Ordered)),
        ("data=journal", Some(DataMode::Journal)),
        ("data=journal,data=writeback", Some(DataMode::Writeback)),
    ] {
        assert_eq!(engine(list, |engine| engine.data), expected, "{list}");
    }
    for (list, expected) in [("ro", None), ("commit=0", None), ("commit=30", Some(30))] {
        assert_eq!(engine(list, |engine| engine.commit), expected, "{list}");
    }
    for (list, expected) in [("rw", None), ("stripe=0", None), ("stripe=16", Some(16))] {
        assert_eq!(engine(list, |engine| engine.stripe), expected, "{list}");
    }
    for (list, expected) in [("rw", None), ("max_dir_size_kb=8", Some(8))] {
        assert_eq!(engine(list, |engine| engine.max_dir_size_kb), expected, "{list}");
    }
    let ids = engine("resuid=0,resgid=7", |engine| (engine.resuid, engine.resgid));
    assert_eq!(ids, (Some(0), Some(7)));
}

#[test]
fn a_switch_of_ext4_is_on_off_or_left_to_the_superblock() {
    type Get = fn(&EngineOptions) -> Option<bool>;
    let switches: [(&str, Get); 6] = [
        ("barrier", |engine| engine.barrier),
        ("discard", |engine| engine.discard),
        ("grpid", |engine| engine.grpid),
        ("auto_da_alloc", |engine| engine.auto_da_alloc),
        ("user_xattr", |engine| engine.user_xattr),
        ("acl", |engine| engine.acl),
    ];
    for (name, get) in switches {
        assert_eq!(engine("rw", get), None, "{name}");
        assert_eq!(engine(&format!("no{name},{name}"), get), Some(true), "{name}");
        assert_eq!(engine(&format!("{name},no{name}"), get), Some(false), "{name}");
    }
    for (list, expected) in [("bsdgroups", true), ("bsdgroups,sysvgroups", false)] {
        assert_eq!(engine(list, |engine| engine.grpid), Some(expected), "{list}");
    }
    for (list, expected) in [("barrier=0", false), ("nobarrier,barrier=1", true)] {
        assert_eq!(engine(list, |engine| engine.barrier), Some(expected), "{list}");
    }
    assert_eq!(engine("auto_da_alloc=0", |engine| engine.auto_da_alloc), Some(false));
}

#[test]
fn times_and_syncing_reach_the_engine() {
    for (list, expected) in [
        ("rw", Atime::Relative),
        ("noatime", Atime::Never),
        ("noatime,strictatime", Atime::Always),
        ("strictatime,relatime", Atime::Relative),
    ] {
        assert_eq!(engine(list, |engine| engine.atime), expected, "{list}");
    }
    let all = "nodiratime,lazytime,sync,dirsync";
    let of =
        |engine: &EngineOptions| [engine.nodiratime, engine.lazytime, engine.sync, engine.dirsync];
    assert_eq!(engine(all, of), [true; 4]);
    let none = format!("{all},diratime,nolazytime,async,nodirsync");
    assert_eq!(engine(&none, of), [false; 4]);
}

#[test]
fn serving_and_tuning_have_defaults_and_bounds() {
    let options = parse("rw").unwrap();
    assert_eq!(options.serving, ServingOptions::default());
    assert_eq!(options.tuning, Tuning { read_ahead_kib: 1024, max_ratio: 10 });
    let list = "threads=32,busy_poll=1000,io_uring=off,writeback_cache=on,admin_ioctls,\
        read_ahead_kb=0,max_ratio=100";
    let options = parse(list).unwrap();
    let expected = ServingOptions {
        threads: 32,
        busy_poll: Some(1000),
        io_uring: Switch::Off,
        cpus: Cpus::default(),
        cache: CacheSize::default(),
        writeback_cache: Switch::On,
        admin_ioctls: true,
        security_context: false,
    };
    assert_eq!(options.serving, expected);
    assert_eq!(options.tuning, Tuning { read_ahead_kib: 0, max_ratio: 100 });
    assert_eq!(parse("busy_poll=7,busy_poll=auto").unwrap().serving.busy_poll, None);
}

#[test]
fn caches_have_a_size_in_bounds() {
    assert_eq!(parse("rw").unwrap().cache, CacheWish::default());
    let wish = parse("cache_size=2M,cache_max=512m").unwrap().cache;
    assert_eq!(wish, CacheWish { least: Some(2 << 20), most: Some(512 << 20) });
    let wish = parse("cache_size=0,cache_max=2g").unwrap().cache;
    assert_eq!(wish, CacheWish { least: Some(1 << 20), most: Some(768 << 20) });
    assert!(parse("cache_max=much").is_err());
}

#[test]
fn what_proc_mounts_shows_is_accepted_since_a_remount_brings_it_back() {
    let shown = "rw,nosuid,relatime,user_id=0,group_id=0,default_permissions,allow_other,\
        blksize=4096,seclabel,remount,ro";
    assert_eq!(parse(shown).unwrap().read_only, Some(true));
}
