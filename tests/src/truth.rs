//! Truth files: what a tree must look like, written when the images were made.
//!
//! The form is that of `truth()` in `shared/golden/tools/lib.py`; times in nanoseconds, a path that is
//! not printable UTF-8 as `{"hex": …}`, further names of a file as `same_as` its first one.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::content;
use crate::tree::{Counts, Entry, Tree, expect_equal};

/// A parsed truth file.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The tree, as the kernel shows it (for dirty images: after its recovery).
    pub tree: Tree,
    /// The tree as e2fsck recovers it, where that differs.
    pub fsck_tree: Option<Tree>,
    /// What statfs(2) says, where known.
    pub counts: Option<Counts>,
    /// Recovery has orphans to finish, so counts of free space differ on a mount that cannot.
    pub has_orphans: bool,
    /// SHA-256 of the raw image.
    pub image_hash: String,
}

impl Truth {
    /// Parses the JSON text.
    ///
    /// # Errors
    /// When a part is missing or of another form.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let file: Value = serde_json::from_slice(text)?;
        let features = file["features"].as_str().unwrap_or_default();
        let mut tree = self::tree(&file["entries"])?;
        if !file["truth_from"].is_string() && file.get("statfs").is_none() {
            leave_out_what_mke2fs_changed(&mut tree);
        }
        if features.contains("fast_commit") && file["needs_recovery"] == true {
            leave_out_the_time_of_replay(&mut tree);
        }
        let fsck_tree = file.get("fsck_entries").map(self::tree).transpose()?;
        if let Some(other) = &fsck_tree {
            forget_times_of_replay(&mut tree, other);
        }
        Ok(Self {
            tree,
            fsck_tree,
            counts: file.get("statfs").map(counts).transpose()?,
            has_orphans: features.contains("orphan_present")
                || file["first_orphan"].as_str().is_some_and(|inode| !inode.is_empty()),
            image_hash: file["raw_sha256"].as_str().context("raw_sha256")?.to_owned(),
        })
    }

    /// Fails unless `found` is the tree. Where the kernel and e2fsck recover a log differently, either
    /// is right.
    ///
    /// # Errors
    /// With the differences.
    pub fn expect(&self, found: &Tree) -> Result<()> {
        let is_found = |tree: &Tree| tree.differences(found).is_empty();
        if self.fsck_tree.as_ref().is_some_and(is_found) {
            return Ok(());
        }
        expect_equal(&self.tree.differences(found))
    }
}

/// Where mke2fs copied a source tree, the truth is that tree: it knows nothing of `lost+found`, and the
/// root's own fields are another's.
fn leave_out_what_mke2fs_changed(tree: &mut Tree) {
    for entry in tree.entries.values_mut() {
        *entry = as_mke2fs_copies(std::mem::take(entry));
    }
    let directory = Entry { kind: "dir".to_owned(), ..Entry::default() };
    tree.entries.insert(b".".to_vec(), directory.clone());
    tree.entries.entry(b"lost+found".to_vec()).or_insert(directory);
}

/// What is left of an entry when mke2fs 1.47 copies it: of the times, mtime in whole seconds, without
/// the epoch bits; of large sparse files, where their data lies changes with the block size.
#[must_use]
pub fn as_mke2fs_copies(entry: Entry) -> Entry {
    let seconds = |time: i128| time.div_euclid(1_000_000_000);
    let fits = |time: &i128| i32::try_from(seconds(*time)).is_ok();
    Entry {
        inode: None,
        size: entry.size.filter(|_| entry.kind != "dir"),
        blocks512: None,
        atime: None,
        mtime: entry.mtime.filter(fits).map(|time| seconds(time) * 1_000_000_000),
        ctime: None,
        btime: None,
        flags: None,
        segments: None,
        content: entry.content.filter(|content| content::is_whole(content)),
        ..entry
    }
}

/// The kernel stamps the root when it replays a fast commit, with the time of doing so.
fn leave_out_the_time_of_replay(tree: &mut Tree) {
    if let Some(root) = tree.entries.get_mut(b".".as_slice()) {
        (root.mtime, root.ctime) = (None, None);
    }
}

fn tree(list: &Value) -> Result<Tree> {
    let mut tree = Tree::default();
    for value in list.as_array().context("entries")? {
        let path = bytes(&value["path"])?;
        let parsed = match value.get("same_as") {
            Some(first) => {
                let first = bytes(first)?;
                tree.entries.get(&first).context("same_as names an unknown path")?.clone()
            }
            None => entry(value).with_context(|| path.escape_ascii().to_string())?,
        };
        tree.entries.insert(path, parsed);
    }
    Ok(tree)
}

