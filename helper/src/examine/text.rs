//! For people.

use std::fmt::Display;

use fuse4fs_protocol::{
    FilesystemReport, Generation, JournalPlace, JournalReport, Protection, Verdict,
};

use super::Examined;
use crate::words::{ago, bytes, count, error, path, shown, uuid};

/// Why a file system that could be written is not.
pub(super) const WRITE_PROTECTED: &str = "the device or image is write-protected";

/// All of it.
pub(super) fn text(examined: &Examined) -> String {
    let mut text = format!("{}: ", shown(&examined.source));
    match &examined.report.filesystem {
        Some(filesystem) => {
            text.push_str(&format!("{}\n", identity(filesystem)));
            for (name, value) in facts(filesystem) {
                text.push_str(&format!("  {name:<12} {value}\n"));
            }
        }
        None => text.push_str("no ext2, ext3 or ext4 file system is seen there\n"),
    }
    if !examined.mounted.is_empty() {
        let places: Vec<String> = examined.mounted.iter().map(|it| shown(&path(it))).collect();
        text.push_str(&format!(
            "  {:<12} at {}; what that mount has in memory is not seen here, so it may look \
             unfinished, and it cannot be mounted again by another driver\n",
            "mounted now",
            places.join(", ")
        ));
    }
    text.push_str(&format!("{}\n", verdict(examined)));
    text
}

fn of(text: &impl Display) -> String {
    shown(&text.to_string())
}

fn identity(filesystem: &FilesystemReport) -> String {
    let kind = match filesystem.generation {
        Generation::Ext2 => "ext2",
        Generation::Ext3 => "ext3",
        Generation::Ext4 => "ext4",
    };
    let label = filesystem.label.as_str();
    let label = if label.is_empty() { String::new() } else { format!(" \"{}\"", shown(label)) };
    let block = u64::from(filesystem.block_size);
    let size = bytes(filesystem.blocks.saturating_mul(block));
    format!("{kind} {}{label}, {size} in blocks of {}", uuid(&filesystem.uuid), bytes(block))
}

fn facts(filesystem: &FilesystemReport) -> Vec<(&'static str, String)> {
    let features = &filesystem.features;
    let mut facts = vec![("features", of(&features.written))];
    if !features.read.as_str().is_empty() {
        facts.push(("  only read", of(&features.read)));
    }
    if !features.refused.as_str().is_empty() {
        facts.push(("  unknown", of(&features.refused)));
    }
    facts.push(("journal", journal(&filesystem.journal)));
    if !filesystem.journal.remarks.as_str().is_empty() {
        facts.push(("  remarks", of(&filesystem.journal.remarks)));
    }
    facts.push(("state", state(filesystem).to_owned()));
    if let Some(orphans) = filesystem.orphans.filter(|it| it.freed > 0 || it.cut > 0) {
        let freed = count(orphans.freed, "file");
        facts.push(("orphans", format!("{freed} to be deleted, {} to be cut", orphans.cut)));
    }
    facts.push(("errors", filesystem.errors.count.to_string()));
    let errors = [("  first", &filesystem.errors.first), ("  last", &filesystem.errors.last)];
    facts.extend(errors.into_iter().filter_map(|(name, it)| Some((name, error(it.as_ref()?)))));
    facts.push(("mounted last", mounted(filesystem)));
    facts.push(("checked", checked(filesystem)));
    facts.extend(filesystem.protection.as_ref().map(|it| ("protection", protection(it))));
    let quota = quota(filesystem.quota);
    facts.extend((!quota.is_empty()).then_some(("quota", quota)));
    facts.extend(special(features.written.as_str()).map(|it| ("contents", it)));
    facts
}

