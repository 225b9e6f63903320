#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use core::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::device::MemDevice;

const BLOCK: u32 = 4096;

struct Record(u64);

impl Decoded for Record {
    fn bytes(&self) -> usize {
        256
    }
}

fn block(nr: u64) -> Arc<Block> {
    Arc::new(Block::new(BlockNr::new(nr), vec![0; in_memory(BLOCK.into())].into()))
}

/// Gets block `nr`. Whether it was in memory.
fn get(memory: &Memory, nr: u64) -> bool {
    let loaded = Cell::new(false);
    let load = || {
        loaded.set(true);
        Ok(block(nr))
    };
    memory.block(BlockNr::new(nr), &MemDevice::default(), load).unwrap();
    !loaded.get()
}

/// Blocks of `budget` bytes, nearly.
fn fits(budget: u64) -> u64 {
    budget / (u64::from(BLOCK) + on_disk(EACH))
}

#[test]
fn blocks_and_inodes_share_one_budget() {
    let budget = 4 << 20;
    let memory = Memory::new(budget);
    for nr in 0..2 * fits(budget) {
        get(&memory, nr);
    }
    assert!(memory.used() <= memory.capacity() && memory.used() > budget * 6 / 10);
    // Inodes that are used again and again displace blocks that are not.
    let inodes = 2000;
    for _ in 0..4 {
        for nr in 1..=inodes {
            memory
                .inode(InodeNr::new(nr), &MemDevice::default(), || Ok(Record(nr.into())))
                .unwrap();
        }
    }
    assert!(memory.used() <= memory.capacity());
    let found = |nr: u32| {
        let fail = || Err(crate::Refusal::Stale.into());
        memory.inode::<Record>(InodeNr::new(nr), &MemDevice::default(), fail)
    };
    let kept = (1..=inodes).filter(|nr| found(*nr).is_ok_and(|r| r.0 == u64::from(*nr))).count();
    assert!(kept > 1500, "{kept} of {inodes}");
}

#[test]
fn a_smaller_budget_holds_at_once() {
    let memory = Memory::new(16 << 20);
    (0..1800).for_each(|nr| {
        get(&memory, nr);
    });
    let before = memory.used();
    memory.set_budget(8 << 20);
    assert!(memory.used() <= 8 << 20 && memory.used() > 5 << 20, "{}", memory.used());
    memory.set_budget(1 << 20);
    assert!(memory.used() <= 1 << 20 && memory.capacity() <= 1 << 20);
    memory.set_budget(16 << 20);
    (0..1800).for_each(|nr| {
        get(&memory, nr);
    });
    assert_eq!(memory.used(), before);
}

#[test]
fn what_was_put_is_found_and_what_was_dropped_is_not() {
    let memory = Memory::new(1 << 20);
    memory.put_block(block(7));
    assert!(get(&memory, 7));
    memory.drop_block(BlockNr::new(7));
    assert!(!get(&memory, 7));
    let nr = InodeNr::new(7);
    memory.put_inode(nr, Record(1));
    memory.put_inode(nr, Record(2));
    let fail = || Err(crate::Refusal::Stale.into());
    assert_eq!(memory.inode::<Record>(nr, &MemDevice::default(), fail).unwrap().0, 2);
    memory.drop_inode(nr);
    assert!(memory.inode::<Record>(nr, &MemDevice::default(), fail).is_err());
}

/// The least recently used goes first: what quick_cache is compared with.
struct Lru {
    most: usize,
    clock: u64,
    used: HashMap<u64, u64>,
    order: BTreeMap<u64, u64>,
}

impl Lru {
    fn new(most: u64) -> Self {
        let most = in_memory(most);
        Self { most, clock: 0, used: HashMap::new(), order: BTreeMap::new() }
    }

    /// Uses `nr`. Whether it was there.
    fn get(&mut self, nr: u64) -> bool {
        self.clock += 1;
        let before = self.used.insert(nr, self.clock);
        before.into_iter().for_each(|before| _ = self.order.remove(&before));
        self.order.insert(self.clock, nr);
        if self.used.len() > self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
        before.is_some()
    }
}

/// Uses of hot blocks that find them, in percent, while a walk passes once over ten times as many
/// others: `walked` of them between two uses of hot ones. There is room for one and a half times the
/// hot ones.
fn hits(walked: u64, get: &mut dyn FnMut(u64) -> bool) -> u64 {
    let hot = ALL / 10;
    for _ in 0..3 {
        (0..hot).for_each(|nr| _ = get(nr));
    }
    let (mut hits, mut uses) = (0, 0);
    for nr in 0..ALL {
        get(hot + nr);
        if nr % walked == 0 {
            hits += u64::from(get(uses % hot));
            uses += 1;
        }
    }
    hits * 100 / uses
}

const ALL: u64 = 100_000;

/// `cargo test --lib -- --nocapture a_walk_over` prints the rates.
#[test]
fn a_walk_over_everything_leaves_what_is_used_often() {
    let room = ALL / 10 * 3 / 2;
    for walked in [1, 2, 5, 10] {
        let memory = Memory::new(room * (u64::from(BLOCK) + on_disk(EACH)) * 3 / 2);
        let ours = hits(walked, &mut |nr| get(&memory, nr));
        let mut lru = Lru::new(room);
        let lru = hits(walked, &mut |nr| lru.get(nr));
        println!("{walked} walked for one that is hot: {ours} % hits, with LRU {lru} %");
        assert!(ours >= 95 && lru < 50, "{walked}: {ours} and {lru} %");
    }
}
