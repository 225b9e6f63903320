//! A device that remembers every write, and the images that a crash could have left of it.
//!
//! A crash may lose any of the writes since the last flush, but none that was written through. The
//! last one may have reached the medium in part: sectors are whole or not there. A long write is several
//! short ones, in any order.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::Mutex;

use super::{BlockDevice, MemDevice};
use crate::ids::{in_memory, on_disk};

/// Bytes of one write; longer ones are several for a device.
const PIECE: usize = 4096;

#[derive(Clone, Debug)]
enum Event {
    Write {
        offset: u64,
        bytes: Box<[u8]>,
        through: bool,
    },
    /// Of the bytes in a range.
    Flush(Range<u64>),
    Mark(u64),
}

/// A device in memory that remembers what was done to it.
#[derive(Debug)]
pub struct Recording {
    device: MemDevice,
    start: Vec<u8>,
    events: Mutex<Vec<Event>>,
}

impl Recording {
    /// A device that holds `bytes`.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self { device: MemDevice::new(bytes.clone()), start: bytes, events: Mutex::default() }
    }

    /// From now on what `step` stands for must survive any crash. Steps ascend from 1.
    pub fn mark(&self, step: u64) {
        self.events.lock().push(Event::Mark(step));
    }

    /// The bytes in `range` as a device by itself: flushed, they alone are.
    #[must_use]
    pub fn part(self: &Arc<Self>, range: Range<u64>) -> Part {
        Part { whole: Arc::clone(self), range }
    }

    /// All bytes as they are now.
    #[must_use]
    pub fn contents(&self) -> Vec<u8> {
        self.device.contents()
    }

    /// What was done so far.
    #[must_use]
    pub fn history(&self) -> History {
        History { start: self.start.clone(), events: self.events.lock().clone() }
    }

    fn record(&self, offset: u64, bytes: &[u8], through: bool) -> io::Result<()> {
        // In the order in which they take effect.
        let mut events = self.events.lock();
        self.device.write_at(offset, bytes)?;
        let mut offset = offset;
        for piece in bytes.chunks(if through { bytes.len().max(1) } else { PIECE }) {
            events.push(Event::Write { offset, bytes: piece.into(), through });
            offset = offset.saturating_add(on_disk(piece.len()));
        }
        Ok(())
    }
}

impl BlockDevice for Recording {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.record(offset, from, false)
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.record(offset, from, true)
    }

    fn flush(&self) -> io::Result<()> {
        self.events.lock().push(Event::Flush(0..u64::MAX));
        Ok(())
    }
}

/// One of several devices that are recorded together.
#[derive(Debug)]
pub struct Part {
    whole: Arc<Recording>,
    range: Range<u64>,
}

impl Part {
    /// Where `len` bytes from `offset` on are in the whole.
    fn place(&self, offset: u64, len: usize) -> io::Result<u64> {
        let start = self.range.start.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(on_disk(len)));
        end.filter(|end| *end <= self.range.end)
            .and(start)
            .ok_or(io::ErrorKind::InvalidInput.into())
    }
}

impl BlockDevice for Part {
    fn size(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.whole.read_at(self.place(offset, into.len())?, into)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.whole.record(self.place(offset, from.len())?, from, false)
    }

    fn write_through(&self, offset: u64, from: &[u8]) -> io::Result<()> {
        self.whole.record(self.place(offset, from.len())?, from, true)
    }

    fn flush(&self) -> io::Result<()> {
        self.whole.events.lock().push(Event::Flush(self.range.clone()));
        Ok(())
    }
}

/// Which images to make besides one after each write.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Images at each write in which some of the writes since the last flush are lost.
    pub subsets: u32,
    /// Images at each write of which only some sectors got there.
    pub torn: u32,
    /// Bytes that the device writes whole or not at all.
    pub sector: usize,
    /// Starts the choice.
    pub seed: u64,
}