/// Fast commits do not tell directories' times: the kernel stamps a changed directory with the time
/// of its replay, e2fsck leaves it as it was.
fn forget_times_of_replay(tree: &mut Tree, fsck_tree: &Tree) {
    for (path, entry) in &mut tree.entries {
        let same = fsck_tree.entries.get(path).is_none_or(|other| other.mtime == entry.mtime);
        if entry.kind == "dir" && !same {
            (entry.mtime, entry.ctime) = (None, None);
        }
    }
}

fn entry(value: &Value) -> Result<Entry> {
    // Recovery itself stamps and frees on these, at the time it runs.
    let stable = value.get("volatile").is_none();
    let time = |key| number(&value[key]).filter(|_| stable);
    let unsigned = |key| number(&value[key]).map(u64::try_from).transpose();
    let small = |key| number(&value[key]).map(u32::try_from).transpose();
    Ok(Entry {
        kind: value["type"].as_str().context("type")?.to_owned(),
        inode: unsigned("ino")?,
        mode: value["mode"].as_str().map(|mode| radix(mode, "0o", 8)).transpose()?,
        uid: small("uid")?,
        gid: small("gid")?,
        links: unsigned("nlink")?,
        size: unsigned("size")?,
        blocks512: unsigned("blocks512")?.filter(|_| stable),
        atime: time("atime_ns"),
        mtime: time("mtime_ns"),
        ctime: time("ctime_ns"),
        btime: time("btime_ns"),
        rdev: value.get("rdev").map(device).transpose()?,
        target: value.get("target").map(bytes).transpose()?,
        flags: value["flags"].as_str().map(|flags| radix(flags, "0x", 16)).transpose()?,
        project: small("projid")?,
        xattrs: Some(xattrs(value)?),
        content: contents(value),
        segments: segments(value)?,
    })
}

fn number(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

fn radix(text: &str, prefix: &str, radix: u32) -> Result<u32> {
    let digits = text.strip_prefix(prefix).with_context(|| text.to_owned())?;
    Ok(u32::from_str_radix(digits, radix)?)
}

fn bytes(value: &Value) -> Result<Vec<u8>> {
    if let Some(text) = value.as_str() {
        return Ok(text.as_bytes().to_vec());
    }
    let hex = value["hex"].as_str().context("neither text nor hex")?;
    let digit = |pair: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?);
    hex.as_bytes().chunks(2).map(digit).collect()
}

fn device(value: &Value) -> Result<(u32, u32)> {
    let part =
        |index: usize| Ok::<_, anyhow::Error>(value[index].as_u64().context("rdev")?.try_into()?);
    Ok((part(0)?, part(1)?))
}

fn xattrs(value: &Value) -> Result<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (name, value) in value["xattrs"].as_object().into_iter().flatten() {
        let text = match value.as_str() {
            Some(hex) => hex.to_owned(),
            None => {
                let hash = value["sha256"].as_str().context("attribute without a value")?;
                format!("{} bytes {hash}", value["len"])
            }
        };
        map.insert(name.clone(), text);
    }
    Ok(map)
}

fn contents(value: &Value) -> Option<String> {
    let whole = value["sha256"].as_str().map(content::whole);
    whole.or_else(|| value["segs_sha256"].as_str().map(content::in_segments))
}

fn segments(value: &Value) -> Result<Option<String>> {
    if let Some(list) = value["data_segs"].as_array() {
        let pair = |pair: &Value| Some((pair[0].as_u64()?, pair[1].as_u64()?));
        let pairs: Option<Vec<_>> = list.iter().map(pair).collect();
        return Ok(Some(content::describe(&pairs.context("data_segs")?)));
    }
    match (value["data_segs_n"].as_u64(), value["data_segs_sha256"].as_str()) {
        (Some(count), Some(hash)) => Ok(Some(content::describe_hashed(count, hash))),
        (None, None) => Ok(None),
        _ => bail!("half of a segment digest"),
    }
}

fn counts(value: &Value) -> Result<Counts> {
    let field = |key: &str| value[key].as_u64().with_context(|| format!("statfs {key}"));
    Ok(Counts {
        block_size: field("f_bsize")?,
        blocks: field("f_blocks")?,
        free: field("f_bfree")?,
        available: field("f_bavail")?,
        files: field("f_files")?,
        files_free: field("f_ffree")?,
    })
}
