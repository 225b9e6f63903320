//! Real mounts, made by mount.fuse4fs and served by this crate's program. They need root, /dev/fuse,
//! loop devices and e2fsprogs.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "test code"
)]

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const SERVER: &str = env!("CARGO_BIN_EXE_fuse4fs-server");

/// mount.fuse4fs of the same build. Cargo does not build another package's program for a test.
fn mount_program() -> PathBuf {
    static BUILT: std::sync::OnceLock<()> = std::sync::OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "fuse4fs-helper", "--bin", "mount-fuse4fs"])
            .status()
            .unwrap();
        assert!(built.success());
    });
    Path::new(SERVER).with_file_name("mount-fuse4fs")
}

/// An image with some files, a directory to mount it on, and nothing left of either at the end.
struct Place {
    directory: TempDir,
}

impl Place {
    fn new(label: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests mount, so they need root");
        let place = Self { directory: tempfile::tempdir().unwrap() };
        let tree = place.path("tree");
        fs::create_dir_all(tree.join("many")).unwrap();
        fs::create_dir(place.path("mnt")).unwrap();
        fs::write(tree.join("hello"), "hello, world\n").unwrap();
        fs::write(tree.join("big"), pattern(3 << 20)).unwrap();
        for number in 0..300 {
            fs::write(tree.join(format!("many/{number}")), number.to_string()).unwrap();
        }
        let made = Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-L", label, "-d"])
            .args([&tree, &place.path("image")])
            .arg("16M")
            .stdout(Stdio::null())
            .status()
            .expect("mke2fs of e2fsprogs is needed");
        assert!(made.success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(mount_program());
        let log = self.path("log");
        let options = format!("ro,server=spawn:{SERVER},log={}", log.display());
        command.args([self.path("image"), self.path("mnt")]).args(["-o", &options]);
        command
    }

    fn mount(&self) -> Output {
        self.command().output().unwrap()
    }

    fn mounted(label: &str) -> Self {
        let place = Self::new(label);
        let output = place.mount();
        assert!(output.status.success(), "{output:?} {}", place.log());
        place
    }

    /// What is mounted, if anything is.
    fn device(&self) -> Option<String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let path = self.path("mnt");
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == path.to_str());
        line.map(|line| line.split(' ').next().unwrap().to_owned())
    }

    /// The process that has the mounted device open.
    fn server(&self) -> PathBuf {
        let device = PathBuf::from(self.device().expect("it is mounted"));
        let uses = |process: &Path| {
            let fds = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
            fds.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|path| path == device)
        };
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        processes.into_iter().find(|process| uses(process)).expect("a server")
    }

    fn unmount(&self) {
        let output = Command::new("umount").arg(self.path("mnt")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    fn loops(&self) -> String {
        let output = Command::new("losetup").arg("-j").arg(self.path("image")).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l"]).arg(self.path("mnt")).output();
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

/// Waits until `happened`, which must come about soon.
fn soon(happened: impl Fn() -> bool) {
    let start = Instant::now();
    while !happened() {
        assert!(start.elapsed() < Duration::from_secs(10), "it did not happen");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_mounted_tree_is_as_it_was_made_and_leaves_nothing_behind() {
    let place = Place::mounted("plain");
    let mnt = place.path("mnt");
    assert_eq!(fs::read(mnt.join("hello")).unwrap(), b"hello, world\n");
    assert_eq!(fs::read(mnt.join("big")).unwrap(), pattern(3 << 20));
    assert_eq!(fs::metadata(&mnt).unwrap().ino(), 2);
    assert_eq!(fs::read_dir(mnt.join("many")).unwrap().count(), 300);
    let error = fs::write(mnt.join("new"), "").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "EROFS");
    let server = place.server();
    place.unmount();
    assert_eq!(place.loops(), "", "the loop device is free as soon as umount returns");
    soon(|| !server.exists());
    let log = place.log();
    assert!(log.contains("mounted filesystem ") && log.contains("unmounting"), "{log}");
}

#[test]
fn files_are_read_past_the_page_cache_too() {
    use std::os::unix::fs::OpenOptionsExt;
    let place = Place::mounted("direct");
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).unwrap();
    let file = fs::OpenOptions::new().read(true).custom_flags(direct).open(place.path("mnt/big"));
    let mut buffer = vec![0; (1 << 20) + 4096];
    let skip = buffer.as_ptr().align_offset(4096);
    let aligned = &mut buffer[skip..][..1 << 20];
    file.unwrap().read_exact_at(aligned, 1 << 20).unwrap();
    assert_eq!(aligned, &pattern(3 << 20)[1 << 20..2 << 20]);
}

#[test]
fn the_serving_process_has_no_power() {
    let place = Place::mounted("power");
    let server = place.server();
    let status = fs::read_to_string(server.join("status")).unwrap();
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(value(set), "0000000000000000", "{set}");
    }
    assert_eq!((value("NoNewPrivs:"), value("Seccomp:")), ("1".into(), "2".into()));
    assert_eq!(value("Groups:"), "");
    assert!(!value("Uid:").split_whitespace().any(|uid| uid == "0"), "{}", value("Uid:"));
    for namespace in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = |process: &Path| fs::read_link(process.join("ns").join(namespace)).unwrap();
        assert_ne!(link(&server), link(Path::new("/proc/self")), "{namespace}");
    }
    assert_eq!(fs::read_dir(server.join("root")).unwrap().count(), 0);
    let mounts = fs::read_to_string(server.join("mounts")).unwrap();
    assert_eq!(mounts.lines().count(), 1, "{mounts}");
    assert!(fs::write(server.join("root/file"), "").is_err());
    let device = place.device().unwrap();
    let known = ["/dev/null".into(), "/dev/fuse".into(), device.into(), place.path("log")];
    // The socket is closed right after the last message, which may be a moment ago.
    soon(|| {
        let fds = fs::read_dir(server.join("fd")).unwrap().flatten();
        let mut links = fds.filter_map(|fd| fs::read_link(fd.path()).ok());
        // Rings, what wakes their threads, and what tells these whether CPUs are busy.
        let rings = ["anon_inode:[io_uring]", "anon_inode:[eventfd]", "/proc/loadavg"];
        // What tells whether memory is short, of a control group or of the machine.
        let pressure = ["memory.pressure", "pressure/memory"];
        links.all(|fd| {
            known.contains(&fd)
                || rings.iter().any(|ring| fd == Path::new(ring))
                || pressure.iter().any(|end| fd.ends_with(end))
        })
    });
}

#[test]
fn sigterm_does_not_end_a_mounted_file_system() {
    let place = Place::mounted("term");
    let server = place.server();
    let pid = server.file_name().unwrap();
    assert!(Command::new("kill").arg("-TERM").arg(pid).status().unwrap().success());
    soon(|| place.log().contains("asked to stop"));
    assert_eq!(fs::read_dir(place.path("mnt/many")).unwrap().count(), 300);
    place.unmount();
    soon(|| !server.exists());
}

#[test]
fn what_is_no_file_system_is_refused_in_one_line() {
    let place = Place::new("none");
    fs::File::create(place.path("image")).unwrap().set_len(1 << 20).unwrap();
    let output = place.mount();
    assert_eq!(output.status.code(), Some(32));
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains("not an ext2, ext3 or ext4 file system"), "{said}");
    soon(|| place.device().is_none() && place.loops().is_empty());
}

