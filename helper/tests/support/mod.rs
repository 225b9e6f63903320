//! A place for one test: image, directory, server program; nothing of it survives the test.

#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::unwrap_used, reason = "test code")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use tempfile::TempDir;

pub(crate) const MOUNT: &str = env!("CARGO_BIN_EXE_mount-fuse4fs");
pub(crate) const USER: &str = env!("CARGO_BIN_EXE_fuse4fs");

pub(crate) struct Place {
    directory: TempDir,
    /// A fake server with a name, and so a behaviour, of its own.
    pub(crate) server: PathBuf,
    listener: Option<Child>,
}

/// What a run of a program left for people.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) took: Duration,
}

impl Place {
    pub(crate) fn with_server(behaviour: &str) -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests mount, so they need root");
        // Beside the build, so that the server can be a hard link.
        let directory = tempfile::Builder::new()
            .prefix("place")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .unwrap();
        let server = directory.path().join(format!("fake.{behaviour}"));
        fs::hard_link(fake_server(), &server).unwrap();
        fs::create_dir(directory.path().join("mnt")).unwrap();
        let place = Self { directory, server, listener: None };
        place.file("image", 1 << 20);
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A file of this many bytes; the fake server does not look at them.
    pub(crate) fn file(&self, name: &str, len: u64) -> PathBuf {
        let path = self.path(name);
        fs::File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.path("image")
    }

    pub(crate) fn target(&self) -> PathBuf {
        self.path("mnt")
    }

    /// `server=spawn:` this place's server, for a read-only mount.
    pub(crate) fn spawn(&self) -> String {
        format!("ro,server_timeout=2,server=spawn:{}", self.server.display())
    }

    /// The same for a read-write mount.
    pub(crate) fn spawn_rw(&self) -> String {
        self.spawn().replace("ro,", "rw,")
    }

    /// Starts the server in systemd's place; `server=systemd:` its socket.
    pub(crate) fn systemd(&mut self) -> String {
        let socket = self.path("socket");
        let mut listener = Command::new(&self.server)
            .arg("--listen")
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(listener.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listening\n");
        self.listener = Some(listener);
        format!("ro,server_timeout=2,server=systemd:{}", socket.display())
    }

    /// mount.fuse4fs IMAGE DIR -o OPTIONS
    pub(crate) fn mount(&self, options: &str) -> Said {
        run(Command::new(MOUNT).arg(self.image()).arg(self.target()).args(["-o", options]))
    }

    /// Lines of mountinfo for mounts in this place.
    pub(crate) fn mounts(&self) -> Vec<String> {
        let directory = self.directory.path().to_str().unwrap().to_owned();
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        table.lines().filter(|line| line.contains(&directory)).map(str::to_owned).collect()
    }

    /// Loop devices on files in this place.
    pub(crate) fn loops(&self) -> Vec<PathBuf> {
        let bound = fs::read_dir("/sys/block").unwrap().filter_map(|entry| {
            let backing = entry.unwrap().path().join("loop/backing_file");
            fs::read_to_string(backing).ok()
        });
        bound
            .map(|file| PathBuf::from(file.trim_end()))
            .filter(|file| file.starts_with(self.directory.path()))
            .collect()
    }

    /// /proc directory of this place's server.
    pub(crate) fn process(&self) -> PathBuf {
        let is_ours = |pid: &PathBuf| {
            fs::read_link(pid.join("exe")).is_ok_and(|program| program == self.server)
        };
        let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.map(|entry| entry.path()).find(is_ours).unwrap()
    }

    /// Open flags of the server's descriptors whose name begins like this.
    pub(crate) fn descriptors(&self, name: &str) -> Vec<OFlags> {
        let process = self.process();
        let mut all = Vec::new();
        for entry in fs::read_dir(process.join("fd")).unwrap().filter_map(Result::ok) {
            let target = fs::read_link(entry.path()).unwrap();
            if target.to_str().unwrap().starts_with(name) {
                let info = process.join("fdinfo").join(entry.file_name());
                let info = fs::read_to_string(info).unwrap();
                let flags = info.lines().find_map(|line| line.strip_prefix("flags:\t")).unwrap();
                all.push(OFlags::from_bits_retain(u32::from_str_radix(flags, 8).unwrap()));
            }
        }
        all
    }

    /// Processes of this place's server.
    pub(crate) fn servers(&self) -> usize {
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.unwrap().path().join("exe")).ok())
            .filter(|exe| *exe == self.server)
            .count()
    }

    /// Nothing is mounted, attached or running, now or in a moment.
    #[track_caller]
    pub(crate) fn is_clean(&mut self) {
        if let Some(listener) = &mut self.listener {
            let ended = eventually(|| listener.try_wait().unwrap().is_some());
            assert!(ended, "the server runs on");
        }
        assert_eq!(self.mounts(), Vec::<String>::new());
        // Other tests look at all loop devices, which holds them for a moment.
        assert!(eventually(|| self.loops().is_empty()), "{:?} are attached", self.loops());
        assert!(eventually(|| self.servers() == 0), "{} servers run on", self.servers());
    }

    /// Ends a server that the helper could not know: it has not sent a byte, and was given none.
    pub(crate) fn end_listener(&mut self) {
        let listener = self.listener.as_mut().unwrap();
        listener.kill().unwrap();
        listener.wait().unwrap();
    }

    pub(crate) fn unmount(&self) {
        let said = run(Command::new("umount").arg(self.target()));
        assert_eq!(said.code, Some(0), "{said:?}");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for line in self.mounts() {
            let point = line.split(' ').nth(4).unwrap();
            let _ = Command::new("umount").args(["-l", point]).status();
        }
        if let Some(listener) = &mut self.listener {
            let _ = listener.kill();
            let _ = listener.wait();
        }
    }
}

pub(crate) fn run(command: &mut Command) -> Said {
    let start = Instant::now();
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    Said {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
        took: start.elapsed(),
    }
}

impl Said {
    /// Exit code 0 and not a word.
    #[track_caller]
    pub(crate) fn nothing(&self) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(0), "", ""));
    }

    /// This exit code, and one line with these words.
    #[track_caller]
    pub(crate) fn one_line(&self, code: i32, words: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        assert_eq!(self.stderr.matches('\n').count(), 1, "{self:?}");
        assert!(self.stderr.contains(words), "no '{words}' in {self:?}");
    }
}

pub(crate) fn eventually(condition: impl FnMut() -> bool) -> bool {
    let mut condition = condition;
    (0..200).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(Duration::from_millis(10));
        }
        holds
    })
}

/// Cargo builds examples with the tests, beside the programs.
fn fake_server() -> PathBuf {
    let path = Path::new(MOUNT).with_file_name("examples").join("fake_server");
    assert!(path.exists(), "no {}; build it: cargo build --examples", path.display());
    path
}

/// A loop device made by losetup(8), gone with the value.
pub(crate) struct Losetup(pub(crate) String);

impl Losetup {
    pub(crate) fn new(file: &Path, more: &[&str]) -> Self {
        let said = run(Command::new("losetup").args(["--show", "-f"]).args(more).arg(file));
        assert_eq!(said.code, Some(0), "{said:?}");
        Self(said.stdout.trim().to_owned())
    }
}

impl Drop for Losetup {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}