/// One image that a crash could have left.
#[derive(Clone, Debug)]
pub struct CrashImage {
    /// The device.
    pub bytes: Vec<u8>,
    /// The last step that must be there; 0 for none.
    pub step: u64,
    /// How many writes had been asked for.
    pub writes: usize,
    /// What else happened: for a message.
    pub how: &'static str,
}

/// What was done to a [`Recording`].
#[derive(Debug)]
pub struct History {
    start: Vec<u8>,
    events: Vec<Event>,
}

impl History {
    /// How many writes there were.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::Write { .. })).count()
    }

    /// Calls `each` for images of crashes at every write, until it says no. The same image may come
    /// more than once.
    pub fn crashes(&self, sampling: Sampling, mut each: impl FnMut(CrashImage) -> bool) {
        let mut walk = Walk {
            durable: self.start.clone(),
            pending: Vec::new(),
            step: 0,
            writes: 0,
            chance: Chance(sampling.seed),
        };
        for event in &self.events {
            match event {
                Event::Flush(range) => walk.flush(range),
                Event::Mark(step) => {
                    walk.step = *step;
                    if !each(walk.image(|_| true, "after a step")) {
                        return;
                    }
                }
                Event::Write { .. } => {
                    walk.pending.push(event);
                    walk.writes = walk.writes.saturating_add(1);
                    if !walk.sample(sampling, &mut each) {
                        return;
                    }
                }
            }
        }
    }
}

struct Walk<'a> {
    durable: Vec<u8>,
    pending: Vec<&'a Event>,
    step: u64,
    writes: usize,
    chance: Chance,
}

impl Walk<'_> {
    fn flush(&mut self, range: &Range<u64>) {
        let is_flushed = |event: &mut &Event| match event {
            Event::Write { offset, .. } => range.contains(offset),
            Event::Flush(_) | Event::Mark(_) => true,
        };
        for event in self.pending.extract_if(.., is_flushed) {
            apply(&mut self.durable, event, PIECE, |_| true);
        }
    }

    /// All images at the last write.
    fn sample(&mut self, sampling: Sampling, each: &mut impl FnMut(CrashImage) -> bool) -> bool {
        if !each(self.image(|_| true, "all writes so far")) {
            return false;
        }
        for _ in 0..sampling.subsets {
            let kept: Vec<bool> = self.pending.iter().map(|_| self.chance.coin()).collect();
            let keep = |index: usize| kept.get(index).copied().unwrap_or(true);
            if !each(self.image(keep, "some writes lost")) {
                return false;
            }
        }
        let last = self.pending.len().saturating_sub(1);
        for _ in 0..sampling.torn {
            let mut image = self.image(|index| index != last, "the last write torn");
            if let Some(event) = self.pending.last() {
                let mut chance = Chance(self.chance.next());
                // A write-through is over only when all of it is there.
                apply(&mut image.bytes, event, sampling.sector, |_| chance.coin());
            }
            if !each(image) {
                return false;
            }
        }
        true
    }

    fn image(&self, keep: impl Fn(usize) -> bool, how: &'static str) -> CrashImage {
        let mut bytes = self.durable.clone();
        let last = self.pending.len().saturating_sub(1);
        for (index, event) in self.pending.iter().enumerate() {
            // The last one may not be over yet.
            let must = matches!(event, Event::Write { through: true, .. }) && index != last;
            if must || keep(index) {
                apply(&mut bytes, event, PIECE, |_| true);
            }
        }
        CrashImage { bytes, step: self.step, writes: self.writes, how }
    }
}

/// Does what `event` did, for the sectors that `keep` wants.
fn apply(image: &mut [u8], event: &Event, sector: usize, mut keep: impl FnMut(usize) -> bool) {
    let Event::Write { offset, bytes, .. } = event else { return };
    let place = image.get_mut(in_memory(*offset)..).unwrap_or_default();
    for (index, (to, from)) in place.chunks_mut(sector).zip(bytes.chunks(sector)).enumerate() {
        let to = to.get_mut(..from.len()).filter(|_| keep(index));
        // Not byte by byte, which is most of the time where nothing is optimized.
        if let Some(to) = to {
            to.copy_from_slice(from);
        }
    }
}

