//! The kernel's switch for FUSE over io_uring. It is one for the whole machine and off by default,
//! and a mount keeps the rings that it began with.
//!
//! Whoever changes it holds a lock and puts it back. Meanwhile the lock's file says what it was, so
//! that the next one puts it back for a holder that was killed. `tests/systemd/run` does the same.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use rustix::fs::FlockOperation;

use crate::host;

/// Where the kernel shows it.
pub const PARAMETER: &str = "/sys/module/fuse/parameters/enable_uring";
const LOCK: &str = "/run/fuse4fs-test-uring.lock";

/// The switch's value until this is dropped, and the lock. To be held while something is mounted and
/// has answered once; others wait for it.
#[derive(Debug)]
pub struct Parameter {
    before: String,
    lock: File,
}

impl Parameter {
    /// Sets it to `value`, Y or N.
    ///
    /// # Errors
    /// [`crate::trial::Skip`] where the kernel has none, or this is not root.
    pub fn set(value: &str) -> Result<Self> {
        host::need_root()?;
        host::need_file(PARAMETER)?;
        let mut options = File::options();
        let mut lock =
            options.read(true).write(true).create(true).truncate(false).open(LOCK).context(LOCK)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let mut before = String::new();
        lock.read_to_string(&mut before)?;
        if before.is_empty() {
            before = std::fs::read_to_string(PARAMETER)?;
            lock.write_all_at(before.as_bytes(), 0)?;
        }
        // From here on it is put back, whatever happens.
        let parameter = Self { before, lock };
        std::fs::write(PARAMETER, value).context(PARAMETER)?;
        Ok(parameter)
    }

    /// What it was, and will be.
    #[must_use]
    pub fn before(&self) -> &str {
        self.before.trim()
    }
}

impl Drop for Parameter {
    fn drop(&mut self) {
        let restored = std::fs::write(PARAMETER, &self.before);
        if let Err(error) = restored.and_then(|()| self.lock.set_len(0)) {
            eprintln!("{PARAMETER}: {error}");
        }
    }
}
