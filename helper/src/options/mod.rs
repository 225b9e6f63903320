//! Mount options: the comma list of mount(8) and fstab(5) → [`Options`].
//!
//! Words are taken in order, the later wins, as in the kernel. Nothing here looks at the system.
//! `generic` has the words of mount(8), `ext4` those of the file system, `server` our own, `fuse2fs` those of
//! the C programs; `table` tells people of them.

mod ext4;
mod fuse2fs;
mod generic;
mod server;
pub mod table;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use fuse4fs_protocol::{EngineOptions, LogLevel, ServingOptions};

use crate::report::Failure;

/// Where mount.fuse4fs looks for systemd's socket.
pub(crate) const DEFAULT_SOCKET: &str = "/run/fuse4fs.socket";
/// How long a silent server is waited for.
const DEFAULT_SERVER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the kernel waits for one answer on the mount, in seconds.
const DEFAULT_REQUEST_TIMEOUT: u32 = 300;

/// Who starts the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum ServerChoice {
    /// systemd if its socket is there, else we do.
    #[default]
    Any,
    /// systemd, by this socket.
    Systemd(PathBuf),
    /// We do; this program, or the installed one.
    Spawn(Option<PathBuf>),
}

/// Flags of the mount, not of the file system: VFS business.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MountFlags {
    pub(crate) nosuid: bool,
    pub(crate) nodev: bool,
    pub(crate) noexec: bool,
    pub(crate) nosymfollow: bool,
}

/// What the kernel's page cache is told about the mount.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tuning {
    /// A request carries 1 MiB as a rule; reading ahead less would waste round trips.
    pub(crate) read_ahead_kib: u32,
    /// The mount's share of the machine's limit for dirty pages, in percent. FUSE starts with 1, on
    /// small machines not even a few requests. A stuck server pins what this allows, so it is not 100.
    pub(crate) max_ratio: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { read_ahead_kib: 1024, max_ratio: 10 }
    }
}

/// Bytes for the server's caches, where they were said.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct CacheWish {
    /// `cache_size=`
    pub(crate) least: Option<u64>,
    /// `cache_max=`
    pub(crate) most: Option<u64>,
}

/// Everything that can be asked for with `-o`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// `ro` or `rw`, if either was said.
    pub(crate) read_only: Option<bool>,
    pub(crate) remount: bool,
    pub(crate) flags: MountFlags,
    /// Said explicitly; root's mounts have it anyway.
    pub(crate) allow_other: bool,
    /// First byte of the file system in the source.
    pub(crate) offset: u64,
    /// Bytes of the file system; 0 for the rest of the source.
    pub(crate) sizelimit: u64,
    /// `mount_point` is left empty.
    pub(crate) engine: EngineOptions,
    /// `security_context` is left false, `cpus` and `cache` are left empty.
    pub(crate) serving: ServingOptions,
    pub(crate) cache: CacheWish,
    pub(crate) tuning: Tuning,
    pub(crate) server: ServerChoice,
    pub(crate) journal_path: Option<PathBuf>,
    /// A file that is there for as long as an ordinary user's mount.
    pub(crate) lock_file: Option<PathBuf>,
    /// Everybody may do everything on an ordinary user's mount.
    pub(crate) fakeroot: bool,
    /// Seconds, 0 for never.
    pub(crate) request_timeout: u32,
    pub(crate) server_timeout: Duration,
    pub(crate) log_level: LogLevel,
    pub(crate) log: Option<PathBuf>,
    /// SELinux labels, for fsconfig(2) as they stand.
    pub(crate) labels: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            read_only: None,
            remount: false,
            flags: MountFlags::default(),
            allow_other: false,
            offset: 0,
            sizelimit: 0,
            engine: EngineOptions::default(),
            serving: ServingOptions::default(),
            cache: CacheWish::default(),
            tuning: Tuning::default(),
            server: ServerChoice::default(),
            journal_path: None,
            lock_file: None,
            fakeroot: false,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            server_timeout: DEFAULT_SERVER_TIMEOUT,
            log_level: LogLevel::default(),
            log: None,
            labels: Vec::new(),
        }
    }
}

impl Options {
    /// Reads the lists in order.
    ///
    /// `sloppy` (`-s`) ignores words that mean nothing here, never bad values of known ones.
    pub(crate) fn parse(lists: &[String], sloppy: bool) -> Result<Self, Failure> {
        let mut options = Self::default();
        for list in lists {
            for word in split(list)? {
                if !options.word(&word)? && !sloppy {
                    return Err(Failure::usage(format!(
                        "unknown option '{word}'; take it out, or ignore unknown options with -s"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// False when the word is unknown.
    fn word(&mut self, word: &str) -> Result<bool, Failure> {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(unquoted(value))),
            None => (word, None),
        };
        if name.starts_with("x-") || name.starts_with("X-") {
            return Ok(true);
        }
        if ext4::REFUSED.contains(&name) {
            return Err(Failure::usage(format!("option '{name}' is not supported by fuse4fs")));
        }
        match value {
            Some(value) => self.assignment(name, value),
            None => Ok(generic::word(self, name)
                || ext4::word(&mut self.engine, name)
                || server::word(self, name)
                || fuse2fs::word(self, name)),
        }
    }

    fn assignment(&mut self, name: &str, value: &str) -> Result<bool, Failure> {
        Ok(generic::assignment(self, name, value)
            || ext4::assignment(&mut self.engine, name, value)?
            || server::assignment(self, name, value)?
            || fuse2fs::assignment(self, name, value)?)
    }
}

/// Cuts at commas outside double quotes; empty words vanish.
fn split(list: &str) -> Result<Vec<String>, Failure> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quoted = false;
    for c in list.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                word.push(c);
            }
            ',' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(c),
        }
    }
    if quoted {
        return Err(Failure::usage(format!("option list '{list}' has an odd number of quotes")));
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    Ok(words)
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
mod tests;
