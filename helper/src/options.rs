//! Mount options: the comma list of mount(8) and fstab(5) → [`Options`].
//!
//! Words are taken in order, the later wins, as in the kernel. Nothing here looks at the system.
//! Source: mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS"; ext4(5).

use std::path::PathBuf;
use std::time::Duration;

use fuse4fs_protocol::{ErrorsPolicy, LogLevel};

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

/// When reading a file updates its access time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Atime {
    /// `relatime`, the kernel's default.
    #[default]
    Relative,
    /// `noatime`.
    Never,
    /// `strictatime`.
    Always,
}

/// Flags of the mount, not of the file system: VFS business.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct MountFlags {
    pub(crate) nosuid: bool,
    pub(crate) nodev: bool,
    pub(crate) noexec: bool,
    pub(crate) nosymfollow: bool,
    pub(crate) nodiratime: bool,
    pub(crate) atime: Atime,
}

/// Everything that can be asked for with `-o`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// `ro` or `rw`, if either was said.
    pub(crate) read_only: Option<bool>,
    pub(crate) remount: bool,
    pub(crate) flags: MountFlags,
    pub(crate) sync: bool,
    pub(crate) dirsync: bool,
    pub(crate) lazytime: bool,
    /// Said explicitly; root's mounts have it anyway.
    pub(crate) allow_other: bool,
    /// First byte of the file system in the source.
    pub(crate) offset: u64,
    /// Bytes of the file system; 0 for the rest of the source.
    pub(crate) sizelimit: u64,
    pub(crate) noload: bool,
    /// In units of 1 KiB.
    pub(crate) superblock: Option<u64>,
    pub(crate) errors: Option<ErrorsPolicy>,
    pub(crate) minixdf: bool,
    pub(crate) server: ServerChoice,
    pub(crate) journal_path: Option<PathBuf>,
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
            sync: false,
            dirsync: false,
            lazytime: false,
            allow_other: false,
            offset: 0,
            sizelimit: 0,
            noload: false,
            superblock: None,
            errors: None,
            minixdf: false,
            server: ServerChoice::default(),
            journal_path: None,
            request_timeout: DEFAULT_REQUEST_TIMEOUT,
            server_timeout: DEFAULT_SERVER_TIMEOUT,
            log_level: LogLevel::default(),
            log: None,
            labels: Vec::new(),
        }
    }
}

/// Words without a value that change nothing: other programs' business, or what ext4 always does
/// or does only when it writes.
const IGNORED: &[&str] = &[
    // mount(8), systemd, fstab
    "defaults",
    "auto",
    "noauto",
    "nofail",
    "_netdev",
    "nouser",
    "loop",
    "mand",
    "nomand",
    "silent",
    "loud",
    "default_permissions",
    "iversion",
    "noiversion",
    // ext4, kept for old fstab lines
    "acl",
    "noacl",
    "user_xattr",
    "delalloc",
    "nodelalloc",
    "barrier",
    "nobarrier",
    "discard",
    "nodiscard",
    "journal_checksum",
    "nojournal_checksum",
    "journal_async_commit",
    "auto_da_alloc",
    "noauto_da_alloc",
    "grpid",
    "nogrpid",
    "bsdgroups",
    "sysvgroups",
    "init_itable",
    "noinit_itable",
    "block_validity",
    "noblock_validity",
    "dioread_lock",
    "dioread_nolock",
    "nodioread_nolock",
    "i_version",
    "nombcache",
    "no_mbcache",
    "debug",
    "oldalloc",
    "orlov",
    "noquota",
    "no_prefetch_block_bitmaps",
    "prefetch_block_bitmaps",
];

/// Words with a value that belongs to other programs.
const IGNORED_TEXT: &[&str] = &["comment", "uhelper", "helper", "user", "loop"];

/// ext4's words with a number that matters only to writing.
const IGNORED_NUMBER: &[&str] = &[
    "auto_da_alloc",
    "barrier",
    "commit",
    "init_itable",
    "inode_readahead_blks",
    "journal_ioprio",
    "max_batch_time",
    "max_dir_size_kb",
    "mb_optimize_scan",
    "min_batch_time",
    "resgid",
    "resuid",
    "stripe",
];

/// ext4's words that would change what a program sees, so they are not silently dropped.
const REFUSED: &[&str] = &[
    "abort",
    "dax",
    "inlinecrypt",
    "quota",
    "usrquota",
    "grpquota",
    "prjquota",
    "usrjquota",
    "grpjquota",
    "jqfmt",
    "test_dummy_encryption",
    "nouser_xattr",
    "journal_dev",
    "nouid32",
];

