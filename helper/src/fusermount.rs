//! Mounts and unmounts for ordinary users, by the set-uid program of fuse3.
//!
//! Source: fusermount3(1); libfuse's `_FUSE_COMMFD` convention.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::report::{Explain, Failure};
use crate::sys::socket;

const PROGRAM: &str = "fusermount3";

/// Mounts at `target` and gives the connection. What goes wrong is told by fusermount3 itself.
pub(crate) fn mount(options: &str, target: &Path) -> Result<OwnedFd, Failure> {
    let (ours, theirs) = socket::inheritable_pair().or_system_failure("cannot make a socket")?;
    let output = Command::new(PROGRAM)
        .args(["-o", options, "--"])
        .arg(target)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .map_err(|error| missing(&error))?;
    drop(theirs);
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words = words.trim().trim_start_matches("fusermount3: ");
        return Err(Failure::mount(format!("fusermount3 cannot mount: {words}")));
    }
    socket::receive_one_descriptor(&ours).or_mount_failure("fusermount3 gave no connection")
}

/// Takes the mount away again, lazily if `lazy`.
pub(crate) fn unmount(target: &Path, lazy: bool) {
    let _ = Command::new(PROGRAM)
        .arg("-u")
        .args(lazy.then_some("-z"))
        .arg("--")
        .arg(target)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn missing(error: &io::Error) -> Failure {
    if error.kind() == ErrorKind::NotFound {
        return Failure::system(
            "fusermount3 is not installed; install the package fuse3, or ask root to mount",
        );
    }
    Failure::system(format!("cannot run fusermount3: {}", crate::report::plain(error)))
}
