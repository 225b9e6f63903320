//! The table of mount options, as pages and shells want it.

use fuse4fs_helper::table::{EXT4, FUSE2FS, GENERIC, Row, SERVER};

/// The tables by the names that mount.fuse4fs(8) has for them.
pub(crate) const TABLES: [(&str, &[Row]); 4] =
    [("generic", GENERIC), ("ext4", EXT4), ("fuse4fs", SERVER), ("fuse2fs", FUSE2FS)];

/// One word of `-o` that a shell offers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Choice {
    pub(crate) name: &'static str,
    pub(crate) value: Value,
    /// Values that can be offered; none where only the user knows.
    pub(crate) values: Vec<&'static str>,
    /// What is said first of it, without markup.
    pub(crate) meaning: String,
}

/// Whether `=` follows the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    None,
    Optional,
    Needed,
    /// The path of a file.
    File,
}

/// Everything that a shell offers, in the order of the tables.
pub(crate) fn choices() -> Vec<Choice> {
    let rows = TABLES.iter().flat_map(|(_, rows)| *rows);
    rows.flat_map(|row| row.words.iter().map(|word| choice(word, row.meaning))).collect()
}

fn choice(word: &'static str, meaning: &str) -> Choice {
    let (name, values) = word.split_once('=').unwrap_or((word, ""));
    let value = match values {
        "" => Value::None,
        "<FILE>" | "<DEVICE>" => Value::File,
        _ if name.ends_with('[') => Value::Optional,
        _ => Value::Needed,
    };
    let known = values.trim_end_matches(']').split('|');
    let values = known.filter(|it| !it.is_empty() && !it.contains('<')).collect();
    Choice { name: name.trim_end_matches('['), value, values, meaning: plain(meaning) }
}

/// A sentence up to its first semicolon, without its markup.
fn plain(meaning: &str) -> String {
    let first = meaning.split(';').next().unwrap_or(meaning);
    first.chars().filter(|c| !matches!(c, '*' | '<' | '>')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_offered_with_what_may_follow() {
        for (word, name, value, values) in [
            ("ro", "ro", Value::None, [].as_slice()),
            ("sb=<N>", "sb", Value::Needed, &[]),
            ("log=<FILE>", "log", Value::File, &[]),
            ("busy_poll=<US>|auto", "busy_poll", Value::Needed, &["auto"]),
            ("barrier[=0|1]", "barrier", Value::Optional, &["0", "1"]),
        ] {
            let meaning = "on of file".to_owned();
            let expected = Choice { name, value, values: values.to_vec(), meaning };
            assert_eq!(choice(word, "*on* of <file>; x"), expected);
        }
    }
}
