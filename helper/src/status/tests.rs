use std::collections::BTreeMap;

use fuse4fs_protocol::{
    CacheStatus, ErrorStatus, ErrorsStatus, FilesystemStatus, JournalStatus, LATENCY_BUCKETS,
    Operation, Operations, ServerStatus, Surroundings, Text,
};

use super::*;

/// What a server could say to harm who reads it: all that a `Text` lets through.
const HOSTILE: &str = "\u{202e}\"} 1\\";

fn status() -> Status {
    let mut latencies = [0; LATENCY_BUCKETS];
    (latencies[2], latencies[LATENCY_BUCKETS - 1]) = (3, 1);
    let operation = |opcode| Operation { opcode, errors: 2, nanoseconds: 5_000_000_000, latencies };
    let error = ErrorStatus { time: 1, inode: 12, block: 0, code: 5, what: Text::lossy(HOSTILE) };
    let cache = CacheStatus { bytes: 1, budget: 2, entries: 3, hits: 4, misses: u64::MAX };
    Status {
        device: Text::lossy(HOSTILE),
        uptime: u64::MAX,
        server: ServerStatus {
            version: Text::lossy(HOSTILE),
            pid: 4711,
            surroundings: Surroundings::Unit,
            landlock: 6,
            memory_limit: u64::MAX,
            io_uring: true,
            request_timeout: 300,
            nodes: 1,
            open_files: 2,
        },
        filesystem: FilesystemStatus {
            uuid: [7; 16],
            label: Text::lossy(HOSTILE),
            features: Text::lossy(HOSTILE),
            options: Text::lossy(HOSTILE),
            block_size: u32::MAX,
            writable: true,
            shut_down: false,
            cache,
            dirty_blocks: u64::MAX,
            journal: Some(JournalStatus { since_commit: Some(u64::MAX), ..Default::default() }),
            errors: ErrorsStatus { count: 3, first: None, last: Some(error) },
        },
        operations: Operations::try_from(vec![operation(1), operation(15)]).unwrap(),
    }
}

fn mount(point: &str) -> Mount {
    let source = "/dev/\x1b]0;x\x07".to_owned();
    Mount { id: 1, device: "7:0".into(), point: point.into(), source, user: 0 }
}

fn told() -> Vec<Told> {
    let (good, bad) = (vec![mount("/mnt/a\x1b[2J\n\"\\"), mount("/b")], vec![mount("/c")]);
    vec![
        Told { mounts: good, status: Ok(Box::new(status())) },
        Told { mounts: bad, status: Err("is \x1b silent".into()) },
    ]
}

fn is_harmless(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}')
}

#[test]
fn a_table_holds_everything_and_no_escape_sequence() {
    let text = table::text(&told());
    assert!(is_harmless(&text), "{text:?}");
    for part in ["\\u{1b}[2J", ", /b from", "process 4711", "read-write", "inode 12", "  lookup "] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("/c from") && text.contains("is \\u{1b} silent"), "{text}");
    assert!(table::text(&[]).contains("no fuse4fs"));
}

#[test]
fn json_is_json_and_harms_no_terminal() {
    let text = json::text(&told());
    assert!(is_harmless(&text), "{text:?}");
    let all: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(all["mounts"][0]["mountpoints"][0], "/mnt/a\x1b[2J\n\"\\");
    let status = &all["mounts"][0]["status"];
    assert_eq!(status["filesystem"]["uuid"], "07070707-0707-0707-0707-070707070707");
    assert_eq!(status["filesystem"]["label"], HOSTILE);
    assert_eq!(status["server"]["surroundings"], "unit");
    let lookup = &status["operations"][0];
    assert_eq!((&lookup["name"], &lookup["count"]), (&"lookup".into(), &4.into()));
    assert_eq!(lookup["latencies"][1]["below"], serde_json::Value::Null);
    assert_eq!(all["mounts"][1]["status"], serde_json::Value::Null);
    assert_eq!(all["mounts"][1]["error"], "is \x1b silent");
}

#[test]
fn prometheus_gets_lines_of_its_grammar_only() {
    let text = prometheus::text(&told());
    assert!(is_harmless(&text), "{text:?}");
    let mut seen = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        assert!(seen.insert(name.to_owned(), value.to_owned()).is_none(), "twice: {line}");
    }
    let of = |name: &str, labels: &str| {
        let mount = r#"mountpoint="/mnt/a\\u{1b}[2J\\u{a}\"\\",source="/dev/\\u{1b}]0;x\\u{7}""#;
        let key = format!("{name}{{{mount},device=\"7:0\"{labels}}}");
        seen.get(&key).unwrap_or_else(|| panic!("{key} in {text}")).clone()
    };
    assert_eq!(of("fuse4fs_up", ""), "1");
    assert_eq!(of("fuse4fs_filesystem_errors", ""), "3");
    assert_eq!(of("fuse4fs_cache_hits_total", ""), "4");
    let duration = "fuse4fs_operation_duration_seconds";
    let bucket =
        |le: &str| of(&format!("{duration}_bucket"), &format!(",operation=\"read\",le=\"{le}\""));
    assert_eq!((bucket("0.000000512"), bucket("0.000001024")), ("0".into(), "3".into()));
    assert_eq!(bucket("+Inf"), of(&format!("{duration}_count"), ",operation=\"read\""));
    assert_eq!(of(&format!("{duration}_sum"), ",operation=\"read\""), "5");
    assert!(seen.iter().any(|(name, up)| name.contains("\"/c\"") && up == "0"));
}

#[test]
fn arguments_make_sense_or_are_refused() {
    let parse = |words: &[&str]| parse(words.iter().map(OsString::from));
    assert_eq!(parse(&[]), Ok(Command::Show(None, Format::Table)));
    assert_eq!(parse(&["--all", "--json"]), Ok(Command::Show(None, Format::Json)));
    let path = Some(PathBuf::from("/mnt"));
    assert_eq!(parse(&["/mnt", "--prometheus"]), Ok(Command::Show(path, Format::Prometheus)));
    for words in [
        &["/a", "/b"][..],
        &["--all", "/a"],
        &["--json", "--prometheus"],
        &["--nonsense"],
        &["--json=yes"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}
