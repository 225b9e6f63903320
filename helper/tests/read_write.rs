//! Mounts that write, and those that turn out not to, with a server that shows an empty directory.

#![allow(clippy::unwrap_used, unsafe_code, reason = "test code")]
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::OFlags;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};
use support::{Losetup, MOUNT, Place, Said, eventually, run};

fn writable() -> Place {
    Place::with_server("writable")
}

fn mount(source: &Path, target: &Path, options: &str) -> Said {
    run(Command::new(MOUNT).arg(source).arg(target).args(["-o", options]))
}

/// A mount's own flags and those of its superblock.
fn flags(line: &str) -> (String, String) {
    let (mount, superblock) = line.split_once(" - ").unwrap();
    let of = |options: &str| options.split(',').next().unwrap().to_owned();
    (of(mount.split(' ').nth(5).unwrap()), of(superblock.split(' ').nth(2).unwrap()))
}

#[track_caller]
fn has_flags(place: &Place, mount: &str, superblock: &str) {
    let line = place.mounts().remove(0);
    assert_eq!(flags(&line), (mount.to_owned(), superblock.to_owned()), "{line}");
}

/// The loop device below a place's mount.
fn loop_device(place: &Place) -> String {
    let line = place.mounts().remove(0);
    let device = line.split_once(" - ").unwrap().1.split(' ').nth(1).unwrap().to_owned();
    assert!(device.starts_with("/dev/loop"), "{line}");
    device
}

fn is_read_only(device: &str) -> bool {
    let name = Path::new(device).file_name().unwrap();
    fs::read_to_string(Path::new("/sys/block").join(name).join("ro")).unwrap() == "1\n"
}

/// Whether all of the server's descriptors of the device may write, or none.
#[track_caller]
fn device_is_open_for_writing(place: &Place, device: &str, writing: bool) {
    let all = place.descriptors(device);
    let expected = if writing { OFlags::RDWR } else { OFlags::RDONLY };
    assert!(!all.is_empty());
    assert!(all.iter().all(|flags| *flags & OFlags::RWMODE == expected), "{all:?}");
    assert_eq!(all.iter().filter(|flags| flags.contains(OFlags::DIRECT)).count(), 1, "{all:?}");
}

#[test]
fn a_mount_is_read_write_down_to_the_image_which_is_locked_alone() {
    let mut place = writable();
    place.mount(&place.spawn_rw()).nothing();
    has_flags(&place, "rw", "rw");
    let device = loop_device(&place);
    assert!(!is_read_only(&device));
    device_is_open_for_writing(&place, &device, true);
    assert!(fs::File::open(place.image()).unwrap().try_lock_shared().is_err());
    place.unmount();
    place.is_clean();
    assert!(fs::File::open(place.image()).unwrap().try_lock().is_ok());
}

#[test]
fn a_read_only_mount_is_read_only_down_to_the_image_and_lets_readers_in() {
    let mut place = writable();
    place.mount(&place.spawn()).nothing();
    has_flags(&place, "ro", "ro");
    let device = loop_device(&place);
    assert!(is_read_only(&device));
    device_is_open_for_writing(&place, &device, false);
    let reader = fs::File::open(place.image()).unwrap();
    assert!(reader.try_lock_shared().is_ok());
    reader.unlock().unwrap();
    place.unmount();
    place.is_clean();
}

#[test]
fn a_server_that_writes_nothing_makes_the_mount_read_only_with_one_line() {
    let mut place = Place::with_server("good");
    place.mount(&place.spawn_rw()).one_line(0, "WARNING: mounted read-only");
    has_flags(&place, "ro", "rw");
    let error = fs::set_permissions(place.target(), fs::Permissions::from_mode(0o700)).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30));
    place.unmount();
    place.is_clean();
}

#[test]
fn a_further_mount_shares_the_server_only_if_both_write_or_neither_does() {
    for read_write in [true, false] {
        let mut place = writable();
        fs::create_dir(place.path("other")).unwrap();
        let (one, two) = match read_write {
            true => (place.spawn_rw(), place.spawn()),
            false => (place.spawn(), place.spawn_rw()),
        };
        place.mount(&one).nothing();
        let words = if read_write { "mounted read-write already" } else { "in use read-only" };
        mount(&place.image(), &place.path("other"), &two).one_line(32, words);
        mount(&place.image(), &place.path("other"), &one).nothing();
        assert_eq!((place.servers(), place.loops().len(), place.mounts().len()), (1, 1, 2));
        assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
        place.unmount();
        place.is_clean();
    }
}