fn journal(journal: &JournalReport) -> String {
    let place = match &journal.place {
        JournalPlace::None => return "none".to_owned(),
        JournalPlace::Internal => "internal".to_owned(),
        JournalPlace::External(id) => format!("on another device, {}", uuid(id)),
    };
    let fast = match journal.fast_commits {
        0 => String::new(),
        commits => format!(" and {}", count(commits, "fast commit")),
    };
    match (journal.needs_recovery, journal.transactions) {
        (false, _) => format!("{place}, clean"),
        (true, Some(transactions)) => {
            format!("{place}, needs recovery: {}{fast}", count(transactions, "transaction"))
        }
        (true, None) => format!("{place}, needs recovery"),
    }
}

const fn state(filesystem: &FilesystemReport) -> &'static str {
    match (filesystem.failed, filesystem.clean) {
        (true, _) => "errors were seen; run e2fsck -f",
        (false, true) => "unmounted in order",
        (false, false) => "not unmounted in order, or mounted now",
    }
}

/// A time of which 0 means never.
fn when(time: u64) -> String {
    if time == 0 { "never".to_owned() } else { ago(time) }
}

fn mounted(filesystem: &FilesystemReport) -> String {
    let at = match filesystem.last_mounted.as_str() {
        "" => String::new(),
        place => format!(" at {}", shown(place)),
    };
    format!("{}{at}; made {}", when(filesystem.mounted), when(filesystem.made))
}

fn checked(filesystem: &FilesystemReport) -> String {
    let most = match filesystem.max_mount_count {
        ..=0 => String::new(),
        most => format!(" of {most}"),
    };
    let mounts = count(filesystem.mount_count.into(), "mount");
    format!("{}, {mounts}{most} since", when(filesystem.checked))
}

fn protection(protection: &Protection) -> String {
    match protection {
        Protection::Free => "nobody has it (multiple mount protection)".to_owned(),
        Protection::Checked { node } => {
            format!("e2fsck on node {} has it, or was cut off", of(node))
        }
        Protection::Mounted { node, device, time } => format!(
            "node {} has it mounted as {}, or was cut off; it wrote {}",
            of(node),
            of(device),
            when(*time)
        ),
        Protection::Unknown { why } => format!("cannot be told: {}", of(why)),
    }
}

fn quota(quota: [bool; 3]) -> String {
    let kinds = ["users", "groups", "projects"].into_iter().zip(quota);
    kinds.filter(|(_, has)| *has).map(|(kind, _)| kind).collect::<Vec<_>>().join(", ")
}

/// What features mean for what is seen.
fn special(features: &str) -> Option<String> {
    const MEANINGS: [(&str, &str); 3] = [
        ("encrypt", "may have encrypted directories, whose names and contents stay encrypted"),
        ("verity", "may have verity files"),
        ("casefold", "may have directories that ignore case"),
    ];
    let has = |name: &str| features.split(',').any(|feature| feature == name);
    let found = MEANINGS.into_iter().filter(|(name, _)| has(name)).map(|(_, meaning)| meaning);
    let found: Vec<_> = found.collect();
    (!found.is_empty()).then(|| found.join("; "))
}

fn verdict(examined: &Examined) -> String {
    match &examined.report.verdict {
        Verdict::ReadWrite if examined.write_protected => {
            format!("It can be mounted read-only: {WRITE_PROTECTED}.")
        }
        Verdict::ReadWrite => format!("It can be mounted read-write.{}", before(examined)),
        Verdict::ReadOnly { why, by_itself: true } => {
            format!("It can be mounted read-only, and becomes so by itself: {}.", of(why))
        }
        Verdict::ReadOnly { why, by_itself: false } => {
            format!("It can be mounted read-only, with -o ro: {}.", of(why))
        }
        Verdict::Unmountable { why } => format!("It cannot be mounted: {}.", of(why)),
    }
}

/// What is to be thought of before a mount.
fn before(examined: &Examined) -> &'static str {
    match &examined.report.filesystem {
        Some(filesystem) if filesystem.failed || filesystem.errors.count > 0 => {
            " Errors are on record: run e2fsck -f on it first."
        }
        Some(filesystem) if filesystem.journal.needs_recovery => " That replays its journal.",
        _ => "",
    }
}
