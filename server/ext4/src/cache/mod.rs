//! Metadata in memory: clean blocks and decoded inodes, which are evicted ([`Memory`]), and the changed
//! blocks ([`dirty::Dirty`]), which stay until the journal has written them home. [`Blocks`] holds both.
//!
//! File data never enters here (the kernel's page cache holds it), so a copy of a big file cannot
//! displace directories and inode tables. A block in memory is an immutable version: a change makes
//! a new one, so a reader keeps what it has and a committing transaction needs no frozen copies.
//! # Locking
//! The cache is internally sharded; no lock is held while the device is read. A shard of
//! [`dirty::Dirty`] is locked while one block is edited; nothing else is taken under it but the clean
//! cache's shard.

mod blocks;
mod dirty;

pub(crate) use blocks::{Ahead, BATCH_BYTES, Blocks};

mod load;
mod memory;

use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::Result;
use crate::ids::BlockNr;

use load::get_or_load;
pub(crate) use memory::{Decoded, Memory};

/// One metadata block as it stands on the disk (or in the log, where that is newer).
#[derive(Debug)]
pub(crate) struct Block {
    nr: BlockNr,
    bytes: Box<[u8]>,
    /// The roles in which its checks succeeded.
    verified: AtomicU8,
}

/// What a block is taken for. A sound one has one role at a time; a damaged file system may lead to it
/// in several.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    Entries,
    Index,
    BlockBitmap,
    InodeBitmap,
    Pointers,
    Extents,
    Attributes,
}

impl Role {
    const fn bit(self) -> u8 {
        match self {
            Self::Entries => 1,
            Self::Index => 1 << 1,
            Self::BlockBitmap => 1 << 2,
            Self::InodeBitmap => 1 << 3,
            Self::Pointers => 1 << 4,
            Self::Extents => 1 << 5,
            Self::Attributes => 1 << 6,
        }
    }
}

impl Block {
    /// A block as the device has it, or that was just made: nothing of it was checked.
    pub(crate) fn new(nr: BlockNr, bytes: Box<[u8]>) -> Self {
        Self { nr, bytes, verified: AtomicU8::new(0) }
    }

    /// The next version, with `bytes`. Who changed it vouches for the checks of its role; where there
    /// were several, it is not known for which.
    fn changed(&self, bytes: Box<[u8]>) -> Self {
        let verified = self.verified.load(Ordering::Acquire);
        let verified = if verified.is_power_of_two() { verified } else { 0 };
        Self { nr: self.nr, bytes, verified: AtomicU8::new(verified) }
    }

    pub(crate) fn nr(&self) -> BlockNr {
        self.nr
    }

    fn into_bytes(self) -> Box<[u8]> {
        self.bytes
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Runs `check` unless it succeeded on this block, in this role, before.
    pub(crate) fn verify_once(
        &self,
        role: Role,
        check: impl FnOnce(&[u8]) -> Result<()>,
    ) -> Result<()> {
        if self.verified.load(Ordering::Acquire) & role.bit() == 0 {
            check(&self.bytes)?;
            self.verified.fetch_or(role.bit(), Ordering::Release);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(block: &Block, role: Role) -> bool {
        let mut checked = false;
        block
            .verify_once(role, |_| {
                checked = true;
                Ok(())
            })
            .unwrap();
        checked
    }

    #[test]
    fn a_block_is_checked_once_in_each_role() {
        let block = Block::new(BlockNr::new(1), vec![0; 4].into());
        assert!(checks(&block, Role::Entries));
        assert!(!checks(&block, Role::Entries));
        // Its next version is its writer's word.
        assert!(!checks(&block.changed(vec![1; 4].into()), Role::Entries));
        assert!(checks(&block, Role::Attributes));
        // Whose word is it now?
        let changed = block.changed(vec![1; 4].into());
        assert!(checks(&changed, Role::Entries) && checks(&changed, Role::Attributes));
    }

    #[test]
    fn a_check_that_fails_is_made_again() {
        let block = Block::new(BlockNr::new(1), vec![0; 4].into());
        let fail = |_: &[u8]| Err(crate::Refusal::Invalid.into());
        assert!(block.verify_once(Role::Index, fail).is_err());
        assert!(checks(&block, Role::Index));
    }
}
