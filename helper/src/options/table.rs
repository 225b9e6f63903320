//! The words of `-o` as people are told of them: the manual's tables and what shells complete are
//! made from this by `cargo xtask man` and `cargo xtask completion`.
//!
//! Words that are accepted without effect, or refused, stand in `generic` and `ext4` only.

/// A row of a table in mount.fuse4fs(8).
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Words that belong together: `noload`, `sb=<N>`, `data=ordered|journal`, `barrier[=0|1]`.
    /// What stands in angle brackets is for the user to fill in.
    pub words: &'static [&'static str],
    /// What holds without any of them.
    pub default: &'static str,
    /// One sentence; `*bold*` is to be typed as it stands, `<slanted>` is a name.
    pub meaning: &'static str,
}

const fn row(words: &'static [&'static str], default: &'static str, meaning: &'static str) -> Row {
    Row { words, default, meaning }
}

/// Words of mount(8).
pub const GENERIC: &[Row] = &[
    row(&["rw", "ro"], "rw", "whether programs may write"),
    row(&["remount"], "", "changes flags of an existing mount; see below"),
    row(
        &["suid", "nosuid", "dev", "nodev", "exec", "noexec", "symfollow", "nosymfollow"],
        "all",
        "flags of the mount",
    ),
    row(
        &["relatime", "strictatime", "noatime"],
        "relatime",
        "when reading changes the access time; see below",
    ),
    row(&["diratime", "nodiratime"], "diratime", "the same for reading directories"),
    row(
        &["lazytime", "nolazytime"],
        "nolazytime",
        "access times reach the disk with other changes of the file, by a sync, at the \
         unmount, or after a day",
    ),
    row(&["sync", "async"], "async", "changes are on the disk before they are answered"),
    row(
        &["dirsync", "nodirsync"],
        "nodirsync",
        "changes of directories are on the disk before they are answered",
    ),
    row(
        &["context=<LABEL>", "fscontext=<LABEL>", "defcontext=<LABEL>", "rootcontext=<LABEL>"],
        "none",
        "SELinux labels",
    ),
    row(&["allow_other", "default_permissions"], "always", "accepted"),
];

/// Words of ext4.
pub const EXT4: &[Row] = &[
    row(
        &["noload", "norecovery"],
        "off",
        "the tree as it is on the disk, without looking at the journal",
    ),
    row(
        &["sb=<N>"],
        "1",
        "superblock at <N> KiB (a backup: 8193, 32768, 131072, ... times the block size in \
         KiB)",
    ),
    row(
        &["errors=continue|remount-ro|panic"],
        "superblock",
        "what follows the first damage found; *panic* ends the server of this mount, a \
         read-only one too: calls fail with ENOTCONN until it is unmounted",
    ),
    row(
        &["minixdf", "bsddf"],
        "bsddf",
        "whether *statfs*(2) counts the file system's own structures as space",
    ),
    row(
        &["data=ordered|journal|writeback"],
        "superblock",
        "what the journal does for contents of files; refused where there is no journal",
    ),
    row(&["commit=<S>"], "5", "seconds between commits, 0 to 2147483; 0 is the default"),
    row(
        &["barrier[=0|1]", "nobarrier"],
        "superblock",
        "the device's cache is flushed for a commit",
    ),
    row(
        &["discard", "nodiscard"],
        "superblock",
        "the device is told which blocks were freed, after the commit that freed them",
    ),
    row(
        &["auto_da_alloc[=0|1]", "noauto_da_alloc"],
        "on",
        "accepted without effect: contents go out as they are written; with \
         *writeback_cache=on* when the kernel sends them",
    ),
    row(&["resuid=<N>", "resgid=<N>"], "superblock", "who else may use the reserved blocks"),
    row(
        &["grpid", "bsdgroups", "nogrpid", "sysvgroups"],
        "superblock",
        "whether a new file gets its directory's group",
    ),
    row(&["max_dir_size_kb=<N>"], "0", "directories grow no further, in KiB; 0 is no limit"),
    row(&["stripe=<N>"], "superblock", "accepted without effect"),
    row(
        &["user_xattr", "nouser_xattr", "acl", "noacl"],
        "all",
        "whether these attributes are there",
    ),
    row(&["journal_path=<DEVICE>"], "none", "the external journal"),
];