/// splitmix64.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn coin(&mut self) -> bool {
        self.next() & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "test code")]

    use super::*;

    const SECTOR: usize = 512;

    fn images(sampling: Sampling, work: impl FnOnce(&Recording)) -> Vec<(Vec<u8>, u64)> {
        let device = Recording::new(vec![0; 4 * SECTOR]);
        work(&device);
        let mut seen = Vec::new();
        device.history().crashes(sampling, |image| {
            let firsts = image.bytes.chunks(SECTOR).map(|sector| sector[0]).collect();
            seen.push((firsts, image.step));
            true
        });
        seen
    }

    fn write(device: &Recording, sector: u64, value: u8) {
        device.write_at(sector * 512, &[value; SECTOR]).unwrap();
    }

    const SUBSETS: Sampling = Sampling { subsets: 40, torn: 0, sector: SECTOR, seed: 1 };

    #[test]
    fn before_a_flush_any_write_may_be_lost_and_after_it_none() {
        let seen = images(SUBSETS, |device| {
            write(device, 0, 1);
            write(device, 1, 1);
            device.flush().unwrap();
            device.mark(1);
            write(device, 2, 1);
        });
        for expected in [[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0]] {
            assert!(seen.iter().any(|(image, _)| image[..] == expected), "{expected:?}");
        }
        assert!(seen.iter().all(|(image, step)| *step == 0 || image[..2] == [1, 1]));
    }

    #[test]
    fn a_write_through_is_durable_alone() {
        let seen = images(SUBSETS, |device| {
            write(device, 0, 1);
            device.write_through(512, &[1; SECTOR]).unwrap();
            device.mark(1);
            write(device, 2, 1);
        });
        assert!(seen.iter().all(|(image, step)| *step == 0 || image[1] == 1));
        assert!(seen.iter().any(|(image, step)| *step == 1 && image[0] == 0));
    }

    #[test]
    fn a_flush_of_one_part_leaves_the_others_as_they_are() {
        let sector = [1; SECTOR];
        let whole = Arc::new(Recording::new(vec![0; 4 * SECTOR]));
        let (front, back) = (whole.part(0..1024), whole.part(1024..2048));
        assert_eq!((front.size(), back.size()), (1024, 1024));
        front.write_at(512, &sector).unwrap();
        back.write_at(0, &sector).unwrap();
        back.flush().unwrap();
        whole.mark(1);
        back.write_through(512, &sector).unwrap();
        let mut seen = std::collections::HashSet::new();
        whole.history().crashes(SUBSETS, |image| {
            if image.step == 1 {
                seen.insert(image.bytes.chunks(SECTOR).map(|bytes| bytes[0]).collect::<Vec<_>>());
            }
            true
        });
        let all = [[0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 1, 0], [0, 1, 1, 1]];
        assert_eq!(seen, all.iter().map(|image| image.to_vec()).collect());
        let mut back_as_read = [0; SECTOR];
        back.read_at(512, &mut back_as_read).unwrap();
        assert_eq!(back_as_read, sector);
        for outside in [front.read_at(513, &mut [0; SECTOR]), back.write_at(u64::MAX, &sector)] {
            assert_eq!(outside.unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_torn_write_has_any_of_its_sectors() {
        let torn = Sampling { subsets: 0, torn: 40, sector: SECTOR, seed: 1 };
        let seen = images(torn, |device| device.write_at(0, &[1; 2 * SECTOR]).unwrap());
        for expected in [[0, 0], [0, 1], [1, 0], [1, 1]] {
            assert!(seen.iter().any(|(image, _)| image[..2] == expected), "{expected:?}");
        }
    }
}
