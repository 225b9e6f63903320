//! mount.fuse4fs as mount(8) and people use it, with a server that shows an empty directory.

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Losetup, MOUNT, Place, eventually, run};

fn good() -> Place {
    Place::with_server("good")
}

#[test]
fn an_image_is_mounted_silently_and_umount_frees_everything() {
    let mut place = good();
    place.mount(&place.spawn()).nothing();
    let mounts = place.mounts();
    let [line] = mounts.as_slice() else { panic!("{mounts:?}") };
    assert!(line.contains(" - fuseblk.fuse4fs /dev/loop"), "{line}");
    assert!(line.contains("allow_other") && line.contains("default_permissions"), "{line}");
    assert_eq!(place.loops(), [place.image()]);
    assert_eq!(fs::read_dir(place.target()).unwrap().count(), 0);
    place.unmount();
    place.is_clean();
}

#[test]
fn systemds_server_is_used_by_its_socket() {
    let mut place = good();
    let options = place.systemd();
    place.mount(&options).nothing();
    place.unmount();
    place.is_clean();
}

#[test]
fn the_server_outlives_the_helper_and_has_ids_that_nobody_else_has() {
    let place = good();
    place.mount(&place.spawn()).nothing();
    let pid = place.process();
    let status = fs::read_to_string(pid.join("status")).unwrap();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:\t")).unwrap();
    let uid: u32 = uid.split('\t').next().unwrap().parse().unwrap();
    assert!((0x7000_0000..=0x7fff_ffff).contains(&uid), "{uid}");
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let of = |path: &Path| fs::read_link(path.join("ns").join(namespace)).unwrap();
        assert_ne!(of(&pid), of(Path::new("/proc/self")), "{namespace}");
    }
    for (fd, wanted) in [("0", "/dev/null"), ("1", "/dev/null"), ("2", "/dev/null")] {
        assert_eq!(fs::read_link(pid.join("fd").join(fd)).unwrap(), Path::new(wanted));
    }
    assert_eq!(fs::read_link(pid.join("cwd")).unwrap(), Path::new("/"));
    assert_eq!(fs::read(pid.join("environ")).unwrap(), b"");
}

#[test]
fn flags_of_the_mount_are_set() {
    let place = good();
    place.mount(&format!("{},nosuid,nodev,noexec,noatime", place.spawn())).nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains(" ro,nosuid,nodev,noexec,noatime "), "{line}");
}

#[test]
fn the_same_image_twice_has_one_server_whatever_its_name() {
    let mut place = good();
    fs::create_dir(place.path("other")).unwrap();
    fs::hard_link(place.image(), place.path("link")).unwrap();
    place.mount(&place.spawn()).nothing();
    let second = run(Command::new(MOUNT)
        .arg(place.path("link"))
        .arg(place.path("other"))
        .args(["-o", &place.spawn()]));
    second.nothing();
    assert_eq!(place.servers(), 1);
    assert_eq!(place.mounts().len(), 2);
    assert_eq!(place.loops().len(), 1);
    place.unmount();
    assert_eq!(fs::read_dir(place.path("other")).unwrap().count(), 0);
    assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
    place.is_clean();
}

#[test]
fn a_server_keeps_no_other_mount_busy() {
    let (mut first, mut second) = (good(), good());
    first.mount(&first.spawn()).nothing();
    second.mount(&second.spawn()).nothing();
    first.unmount();
    first.is_clean();
    second.unmount();
    second.is_clean();
}

#[test]
fn a_mount_whose_server_has_ended_is_in_the_way_of_another_and_that_is_said() {
    let mut place = good();
    fs::create_dir(place.path("other")).unwrap();
    place.mount(&place.spawn()).nothing();
    let pid = place.process();
    let pid = pid.file_name().unwrap().to_str().unwrap().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert!(eventually(|| place.servers() == 0));
    let options = place.spawn().replace("server_timeout=2", "server_timeout=60");
    let second =
        run(Command::new(MOUNT).arg(place.image()).arg(place.path("other")).args(["-o", &options]));
    second.one_line(32, "its server has ended; unmount it first");
    assert!(second.took < Duration::from_secs(20), "{second:?}");
    place.unmount();
    place.mount(&place.spawn()).nothing();
    place.unmount();
    place.is_clean();
}

#[test]
fn a_mount_whose_root_cannot_be_read_any_more_is_shared_all_the_same() {
    let mut place = Place::with_server("root-is-lost");
    fs::create_dir(place.path("other")).unwrap();
    place.mount(&place.spawn()).nothing();
    let options = place.spawn();
    let second =
        run(Command::new(MOUNT).arg(place.image()).arg(place.path("other")).args(["-o", &options]));
    second.nothing();
    assert_eq!((place.servers(), place.mounts().len()), (1, 2));
    assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
    place.unmount();
    place.is_clean();
}

