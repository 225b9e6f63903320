use fuse4fs_protocol::{
    ErrorStatus, ErrorsStatus, FeaturesReport, FilesystemReport, Generation, JournalPlace,
    JournalReport, OrphansReport, Protection,
};

use super::*;

/// What a server could say to harm who reads it: all that a `Text` lets through.
const HOSTILE: &str = "\u{202e}\"} 1\\";

fn filesystem() -> FilesystemReport {
    let hostile = || Text::lossy(HOSTILE);
    let error = ErrorStatus { time: 1, inode: 12, block: 34, code: 200, what: hostile() };
    FilesystemReport {
        generation: Generation::Ext3,
        uuid: [7; 16],
        label: hostile(),
        block_size: u32::MAX,
        blocks: u64::MAX,
        features: FeaturesReport { written: hostile(), read: hostile(), refused: hostile() },
        clean: false,
        failed: true,
        errors: ErrorsStatus { count: u32::MAX, first: None, last: Some(error) },
        made: 0,
        mounted: u64::MAX,
        last_mounted: hostile(),
        checked: 1,
        mount_count: u16::MAX,
        max_mount_count: i16::MIN,
        journal: JournalReport {
            place: JournalPlace::External([8; 16]),
            needs_recovery: true,
            transactions: Some(3),
            fast_commits: 2,
            remarks: hostile(),
        },
        orphans: Some(OrphansReport { freed: 4, cut: 5 }),
        protection: Some(Protection::Mounted { node: hostile(), device: hostile(), time: 9 }),
        quota: [true, false, true],
    }
}

fn examined(verdict: Verdict) -> Examined {
    Examined {
        source: "/dev/\x1b]0;x\x07".to_owned(),
        mounted: vec!["/mnt/a\x1b[2J\n".into()],
        write_protected: false,
        report: Box::new(Report { filesystem: Some(filesystem()), verdict }),
    }
}

fn verdicts() -> [(Verdict, u8); 4] {
    let why = || Text::lossy(HOSTILE);
    [
        (Verdict::ReadWrite, 0),
        (Verdict::ReadOnly { why: why(), by_itself: true }, 1),
        (Verdict::ReadOnly { why: why(), by_itself: false }, 1),
        (Verdict::Unmountable { why: why() }, 2),
    ]
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}')
}

#[test]
fn a_hostile_report_is_told_without_harm() {
    for (verdict, exit) in verdicts() {
        let examined = examined(verdict);
        assert_eq!(examined.exit(), exit);
        let text = text::text(&examined);
        assert!(is_harmless(&text), "{text:?}");
        for part in [
            "ext3 07070707-0707",
            "\\u{202e}",
            "needs recovery: 3 transactions and 2 fast commits",
            "08080808-0808",
            "4 files to be deleted, 5 to be cut",
            "inode 12, block 34, a code that is not known",
            "users, projects",
            "\\u{1b}[2J",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = json::text(&examined);
        assert!(is_harmless(&json), "{json:?}");
        let all: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(all["filesystem"]["label"], HOSTILE);
        assert_eq!(all["filesystem"]["journal"]["place"], "external");
        assert_eq!(all["filesystem"]["protection"]["mounted"]["node"], HOSTILE);
        assert_eq!(all["verdict"]["exit"], exit);
    }
}

#[test]
fn a_verdict_is_a_sentence() {
    let of = |examined: &Examined| text::text(examined).lines().last().unwrap().to_owned();
    let mut clean = examined(Verdict::ReadWrite);
    assert!(of(&clean).ends_with("run e2fsck -f on it first."));
    let found = clean.report.filesystem.as_mut().unwrap();
    (found.failed, found.errors) = (false, ErrorsStatus::default());
    assert_eq!(of(&clean), "It can be mounted read-write. That replays its journal.");
    clean.write_protected = true;
    assert_eq!(of(&clean), "It can be mounted read-only: the device or image is write-protected.");
    assert_eq!(clean.exit(), READ_ONLY);
    let mut nothing = examined(Verdict::Unmountable { why: Text::lossy("why not") });
    nothing.report.filesystem = None;
    assert_eq!(of(&nothing), "It cannot be mounted: why not.");
}

#[test]
fn arguments_make_sense_or_are_refused() {
    let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
    let request = Request {
        source: "/dev/x".into(),
        options: vec!["sb=8193".into(), "noload".into()],
        json: true,
        verbose: false,
    };
    let words = ["-o", "sb=8193", "/dev/x", "--json", "-o", "noload"];
    assert_eq!(parse(&words), Ok(Command::Examine(request)));
    assert_eq!(parse(&["--help"]), Ok(Command::Help));
    for words in [&[][..], &["/a", "/b"], &["--nonsense"], &["/a", "--json=yes"], &["/a", "-o"]] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}
