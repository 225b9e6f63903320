//! docs/fuse4fs-errors.7 from the engine's table of checks.

use std::fmt::Write as _;
use std::path::Path;

use fuse4fs_ext4::CorruptKind;

use crate::Findings;

const PAGE: &str = "docs/fuse4fs-errors.7";

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

/// Writes the page.
pub(crate) fn write(root: &Path) -> Findings {
    std::fs::write(root.join(PAGE), page())?;
    Ok(Vec::new())
}

/// The page in the repository is the one that [`write`] would write.
pub(crate) fn check(root: &Path) -> Findings {
    if std::fs::read_to_string(root.join(PAGE))? == page() {
        return Ok(Vec::new());
    }
    Ok(vec![format!("{PAGE} is not what the table in the engine says: run `cargo xtask man`")])
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    for (code, text) in CorruptKind::TABLE {
        // A String takes all that is written to it.
        let _ = writeln!(page, ".TP\n.B {}\n{}", roff(code), roff(&people(text)));
    }
    page.push_str(TAIL);
    page
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
