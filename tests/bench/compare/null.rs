//! The null server: a process of its own, as the others are; this program started again.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;

/// Names, in the server, the directory to mount on.
const TARGET: &str = "FUSE4FS_BENCH_NULL";
const RINGS: &str = "FUSE4FS_BENCH_RINGS";

/// Where this process is to serve, if it is a null server.
pub(crate) fn role() -> Option<PathBuf> {
    std::env::var_os(TARGET).map(PathBuf::from)
}

/// Starts one, in a session of its own and the class in which the server serves while CPUs sleep. It
/// ends with its mount.
pub(crate) fn start(target: &Path, rings: bool) -> Result<Child> {
    let mut server = Command::new("setsid");
    server.args(["chrt", "--idle", "0"]).arg(std::env::current_exe()?);
    server.env(TARGET, target);
    if rings {
        server.env(RINGS, "1");
    }
    server.spawn().context("starting the null server")
}

/// Is one.
pub(crate) fn serve(target: &Path) -> ExitCode {
    match mount_and_serve(target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("null server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn mount_and_serve(target: &Path) -> Result<()> {
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let fuse: OwnedFd = rustix::fs::open("/dev/fuse", flags, Mode::empty())?;
    let (fd, rights) = (fuse.as_raw_fd(), "allow_other,default_permissions");
    let options = format!("fd={fd},rootmode=40000,user_id=0,group_id=0,{rights}");
    let options = CString::new(options)?;
    rustix::mount::mount("null", target, "fuse", MountFlags::empty(), options.as_c_str())?;
    let possible = match std::env::var_os(RINGS) {
        Some(_) => Some(possible_cpus()?),
        None => None,
    };
    Ok(fuse4fs_server::serve_null(fuse, possible)?)
}

/// CPUs that the machine could ever have: one more than the last of them.
fn possible_cpus() -> Result<u16> {
    let list = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    let last = list.trim().rsplit(['-', ',']).next().context("CPUs")?;
    Ok(last.parse::<u16>()? + 1)
}
