//! An image in memory, the places in it that inputs go to, and what is then used of it.

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, Unobserved};

use super::exercise;
use crate::engine_walk;

/// Seeds of a target, at most.
const MAX_SEEDS: usize = 24;
/// Bytes that one input may replace, at most.
const MAX_SPLICE: usize = 64 << 10;

/// What an input is used through.
#[derive(Clone, Debug)]
pub(super) enum Use {
    /// These inodes only.
    Inodes(Vec<InodeNr>),
    /// A walk from the root.
    Everything,
}

/// A base image with places to splice inputs into.
#[derive(Debug)]
pub(super) struct Stage {
    image: Arc<[u8]>,
    places: Vec<Range<usize>>,
    used: Use,
}

impl Stage {
    pub(super) fn new(image: Arc<[u8]>, places: Vec<Range<usize>>, used: Use) -> Self {
        Self { image, places, used }
    }

    /// The first byte chooses the place at which the rest begins; it runs on over the places after.
    pub(super) fn run(&self, input: &[u8]) {
        let Some((first, bytes)) = input.split_first() else { return };
        let mut rest = bytes.get(..MAX_SPLICE).unwrap_or(bytes);
        let mut edits = Vec::new();
        for place in self.places.iter().cycle().skip((*first).into()).take(self.places.len()) {
            let (now, later) = rest.split_at(place.len().min(rest.len()));
            edits.push((place.start, now.to_vec()));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.mount_and_use(edits);
    }

    /// Records of place (2 bytes), offset in it (2), length (1) and so many bytes.
    pub(super) fn run_edits(&self, mut input: &[u8]) {
        let mut edits = Vec::new();
        while let [p0, p1, o0, o1, len, rest @ ..] = input {
            let place = usize::from(u16::from_le_bytes([*p0, *p1])) % self.places.len();
            let place = self.places.get(place).cloned().unwrap_or_default();
            let offset = usize::from(u16::from_le_bytes([*o0, *o1])) % place.len().max(1);
            let (bytes, later) = rest.split_at(rest.len().min((*len).into()));
            edits.push((place.start + offset, bytes.to_vec()));
            input = later;
        }
        self.mount_and_use(edits);
    }

    /// What stands at each place now.
    pub(super) fn seeds(&self) -> Vec<Vec<u8>> {
        let step = self.places.len().div_ceil(MAX_SEEDS).max(1);
        let places = self.places.iter().enumerate().take(256).step_by(step);
        let seed = |(index, place): (usize, &Range<usize>)| {
            let bytes = self.image.get(place.clone()).unwrap_or_default();
            [&[u8::try_from(index).unwrap_or(0)], bytes].concat()
        };
        places.map(seed).collect()
    }

    fn mount_and_use(&self, edits: Vec<(usize, Vec<u8>)>) {
        let device = Arc::new(Device { image: Arc::clone(&self.image), edits, reads: None });
        let _ = fuse4fs_ext4::probe(&*device, None);
        let Ok(fs) = Filesystem::mount(device, &engine_walk::options(), &Unobserved) else {
            return;
        };
        exercise::file_system(&fs, &self.used);
    }
}

/// The places of `image` that `with` reads, in pieces of at most `piece` bytes.
pub(super) fn places_read(
    image: &Arc<[u8]>,
    piece: usize,
    with: impl FnOnce(Arc<dyn BlockDevice>),
) -> Vec<Range<usize>> {
    let reads = Arc::new(Mutex::new(BTreeSet::new()));
    let device = Device {
        image: Arc::clone(image),
        edits: Vec::new(),
        reads: Some((Arc::clone(&reads), piece)),
    };
    with(Arc::new(device));
    let reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
    reads.iter().map(|start| *start..(start + piece).min(image.len())).collect()
}

type Reads = (Arc<Mutex<BTreeSet<usize>>>, usize);

/// A shared image with edits laid over it.
#[derive(Debug)]
struct Device {
    image: Arc<[u8]>,
    edits: Vec<(usize, Vec<u8>)>,
    reads: Option<Reads>,
}

impl BlockDevice for Device {
    fn size(&self) -> u64 {
        self.image.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start.checked_add(into.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(self.image.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        for (place, bytes) in &self.edits {
            let (from, to) = ((*place).max(start), (place + bytes.len()).min(end));
            if from < to {
                into[from - start..to - start].copy_from_slice(&bytes[from - place..to - place]);
            }
        }
        if let Some((reads, piece)) = &self.reads {
            let mut reads = reads.lock().unwrap_or_else(PoisonError::into_inner);
            reads.extend((start - start % piece..end).step_by(*piece));
        }
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}
