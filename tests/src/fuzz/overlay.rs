//! A device in memory that shares the image it began with, so that one is made in no time.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fuse4fs_ext4::device::BlockDevice;

/// Bytes that are copied when one of them is written.
const PAGE: usize = 1024;

/// An image, and what was written over it.
///
/// Reading or writing past its end is a finding: whoever names a block has to have compared it with the
/// size of the file system, and mounting compares that with the device's.
#[derive(Debug)]
pub(super) struct Overlay {
    image: Arc<[u8]>,
    pages: Mutex<HashMap<usize, Box<[u8; PAGE]>>>,
    watch: Option<Mutex<BTreeSet<usize>>>,
}

impl Overlay {
    pub(super) fn new(image: Arc<[u8]>) -> Self {
        Self { image, pages: Mutex::default(), watch: None }
    }

    /// One that remembers what was read of it.
    pub(super) fn watched(image: Arc<[u8]>) -> Self {
        Self { watch: Some(Mutex::default()), ..Self::new(image) }
    }

    /// What was read, in pieces of `PAGE` bytes.
    pub(super) fn read_places(&self) -> Vec<Range<usize>> {
        let Some(watch) = &self.watch else { return Vec::new() };
        let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
        watch.iter().map(|page| page * PAGE..(page * PAGE + PAGE).min(self.image.len())).collect()
    }

    /// All bytes as they are now.
    pub(super) fn contents(&self) -> Vec<u8> {
        let mut bytes = self.image.to_vec();
        for (page, content) in &*self.pages() {
            let start = page * PAGE;
            let end = (start + PAGE).min(bytes.len());
            bytes[start..end].copy_from_slice(&content[..end - start]);
        }
        bytes
    }

    /// `len` bytes from `at` on, or `None` past the end.
    pub(super) fn bytes(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        self.image.get(at..at.checked_add(len)?)?;
        let mut bytes = vec![0; len];
        self.read(at, &mut bytes);
        Some(bytes)
    }

    /// Replaces what is at `at`, as far as the device goes.
    pub(super) fn edit(&self, at: usize, bytes: &[u8]) {
        let room = self.image.len().saturating_sub(at);
        self.write(at, &bytes[..bytes.len().min(room)]);
    }

    fn pages(&self) -> MutexGuard<'_, HashMap<usize, Box<[u8; PAGE]>>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, at: usize, into: &mut [u8]) {
        into.copy_from_slice(&self.image[at..at + into.len()]);
        let pages = self.pages();
        if pages.is_empty() {
            return;
        }
        for (page, part) in pieces(at, into.len()) {
            if let Some(content) = pages.get(&page) {
                let skip = part.start - page * PAGE;
                let len = part.len();
                into[part.start - at..part.end - at].copy_from_slice(&content[skip..skip + len]);
            }
        }
    }

    fn write(&self, at: usize, from: &[u8]) {
        let mut pages = self.pages();
        for (page, part) in pieces(at, from.len()) {
            let content = pages.entry(page).or_insert_with(|| self.original(page));
            let skip = part.start - page * PAGE;
            content[skip..skip + part.len()].copy_from_slice(&from[part.start - at..part.end - at]);
        }
    }

    fn original(&self, page: usize) -> Box<[u8; PAGE]> {
        let mut content = Box::new([0; PAGE]);
        let start = page * PAGE;
        let end = (start + PAGE).min(self.image.len());
        content[..end - start].copy_from_slice(&self.image[start..end]);
        content
    }

    #[expect(clippy::panic, reason = "this is how a fuzz target tells what is wrong")]
    fn start(&self, offset: u64, len: usize) -> usize {
        let start = usize::try_from(offset).ok();
        let end = start.and_then(|start| start.checked_add(len));
        match (start, end) {
            (Some(start), Some(end)) if end <= self.image.len() => start,
            _ => panic!("{len} bytes at {offset} of a device of {}", self.image.len()),
        }
    }
}

/// The pages that `len` bytes from `at` on touch, with the part of the range in each.
fn pieces(at: usize, len: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let end = at + len;
    (at / PAGE..end.div_ceil(PAGE))
        .map(move |page| (page, (page * PAGE).max(at)..((page + 1) * PAGE).min(end)))
}

impl BlockDevice for Overlay {
    fn size(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = self.start(offset, into.len());
        self.read(start, into);
        if let Some(watch) = &self.watch {
            let mut watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
            watch.extend(pieces(start, into.len()).map(|(page, _)| page));
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write(self.start(offset, from.len()), from);
        Ok(())
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.write_at(offset, from)
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
