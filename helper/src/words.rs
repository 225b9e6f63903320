//! Figures and other people's text, for a terminal.

use std::path::Path;
use std::time::{Duration, SystemTime};

use fuse4fs_protocol::ErrorStatus;

/// Whether a character shows as itself, and as nothing else: no control character, none that turns
/// the direction of text around.
fn is_plain(c: char) -> bool {
    matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1
}

/// Text that somebody else chose: what could make a terminal do something is written as `\u{…}`.
pub(crate) fn shown(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if is_plain(c) {
            shown.push(c);
        } else {
            shown.extend(c.escape_unicode());
        }
        shown
    })
}

/// A path, with what is no UTF-8 as U+FFFD.
pub(crate) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// JSON as it is, with what is not plain in its strings written as `\uNNNN`.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_plain(c) || c == '\n' {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped
}

/// So many of something that has a plural in s.
pub(crate) fn count(count: u32, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// Bytes in the largest unit that they fill.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (unit, bits) = UNITS.into_iter().find(|(_, bits)| bytes >> bits > 0).unwrap_or(("B", 0));
    if bits == 0 {
        return format!("{bytes} B");
    }
    let tenths = u128::from(bytes).saturating_mul(10) >> bits;
    format!("{} {unit}", point(tenths))
}

/// A number of tenths.
fn point(tenths: u128) -> String {
    let (whole, part) = (tenths.checked_div(10), tenths.checked_rem(10));
    format!("{}.{}", whole.unwrap_or(0), part.unwrap_or(0))
}

/// A part of a whole, in percent.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let tenths = u128::from(part).saturating_mul(1000).checked_div(whole.into());
    tenths.map_or_else(|| "-".to_owned(), |tenths| format!("{} %", point(tenths)))
}

/// Nanoseconds in the largest unit that they fill.
pub(crate) fn latency(nanoseconds: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1000)];
    let found = UNITS.into_iter().find(|(_, unit)| nanoseconds >= *unit);
    let Some((name, unit)) = found else { return format!("{nanoseconds} ns") };
    let tenths = u128::from(nanoseconds).saturating_mul(10).checked_div(unit.into());
    format!("{} {name}", point(tenths.unwrap_or(0)))
}

/// Seconds in the two largest units that they fill.
pub(crate) fn duration(seconds: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let at = UNITS.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(3);
    let mut rest = seconds;
    let parts = UNITS.iter().skip(at).take(2).filter_map(|(name, unit)| {
        let count = rest.checked_div(*unit)?;
        rest = rest.checked_rem(*unit)?;
        (count > 0 || at == 3).then(|| format!("{count} {name}"))
    });
    parts.collect::<Vec<_>>().join(" ")
}

/// A time in seconds since 1970, seen from now.
pub(crate) fn ago(time: u64) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.as_ref().map_or(0, Duration::as_secs);
    match now.checked_sub(time) {
        Some(since) => format!("{} ago", duration(since)),
        None => "in the future".to_owned(),
    }
}

/// An error on record. Source of the codes: EXT4_ERR_* of the kernel's fs/ext4/ext4.h.
pub(crate) fn error(error: &ErrorStatus) -> String {
    const CODES: [&str; 17] = [
        "unknown",
        "EIO",
        "ENOMEM",
        "EFSBADCRC",
        "EFSCORRUPTED",
        "ENOSPC",
        "ENOKEY",
        "EROFS",
        "EFBIG",
        "EEXIST",
        "ERANGE",
        "EOVERFLOW",
        "EBUSY",
        "ENOTDIR",
        "ENOTEMPTY",
        "ESHUTDOWN",
        "EFAULT",
    ];
    let mut text = format!("{}: {}", ago(error.time), shown(error.what.as_str()));
    if error.inode != 0 {
        text.push_str(&format!(", inode {}", error.inode));
    }
    if error.block != 0 {
        text.push_str(&format!(", block {}", error.block));
    }
    let code = usize::from(error.code).checked_sub(1).map(|code| CODES.get(code));
    if let Some(code) = code {
        text.push_str(&format!(", {}", code.unwrap_or(&"a code that is not known")));
    }
    text
}

/// A UUID as everybody writes it.
pub(crate) fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        text.push_str(&format!("{hyphen}{byte:02x}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let shown = [0, 1023, 1536, 12 << 20, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "1023 B", "1.5 KiB", "12.0 MiB", "17179869183.9 GiB"]);
        let shown = [0, 999, 1500, 2_345_678, 61_000_000_000].map(latency);
        assert_eq!(shown, ["0 ns", "999 ns", "1.5 µs", "2.3 ms", "61.0 s"]);
        let shown = [0, 59, 60, 3661, 90_000, 86_400].map(duration);
        assert_eq!(shown, ["0 s", "59 s", "1 min", "1 h 1 min", "1 d 1 h", "1 d"]);
        assert_eq!([percent(1, 3), percent(0, 0), percent(5, 5)], ["33.3 %", "-", "100.0 %"]);
        assert_eq!(ago(u64::MAX), "in the future");
        assert_eq!([0, 1, 2].map(|n| count(n, "file")), ["0 files", "1 file", "2 files"]);
    }

    #[test]
    fn nothing_reaches_a_terminal_that_it_would_obey() {
        let hostile = "a\x1b[2J\u{9b}31m\u{202e}b\n\"é\\";
        let text = shown(hostile);
        assert_eq!(text, "a\\u{1b}[2J\\u{9b}31m\\u{202e}b\\u{a}\"é\\");
        let json = escape_json(&serde_json::to_string(hostile).unwrap());
        assert!(json.chars().all(is_plain), "{json}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
        let far = escape_json(&serde_json::to_string("\u{e0001}").unwrap());
        assert_eq!(far, "\"\\udb40\\udc01\"");
    }
}
