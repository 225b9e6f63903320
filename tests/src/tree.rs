//! A whole file system as a value, and how two differ.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};

/// What a reader must get right of one path. `None`: the teller does not know, so it is not compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// `file`, `dir`, `symlink`, `chr`, `blk`, `fifo` or `sock`.
    pub kind: String,
    /// Inode number; equal on all names of one file.
    pub inode: Option<u64>,
    /// Permission bits, 0..=0o7777.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Link count.
    pub links: Option<u64>,
    /// Bytes.
    pub size: Option<u64>,
    /// Space used in 512-byte units.
    pub blocks512: Option<u64>,
    /// Nanoseconds since 1970.
    pub atime: Option<i128>,
    /// Nanoseconds since 1970.
    pub mtime: Option<i128>,
    /// Nanoseconds since 1970.
    pub ctime: Option<i128>,
    /// Nanoseconds since 1970.
    pub btime: Option<i128>,
    /// Major and minor number of a device node.
    pub rdev: Option<(u32, u32)>,
    /// Target of a symbolic link.
    pub target: Option<Vec<u8>>,
    /// FS_IOC_GETFLAGS.
    pub flags: Option<u32>,
    /// Project.
    pub project: Option<u32>,
    /// Attribute name → value as [`attribute`] writes it.
    pub xattrs: Option<BTreeMap<String, String>>,
    /// What reading it gives, see [`crate::content`].
    pub content: Option<String>,
    /// Where its data lies, see [`crate::content`].
    pub segments: Option<String>,
}

/// An attribute's value: hexadecimal, or length and hash if it is long.
#[must_use]
pub fn attribute(value: &[u8]) -> String {
    if value.len() <= 512 {
        hex(value)
    } else {
        format!("{} bytes {}", value.len(), crate::content::sha256(value))
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The counts of statfs(2), in blocks of `block_size` bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the names of statvfs(3)")]
pub struct Counts {
    pub block_size: u64,
    pub blocks: u64,
    pub free: u64,
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// All paths below the root, which is itself `.`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    /// Path relative to the root → entry.
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// One way in which two trees differ.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// Where.
    pub path: String,
    /// In which field, or `missing` or `extra`.
    pub field: &'static str,
    /// What was expected and what is there.
    pub text: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.path, self.field, self.text)
    }
}

impl Tree {
    /// How `found` differs from this tree, in each field that this tree knows.
    #[must_use]
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (path, want) in &self.entries {
            let mut report = Report { path, differences: &mut differences };
            match found.entries.get(path) {
                None => report.add("missing", want.kind.clone()),
                Some(have) => report.entry(want, have),
            }
        }
        for (path, have) in &found.entries {
            if !self.entries.contains_key(path) {
                let mut report = Report { path, differences: &mut differences };
                report.add("extra", have.kind.clone());
            }
        }
        differences
    }
}

struct Report<'a> {
    path: &'a [u8],
    differences: &'a mut Vec<Difference>,
}

impl Report<'_> {
    fn add(&mut self, field: &'static str, text: String) {
        let path = self.path.escape_ascii().to_string();
        self.differences.push(Difference { path, field, text });
    }

    fn field<T: PartialEq + Debug>(
        &mut self,
        name: &'static str,
        want: &Option<T>,
        have: &Option<T>,
    ) {
        if want.is_some() && want != have {
            self.add(name, format!("expected {want:?}, found {have:?}"));
        }
    }

    fn entry(&mut self, want: &Entry, have: &Entry) {
        if want.kind != have.kind {
            self.add("type", format!("expected {}, found {}", want.kind, have.kind));
        }
        self.field("inode", &want.inode, &have.inode);
        self.field("mode", &want.mode, &have.mode);
        self.field("uid", &want.uid, &have.uid);
        self.field("gid", &want.gid, &have.gid);
        self.field("links", &want.links, &have.links);
        self.field("size", &want.size, &have.size);
        self.field("blocks512", &want.blocks512, &have.blocks512);
        self.field("atime", &want.atime, &have.atime);
        self.field("mtime", &want.mtime, &have.mtime);
        self.field("ctime", &want.ctime, &have.ctime);
        self.field("btime", &want.btime, &have.btime);
        self.field("rdev", &want.rdev, &have.rdev);
        self.field("target", &want.target, &have.target);
        self.field("flags", &want.flags, &have.flags);
        self.field("project", &want.project, &have.project);
        self.field("xattrs", &want.xattrs, &have.xattrs);
        self.field("content", &want.content, &have.content);
        self.field("segments", &want.segments, &have.segments);
    }
}

/// Fails with the first few of `differences` unless there are none.
///
/// # Errors
/// If there are any.
pub fn expect_equal(differences: &[Difference]) -> anyhow::Result<()> {
    use std::fmt::Write;
    if differences.is_empty() {
        return Ok(());
    }
    let mut text = format!("{} differences", differences.len());
    for difference in differences.iter().take(12) {
        let line = difference.to_string();
        let _ = write!(text, "\n  {}", line.chars().take(400).collect::<String>());
    }
    anyhow::bail!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(entry: Entry) -> Tree {
        Tree { entries: [(b"a".to_vec(), entry)].into() }
    }

    #[test]
    fn a_field_the_truth_does_not_know_is_not_compared() {
        let want = one(Entry { kind: "file".into(), ..Entry::default() });
        let have = one(Entry { kind: "file".into(), size: Some(5), ..Entry::default() });
        assert!(want.differences(&have).is_empty());
    }

    #[test]
    fn a_field_the_truth_knows_must_be_there_and_equal() {
        let want = one(Entry { kind: "file".into(), size: Some(4), ..Entry::default() });
        let have = one(Entry { kind: "dir".into(), size: None, ..Entry::default() });
        let fields: Vec<_> = want.differences(&have).iter().map(|d| d.field).collect();
        assert_eq!(fields, ["type", "size"]);
    }

    #[test]
    fn missing_and_extra_paths_are_differences() {
        let file = Entry { kind: "file".into(), ..Entry::default() };
        let have = Tree { entries: [(b"b".to_vec(), file.clone())].into() };
        let fields: Vec<_> = one(file).differences(&have).iter().map(|d| d.field).collect();
        assert_eq!(fields, ["missing", "extra"]);
    }
}
