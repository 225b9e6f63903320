//! The allocator against one that has an array with one word for each block.
#![expect(clippy::arithmetic_side_effects, reason = "test code")]

use super::layout_tests::numbered;
use super::*;
use crate::disk::bitmap;
use crate::group;
use crate::handle::Credits;
use crate::ids::{BlockNr, GroupNr, InodeNr, on_disk};
use crate::testing::{fsck_bytes, mkfs, mounted};
use crate::volume::Volume;

const MANY: Credits = Credits(64);

/// What is done to the allocator and to the model.
#[derive(Clone, Debug)]
enum Step {
    Take { owner: u32, wanted: Option<u64>, want: u32 },
    Free { which: usize, skip: u32, len: u32 },
    Release { owner: u32 },
    Commit,
    Trim { group: u32 },
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    let wanted = prop::option::of(0..4096_u64);
    prop_oneof![
        6 => (12..18_u32, wanted, 1..300_u32)
            .prop_map(|(owner, wanted, want)| Step::Take { owner, wanted, want }),
        5 => (any::<usize>(), 0..40_u32, 1..200_u32)
            .prop_map(|(which, skip, len)| Step::Free { which, skip, len }),
        1 => (12..18_u32).prop_map(|owner| Step::Release { owner }),
        1 => Just(Step::Commit),
        1 => (0..16_u32).prop_map(|group| Step::Trim { group }),
    ]
}

/// What a naive allocator knows: one word for each block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    Free,
    Pending,
    Used,
}

struct Model {
    cells: Vec<Cell>,
    runs: Vec<Run>,
}

impl Model {
    fn set(&mut self, run: Run, from: Cell, to: Cell) {
        let first = usize::try_from(run.first.get()).unwrap();
        for cell in &mut self.cells[first..first + usize::try_from(run.len).unwrap()] {
            assert_eq!(*cell, from, "{run:?}");
            *cell = to;
        }
    }

    fn count(&self, cell: Cell) -> u64 {
        on_disk(self.cells.iter().filter(|other| **other == cell).count())
    }

    fn commit(&mut self) {
        self.cells
            .iter_mut()
            .filter(|cell| **cell == Cell::Pending)
            .for_each(|cell| *cell = Cell::Free);
    }
}

/// The bitmaps of `volume` as cells.
fn cells(volume: &Volume) -> Vec<Cell> {
    let geometry = &volume.geometry;
    let used = |nr: u64| {
        let (group, bit) = geometry.group_of_block(BlockNr::new(nr))?;
        let desc = group::descriptor(volume, group).unwrap();
        let bitmap = bitmaps::blocks(volume, group, &desc).unwrap();
        Some(bitmap::is_set(bitmap.bytes(), bit))
    };
    let cell = |nr| if used(nr).unwrap_or(true) { Cell::Used } else { Cell::Free };
    (0..geometry.blocks_count).map(cell).collect()
}

fn play(volume: &Volume, model: &mut Model, step: Step) {
    let mut handle = volume.begin(MANY).unwrap();
    match step {
        Step::Take { owner, wanted, want } => {
            let usable = model.count(Cell::Free);
            let want = want.min(u32::try_from(usable).unwrap());
            let mut reservation = reserve(volume, want.into(), Privilege::Reserve).unwrap();
            let mut inode = numbered(InodeNr::new(owner));
            inode.blocks512 = u64::from(owner - 12) * 100;
            while reservation.left() > 0 {
                let goal = Goal::data(volume, &inode, wanted.map(BlockNr::new));
                let run = allocate(&mut handle, &mut reservation, goal, want).unwrap();
                model.set(run, Cell::Free, Cell::Used);
                model.runs.push(run);
            }
        }
        Step::Free { which, skip, len } if !model.runs.is_empty() => {
            let index = which % model.runs.len();
            let run = model.runs.swap_remove(index);
            let skip = skip.min(run.len - 1);
            let len = len.min(run.len - skip);
            let at = |skip: u32| BlockNr::new(run.first.get() + u64::from(skip));
            free(&mut handle, at(skip), len).unwrap();
            model.set(Run { first: at(skip), len }, Cell::Used, Cell::Pending);
            let rest = [
                Run { first: run.first, len: skip },
                Run { first: at(skip + len), len: run.len - skip - len },
            ];
            model.runs.extend(rest.into_iter().filter(|run| run.len > 0));
        }
        Step::Free { .. } => {}
        Step::Release { owner } => release(volume, InodeNr::new(owner)).unwrap(),
        Step::Commit => {
            let tid = handle.tid();
            handle.stop().unwrap();
            volume.commit(tid).unwrap();
            model.commit();
            return;
        }
        Step::Trim { group } => {
            let group = GroupNr::new(group % volume.geometry.group_count);
            for run in trim(volume, group, 0..u32::MAX, 1).unwrap().runs() {
                model.set(run, Cell::Free, Cell::Free);
            }
        }
    }
    handle.stop().unwrap();
    let free = model.count(Cell::Free) + model.count(Cell::Pending);
    assert_eq!(totals(volume).unwrap().blocks, free);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]
    #[test]
    fn it_gives_and_takes_as_a_naive_bitmap_does(
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let device = mkfs(6 << 10, &["-t", "ext4", "-b", "1024", "-g", "256", "-J", "size=1"]);
        let filesystem = mounted(&device);
        let volume = &filesystem.volume;
        let mut model = Model { cells: cells(volume), runs: Vec::new() };
        steps.into_iter().for_each(|step| play(volume, &mut model, step));
        let mut expected = model.cells.clone();
        expected.iter_mut().filter(|cell| **cell == Cell::Pending).for_each(|cell| *cell = Cell::Free);
        proptest::prop_assert_eq!(cells(volume), expected);
        let mut handle = volume.begin(MANY).unwrap();
        model.runs.iter().for_each(|run| free(&mut handle, run.first, run.len).unwrap());
        handle.stop().unwrap();
        filesystem.unmount().unwrap();
        fsck_bytes(&device.contents());
    }
}