#[test]
fn many_mounts_at_once_have_one_server() {
    let mut place = good();
    let directories: Vec<_> = (0..6).map(|n| place.path(&format!("d{n}"))).collect();
    std::thread::scope(|scope| {
        for directory in &directories {
            fs::create_dir(directory).unwrap();
            let options = place.spawn().replace("server_timeout=2", "server_timeout=20");
            let image = place.image();
            scope.spawn(move || {
                run(Command::new(MOUNT).arg(image).arg(directory).args(["-o", &options])).nothing();
            });
        }
    });
    assert_eq!(place.mounts().len(), 6);
    assert_eq!(place.loops().len(), 1);
    assert!(eventually(|| place.servers() == 1), "{} servers", place.servers());
    for directory in &directories {
        assert_eq!(run(Command::new("umount").arg(directory)).code, Some(0));
    }
    place.is_clean();
}

#[test]
fn a_second_mount_waits_until_the_first_one_serves() {
    let mut place = Place::with_server("slow");
    fs::create_dir(place.path("other")).unwrap();
    let options = place.spawn().replace("server_timeout=2", "server_timeout=20");
    let mut first = Command::new(MOUNT)
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &options])
        .spawn()
        .unwrap();
    assert!(eventually(|| !place.loops().is_empty()));
    std::thread::sleep(Duration::from_millis(300));
    let second =
        run(Command::new(MOUNT).arg(place.image()).arg(place.path("other")).args(["-o", &options]));
    second.nothing();
    assert!(second.took > Duration::from_secs(1), "{second:?}");
    assert_eq!(first.wait().unwrap().code(), Some(0));
    assert_eq!(place.servers(), 1);
    place.unmount();
    assert_eq!(run(Command::new("umount").arg(place.path("other"))).code, Some(0));
    place.is_clean();
}

#[test]
fn parts_of_one_image_are_mounted_side_by_side_but_not_over_each_other() {
    let mut place = good();
    for name in ["second", "third"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    let mount = |directory: &str, part: &str| {
        run(Command::new(MOUNT)
            .arg(place.image())
            .arg(place.path(directory))
            .args(["-o", &format!("{},{part}", place.spawn())]))
    };
    mount("mnt", "sizelimit=512k").nothing();
    mount("second", "offset=512k").nothing();
    mount("third", "offset=256k").one_line(32, "overlapping part");
    assert_eq!(place.loops().len(), 2);
    place.unmount();
    assert_eq!(run(Command::new("umount").arg(place.path("second"))).code, Some(0));
    place.is_clean();
}

#[test]
fn an_image_that_a_writer_has_locked_is_busy() {
    let mut place = good();
    let held = fs::File::options().write(true).open(place.image()).unwrap();
    held.lock().unwrap();
    place.mount(&place.spawn()).one_line(32, "in use");
    held.unlock().unwrap();
    held.lock_shared().unwrap();
    place.mount(&place.spawn()).nothing();
    place.unmount();
    place.is_clean();
}

#[test]
fn a_device_is_mounted_under_the_name_that_was_given() {
    let place = good();
    let device = Losetup::new(&place.image(), &[]);
    let link = place.path("disk");
    std::os::unix::fs::symlink(&device.0, &link).unwrap();
    let said = run(Command::new(MOUNT).arg(&link).arg(place.target()).args(["-o", &place.spawn()]));
    said.nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains(&format!(" - fuseblk.fuse4fs {} ", link.display())), "{line}");
    place.unmount();
}

#[test]
fn a_label_finds_its_device() {
    let place = good();
    let image = place.file("labelled", 8 << 20);
    let label = format!("t{}", std::process::id());
    assert_eq!(run(Command::new("mkfs.ext4").args(["-q", "-L", &label]).arg(&image)).code, Some(0));
    let device = Losetup::new(&image, &[]);
    let said = run(Command::new(MOUNT)
        .arg(format!("LABEL={label}"))
        .arg(place.target())
        .args(["-o", &place.spawn()]));
    said.nothing();
    assert!(place.mounts().remove(0).contains(&format!(" {} ", device.0)));
    place.unmount();
}

