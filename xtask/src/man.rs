//! docs/fuse4fs-errors.7 from the engine's table of checks, and the tables of options in
//! docs/mount.fuse4fs.8 from the helper's.

use std::fmt::Write as _;
use std::path::Path;

use fuse4fs_ext4::CorruptKind;

use fuse4fs_helper::table::Row;

use crate::generated::File;
use crate::options::TABLES;

const ERRORS: &str = "docs/fuse4fs-errors.7";
const MOUNT: &str = "docs/mount.fuse4fs.8";

const HEAD: &str = r#".\" Written by `cargo xtask man` from server/ext4/src/error.rs. Do not edit.
.TH fuse4fs\-errors 7 "" "fuse4fs" "fuse4fs"
.SH NAME
fuse4fs\-errors \- what fuse4fs finds wrong with an ext4 file system
.SH DESCRIPTION
When
.BR fuse4fs\-server (8)
reads something from a disk that cannot be right, the call that needed it fails, the rest of the file
system stays usable, and the journal gets a line such as
.PP
.RS
EXT4\-fs error (sdb1): lookup: inode #12: block 8195: structure needs 12 bytes but only 8 are there [truncated]
.RE
.PP
It names the device, the operation, the inode, block group or block as far as they are known, what was
found, and in brackets a code. Codes are stable: scripts may look for them. The program that made the call gets
.B EBADMSG
for a code that ends in
.BR \-checksum ,
and
.B EUCLEAN
("Structure needs cleaning") for any other.
.SH WHAT TO DO
Copy what you need from the file system while it can be read. Make an image of the disk if it may be
failing. Then unmount it and let
.BR e2fsck (8)
repair it; it asks before it changes anything unless told otherwise.
.SH CODES
"#;

const TAIL: &str = r".SH SEE ALSO
.BR mount.fuse4fs (8),
.BR fuse4fs\-server (8),
.BR e2fsck (8),
.BR debugfs (8)
";

/// The pages as they should be.
pub(crate) fn files(root: &Path) -> Result<Vec<File>, Box<dyn std::error::Error>> {
    let mut mount = std::fs::read_to_string(root.join(MOUNT))?;
    for (name, rows) in TABLES {
        mount = with_table(&mount, name, rows).ok_or(format!("{MOUNT}: no table {name}"))?;
    }
    Ok(vec![File { path: ERRORS, text: errors() }, File { path: MOUNT, text: mount }])
}

fn errors() -> String {
    let mut page = HEAD.to_owned();
    for (code, text) in CorruptKind::TABLE {
        // A String takes all that is written to it.
        let _ = writeln!(page, ".TP\n.B {}\n{}", roff(code), roff(&people(text)));
    }
    page.push_str(TAIL);
    page
}

/// The page with what is between the two comments of a table replaced.
fn with_table(page: &str, name: &str, rows: &[Row]) -> Option<String> {
    let begin = format!(".\\\" Table {name}: helper/src/options/table.rs, by `cargo xtask man`\n");
    let end = format!(".\\\" End of table {name}\n");
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    let mut table = ".ad l\n.TS\nlw(27n) l lx.\nOption\tDefault\tMeaning\n_\n".to_owned();
    for row in rows {
        let words: Vec<String> = row.words.iter().map(|word| typed(word)).collect();
        let (words, meaning) = (words.join(", "), sentence(row.meaning));
        let _ = writeln!(table, "T{{\n{words}\nT}}\t{}\tT{{\n{meaning}\nT}}", roff(row.default));
    }
    Some(format!("{before}{begin}{table}.TE\n.ad b\n{end}{after}"))
}

/// `barrier[=0|1]`: what is typed is bold, `<N>` is slanted, brackets and bars are neither.
fn typed(word: &str) -> String {
    // Not to be cut at the end of a line.
    let mut text = String::from("\\%\\fB");
    for c in word.chars() {
        match c {
            '[' => text.push_str("\\fR[\\fB"),
            ']' => text.push_str("\\fR]\\fB"),
            // A line may end behind a bar.
            '|' => text.push_str("\\fR|\\:\\fB"),
            '<' => text.push_str("\\fI"),
            '>' => text.push_str("\\fB"),
            '-' => text.push_str("\\-"),
            c => text.push(c),
        }
    }
    text.push_str("\\fR");
    text.replace("\\fB\\fI", "\\fI").replace("\\fB\\fR", "\\fR")
}

/// `*bold*` and `<slanted>`.
fn sentence(meaning: &str) -> String {
    let mut text = String::new();
    let mut bold = false;
    for c in roff(meaning).chars() {
        match c {
            '*' => {
                bold = !bold;
                text.push_str(if bold { "\\fB" } else { "\\fR" });
            }
            '<' => text.push_str("\\fI"),
            '>' => text.push_str("\\fR"),
            c => text.push(c),
        }
    }
    text
}

/// A message template for people: `{needed:#x}` becomes *needed*.
fn people(template: &str) -> String {
    let mut text = String::new();
    for part in template.split('{') {
        match part.split_once('}') {
            Some((field, rest)) => {
                let name = field.split(':').next().unwrap_or(field);
                text.push_str(&name.to_uppercase());
                text.push_str(rest);
            }
            None => text.push_str(part),
        }
    }
    text
}

fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    if text.starts_with(['.', '\'']) { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_words() {
        assert_eq!(
            people("checksum {stored:#010x} is not {computed}"),
            "checksum STORED is not COMPUTED"
        );
    }

    #[test]
    fn what_is_typed_is_bold_and_what_is_filled_in_is_slanted() {
        assert_eq!(typed("sb=<N>"), "\\%\\fBsb=\\fIN\\fR");
        assert_eq!(typed("no-x[=0|1]"), "\\%\\fBno\\-x\\fR[\\fB=0\\fR|\\:\\fB1\\fR]\\fR");
        assert_eq!(sentence("*on* of </etc>"), "\\fBon\\fR of \\fI/etc\\fR");
    }

    #[test]
    fn a_table_is_replaced_between_its_comments() {
        let comments = |name| {
            format!(
                ".\\\" Table {name}: helper/src/options/table.rs, by `cargo xtask man`\nold\n.\\\" End of table {name}\n"
            )
        };
        let page = with_table(&format!("a\n{}b\n", comments("x")), "x", &[]).unwrap();
        assert!(page.starts_with("a\n") && page.ends_with("b\n") && !page.contains("old"));
        assert!(with_table(&page, "y", &[]).is_none());
    }

    #[test]
    fn a_line_is_no_request() {
        assert_eq!(roff(".x - y"), "\\&.x \\- y");
    }

    #[test]
    fn codes_are_distinct() {
        let mut codes: Vec<_> = CorruptKind::TABLE.iter().map(|(code, _)| code).collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }
}
