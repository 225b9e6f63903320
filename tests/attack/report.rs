//! The table of SECURITY.md: what the other tests insist on.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fuse4fs_server::attack::{Attempt, LIES, MUTES, attempts, takers, writes};
use fuse4fs_tests::trial;
use libtest_mimic::Trial;

const HEAD: &str = "<!-- by tests/attack -->\n";
const TAIL: &str = "<!-- tests/attack -->\n";

/// What is no list of attempts.
const OTHERS: [(&str, &str); 7] = [
    ("a system call by the entry for programs of 32 bits", "killed"),
    ("64 threads that never sleep", "its share of the CPUs"),
    (
        "notifications to the kernel, 20,000 of each kind, sound and unsound",
        "the caches of its own mount, or an error",
    ),
    (
        "commands of FUSE over io_uring that make no sense",
        "an error; the mount goes on without rings",
    ),
    (
        "\"serving\" without an answer to INIT, or without the rings it promised there",
        "no mount: the helper asks for the root first",
    ),
    (
        "set-id programs and devices, mounted with `nosuid,nodev`",
        "not honoured: the caller's uid, EACCES",
    ),
    ("the same without these options", "honoured, as on ext4"),
];

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial::test("SECURITY.md says what each attempt gets", is_current)]
}

fn is_current() -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../SECURITY.md");
    let page = std::fs::read_to_string(&path)?;
    let (text, rest) = page.split_once(HEAD).context("SECURITY.md has no table")?;
    let (table, more) = rest.split_once(TAIL).context("the table of SECURITY.md has no end")?;
    let fresh = fresh();
    if std::env::var_os("FUSE4FS_REPORT").is_some() {
        std::fs::write(&path, format!("{text}{HEAD}{fresh}{TAIL}{more}"))?;
    } else {
        ensure!(table == fresh, "SECURITY.md is out of date; FUSE4FS_REPORT=1 writes it");
    }
    Ok(())
}

fn fresh() -> String {
    let mut table = "| a taken-over server tries | and gets |\n|---|---|\n".to_owned();
    let mut row = |what: &str, gets: &str| {
        let _ = writeln!(table, "| {} | {gets} |", what.replace('|', "\\|"));
    };
    // Neighbours of one kind with one result.
    let all: Vec<Attempt> = attempts().into_iter().chain(writes()).collect();
    for attempts in all.chunk_by(|a, b| (a.group, a.inside) == (b.group, b.inside)) {
        let names: Vec<_> = attempts.iter().map(|attempt| attempt.name).collect();
        let errnos: Vec<_> = attempts[0].inside.iter().map(|errno| errno_name(*errno)).collect();
        row(&format!("{}: {}", attempts[0].group, names.join(", ")), &errnos.join(" or "));
    }
    for name in takers() {
        row(name, crate::take::words(name));
    }
    let lies: Vec<_> = LIES.iter().map(|lie| lie.name).collect();
    row(
        &format!("lies to the kernel: {}", lies.join(", ")),
        "an error, or nonsense, for who asked",
    );
    let mutes: Vec<_> =
        MUTES.iter().map(|(name, _)| *name).filter(|name| *name != "INIT").collect();
    row(
        &format!("no answer to {}", mutes.join(", ")),
        "who waits is freed after `request_timeout=` (15 s at least), up to 15 s late; nobody else waits",
    );
    for (what, gets) in OTHERS {
        row(what, gets);
    }
    table
}

fn errno_name(errno: i32) -> String {
    let name = match errno {
        1 => "EPERM",
        9 => "EBADF",
        13 => "EACCES",
        16 => "EBUSY",
        22 => "EINVAL",
        27 => "EFBIG",
        28 => "ENOSPC",
        38 => "ENOSYS",
        other => return other.to_string(),
    };
    name.to_owned()
}