#[test]
fn a_device_that_the_kernel_has_mounted_is_busy() {
    let mut place = good();
    let image = place.file("kernels", 8 << 20);
    assert_eq!(run(Command::new("mkfs.ext4").arg("-q").arg(&image)).code, Some(0));
    {
        let device = Losetup::new(&image, &[]);
        fs::create_dir(place.path("kernel")).unwrap();
        let mount = run(Command::new("mount")
            .args(["-t", "ext4", "-o", "ro", &device.0])
            .arg(place.path("kernel")));
        assert_eq!(mount.code, Some(0), "{mount:?}");
        let said = run(Command::new(MOUNT)
            .arg(&device.0)
            .arg(place.target())
            .args(["-o", &place.spawn()]));
        said.one_line(32, "in use");
        assert!(said.stderr.contains(&device.0), "{said:?}");
        assert_eq!(run(Command::new("umount").arg(place.path("kernel"))).code, Some(0));
    }
    place.is_clean();
}

#[test]
fn bad_input_gets_one_clear_line_and_leaves_nothing() {
    let mut place = good();
    place.file("empty", 0);
    place.file("file", 1);
    assert_eq!(run(Command::new("mkfifo").arg(place.path("fifo"))).code, Some(0));
    for (source, target, more, code, words) in [
        ("missing", "mnt", "", 32, "no such device or file"),
        ("mnt", "mnt", "", 32, "is a directory"),
        ("fifo", "mnt", "", 32, "neither a block device nor a file"),
        ("empty", "mnt", "", 32, "is empty"),
        ("image", "missing", "", 32, "name an existing directory"),
        ("image", "file", "", 32, "not a directory"),
        ("image", "mnt", ",offset=1M", 32, "behind the end"),
        ("image", "mnt", ",frobnicate", 1, "unknown option 'frobnicate'"),
        ("image", "mnt", ",dax", 1, "'dax' is not supported"),
        ("image", "mnt", ",errors=maybe", 1, "errors=maybe"),
        ("image", "mnt", ",server=spawn:/nowhere", 2, "no server program /nowhere"),
        ("image", "mnt", ",server=systemd:/nowhere", 2, "no server at /nowhere"),
        ("image", "mnt", ",journal_path=/nowhere", 32, "journal /nowhere"),
        ("image", "mnt", ",remount", 32, "no fuse4fs is mounted"),
    ] {
        let said = run(Command::new(MOUNT)
            .arg(place.path(source))
            .arg(place.path(target))
            .args(["-o", &format!("{}{more}", place.spawn())]));
        said.one_line(code, words);
        assert!(said.stderr.contains(source), "{said:?}");
    }
    run(&mut Command::new(MOUNT)).one_line(1, "needs a source and a directory");
    place.is_clean();
}

#[test]
fn sloppy_mounts_ignore_unknown_options() {
    let place = good();
    let said = run(Command::new(MOUNT)
        .args(["-s", "-n"])
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &format!("{},frobnicate", place.spawn()), "-t", "fuse4fs"]));
    said.nothing();
}

#[test]
fn a_fake_mount_does_everything_but_the_mount() {
    let mut place = good();
    let said = run(Command::new(MOUNT)
        .arg("-f")
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &place.spawn()]));
    said.nothing();
    place.is_clean();
}

#[test]
fn an_interrupted_mount_is_undone() {
    let mut place = Place::with_server("silent-after-mount");
    let mut helper = Command::new(MOUNT)
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &format!("{},server_timeout=60", place.spawn())])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert!(eventually(|| !place.loops().is_empty()));
    let pid = rustix::process::Pid::from_child(&helper);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(helper.wait().unwrap().code(), Some(8));
    place.is_clean();
}

#[test]
fn a_remount_changes_flags_and_keeps_the_mount_read_only() {
    let place = good();
    place.mount(&place.spawn()).nothing();
    let remount = |options: &str| {
        run(Command::new(MOUNT).arg(place.image()).arg(place.target()).args(["-o", options]))
    };
    remount("remount,ro").nothing();
    remount("remount,ro,noexec,nosuid,noatime").nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains(" ro,nosuid,noexec,noatime "), "{line}");
    remount("remount,ro").nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains(" ro,relatime "), "{line}");
    remount("remount,rw").one_line(32, "unmount it, and mount it again");
}

#[test]
fn a_check_tells_who_serves_and_how() {
    let mut place = good();
    let check = |options: &str| run(Command::new(MOUNT).args(["--check", "-o", options]));
    let said = check(&place.spawn());
    assert_eq!(said.code, Some(0), "{said:?}");
    let server = place.server.display().to_string();
    assert_eq!(said.stdout, format!("fake-server 0, protocol 3, by {server}\n"));
    let options = place.systemd();
    let said = check(&options);
    assert!(said.stdout.contains("protocol 3, by systemd (/"), "{said:?}");
    check("server=systemd:/nowhere").one_line(1, "no server at /nowhere");
    place.is_clean();
}
