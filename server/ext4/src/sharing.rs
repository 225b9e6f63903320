//! What inodes may share: attribute blocks and value inodes seen lately, by the hash of their
//! content. A hint only: whoever finds something here compares it.
//! # Locking
//! One mutex around every change of a count of users, taken inside an open handle and before groups
//! and blocks. Under it blocks may be read; nothing waits for a commit.
//! # Invariant
//! A block or inode that is freed is taken out under the same lock.
//! Kernel: fs/mbcache.c, fs/ext4/xattr.c `ext4_xattr_block_cache_find`

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use crate::ids::{BlockNr, InodeNr};

/// Entries of each kind; what comes after displaces all.
const MOST: usize = 4096;

/// The hints, and the lock on counts of users.
#[derive(Debug, Default)]
pub(crate) struct Sharing(Mutex<Recent>);

/// What was seen lately.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    blocks: HashMap<u32, BlockNr>,
    values: HashMap<u32, InodeNr>,
}

impl Sharing {
    /// Keeps everybody else from counts of users.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Recent> {
        self.0.lock()
    }
}

impl Recent {
    /// The attribute block whose h_hash is `hash`.
    pub(crate) fn block(&self, hash: u32) -> Option<BlockNr> {
        self.blocks.get(&hash).copied()
    }

    /// The inode of a value whose hash is `hash`.
    pub(crate) fn value(&self, hash: u32) -> Option<InodeNr> {
        self.values.get(&hash).copied()
    }

    /// Remembers an attribute block. One with the hash 0 is never shared.
    pub(crate) fn add_block(&mut self, hash: u32, nr: BlockNr) {
        if hash != 0 {
            add(&mut self.blocks, hash, nr);
        }
    }

    /// Remembers a value inode.
    pub(crate) fn add_value(&mut self, hash: u32, nr: InodeNr) {
        add(&mut self.values, hash, nr);
    }

    /// Forgets an attribute block that gets other content or none.
    pub(crate) fn remove_block(&mut self, hash: u32, nr: BlockNr) {
        if self.block(hash) == Some(nr) {
            self.blocks.remove(&hash);
        }
    }

    /// Forgets a value inode that is freed.
    pub(crate) fn remove_value(&mut self, hash: u32, nr: InodeNr) {
        if self.value(hash) == Some(nr) {
            self.values.remove(&hash);
        }
    }
}

fn add<T>(map: &mut HashMap<u32, T>, hash: u32, value: T) {
    if map.len() >= MOST && !map.contains_key(&hash) {
        map.clear();
    }
    map.insert(hash, value);
}