#[test]
fn a_further_mount_is_as_read_only_as_the_first_one_that_the_server_made_so() {
    let mut place = Place::with_server("good");
    fs::create_dir(place.path("other")).unwrap();
    place.mount(&place.spawn_rw()).one_line(0, "WARNING: mounted read-only");
    let said = mount(&place.image(), &place.path("other"), &place.spawn_rw());
    said.one_line(0, "WARNING: mounted read-only");
    for line in place.mounts() {
        assert_eq!(flags(&line), ("ro".to_owned(), "rw".to_owned()), "{line}");
    }
    assert_eq!((place.servers(), place.mounts().len()), (1, 2));
    assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
    place.unmount();
    place.is_clean();
}

#[test]
fn an_external_journal_is_open_for_what_the_mount_does_and_nobody_elses() {
    for read_write in [true, false] {
        let mut place = writable();
        let journal = place.file("journal", 1 << 20);
        let options = if read_write { place.spawn_rw() } else { place.spawn() };
        let options = format!("{options},journal_path={}", journal.display());
        place.mount(&options).nothing();
        let mode = if read_write { OFlags::RDWR } else { OFlags::RDONLY };
        let all = place.descriptors(journal.to_str().unwrap());
        assert!(all.len() == 1 && all[0] & OFlags::RWMODE == mode, "{all:?}");
        let reader = fs::File::open(&journal).unwrap();
        assert_eq!(reader.try_lock_shared().is_ok(), !read_write);
        drop(reader);
        // One that shares the server needs no journal.
        fs::create_dir(place.path("other")).unwrap();
        mount(&place.image(), &place.path("other"), &options).nothing();
        assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
        place.unmount();
        place.is_clean();

        let held = fs::File::open(&journal).unwrap();
        held.lock().unwrap();
        place.mount(&options).one_line(32, "journal is in use");
        place.is_clean();
    }
}

#[test]
fn a_further_mount_of_a_device_that_differs_is_refused_in_words() {
    let place = writable();
    let device = Losetup::new(&place.image(), &[]);
    let device = Path::new(&device.0);
    fs::create_dir(place.path("other")).unwrap();
    mount(device, &place.target(), &place.spawn()).nothing();
    let said = mount(device, &place.path("other"), &place.spawn_rw());
    said.one_line(32, "mounted read-only already; add -o ro");
    place.unmount();
}

#[test]
fn a_write_protected_device_is_mounted_read_only_with_the_line_of_mount8() {
    let place = writable();
    let device = Losetup::new(&place.image(), &["-r"]);
    let said = mount(Path::new(&device.0), &place.target(), &place.spawn_rw());
    let words = format!("mount.fuse4fs: {} is write-protected, mounting read-only\n", device.0);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), words.as_str()));
    has_flags(&place, "ro", "ro");
    device_is_open_for_writing(&place, &device.0, false);
    place.unmount();
}

#[test]
fn an_image_where_nobody_may_write_is_mounted_read_only_with_the_line_of_mount8() {
    let mut place = writable();
    fs::create_dir(place.path("ro")).unwrap();
    let bind = |words: &[&str]| {
        run(Command::new("mount").args(words).arg(place.path("ro"))).nothing();
    };
    bind(&["--bind", place.path(".").to_str().unwrap()]);
    bind(&["-o", "remount,bind,ro"]);
    let image = place.path("ro/image");
    let said = mount(&image, &place.target(), &place.spawn_rw());
    said.one_line(0, &format!("{} is write-protected, mounting read-only", image.display()));
    let line = place.mounts().into_iter().find(|line| line.contains("fuseblk")).unwrap();
    assert_eq!(flags(&line), ("ro".to_owned(), "ro".to_owned()));
    // A bind of the place's own directory sees the mount as well.
    place.unmount();
    assert_eq!(run(Command::new("umount").arg(place.path("ro"))).code, Some(0));
    place.is_clean();
}

#[test]
fn root_writes_images_of_others_as_with_every_loop_mount() {
    let mut place = writable();
    chown(place.image(), Some(65534), Some(65534)).unwrap();
    fs::set_permissions(place.image(), fs::Permissions::from_mode(0o644)).unwrap();
    place.mount(&place.spawn_rw()).nothing();
    has_flags(&place, "rw", "rw");
    place.unmount();
    place.is_clean();
}

#[test]
fn an_image_that_a_reader_has_locked_is_not_written() {
    let mut place = writable();
    let reader = fs::File::open(place.image()).unwrap();
    reader.lock_shared().unwrap();
    place.mount(&place.spawn_rw()).one_line(32, "another program has locked it");
    place.mount(&place.spawn()).nothing();
    place.unmount();
    place.is_clean();
}

