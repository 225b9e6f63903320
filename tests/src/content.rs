//! Digests of a file's bytes and of where its data lies, the same whoever reads the file.
//!
//! The rules are those of the truth files (`shared/golden/tools/lib.py`): up to 96 MiB all bytes are
//! hashed; of larger, sparse files the data segments with their places; nothing of files with more
//! than 256 MiB of data.

use std::hash::{BuildHasher, Hasher};

use anyhow::Result;
use foldhash::fast::FixedState;
use sha2::{Digest, Sha256};

use crate::tree::hex;

const WHOLE_LIMIT: u64 = 96 << 20;
const DATA_LIMIT: u64 = 256 << 20;
const MAX_SEGMENTS: usize = 20_000;
const LISTED_SEGMENTS: usize = 64;
const CHUNK: usize = 1 << 20;

/// A regular file, however it is reached.
pub trait Content {
    /// Bytes.
    fn size(&self) -> u64;

    /// Fills `into` from `offset`; returns the bytes read, 0 only at the end.
    ///
    /// # Errors
    /// What the reader says.
    fn read(&self, offset: u64, into: &mut [u8]) -> Result<usize>;

    /// SEEK_DATA; `None` past the last data.
    ///
    /// # Errors
    /// What the reader says, ENXIO excepted.
    fn seek_data(&self, offset: u64) -> Result<Option<u64>>;

    /// SEEK_HOLE from inside of data.
    ///
    /// # Errors
    /// What the reader says.
    fn seek_hole(&self, offset: u64) -> Result<u64>;
}

/// What a file holds and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// `whole HASH`, `segments HASH`, or `None` if there is too much data.
    pub content: Option<String>,
    /// The segments themselves if few, else their count and hash.
    pub segments: String,
}

/// Reads all of `file`.
///
/// # Errors
/// What the reader says; a read that ends early.
pub fn summarize(file: &dyn Content) -> Result<Summary> {
    let segments = segments(file)?;
    let data: u64 = segments.iter().map(|(start, end)| end - start).sum();
    let content = if file.size() <= WHOLE_LIMIT {
        let mut hash = Sha256::new();
        hash_range(file, 0, file.size(), &mut hash)?;
        Some(whole(&hex(&hash.finalize())))
    } else if data > DATA_LIMIT {
        None
    } else {
        let mut hash = Sha256::new();
        for (start, end) in &segments {
            let end = (*end).min(file.size());
            hash.update(start.to_le_bytes());
            hash.update(end.to_le_bytes());
            hash_range(file, *start, end, &mut hash)?;
        }
        Some(in_segments(&hex(&hash.finalize())))
    };
    Ok(Summary { content, segments: describe(&segments) })
}

/// As [`summarize`], for comparisons within one process: holes are not read, and the hash is a fast one.
///
/// # Errors
/// As [`summarize`].
pub fn compare(file: &dyn Content) -> Result<Summary> {
    let segments = segments(file)?;
    let mut hash = FixedState::default().build_hasher();
    for (start, end) in &segments {
        hash.write_u64(*start);
        each_chunk(file, *start, (*end).min(file.size()), &mut |bytes| hash.write(bytes))?;
    }
    Ok(Summary { content: Some(format!("{:x}", hash.finish())), segments: describe(&segments) })
}

/// [`Summary::content`] of a file hashed as a whole.
#[must_use]
pub fn whole(hash: &str) -> String {
    format!("whole {hash}")
}

/// Whether a [`Summary::content`] is of a file hashed as a whole.
#[must_use]
pub fn is_whole(content: &str) -> bool {
    content.starts_with("whole ")
}

/// [`Summary::content`] of a file of which the data segments were hashed.
#[must_use]
pub fn in_segments(hash: &str) -> String {
    format!("segments {hash}")
}

/// [`Summary::segments`] of these segments.
#[must_use]
pub fn describe(segments: &[(u64, u64)]) -> String {
    let text = format!("{segments:?}");
    if segments.len() <= LISTED_SEGMENTS {
        return text;
    }
    describe_hashed(segments.len() as u64, &sha256(text.as_bytes()))
}

/// [`Summary::segments`] of `count` segments of which only the hash is known.
#[must_use]
pub fn describe_hashed(count: u64, hash: &str) -> String {
    format!("{count} segments {hash}")
}

/// The hash of `bytes`, hexadecimal.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The hash of a file's bytes, hexadecimal.
///
/// # Errors
/// When it cannot be read.
pub fn sha256_of_file(path: &std::path::Path) -> Result<String> {
    let mut hash = Sha256::new();
    std::io::copy(&mut std::fs::File::open(path)?, &mut hash)?;
    Ok(hex(&hash.finalize()))
}

fn segments(file: &dyn Content) -> Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut offset = 0;
    while offset < file.size() && found.len() <= MAX_SEGMENTS {
        let Some(data) = file.seek_data(offset)? else { break };
        anyhow::ensure!(data >= offset, "SEEK_DATA from {offset} went back to {data}");
        let hole = file.seek_hole(data)?;
        anyhow::ensure!(hole > data, "SEEK_HOLE from data at {data} gave {hole}");
        found.push((data, hole));
        offset = hole;
    }
    Ok(found)
}

fn hash_range(file: &dyn Content, start: u64, end: u64, hash: &mut Sha256) -> Result<()> {
    each_chunk(file, start, end, &mut |bytes| hash.update(bytes))
}

fn each_chunk(file: &dyn Content, start: u64, end: u64, each: &mut dyn FnMut(&[u8])) -> Result<()> {
    let mut buffer = vec![0; usize::try_from(end.saturating_sub(start))?.min(CHUNK)];
    let mut offset = start;
    while offset < end {
        let wanted = usize::try_from(end - offset)?.min(CHUNK);
        let into = buffer.get_mut(..wanted).unwrap_or_default();
        let read = file.read(offset, into)?;
        anyhow::ensure!(read > 0, "read at {offset} of {} bytes gave nothing", file.size());
        each(into.get(..read).unwrap_or_default());
        offset += read as u64;
    }
    Ok(())
}
