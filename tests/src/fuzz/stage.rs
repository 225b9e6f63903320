//! An image in memory, the places in it that inputs go to, and what is then used of it.

use std::ops::Range;
use std::sync::Arc;

use fuse4fs_ext4::device::BlockDevice;
use fuse4fs_ext4::ids::InodeNr;
use fuse4fs_ext4::{Filesystem, Unobserved};

use super::exercise;
use super::overlay::Overlay;
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
        let device = Arc::new(Overlay::new(Arc::clone(&self.image)));
        edits.iter().for_each(|(at, bytes)| device.edit(*at, bytes));
        let _ = fuse4fs_ext4::probe(&*device, None);
        let Ok(fs) = Filesystem::mount(device, &engine_walk::options(), &Unobserved) else {
            return;
        };
        exercise::file_system(&fs, &self.used);
    }
}

/// The places of `image` that `with` reads.
pub(super) fn places_read(
    image: &Arc<[u8]>,
    with: impl FnOnce(Arc<dyn BlockDevice>),
) -> Vec<Range<usize>> {
    let device = Arc::new(Overlay::watched(Arc::clone(image)));
    with(device.clone());
    device.read_places()
}
