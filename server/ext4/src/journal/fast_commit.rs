//! How much of the fast commit area counts, and its tags one by one.
//!
//! Fast commits follow the last full commit; each ends in a tail with a checksum, and all up to the
//! last good tail count. What the tags mean for the tree is `recover::fast_commit`'s.
//!
//! # Bounds
//! Each pass reads the area once; no more than [`MAX_TAGS`] tags count, so that what replaying them
//! leaves in memory is bounded whatever the area's size.
//! Kernel: fs/ext4/fast_commit.c `ext4_fc_replay_scan`

use crate::disk::checksum::crc32c;
use crate::disk::fast_commit::{Next, Tag, next};
use crate::disk::jbd2::LogSuperblock;
use crate::error::Result;
use crate::ids::Tid;
use crate::journal::area::Area;
use crate::journal::recovery::Reader;

/// Far more than the kernel writes between two full commits, which are five seconds apart.
const MAX_TAGS: u32 = 1 << 18;

/// Why fast commits end where they do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FastCommitEnd {
    /// At something that is no part of them: the usual end.
    #[default]
    Clean,
    /// In a fast commit that is incomplete or damaged.
    Unfinished,
    /// They need a feature that is not known: the bits.
    Features(u32),
    /// There are too many of them.
    TooMany,
}

/// What counts of the area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct FastCommits {
    /// Complete fast commits.
    pub(crate) commits: u32,
    /// The tags they are made of.
    tags: u32,
    /// Why no more.
    pub(crate) why: FastCommitEnd,
}

/// The fast commit area of one log.
pub(crate) struct FastCommitArea<'a> {
    area: &'a Area,
    log: &'a LogSuperblock,
    inode_size: u16,
}

/// Whether to look at further tags.
type More = core::ops::ControlFlow<()>;

impl<'a> FastCommitArea<'a> {
    pub(crate) fn new(area: &'a Area, log: &'a LogSuperblock, inode_size: u16) -> Self {
        Self { area, log, inode_size }
    }

    /// Finds what counts, when `tid` is the transaction that would have been committed next.
    ///
    /// # Errors
    /// I/O errors of the log's device.
    pub(crate) fn scan(&self, tid: Tid) -> Result<FastCommits> {
        let mut scan = Scan {
            tid,
            crc: 0,
            seen: 0,
            found: FastCommits { commits: 0, tags: 0, why: FastCommitEnd::Clean },
        };
        let ended = self.walk(&mut |placed, summed| match placed {
            Some(tag) => scan.tag(tag, summed),
            None => scan.stop(FastCommitEnd::Clean),
        })?;
        if !ended {
            let _ = scan.stop(FastCommitEnd::Clean);
        }
        Ok(scan.found)
    }

