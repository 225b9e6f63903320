//! Whole images, edited in few places, mounted, and worked on: image and operations are one input.
//!
//! An input is: which base (1 byte); how (1 byte, see [`How`]); how many edits (1 byte), and each as
//! piece (2 bytes), offset in it (2), length (1) and so many bytes; then verbs. What is edited gets right
//! checksums, unless `how` says otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use fuse4fs_ext4::features::Compat;
use fuse4fs_ext4::{Atime, DataMode, Error, Filesystem, MountOptions, Rules, WriteOptions};

use super::bases::{Base, Bases, Make};
use super::exercise;
use super::input::Input;
use super::layout::Kind;
use super::observer::Hasty;
use super::overlay::Overlay;
use super::stage::Use;
use super::verbs::Actor;
use crate::crash::writable;
use crate::engine_walk;

/// Edits of one input, at most.
const MAX_EDITS: u8 = 24;
/// How often one input mounts, at most.
const MAX_MOUNTS: usize = 4;

/// Bases, and what of them is open to edits.
#[derive(Debug)]
pub(super) struct Scene {
    bases: Bases,
    edits: fn(Kind) -> bool,
    /// Bits of [`How`] that are set whatever the input says.
    forced: u8,
}

/// Bits of [`How`] for a mount that does not write.
const READ_ONLY: u8 = 0x0e;

/// The second byte of an input.
#[derive(Clone, Copy, Debug)]
struct How(u8);

impl How {
    /// Checksums stay as the edits leave them.
    fn unsealed(self) -> bool {
        self.0 & 0x81 == 0x81
    }

    fn read_only(self) -> bool {
        self.0 & READ_ONLY == READ_ONLY
    }

    fn options(self) -> MountOptions {
        let data = match self.0 >> 4 & 3 {
            0 | 1 => None,
            2 => Some(DataMode::Journal),
            _ => Some(DataMode::Writeback),
        };
        let atime = if self.0 & 0x40 == 0 { Atime::Relative } else { Atime::Always };
        let rules = Rules { atime, discard: Some(self.0 & 0x40 != 0), ..Rules::default() };
        let writing = WriteOptions { data, rules, ..WriteOptions::default() };
        MountOptions { read_only: self.read_only(), writing, ..writable() }
    }
}

impl Scene {
    pub(super) fn new(makes: &'static [Make], edits: fn(Kind) -> bool) -> Self {
        Self { bases: Bases::new(makes), edits, forced: 0 }
    }

    /// One that is read only.
    pub(super) fn read_only(self) -> Self {
        Self { forced: READ_ONLY, ..self }
    }

    /// Each base as it is, read and changed by some of each kind of verbs, and with an edit.
    pub(super) fn seeds(&self) -> Vec<Vec<u8>> {
        let bases = (0..self.bases.count()).map(|base| u8::try_from(base).unwrap_or(0));
        let edit = |place: u8| vec![1, place, 0, 4, 0, 2, 0xff, 0xff];
        bases
            .flat_map(|base| {
                let verbs = (1..=8_u8).map(move |seed| {
                    let verbs = (0..160_u8).map(|at| at.wrapping_mul(seed * 2 + 11) ^ (at >> 3));
                    [vec![base, 16 * seed, 0], verbs.collect()].concat()
                });
                let edits = (0..10_u8).map(move |place| {
                    [vec![base, 2 * place], edit(place * 7), vec![13, 0, 1, 33]].concat()
                });
                verbs.chain(edits)
            })
            .collect()
    }

    /// Runs one input.
    pub(super) fn run(&self, bytes: &[u8]) {
        let mut input = Input::new(bytes);
        let base = self.bases.get(input.byte().into());
        let how = How(input.byte() | self.forced);
        let device = Arc::new(Overlay::new(base.image.clone()));
        let mut sound = self.edit(base, &device, how, &mut input) == 0;
        let has_log = base.layout.geometry.features.compat.contains(Compat::HAS_JOURNAL);
        for _ in 0..MAX_MOUNTS {
            match work(&device, how, sound, &mut input) {
                End::Done => break,
                End::Unmounted => {}
                End::Crash => sound &= has_log,
            }
        }
    }