#[test]
fn an_image_on_a_read_only_loop_device_is_not_written() {
    let place = writable();
    let device = Losetup::new(&place.image(), &["-r"]);
    let said = place.mount(&place.spawn_rw());
    said.one_line(32, &format!("in use read-only by {}", device.0));
    assert_eq!(place.mounts().len(), 0);
}

#[test]
fn a_remount_turns_writing_off_and_on_again_and_keeps_other_flags_as_asked() {
    let mut place = Place::with_server("syncs-slowly");
    place.mount(&place.spawn_rw()).nothing();
    let remount = |options: &str| mount(&place.image(), &place.target(), options);
    let said = remount("remount,ro,noexec");
    said.nothing();
    assert!(said.took >= Duration::from_millis(700), "SYNCFS was not waited for: {said:?}");
    has_flags(&place, "ro", "ro");
    assert!(place.mounts().remove(0).contains(" ro,noexec,relatime "));
    remount("remount,rw,nosuid,noatime").nothing();
    has_flags(&place, "rw", "rw");
    assert!(place.mounts().remove(0).contains(" rw,nosuid,noatime "));
    place.unmount();
    place.is_clean();
}

#[test]
fn a_mount_that_began_read_only_stays_so() {
    for behaviour in ["writable", "good"] {
        let mut place = Place::with_server(behaviour);
        place.mount(&place.spawn()).nothing();
        let said = mount(&place.image(), &place.target(), "remount,rw");
        said.one_line(32, "its server can only read the device; unmount it, and mount it again");
        has_flags(&place, "ro", "ro");
        place.unmount();
        place.is_clean();
    }
}

#[test]
fn a_mount_that_its_server_made_read_only_stays_so() {
    let mut place = Place::with_server("good");
    assert_eq!(place.mount(&place.spawn_rw()).code, Some(0));
    let said = mount(&place.image(), &place.target(), "remount,rw");
    said.one_line(32, "unmount it, and mount it again");
    has_flags(&place, "ro", "rw");
    place.unmount();
    place.is_clean();
}

#[test]
fn the_page_cache_is_told_about_the_mount_and_stays_strict() {
    for (options, read_ahead, max_ratio) in
        [("", "1024\n", "10\n"), (",read_ahead_kb=256,max_ratio=30", "256\n", "30\n")]
    {
        let mut place = writable();
        place.mount(&format!("{}{options}", place.spawn_rw())).nothing();
        let line = place.mounts().remove(0);
        let number = line.split(' ').nth(2).unwrap();
        let bdi = Path::new("/sys/class/bdi").join(format!("{number}-fuseblk"));
        let value = |name: &str| fs::read_to_string(bdi.join(name)).unwrap();
        assert_eq!(value("strict_limit"), "1\n");
        assert_eq!((value("read_ahead_kb").as_str(), value("max_ratio").as_str()), {
            (read_ahead, max_ratio)
        });
        place.unmount();
        place.is_clean();
    }
}

#[test]
fn each_thread_of_the_server_has_a_connection_of_its_own() {
    for threads in [1, 5, 32] {
        let mut place = writable();
        place.mount(&format!("{},threads={threads}", place.spawn_rw())).nothing();
        assert_eq!(place.descriptors("/dev/fuse").len(), threads);
        place.unmount();
        place.is_clean();
    }
}

/// Whether the machine has io_uring switched on, and what keeps other tests from switching it
/// (`tests/src/uring.rs`).
fn io_uring_is_offered() -> (bool, fs::File) {
    let mut options = fs::File::options();
    let path = "/run/fuse4fs-test-uring.lock";
    let lock = options.write(true).create(true).truncate(false).open(path).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockShared).unwrap();
    let file = "/sys/module/fuse/parameters/enable_uring";
    (fs::read_to_string(file).is_ok_and(|on| on == "Y\n"), lock)
}

#[test]
fn io_uring_that_the_kernel_does_not_offer_is_told_once_or_refused() {
    let mut place = writable();
    let (offered, _lock) = io_uring_is_offered();
    if offered {
        place.mount(&format!("{},io_uring=on", place.spawn_rw())).nothing();
    } else {
        place
            .mount(&format!("{},io_uring=on", place.spawn_rw()))
            .one_line(32, "io_uring=on needs FUSE over io_uring");
        let verbose = |options: &str| {
            run(Command::new(MOUNT)
                .arg("-v")
                .arg(place.image())
                .arg(place.target())
                .args(["-o", options]))
        };
        let said = verbose(&place.spawn_rw());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert_eq!(said.stderr.matches("io_uring is off").count(), 1, "{said:?}");
        place.unmount();
        assert!(eventually(|| place.loops().is_empty()));
        let said = verbose(&format!("{},io_uring=off", place.spawn_rw()));
        assert_eq!(said.stderr.matches("io_uring").count(), 0, "{said:?}");
    }
    place.unmount();
    place.is_clean();
}