    /// Calls `replay` on the tags that count.
    ///
    /// # Errors
    /// I/O errors of the log's device, and what `replay` fails with.
    pub(crate) fn replay(
        &self,
        found: &FastCommits,
        replay: &mut dyn FnMut(&Tag<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut left = found.tags;
        let mut outcome = Ok(());
        self.walk(&mut |tag, _| {
            let (Some(tag), Some(fewer)) = (tag, left.checked_sub(1)) else {
                return More::Break(());
            };
            left = fewer;
            outcome = replay(tag);
            if outcome.is_ok() { More::Continue(()) } else { More::Break(()) }
        })?;
        outcome
    }

    /// Calls `visit` with each tag and the bytes its checksum covers, and with `None` at something
    /// that is no tag, until it breaks. True if it did.
    fn walk(&self, visit: &mut dyn FnMut(Option<&Tag<'_>>, &[u8]) -> More) -> Result<bool> {
        let mut reader = Reader::new(self.area);
        // The kernel leaves the first block of the area unused.
        for at in self.log.last.saturating_add(1)..self.log.end {
            let mut rest = reader.block(at)?;
            loop {
                let more = match next(rest, self.inode_size) {
                    Next::Tag(placed, after) => {
                        rest = after;
                        visit(Some(&placed.tag), placed.summed)
                    }
                    Next::End => break,
                    Next::Invalid => {
                        let _ = visit(None, &[]);
                        return Ok(true);
                    }
                };
                if more.is_break() {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

struct Scan {
    tid: Tid,
    crc: u32,
    seen: u32,
    found: FastCommits,
}

impl Scan {
    fn stop(&mut self, why: FastCommitEnd) -> More {
        let unfinished = self.seen > self.found.tags && why == FastCommitEnd::Clean;
        self.found.why = if unfinished { FastCommitEnd::Unfinished } else { why };
        More::Break(())
    }

    fn tag(&mut self, tag: &Tag<'_>, summed: &[u8]) -> More {
        if self.seen == 0 && !matches!(tag, Tag::Head { .. }) {
            return self.stop(FastCommitEnd::Clean);
        }
        if self.seen >= MAX_TAGS {
            return self.stop(FastCommitEnd::TooMany);
        }
        match *tag {
            Tag::Head { features, .. } if features != 0 => {
                return self.stop(FastCommitEnd::Features(features));
            }
            Tag::Head { tid, .. } if tid != self.tid => return self.stop(FastCommitEnd::Clean),
            _ => {}
        }
        self.seen = self.seen.saturating_add(1);
        self.crc = crc32c(self.crc, summed);
        if let Tag::Tail { tid, crc } = *tag {
            if (tid, crc) != (self.tid, self.crc) {
                return self.stop(FastCommitEnd::Clean);
            }
            self.found.tags = self.seen;
            self.found.commits = self.found.commits.saturating_add(1);
            self.crc = 0;
        }
        More::Continue(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, clippy::as_conversions, reason = "test code")]

    use super::*;
    use crate::journal::testing::{BLOCK, LogImage, Sums};

    const FAST: u32 = 0x20;
    const TID: u32 = 8;

    /// A log whose fast commit area holds what is written to it.
    struct FastLog {
        log: LogImage,
        at: usize,
        crc: u32,
    }

    impl FastLog {
        fn new() -> Self {
            let mut log = LogImage::with_blocks(Sums::V3, true, 1040).incompat(FAST);
            log.superblock.num_fc_blks = 16.into();
            let mut fast = Self { log, at: 1025 * BLOCK, crc: 0 };
            fast.tag(9, &[0, 0, 0, 0, TID as u8, 0, 0, 0]);
            fast
        }

        fn put(&mut self, bytes: &[u8]) {
            let start = self.at;
            let (at, skip) = ((start / BLOCK) as u32, start % BLOCK);
            self.log.block_mut(at)[skip..skip + bytes.len()].copy_from_slice(bytes);
            self.at += bytes.len();
        }

        fn tag(&mut self, kind: u16, value: &[u8]) {
            let tag = [&kind.to_le_bytes(), &(value.len() as u16).to_le_bytes(), value].concat();
            self.crc = crc32c(self.crc, &tag);
            self.put(&tag);
        }

        fn tail(&mut self, tid: u32) {
            let len = BLOCK - self.at % BLOCK - 4;
            let head = [&8_u16.to_le_bytes(), &(len as u16).to_le_bytes(), &tid.to_le_bytes()[..]];
            let head = head.concat();
            let crc = crc32c(self.crc, &head);
            self.put(&head);
            self.put(&crc.to_le_bytes());
            self.at = self.at.next_multiple_of(BLOCK);
            self.crc = 0;
        }

        fn found(&mut self) -> (FastCommits, Vec<String>) {
            let device = self.log.device();
            let (area, log) = self.log.open(&device).unwrap();
            assert_eq!((log.last, log.end), (1024, 1040));
            let fast = FastCommitArea::new(&area, &log, 256);
            let found = fast.scan(Tid::new(TID)).unwrap();
            let mut names = Vec::new();
            fast.replay(&found, &mut |tag| {
                if let Tag::Link(named) = tag {
                    names.push(String::from_utf8_lossy(named.name).into_owned());
                }
                Ok(())
            })
            .unwrap();
            (found, names)
        }

        fn link(&mut self, name: &str) {
            self.tag(4, &[&[2, 0, 0, 0, 12, 0, 0, 0], name.as_bytes()].concat());
        }
    }

    #[test]
    fn all_up_to_the_last_good_tail_counts() {
        let mut fast = FastLog::new();
        fast.link("a");
        fast.tail(TID);
        fast.link("b");
        fast.tail(TID);
        fast.link("c");
        let (found, names) = fast.found();
        assert_eq!((found.commits, found.why), (2, FastCommitEnd::Unfinished));
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_fast_commit_may_go_on_in_the_next_block() {
        let mut fast = FastLog::new();
        fast.link("a");
        let pad = BLOCK - fast.at % BLOCK - 4;
        fast.tag(7, &vec![0; pad]);
        fast.link("b");
        fast.tail(TID);
        let (found, names) = fast.found();
        assert_eq!((found.commits, found.why), (1, FastCommitEnd::Clean));
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_tail_with_another_transaction_or_checksum_ends_them() {
        let mut fast = FastLog::new();
        fast.link("a");
        fast.tail(TID);
        fast.link("b");
        fast.tail(TID + 1);
        assert_eq!(fast.found().1, ["a"]);
        let mut fast = FastLog::new();
        fast.link("a");
        fast.tail(TID);
        fast.log.block_mut(1025)[30] ^= 1;
        let (found, names) = fast.found();
        assert_eq!((found.commits, found.why, names.len()), (0, FastCommitEnd::Unfinished, 0));
    }

    #[test]
    fn an_area_of_another_transaction_is_stale() {
        let mut fast = FastLog::new();
        fast.tail(TID);
        fast.log.block_mut(1025)[8] = TID as u8 - 1;
        let (found, _) = fast.found();
        assert_eq!((found.commits, found.why), (0, FastCommitEnd::Clean));
        fast.log.block_mut(1025).fill(0);
        assert_eq!(fast.found().0.why, FastCommitEnd::Clean);
    }

    #[test]
    fn an_unknown_feature_is_named() {
        let mut fast = FastLog::new();
        fast.tail(TID);
        fast.log.block_mut(1025)[4] = 2;
        assert_eq!(fast.found().0.why, FastCommitEnd::Features(2));
    }

    #[test]
    fn an_area_full_of_tags_ends() {
        let mut fast = FastLog::new();
        fast.log.block_mut(1025)[12..].fill(0);
        for at in 1026..1040 {
            let pads = [7_u8, 0, 0, 0].repeat(BLOCK / 4);
            fast.log.block_mut(at).copy_from_slice(&pads);
        }
        let pads = [7_u8, 0, 0, 0].repeat((BLOCK - 12) / 4);
        fast.log.block_mut(1025)[12..].copy_from_slice(&pads);
        let (found, _) = fast.found();
        assert_eq!((found.commits, found.why), (0, FastCommitEnd::Unfinished));
    }
}
