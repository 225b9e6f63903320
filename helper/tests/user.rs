//! fuse4fs, and mount.fuse4fs by an ordinary user, through fusermount3.

#![allow(clippy::unwrap_used, reason = "test code")]
mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use rustix::fs::OFlags;
use support::{Losetup, MOUNT, Place, Said, USER, eventually, run};

/// nobody
const UID: u32 = 65534;

/// A place that belongs to an ordinary user.
fn users_place(behaviour: &str) -> Place {
    let place = Place::with_server(behaviour);
    let directory = place.path(".");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    chown(place.target(), Some(UID), Some(UID)).unwrap();
    chown(place.image(), Some(UID), Some(UID)).unwrap();
    place
}

fn as_user(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--", program]);
    command.stdin(Stdio::null());
    command
}

fn mount(place: &Place, program: &str, more: &str) -> Said {
    let options = format!("{}{more}", place.spawn());
    run(as_user(program).arg(place.image()).arg(place.target()).args(["-o", &options]))
}

fn unmount(place: &Place) {
    let said = run(as_user("fusermount3").arg("-u").arg(place.target()));
    said.nothing();
}

#[test]
fn a_user_sees_an_image_and_takes_it_away_again() {
    let mut place = users_place("good");
    for program in [USER, MOUNT] {
        mount(&place, program, "").nothing();
        let line = place.mounts().remove(0);
        let image = place.image();
        assert!(line.contains(&format!(" - fuse.fuse4fs {} ro,", image.display())), "{line}");
        assert!(line.contains(" ro,nosuid,nodev,"), "{line}");
        let list = run(as_user("ls").arg("-A").arg(place.target()));
        list.nothing();
        unmount(&place);
        place.is_clean();
    }
}

#[test]
fn a_users_server_runs_as_the_user_in_namespaces() {
    let place = users_place("good");
    mount(&place, USER, "").nothing();
    let pid = place.process();
    let status = fs::read_to_string(pid.join("status")).unwrap();
    assert!(status.contains(&format!("Uid:\t{UID}\t{UID}\t{UID}\t{UID}\n")), "{status}");
    assert_eq!(fs::metadata(place.target()).unwrap_err().raw_os_error(), Some(13));
    for namespace in ["user", "mnt", "pid", "net"] {
        let of = |pid: &str| fs::read_link(format!("{pid}/ns/{namespace}")).unwrap();
        assert_ne!(of(pid.to_str().unwrap()), of("/proc/self"), "{namespace}");
    }
    unmount(&place);
}

#[test]
fn a_user_writes_an_image_that_may_be_written_and_is_told_otherwise() {
    let mut place = users_place("writable");
    let (read_write, image) = (place.spawn_rw(), place.image());
    let mount = || run(as_user(USER).arg(&image).arg(place.target()).args(["-o", &read_write]));
    mount().nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains(&format!(" - fuse.fuse4fs {} rw,", image.display())), "{line}");
    let flags = place.descriptors(image.to_str().unwrap());
    assert!(flags.iter().all(|flags| flags.contains(OFlags::RDWR)) && flags.len() == 1);
    assert!(fs::File::open(&image).unwrap().try_lock_shared().is_err());
    unmount(&place);
    assert!(eventually(|| place.servers() == 0));

    fs::set_permissions(&image, fs::Permissions::from_mode(0o444)).unwrap();
    mount().one_line(0, &format!("{} is write-protected, mounting read-only", image.display()));
    let line = place.mounts().remove(0);
    assert!(line.contains(" ro,nosuid,nodev,"), "{line}");
    let flags = place.descriptors(image.to_str().unwrap());
    assert!(flags.iter().all(|flags| !flags.contains(OFlags::RDWR)) && flags.len() == 1);
    unmount(&place);
    place.is_clean();
}

#[test]
fn a_user_is_told_that_the_server_writes_nothing() {
    let mut place = users_place("good");
    let options = place.spawn_rw();
    let said = run(as_user(USER).arg(place.image()).arg(place.target()).args(["-o", &options]));
    said.one_line(0, "WARNING: mounted read-only");
    unmount(&place);
    place.is_clean();
}

#[test]
fn a_comma_in_the_images_name_stays_in_it() {
    let place = users_place("good");
    let image = place.file("a,suid,b", 1 << 20);
    let said = run(as_user(USER).arg(&image).arg(place.target()).args(["-o", &place.spawn()]));
    said.nothing();
    let line = place.mounts().remove(0);
    assert!(line.contains("a,suid,b ro,") && line.contains(" ro,nosuid,"), "{line}");
    unmount(&place);
}

#[test]
fn a_server_that_fails_a_user_leaves_nothing() {
    for (behaviour, words) in [
        ("dies-after-mount", "ended before"),
        ("silent-after-init", "does not answer"),
        ("refuses", "no ext2, ext3 or ext4"),
        ("verdict-nonsense", "nonsense"),
    ] {
        let mut place = users_place(behaviour);
        mount(&place, USER, ",server_timeout=1").one_line(32, words);
        place.is_clean();
    }
}