/// Our own words.
pub const SERVER: &[Row] = &[
    row(
        &["offset=<BYTES>", "sizelimit=<BYTES>"],
        "0",
        "where in a regular file the file system lies",
    ),
    row(
        &["server=systemd|spawn|systemd:<SOCKET>|spawn:<PROGRAM>"],
        "either",
        "who starts the server, without a second choice, and by which socket or program",
    ),
    row(&["server_timeout=<S>"], "60", "seconds that a silent server is waited for, 1 to 86400"),
    row(
        &["request_timeout=<S>"],
        "300",
        "seconds without an answer after which the kernel ends the connection (Linux 6.15 and \
         later), up to 15 s late; 15 at least; 0 for never",
    ),
    row(
        &["threads=<N>"],
        "0",
        "threads that answer requests, up to 32; 0 is one for each CPU, 2 to 8",
    ),
    row(
        &["busy_poll=<US>|auto"],
        "auto",
        "microseconds that a reader of </dev/fuse> looks for the next request before it \
         sleeps, up to 1000; *auto* is none. Only idle CPUs gain by it; it costs as much time \
         of a CPU after each request, and none on an idle mount",
    ),
    row(
        &["io_uring=auto|on|off"],
        "auto",
        "FUSE over io_uring, which Linux 6.14 and later have if \
         </sys/module/fuse/parameters/enable_uring> says Y; *on* refuses to mount without. \
         The parameter is set at boot by tmpfiles.d and modprobe.d entries named \
         <fuse4fs.conf>; a link of that name to </dev/null> below </etc> leaves it off",
    ),
    row(
        &["writeback_cache=auto|on|off"],
        "auto",
        "the kernel collects writes; errors of a write may then come at *fsync*(2) or \
         *close*(2)",
    ),
    row(&["read_ahead_kb=<N>"], "1024", "KiB that the kernel reads ahead, up to 65536"),
    row(
        &["max_ratio=<N>"],
        "10",
        "percent of the machine's limit for unwritten pages that this mount may use, up to \
         100; as much memory can a server that is stuck keep busy. Where it shares a control group \
         with you (no systemd), no more than an eighth of what that may have",
    ),
    row(
        &["cache_size=<BYTES>"],
        "4M",
        "what the server may keep of the disk's metadata while the machine is short of memory, 1M to \
         768M; more or less is taken as that",
    ),
    row(
        &["cache_max=<BYTES>"],
        "by memory",
        "what it may keep else, 1M to 768M; if not said a sixteenth of the machine's memory, 8M to \
         512M, and no more than half of what control groups allow to the server. File contents are \
         in the kernel's page cache and do not count",
    ),
    row(
        &["admin_ioctls"],
        "off",
        "root's processes may use ioctls that ext4 ties to CAP_SYS_ADMIN, which a FUSE server \
         cannot see; see below",
    ),
    row(&["log_level=error|warn|info|debug|trace"], "info", "how much the server logs"),
    row(&["log=<FILE>"], "syslog", "where a server that this program starts writes its log"),
];

/// Words of fuse2fs and of the C fuse4fs.
pub const FUSE2FS: &[Row] = &[
    row(
        &["fakeroot"],
        "off",
        "nobody's permissions are checked; for mounts of the program *fuse4fs* only, without ACLs",
    ),
    row(
        &["lockfile=<FILE>"],
        "none",
        "made for the mount and removed after it, which fails if it is there; for *fuse4fs -f* only",
    ),
    row(&["flush_interval=<S>"], "5", "the same as *commit=*; 0 is the default here"),
    row(&["max_threads=<N>"], "0", "the same as *threads=*"),
    row(&["fuse2fs_debug", "fuse4fs_debug"], "off", "the same as *log_level=debug*"),
    row(
        &["kernel", "directio", "no_default_opts", "clone_fd", "timing", "oom_score_adj=<N>"],
        "",
        "accepted without effect; times of operations are in *fuse4fs status*",
    ),
];

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::{EXT4, FUSE2FS, GENERIC, SERVER};

    /// Words that only repeat a default, or stand for several others.
    const UNTOLD: [&str; 8] = [
        "max_idle_threads",
        "user",
        "users",
        "owner",
        "group",
        "atime",
        "norelatime",
        "nostrictatime",
    ];

    fn words() -> impl Iterator<Item = &'static str> {
        [GENERIC, EXT4, SERVER, FUSE2FS].into_iter().flatten().flat_map(|row| row.words).copied()
    }

    /// What a user could type for a word of the table: each of its alternatives.
    fn typed(word: &str) -> Vec<String> {
        let Some((name, values)) = word.split_once('=') else { return vec![word.to_owned()] };
        let bare = name.strip_suffix('[');
        let filled = values.trim_end_matches(']').split('|').map(|value| {
            let value = value.replace("<SOCKET>", "/x").replace("<PROGRAM>", "/x");
            let value = value.replace("<FILE>", "/x").replace("<DEVICE>", "/x");
            let value = value.replace("<BYTES>", "4M");
            let value = if value.starts_with('<') { "30".to_owned() } else { value };
            format!("{}={value}", bare.unwrap_or(name))
        });
        filled.chain(bare.map(str::to_owned)).collect()
    }

    #[test]
    fn what_people_are_told_to_type_is_taken() {
        for word in words().flat_map(typed) {
            assert!(Options::parse(std::slice::from_ref(&word), false).is_ok(), "{word}");
        }
    }

    #[test]
    fn every_word_that_has_an_effect_is_told() {
        let told: Vec<_> = words().filter_map(|word| word.split(['=', '[']).next()).collect();
        let ours = [include_str!("server.rs"), include_str!("fuse2fs.rs")];
        let code = [include_str!("generic.rs"), include_str!("ext4.rs"), ours[0], ours[1]];
        // Arms of matches over words; those over values end in Ok().
        let arms = code.iter().flat_map(|text| text.lines()).map(str::trim);
        let arms = arms.filter(|line| line.starts_with('"') && !line.contains("=> Ok("));
        let mut count = 0;
        for arm in arms.filter_map(|line| line.split_once(" =>")).map(|(arm, _)| arm) {
            let pattern = arm.split(" if ").next().unwrap_or(arm);
            for name in pattern.split('"').skip(1).step_by(2) {
                assert!(told.contains(&name) || UNTOLD.contains(&name), "{name} is in no row");
                count += 1;
            }
        }
        assert!(count > 50, "{count} words");
    }
}