    /// Makes the edits; returns how many.
    fn edit(&self, base: &Base, device: &Overlay, how: How, input: &mut Input<'_>) -> usize {
        let open: Vec<_> = base
            .layout
            .pieces
            .iter()
            .enumerate()
            .filter(|(_, piece)| (self.edits)(piece.kind))
            .collect();
        let mut touched = BTreeSet::new();
        for _ in 0..input.byte() % (MAX_EDITS + 1) {
            let (piece, offset, len) = (input.half(), input.half(), input.byte());
            let Some((index, piece)) = open.get(usize::from(piece) % open.len().max(1)) else {
                return 0;
            };
            let offset = usize::from(offset) % piece.place.len();
            let bytes = input.take(usize::from(len).min(piece.place.len() - offset));
            device.edit(piece.place.start + offset, bytes);
            touched.insert(*index);
        }
        if !how.unsealed() {
            base.layout.seal(device, &touched);
        }
        touched.len()
    }
}

/// How a mount ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The input is used up, or there is nothing to mount.
    Done,
    /// There is another mount to come.
    Unmounted,
    /// The same, and this one was not unmounted.
    Crash,
}

/// Mounts, works, reads everything and unmounts.
fn work(device: &Arc<Overlay>, how: How, sound: bool, input: &mut Input<'_>) -> End {
    let _ = fuse4fs_ext4::probe(&**device, None);
    let fs = match Filesystem::mount(device.clone(), &how.options(), &Hasty) {
        Ok(fs) => fs,
        Err(error) => {
            assert!(!(sound && is_damage(&error)), "cannot be mounted any more: {error:?}");
            return End::Done;
        }
    };
    let mut actor = Actor::new(&fs);
    let again = actor.work(&fs, input);
    if again && input.byte() & 1 != 0 {
        must_be_fine(sound, &actor);
        return End::Crash;
    }
    exercise::file_system(&fs, &Use::Everything);
    if fs.is_writable() {
        actor.forget_all(&fs);
    }
    let tree = sound.then(|| engine_walk::walk_to_compare(&fs));
    for found in fs.take_notices() {
        actor.note::<()>(Err(found));
    }
    actor.note(fs.unmount());
    drop(fs);
    must_be_fine(sound, &actor);
    if let Some(tree) = tree {
        must_be_there(device, how, tree);
    }
    if again { End::Unmounted } else { End::Done }
}

/// What was sound must stay so: nothing may be found damaged.
fn must_be_fine(sound: bool, actor: &Actor) {
    let found = actor.damage.iter().find(|(_, error)| is_damage(error));
    assert!(!sound || found.is_none(), "damage in what was sound: {found:?}");
}

fn is_damage(error: &Error) -> bool {
    matches!(error, Error::Corrupt { .. } | Error::Io { .. })
}

/// What was there before the unmount is there after it.
fn must_be_there(device: &Arc<Overlay>, how: How, tree: anyhow::Result<crate::tree::Tree>) {
    let options = MountOptions { read_only: true, ..how.options() };
    let fs = Filesystem::mount(device.clone(), &options, &Hasty).map_err(anyhow::Error::from);
    let again = fs.and_then(|fs| engine_walk::walk_to_compare(&fs));
    match (tree, again) {
        (Ok(before), Ok(after)) => {
            let differences = before.differences(&after);
            assert!(differences.is_empty(), "not as it was: {differences:?}");
        }
        (before, after) => {
            assert!(before.is_ok(), "cannot be read: {before:?}");
            assert!(after.is_ok(), "cannot be read after the unmount: {after:?}");
        }
    }
}