#[test]
fn what_a_user_may_not_is_told_in_one_line() {
    let mut place = users_place("good");
    let secret = place.file("secret", 1 << 20);
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let options = place.spawn();
    for program in [USER, MOUNT] {
        let said = run(as_user(program).arg(&secret).arg(place.target()).args(["-o", &options]));
        said.one_line(32, "Permission denied");
    }
    mount(&place, USER, ",offset=4k").one_line(32, "ask root");
    chown(place.target(), Some(0), Some(0)).unwrap();
    mount(&place, USER, "").one_line(32, "fusermount3 cannot mount");
    assert_eq!(fs::metadata(place.target()).unwrap().uid(), 0);
    place.is_clean();
}

#[test]
fn a_missing_fusermount3_is_named() {
    let mut place = users_place("good");
    let said = run(as_user("env")
        .args(["PATH=/nowhere", USER])
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &place.spawn()]));
    said.one_line(2, "fusermount3 is not installed");
    place.is_clean();
}

fn foreground(place: &Place) -> Child {
    let child = as_user(USER)
        .arg("--foreground")
        .arg(place.image())
        .arg(place.target())
        .args(["-o", &place.spawn()])
        .spawn()
        .unwrap();
    assert!(eventually(|| !place.mounts().is_empty()));
    child
}

#[test]
fn the_foreground_lasts_until_the_unmount() {
    let mut place = users_place("good");
    let mut child = foreground(&place);
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(child.try_wait().unwrap(), None);
    unmount(&place);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    place.is_clean();
}

#[test]
fn an_interruption_in_the_foreground_unmounts() {
    let mut place = users_place("good");
    let mut child = foreground(&place);
    std::thread::sleep(std::time::Duration::from_millis(200));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    place.is_clean();
}

#[test]
fn root_may_use_it_where_there_are_no_loop_devices() {
    let mut place = Place::with_server("good");
    let said =
        run(Command::new(USER).arg(place.image()).arg(place.target()).args(["-o", &place.spawn()]));
    said.nothing();
    assert!(place.mounts().remove(0).contains("allow_other"));
    assert!(place.loops().is_empty());
    place.unmount();
    place.is_clean();
}

#[test]
fn a_device_that_is_in_use_is_not_written() {
    let mut place = Place::with_server("writable");
    let device = Losetup::new(&place.image(), &[]);
    let mode = rustix::fs::Mode::empty();
    let held = rustix::fs::open(&device.0, OFlags::RDWR | OFlags::EXCL, mode).unwrap();
    let mount = |options: &str| {
        run(Command::new(USER).arg(&device.0).arg(place.target()).args(["-o", options]))
    };
    mount(&place.spawn_rw()).one_line(32, "the device is in use");
    drop(held);
    mount(&place.spawn_rw()).nothing();
    assert!(place.descriptors(&device.0).iter().all(|flags| flags.contains(OFlags::RDWR)));
    place.unmount();
    drop(device);
    place.is_clean();
}

/// A user namespace in which no further one can be made, with `UID` as 1000; gone with the value.
struct NoNamespaces(Child);

impl NoNamespaces {
    fn new() -> Self {
        let holder = Command::new("unshare").args(["-U", "sleep", "60"]).spawn().unwrap();
        let proc = format!("/proc/{}", holder.id());
        let of = |proc: &str| fs::read_link(format!("{proc}/ns/user")).unwrap();
        assert!(eventually(|| of(&proc) != of("/proc/self")));
        let map = format!("0 0 1\n1000 {UID} 1\n");
        fs::write(format!("{proc}/uid_map"), &map).unwrap();
        fs::write(format!("{proc}/gid_map"), &map).unwrap();
        let inside = Self(holder);
        let limit = "echo 0 > /proc/sys/user/max_user_namespaces";
        inside.run_as(0, "sh", &["-c", limit]).nothing();
        inside
    }

    fn run_as(&self, id: u32, program: &str, arguments: &[&str]) -> Said {
        let (pid, id) = (self.0.id().to_string(), id.to_string());
        run(Command::new("nsenter")
            .args(["-U", "-t", &pid, "-S", &id, "-G", &id, "--", program])
            .args(arguments))
    }
}

impl Drop for NoNamespaces {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn where_users_may_not_have_namespaces_the_server_is_told_and_root_gets_a_clear_line() {
    let mut place = users_place("good");
    let inside = NoNamespaces::new();
    let options = format!("server=spawn:{}", place.server.display());
    let check = ["--check", "-o", &options];
    // The fake server answers in this case only if it was started with --no-namespaces.
    let said = inside.run_as(1000, MOUNT, &check);
    assert!(said.stdout.starts_with("fake-server 0 without namespaces, protocol 3"), "{said:?}");
    inside.run_as(0, MOUNT, &check).one_line(1, "cannot make namespaces for the server");
    place.is_clean();
}
