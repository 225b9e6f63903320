//! A mount seen from the kernel's side and its server from the outside: fusectl and /proc.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::command;

const CONTROL: &str = "/sys/fs/fuse/connections";

/// Shows the kernel's connections in this mount namespace, where the machine does not.
///
/// # Errors
/// What mount(8) says.
pub fn show() -> Result<()> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    if !table.lines().any(|line| line.split(' ').nth(4) == Some(CONTROL)) {
        command::sh("mount", ["-t", "fusectl", "fusectl", CONTROL])?;
    }
    Ok(())
}

/// The kernel's end of a FUSE mount, in /sys/fs/fuse/connections.
#[derive(Clone, Debug)]
pub struct Connection {
    directory: PathBuf,
    /// `major:minor` of the file system.
    device: String,
}

impl Connection {
    /// That of the mount at `mountpoint`. Asks the server nothing.
    ///
    /// # Errors
    /// When nothing is mounted there, or no FUSE.
    pub fn of(mountpoint: &Path) -> Result<Self> {
        let table = fs::read_to_string("/proc/self/mountinfo")?;
        let place = mountpoint.to_str().context("a path of words")?;
        let fields = |line: &str| -> Option<(String, String)> {
            let mut fields = line.split(' ');
            Some((fields.nth(2)?.to_owned(), fields.nth(1)?.to_owned()))
        };
        let found = table.lines().filter_map(fields).rfind(|(_, path)| path == place);
        let (device, _) = found.with_context(|| format!("nothing is mounted at {place}"))?;
        let (major, minor) = device.split_once(':').context("a device")?;
        // Its name is the number as the kernel itself keeps it: 20 bits of minor.
        let number = (major.parse::<u32>()? << 20) | minor.parse::<u32>()?;
        let directory = Path::new(CONTROL).join(number.to_string());
        ensure!(directory.exists(), "no {}", directory.display());
        Ok(Self { directory, device })
    }

    /// Ends the connection: every request fails, those that wait as well.
    ///
    /// # Errors
    /// When there is none any more.
    pub fn abort(&self) -> Result<()> {
        let file = self.directory.join("abort");
        fs::write(&file, "1").with_context(|| file.display().to_string())
    }

    /// Requests that wait for an answer.
    ///
    /// # Errors
    /// When there is no such connection.
    pub fn waiting(&self) -> Result<u64> {
        Ok(fs::read_to_string(self.directory.join("waiting"))?.trim().parse()?)
    }

    /// Fails if the kernel still has it after `patience`. A loop device that somebody else has taken
    /// since then is not ours, nor is its connection.
    ///
    /// # Errors
    /// When it is still there.
    pub fn expect_gone(&self, patience: Duration) -> Result<()> {
        let end = Instant::now() + patience;
        let backing = Path::new("/sys/dev/block").join(&self.device).join("loop/backing_file");
        while self.directory.exists() && !backing.exists() {
            ensure!(Instant::now() < end, "left behind: {}", self.directory.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

/// What a process holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holdings {
    /// Resident memory, KiB.
    pub resident_kib: u64,
    /// Threads.
    pub threads: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Holdings {
    /// Those of the process `pid`.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: u32) -> Result<Self> {
        let process = Path::new("/proc").join(pid.to_string());
        let status = fs::read_to_string(process.join("status"))?;
        let field = |name: &str| -> Result<u64> {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            let value = value.and_then(|rest| rest.split_whitespace().next());
            Ok(value.with_context(|| name.to_owned())?.parse()?)
        };
        let descriptors = fs::read_dir(process.join("fd"))?.count();
        Ok(Self { resident_kib: field("VmRSS:")?, threads: field("Threads:")?, descriptors })
    }
}
