#![allow(clippy::arithmetic_side_effects, reason = "test code")]

use core::cell::Cell;

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
    assert!(memory.used() <= memory.capacity() && memory.used() > budget * 8 / 10);
    // Inodes that are used again and again displace blocks that are not.
    let inodes = 4000;
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
    assert!(kept > 3600, "{kept} of {inodes}");
}

#[test]
fn a_smaller_budget_holds_at_once() {
    let memory = Memory::new(16 << 20);
    (0..3000).for_each(|nr| {
        get(&memory, nr);
    });
    let before = memory.used();
    memory.set_budget(8 << 20);
    assert!(memory.used() <= 8 << 20 && memory.used() > 6 << 20, "{}", memory.used());
    memory.set_budget(1 << 20);
    assert!(memory.used() <= 1 << 20 && memory.capacity() <= 1 << 20);
    memory.set_budget(16 << 20);
    (0..3000).for_each(|nr| {
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

/// One use in ten is of a hot block, while a walk passes over everything once.
#[test]
fn a_walk_over_everything_leaves_what_is_used_often() {
    let all = 100_000;
    let hot = all / 10;
    let memory = Memory::new((hot + hot / 2) * (u64::from(BLOCK) + 200));
    for _ in 0..3 {
        (0..hot).for_each(|nr| {
            get(&memory, nr);
        });
    }
    let mut hits = 0;
    for nr in 0..all {
        get(&memory, hot + nr);
        hits += u64::from(get(&memory, nr % hot));
    }
    assert!(hits * 100 >= all * 95, "{hits} of {all}");
}
