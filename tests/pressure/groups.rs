//! Control groups in which memory runs short: one that limits it and one that tells of it, which on
//! machines with controllers of version 1 are two.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fuse4fs_tests::trial::skip;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

/// Somebody in the group waits for memory for a tenth of a window of 2 s, the only one that takes no
/// privilege. The kernel looks at the end of each, for all who listen at the same time.
const TENTH: &[u8] = b"some 200000 2000000\n";

/// The groups of one test; gone with it, and their processes before.
#[derive(Debug)]
pub(crate) struct Groups {
    /// That with the limit.
    memory: PathBuf,
    /// That of version 2; perhaps the same.
    unified: PathBuf,
    limit: &'static str,
    events: &'static str,
}

impl Groups {
    /// New ones, without a limit.
    ///
    /// # Errors
    /// [`fuse4fs_tests::trial::Skip`] where the machine has no such thing.
    pub(crate) fn new() -> Result<Self> {
        let name = format!("fuse4fs-pressure-{}", std::process::id());
        let Some(unified) = mount_of("cgroup2 ", "") else { return skip("needs cgroup2") };
        let unified = unified.join(&name);
        fs::create_dir(&unified).with_context(|| unified.display().to_string())?;
        let mut groups =
            Self { memory: unified.clone(), unified, limit: "memory.max", events: "memory.events" };
        if !groups.unified.join("memory.pressure").exists() {
            return skip("needs a kernel that tells of memory pressure (CONFIG_PSI)");
        }
        if groups.memory.join(groups.limit).exists() {
            return Ok(groups);
        }
        let Some(memory) = mount_of("cgroup ", "memory") else {
            return skip("needs a control group of memory");
        };
        let memory = memory.join(&name);
        fs::create_dir(&memory).with_context(|| memory.display().to_string())?;
        (groups.memory, groups.limit, groups.events) =
            (memory, "memory.limit_in_bytes", "memory.oom_control");
        Ok(groups)
    }

    /// The files by which a process joins, as `sh` and [`join`] want them.
    pub(crate) fn doors(&self) -> [String; 2] {
        [&self.memory, &self.unified].map(|group| group.join("cgroup.procs").display().to_string())
    }

    /// `program` as a child of these groups.
    pub(crate) fn inside(&self, program: &Path) -> Command {
        let mut shell = Command::new("sh");
        let script = "echo 0 >\"$0\" && echo 0 >\"$1\" && shift && exec \"$@\"";
        shell.args(["-c", script]).args(self.doors()).arg(program);
        shell
    }

    /// Limits memory to what is in use and `room` bytes more; what can be reclaimed at once is.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn leave_room(&self, processes: u64, room: u64) -> Result<()> {
        self.set_limit(&(processes + room).to_string())
    }

    /// Lifts the limit.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn lift_limit(&self) -> Result<()> {
        self.set_limit(if self.limit == "memory.max" { "max" } else { "-1" })
    }

    fn set_limit(&self, limit: &str) -> Result<()> {
        let file = self.memory.join(self.limit);
        fs::write(&file, limit).with_context(|| format!("{limit} to {}", file.display()))
    }

    /// How many processes the kernel has killed for want of memory.
    ///
    /// # Errors
    /// When it does not tell.
    pub(crate) fn killed(&self) -> Result<u64> {
        let text = fs::read_to_string(self.memory.join(self.events))?;
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        Ok(count.context("no oom_kill")?.trim().parse()?)
    }

    /// What tells of stalls.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn alarm(&self) -> Result<Alarm> {
        let path = self.unified.join("memory.pressure");
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, rustix::fs::Mode::empty())?;
        rustix::io::write(&file, TENTH)?;
        Ok(Alarm(file.into()))
    }

    /// What the kernel says of stalls now.
    ///
    /// # Errors
    /// When it says nothing.
    pub(crate) fn stalls(&self) -> Result<String> {
        Ok(fs::read_to_string(self.unified.join("memory.pressure"))?)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in [&self.memory, &self.unified] {
            if let Err(error) = remove(group) {
                eprintln!("left behind: {}: {error:#}", group.display());
            }
        }
    }
}

fn remove(group: &Path) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(10);
    while group.exists() && fs::remove_dir(group).is_err() {
        for pid in fs::read_to_string(group.join("cgroup.procs"))?.lines() {
            let pid = rustix::process::Pid::from_raw(pid.parse()?).context("a process")?;
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        ensure!(Instant::now() < end, "it is busy");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// A trigger.
#[derive(Debug)]
pub(crate) struct Alarm(File);

impl Alarm {
    /// Waits for it.
    ///
    /// # Errors
    /// That it did not come within `patience`.
    pub(crate) fn wait(&self, patience: Duration) -> Result<()> {
        let mut fds = [PollFd::new(&self.0, PollFlags::PRI)];
        let told = poll(&mut fds, Some(&Timespec::try_from(patience)?))?;
        ensure!(told == 1, "memory was not short within {patience:?}");
        Ok(())
    }
}

/// Has this process join the groups of `doors`.
///
/// # Errors
/// The kernel's.
pub(crate) fn join(doors: &[String]) -> Result<()> {
    doors.iter().try_for_each(|door| fs::write(door, "0").with_context(|| door.clone()))
}

/// Where a hierarchy of this type, with this option, is mounted.
fn mount_of(kind: &str, option: &str) -> Option<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (mount, file_system) = line.split_once(" - ")?;
        let has = option.is_empty() || file_system.split([' ', ',']).any(|word| word == option);
        (file_system.starts_with(kind) && has)
            .then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}
