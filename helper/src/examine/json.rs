//! For programs. Keys stay what they are; fuse4fs(1) has them.

use serde_json::{Value, json};

use super::Examined;
use crate::words::{self, escape_json};
use fuse4fs_protocol::{FilesystemReport, JournalPlace, Verdict};

/// The version of the keys.
const FORMAT: u32 = 1;

/// All of it as one object.
pub(super) fn text(examined: &Examined) -> String {
    let mounted: Vec<String> = examined.mounted.iter().map(|it| words::path(it)).collect();
    let all = json!({
        "format": FORMAT,
        "source": examined.source,
        "mounted": mounted,
        "write_protected": examined.write_protected,
        "filesystem": examined.report.filesystem.as_ref().map(filesystem),
        "verdict": verdict(examined),
    });
    // Numbers and strings can always be written.
    let text = serde_json::to_string_pretty(&all).unwrap_or_default();
    format!("{}\n", escape_json(&text))
}

fn filesystem(filesystem: &FilesystemReport) -> Value {
    let mut value = json!(filesystem);
    let (place, uuid) = match &filesystem.journal.place {
        JournalPlace::None => ("none", None),
        JournalPlace::Internal => ("internal", None),
        JournalPlace::External(uuid) => ("external", Some(words::uuid(uuid))),
    };
    if let Some(journal) = value.get_mut("journal").and_then(Value::as_object_mut) {
        journal.insert("place".into(), json!(place));
        journal.insert("uuid".into(), json!(uuid));
    }
    if let Some(object) = value.as_object_mut() {
        object.insert("uuid".into(), json!(words::uuid(&filesystem.uuid)));
    }
    value
}

fn verdict(examined: &Examined) -> Value {
    let (mount, why, by_itself) = match &examined.report.verdict {
        Verdict::ReadWrite if !examined.write_protected => ("read-write", None, false),
        Verdict::ReadWrite => ("read-only", Some(super::text::WRITE_PROTECTED), true),
        Verdict::ReadOnly { why, by_itself } => ("read-only", Some(why.as_str()), *by_itself),
        Verdict::Unmountable { why } => ("none", Some(why.as_str()), false),
    };
    json!({ "mount": mount, "why": why, "by_itself": by_itself, "exit": examined.exit() })
}