#[test]
fn many_read_write_mounts_at_once_have_one_server() {
    let mut place = writable();
    let directories: Vec<_> = (0..4).map(|n| place.path(&format!("d{n}"))).collect();
    let options = place.spawn_rw().replace("server_timeout=2", "server_timeout=20");
    let mut helpers: Vec<_> = directories
        .iter()
        .map(|directory| {
            fs::create_dir(directory).unwrap();
            let mut command = Command::new(MOUNT);
            command.arg(place.image()).arg(directory).args(["-o", &options]);
            command.stdin(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for helper in &mut helpers {
        assert_eq!(helper.wait().unwrap().code(), Some(0));
    }
    assert_eq!((place.mounts().len(), place.loops().len()), (4, 1));
    assert!(eventually(|| place.servers() == 1), "{} servers", place.servers());
    for directory in &directories {
        assert_eq!(run(Command::new("umount").arg(directory)).code, Some(0));
    }
    place.is_clean();
}

/// Makes the kernel answer as with bdev_allow_write_mounted=0 to those who open a device for writing
/// without O_EXCL, which only opens of what a person named can be: they carry O_NOCTTY.
fn as_where_mounted_devices_cannot_be_written(command: &mut Command) {
    let decisive = libc::O_ACCMODE | libc::O_EXCL | libc::O_DIRECT | libc::O_NOCTTY;
    let decisive = SeccompCmpOp::MaskedEq(u64::try_from(decisive).unwrap());
    let refused = u64::try_from(libc::O_RDWR | libc::O_NOCTTY).unwrap();
    let rule = |argument| {
        let flags =
            SeccompCondition::new(argument, SeccompCmpArgLen::Dword, decisive.clone(), refused);
        vec![SeccompRule::new(vec![flags.unwrap()]).unwrap()]
    };
    let mut rules = BTreeMap::from([(libc::SYS_openat, rule(2))]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, rule(1));
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    let install = move || seccompiler::apply_filter(&program).map_err(std::io::Error::other);
    // SAFETY: two system calls; memory is allocated only to tell an error.
    unsafe { command.pre_exec(install) };
}

#[test]
fn where_mounted_devices_cannot_be_written_the_servers_descriptor_claims_the_device() {
    let mut place = writable();
    let device = Losetup::new(&place.image(), &[]);
    let mut command = Command::new(MOUNT);
    command.arg("-v").arg(&device.0).arg(place.target());
    command.args(["-o", &format!("{},io_uring=off", place.spawn_rw())]);
    as_where_mounted_devices_cannot_be_written(&mut command);
    let said = run(&mut command);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stderr.contains("umount(8) does not wait"), "{said:?}");
    let line = place.mounts().remove(0);
    assert!(line.contains(&format!(" - fuse.fuse4fs {} rw,", device.0)), "{line}");
    device_is_open_for_writing(&place, &device.0, true);

    let exclusive = OFlags::RDWR | OFlags::EXCL;
    let open = || rustix::fs::open(&device.0, exclusive, rustix::fs::Mode::empty());
    assert_eq!(open().unwrap_err(), rustix::io::Errno::BUSY);
    fs::create_dir(place.path("other")).unwrap();
    mount(Path::new(&device.0), &place.path("other"), &place.spawn_rw()).one_line(32, "in use");
    place.unmount();
    assert!(eventually(|| open().is_ok()));
    drop(device);
    place.is_clean();
}

#[test]
fn where_mounted_devices_cannot_be_written_a_server_that_fails_leaves_nothing() {
    for behaviour in ["silent-after-init", "dies-after-mount", "verdict-nonsense"] {
        let mut place = Place::with_server(behaviour);
        let device = Losetup::new(&place.image(), &[]);
        let mut command = Command::new(MOUNT);
        command.arg(&device.0).arg(place.target()).args(["-o", &place.spawn_rw()]);
        as_where_mounted_devices_cannot_be_written(&mut command);
        let said = run(&mut command);
        said.one_line(32, "server");
        assert!(said.took < Duration::from_secs(6), "{said:?}");
        drop(device);
        place.is_clean();
    }
}