const LABELS: [&str; 4] = ["context", "fscontext", "defcontext", "rootcontext"];

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
        if REFUSED.contains(&name) {
            return Err(Failure::usage(format!("option '{name}' is not supported by fuse4fs")));
        }
        match value {
            Some(value) => self.assignment(name, value),
            None => Ok(self.generic(name) || self.ext4(name) || IGNORED.contains(&name)),
        }
    }

    /// Words of mount(8).
    fn generic(&mut self, name: &str) -> bool {
        let flags = &mut self.flags;
        match name {
            "ro" => self.read_only = Some(true),
            "rw" => self.read_only = Some(false),
            "remount" => self.remount = true,
            "suid" | "nosuid" => flags.nosuid = name == "nosuid",
            "dev" | "nodev" => flags.nodev = name == "nodev",
            "exec" | "noexec" => flags.noexec = name == "noexec",
            "symfollow" | "nosymfollow" => flags.nosymfollow = name == "nosymfollow",
            "diratime" | "nodiratime" => flags.nodiratime = name == "nodiratime",
            "noatime" => flags.atime = Atime::Never,
            "strictatime" => flags.atime = Atime::Always,
            "atime" | "relatime" | "norelatime" | "nostrictatime" => flags.atime = Atime::Relative,
            "sync" | "async" => self.sync = name == "sync",
            "dirsync" | "nodirsync" => self.dirsync = name == "dirsync",
            "lazytime" | "nolazytime" => self.lazytime = name == "lazytime",
            "allow_other" => self.allow_other = true,
            // What an ordinary user may mount cannot be trusted with these, unless a later word says so.
            "user" | "users" => (flags.nosuid, flags.nodev, flags.noexec) = (true, true, true),
            "owner" | "group" => (flags.nosuid, flags.nodev) = (true, true),
            _ => return false,
        }
        true
    }

    /// Words of ext4.
    const fn ext4(&mut self, name: &str) -> bool {
        match name.as_bytes() {
            b"noload" | b"norecovery" => self.noload = true,
            b"minixdf" => self.minixdf = true,
            b"bsddf" => self.minixdf = false,
            _ => return false,
        }
        true
    }

    fn assignment(&mut self, name: &str, value: &str) -> Result<bool, Failure> {
        if let Some(label) = LABELS.iter().find(|label| **label == name) {
            self.labels.push((label, value.to_owned()));
            return Ok(true);
        }
        match name {
            "offset" => self.offset = size(name, value)?,
            "sizelimit" => self.sizelimit = size(name, value)?,
            "sb" => self.superblock = Some(number(name, value)?),
            "errors" => self.errors = Some(errors_policy(value)?),
            "server" => self.server = server(value)?,
            "journal_path" => self.journal_path = Some(path(name, value)?),
            "request_timeout" => self.request_timeout = number(name, value)?,
            "server_timeout" => self.server_timeout = seconds(name, value)?,
            "log_level" => self.log_level = log_level(value)?,
            "log" => self.log = Some(path(name, value)?),
            "data" => journal_mode(value)?,
            _ if IGNORED_TEXT.contains(&name) => {}
            _ if IGNORED_NUMBER.contains(&name) => drop(number::<u64>(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
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

fn bad(name: &str, value: &str, wanted: &str) -> Failure {
    Failure::usage(format!("option '{name}={value}' is wrong: {wanted}"))
}

fn number<N: TryFrom<u64>>(name: &str, value: &str) -> Result<N, Failure> {
    value
        .parse::<u64>()
        .ok()
        .and_then(|number| N::try_from(number).ok())
        .ok_or_else(|| bad(name, value, "a number is needed"))
}

/// Bytes, with the suffixes of losetup(8): k, m, g, t, also as KiB, MiB, GiB, TiB.
fn size(name: &str, value: &str) -> Result<u64, Failure> {
    let wanted = || bad(name, value, "bytes are needed, such as 1048576 or 1M");
    let digits = value.trim_end_matches(|c: char| !c.is_ascii_digit());
    let suffix = value.get(digits.len()..).unwrap_or_default().to_ascii_lowercase();
    let shift = match suffix.as_str() {
        "" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        "t" | "tib" => 40,
        _ => return Err(wanted()),
    };
    let number: u64 = digits.parse().map_err(|_| wanted())?;
    number.checked_mul(1_u64 << shift).ok_or_else(wanted)
}

/// A day at most: a longer wait is a mistake.
fn seconds(name: &str, value: &str) -> Result<Duration, Failure> {
    match number(name, value)? {
        seconds @ 1..=86_400 => Ok(Duration::from_secs(seconds)),
        _ => Err(bad(name, value, "1 to 86400 seconds are possible")),
    }
}

fn path(name: &str, value: &str) -> Result<PathBuf, Failure> {
    if value.is_empty() {
        return Err(bad(name, value, "a path is needed"));
    }
    Ok(PathBuf::from(value))
}

fn errors_policy(value: &str) -> Result<ErrorsPolicy, Failure> {
    match value {
        "continue" => Ok(ErrorsPolicy::Continue),
        "remount-ro" => Ok(ErrorsPolicy::RemountReadOnly),
        "panic" => Ok(ErrorsPolicy::Panic),
        _ => Err(bad("errors", value, "continue, remount-ro or panic is needed")),
    }
}

fn log_level(value: &str) -> Result<LogLevel, Failure> {
    match value {
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        _ => Err(bad("log_level", value, "error, warn, info, debug or trace is needed")),
    }
}

fn server(value: &str) -> Result<ServerChoice, Failure> {
    match value.split_once(':') {
        None if value == "systemd" => Ok(ServerChoice::Systemd(PathBuf::from(DEFAULT_SOCKET))),
        None if value == "spawn" => Ok(ServerChoice::Spawn(None)),
        Some(("systemd", socket)) => Ok(ServerChoice::Systemd(path("server", socket)?)),
        Some(("spawn", program)) => Ok(ServerChoice::Spawn(Some(path("server", program)?))),
        _ => Err(bad("server", value, "systemd or spawn is needed")),
    }
}

fn journal_mode(value: &str) -> Result<(), Failure> {
    match value {
        "ordered" | "writeback" | "journal" => Ok(()),
        _ => Err(bad("data", value, "ordered, writeback or journal is needed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Exit;

    fn parse(list: &str) -> Result<Options, Failure> {
        Options::parse(&[list.to_owned()], false)
    }

    #[test]
    fn the_later_word_wins() {
        let options = parse("ro,noexec,noatime,rw,exec,strictatime,sync,async").unwrap();
        assert_eq!(options.read_only, Some(false));
        assert_eq!(options.flags.atime, Atime::Always);
        assert!(!options.flags.noexec && !options.sync);
    }

    #[test]
    fn a_users_mount_is_secured_unless_a_later_word_lifts_it() {
        let flags = parse("user=alice,users,exec").unwrap().flags;
        assert!(flags.nosuid && flags.nodev && !flags.noexec);
        let flags = parse("owner").unwrap().flags;
        assert!(flags.nosuid && flags.nodev && !flags.noexec);
    }

    #[test]
    fn commas_in_quotes_belong_to_the_value() {
        let options = parse(r#"ro,context="system_u:object_r:tmp_t:s0:c1,c2",noexec"#).unwrap();
        assert_eq!(options.labels, [("context", "system_u:object_r:tmp_t:s0:c1,c2".to_owned())]);
        assert!(options.flags.noexec);
        assert!(parse(r#"context="open"#).is_err());
    }

    #[test]
    fn sizes_take_suffixes_and_do_not_wrap() {
        assert_eq!(parse("offset=1048576").unwrap().offset, 1 << 20);
        assert_eq!(parse("offset=1M,sizelimit=3GiB").unwrap().sizelimit, 3 << 30);
        for bad in ["offset=", "offset=k", "offset=-1", "offset=1x", "offset=99999999999T"] {
            assert_eq!(parse(bad).unwrap_err().exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn servers_are_chosen_by_name_or_place() {
        let of = |list| parse(list).unwrap().server;
        assert_eq!(of("ro"), ServerChoice::Any);
        assert_eq!(of("server=systemd"), ServerChoice::Systemd(DEFAULT_SOCKET.into()));
        assert_eq!(of("server=systemd:/a:b"), ServerChoice::Systemd("/a:b".into()));
        assert_eq!(of("server=spawn:/x"), ServerChoice::Spawn(Some("/x".into())));
        assert!(parse("server=inetd").is_err() && parse("server=spawn:").is_err());
    }

    #[test]
    fn what_fstab_lines_for_ext4_hold_is_accepted() {
        let line = "defaults,noauto,x-systemd.automount,X-foo,_netdev,nofail,comment=a,user_xattr,\
            acl,data=ordered,commit=5,barrier=1,nobarrier,delalloc,nodelalloc,errors=remount-ro,\
            discard,journal_checksum,stripe=32,loop,loop=/dev/loop0,default_permissions,,\
            resuid=0,uhelper=udisks2,relatime,nodiratime,lazytime,minixdf,bsddf";
        let options = parse(line).unwrap();
        assert_eq!(options.errors, Some(ErrorsPolicy::RemountReadOnly));
        assert!(!options.minixdf);
    }

    #[test]
    fn an_unknown_option_is_named_unless_sloppy() {
        let failure = parse("ro,frobnicate=3").unwrap_err();
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text.contains("'frobnicate=3'"), "{}", failure.text);
        assert!(Options::parse(&["ro,frobnicate=3".into()], true).is_ok());
    }

    #[test]
    fn what_would_change_the_result_is_refused_even_when_sloppy() {
        for word in ["dax", "dax=always", "inlinecrypt", "usrquota", "usrjquota=a", "abort"] {
            assert!(Options::parse(&[word.to_owned()], true).is_err(), "{word}");
        }
        assert!(Options::parse(&["errors=explode".to_owned()], true).is_err());
    }

    #[test]
    fn numbers_have_ranges() {
        assert_eq!(parse("request_timeout=0").unwrap().request_timeout, 0);
        for bad in ["request_timeout=4294967296", "server_timeout=0", "commit=soon", "sb=-1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