/// A mount whose replay is held; killed at the end, so that no test waits for it.
struct Held(Child);

impl Held {
    fn start(place: &Place) -> Self {
        let child = place.command().stderr(Stdio::null()).spawn().unwrap();
        let held = Self(child);
        soon(|| !place.loops().is_empty());
        // From here the kernel sends requests, and soon the server hears them.
        std::thread::sleep(Duration::from_millis(500));
        held
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[cfg_attr(not(feature = "test-hooks"), ignore = "needs --features test-hooks")]
fn sync_does_not_wait_for_a_replay() {
    let place = Place::new("hold:5");
    let mut held = Held::start(&place);
    let start = Instant::now();
    assert!(Command::new("sync").status().unwrap().success());
    let took = start.elapsed();
    assert!(held.0.try_wait().unwrap().is_none(), "the replay is not held");
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(held.0.wait().unwrap().success(), "{}", place.log());
    assert_eq!(fs::read(place.path("mnt/hello")).unwrap(), b"hello, world\n");
    place.unmount();
}

#[test]
#[cfg_attr(not(feature = "test-hooks"), ignore = "needs --features test-hooks")]
fn a_helper_that_dies_during_the_replay_leaves_nothing_behind() {
    let place = Place::new("hold:60");
    drop(Held::start(&place));
    soon(|| place.loops().is_empty());
    assert_eq!(place.device(), None);
}
