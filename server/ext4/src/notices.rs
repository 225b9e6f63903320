//! Corruption that a verb met and got around, kept until the frontend takes it to the log.
//!
//! The engine does not log. Each distinct finding is kept once, and only so many of them: a hostile
//! image must not fill the memory or the log.
//! # Locking
//! One leaf lock, held for a few instructions.

use core::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::error::{CorruptKind, Error, Place};

/// Distinct findings that are told in the life of a mount.
const LIMIT: usize = 256;

/// The findings of a mount.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    /// Set while something waits, so that an empty check costs no lock.
    waiting: AtomicBool,
    findings: Mutex<Findings>,
}

#[derive(Debug, Default)]
struct Findings {
    seen: Vec<(CorruptKind, Place)>,
    taken: usize,
}

impl Notices {
    /// Keeps `error` if it is corruption that was not noticed before.
    pub(crate) fn corruption(&self, error: Error) {
        let Error::Corrupt { kind, place } = error else { return };
        let mut findings = self.findings.lock();
        if findings.seen.len() < LIMIT && !findings.seen.contains(&(kind, place)) {
            findings.seen.push((kind, place));
            self.waiting.store(true, Ordering::Release);
        }
    }

    /// What was noticed since the last call.
    pub(crate) fn take(&self) -> Vec<Error> {
        if !self.waiting.swap(false, Ordering::Acquire) {
            return Vec::new();
        }
        let mut findings = self.findings.lock();
        let new = findings.seen.iter().skip(findings.taken);
        let new = new.map(|&(kind, place)| Error::corrupt(place, kind)).collect();
        findings.taken = findings.seen.len();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::InodeNr;

    #[test]
    fn the_same_corruption_is_told_once() {
        let notices = Notices::default();
        let error = |inode| {
            let place = Place::inode(InodeNr::new(inode));
            Error::corrupt(place, CorruptKind::DirHole { block: 1 })
        };
        notices.corruption(error(12));
        notices.corruption(error(12));
        assert_eq!(notices.take().len(), 1);
        notices.corruption(error(12));
        notices.corruption(error(13));
        assert_eq!(notices.take().len(), 1);
        assert!(notices.take().is_empty());
    }
}
