//! What tests need of the machine, and mounts that clean up after themselves.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command;
use crate::trial::skip;

const INSIDE: &str = "FUSE4FS_TESTS_NAMESPACE";

/// Starts this program again in a mount namespace of its own, so that no mount of the tests can stay
/// behind on the machine. Does nothing inside one, nor without root.
///
/// Shared within, as on most machines: else a copy of a mount in the namespace of some other child
/// that is just starting would keep a file system alive past its umount.
pub fn enter_private_mounts() {
    if std::env::var_os(INSIDE).is_some() || !is_root() {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let error = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg("mount --make-rshared / && exec \"$0\" \"$@\"")
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    eprintln!("no private mount namespace: unshare: {error}");
}

/// Whether the tests run as root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Goes on only as root, inside a private mount namespace.
///
/// # Errors
/// [`crate::trial::Skip`] otherwise.
pub fn need_root() -> Result<()> {
    if !is_root() {
        return skip("needs root");
    }
    if std::env::var_os(INSIDE).is_none() {
        return skip("needs a private mount namespace");
    }
    Ok(())
}

/// A number from the environment.
///
/// # Errors
/// When it is something else.
pub fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(default),
    }
}

/// Goes on only if a file exists.
///
/// # Errors
/// [`crate::trial::Skip`] otherwise.
pub fn need_file(path: &str) -> Result<()> {
    if Path::new(path).exists() { Ok(()) } else { skip(format!("needs {path}")) }
}

/// Goes on only if a program is installed.
///
/// # Errors
/// [`crate::trial::Skip`] otherwise.
pub fn need_program(name: &str) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    if places.any(|place: PathBuf| place.join(name).exists()) {
        return Ok(());
    }
    skip(format!("needs the program {name}"))
}

/// A mounted path; unmounted at the end, whatever happened.
#[derive(Debug)]
pub struct Mounted {
    path: PathBuf,
}

impl Mounted {
    /// The kernel's ext4 on a loop device.
    ///
    /// # Errors
    /// What mount(8) says.
    pub fn kernel(image: &Path, path: &Path, options: &str) -> Result<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", "-o"]).arg(format!("loop,{options}")).arg(image).arg(path);
        command::succeed(&mut mount)?;
        Ok(Self::adopt(path))
    }

    /// Takes care of what somebody mounted at `path`.
    #[must_use]
    pub fn adopt(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Detaches it lazily: whoever has something of it open keeps it.
    ///
    /// # Errors
    /// What umount(8) says.
    pub fn detach(self) -> Result<()> {
        command::succeed(Command::new("umount").arg("--lazy").arg(&self.path))?;
        std::mem::forget(self);
        Ok(())
    }

    /// Unmounts and tells whether that worked.
    ///
    /// # Errors
    /// What umount(8) says; it is then detached lazily.
    pub fn unmount(self) -> Result<()> {
        umount(&self.path)?;
        std::mem::forget(self);
        Ok(())
    }
}

/// umount(8), again while the mount is busy: a program that another test starts holds this one's
/// descriptors from its fork to its exec.
fn umount(path: &Path) -> Result<()> {
    let patience = Instant::now() + Duration::from_secs(2);
    loop {
        match command::succeed(Command::new("umount").arg(path)) {
            Err(error) if format!("{error:#}").contains("busy") && Instant::now() < patience => {
                std::thread::sleep(Duration::from_millis(20));
            }
            done => return done.map(drop),
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount(&self.path) {
            eprintln!("{error:#}");
            let _ = command::run(Command::new("umount").arg("--lazy").arg(&self.path));
        }
    }
}

/// A directory for many images, in memory where there is such a place.
///
/// # Errors
/// When it cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    Ok(if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?)
}
